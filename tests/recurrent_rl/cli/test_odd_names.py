"""Folders with names that rich would take as markup are printed as they are."""

import os
import signal
from pathlib import Path

import pytest

from recurrent_rl.experiments.benchmark import Outcome
from recurrent_rl.runs.folder import RunFolder
from tests.recurrent_rl.cli.commands import TINY, ended

ODD = "[bold]x[/bold] [/] :smile:"


def test_a_folder_of_any_name_is_printed_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    task = ["recurrent_rl/TMaze-v0", *TINY, "--memory=lstm", "--log-dir", ODD]
    status, out, _ = ended(["train", *task, "--eval-episodes=5"], capsys)
    (run_dir,) = Path(ODD).iterdir()
    assert status == 0
    assert f"Policy:    {run_dir}/policy.safetensors\n" in out
    assert f'load_policy("{run_dir}/policy.safetensors")' in out
    for line in (f"Watch:     recurrent-rl monitor '{ODD}'", f"recurrent-rl evaluate '{run_dir}'"):
        assert f"{line}\n" in out  # to be copied into a shell

    status, _, err = ended(["train", "--resume", f"{ODD}/none"], capsys)
    assert (status, f"error: {ODD}/none holds no run" in err) == (2, True)
    status, _, err = ended(["evaluate", f"{ODD}.safetensors"], capsys)
    assert (status, f"There is no file {ODD}.safetensors" in err) == (2, True)
    with RunFolder(run_dir).locked():
        status, _, err = ended(["train", "--resume", str(run_dir)], capsys)
        assert (status, f"Another process is training {run_dir}." in err) == (2, True)

    assert ended(["evaluate", str(run_dir), "--episodes=5"], capsys)[0] == 0
    status, out, _ = ended(["compare", ODD, "--out", f"{ODD}/out"], capsys)
    assert status == 0
    assert f"Results:   {ODD}/out/results.md\n" in out
    assert f"Curves:    {ODD}/out/curves.png\n" in out


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer:DeprecationWarning")  # TensorBoard's
def test_a_benchmark_and_a_monitor_print_any_name_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    failed = Outcome({Path(ODD): "no [/] memory"}, None)
    monkeypatch.setattr("recurrent_rl.experiments.benchmark.run_all", lambda *_: failed)
    status, out, _ = ended(["benchmark", "memory", "--out", ODD], capsys)
    assert (status, f"Failed: {ODD}: no [/] memory  (see its log.txt)\n" in out) == (1, True)

    status, _, err = ended(["monitor", ODD], capsys)
    assert (status, f"There is no folder {ODD!r}" in err) == (2, True)
    Path(ODD).mkdir(parents=True)
    monkeypatch.setattr("tensorboard.program.TensorBoard.launch", lambda _: "http://[::1]:6006/")
    monkeypatch.setattr("time.sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    status, out, _ = ended(["monitor", ODD], capsys)
    assert status == 143
    assert f"TensorBoard shows {ODD} at http://[::1]:6006/  (Ctrl-C ends it)\n" in out
