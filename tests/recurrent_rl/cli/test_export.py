"""`recurrent-rl export`: the file beside its policy, and what was found, in words."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from gymnasium import spaces

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.export.formats import FORMATS
from recurrent_rl.agents.policy import Policy
from recurrent_rl.cli import main
from recurrent_rl.cli.export import ExportArguments, _place


@pytest.mark.slow
def test_a_policy_is_exported_beside_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = ActorCritic(
        spaces.Discrete(3), spaces.Discrete(2), AgentConfig("lstm", hidden_size=8, encoder_size=8)
    )
    Policy(agent).save(tmp_path / "maze.safetensors")
    arguments = ["export", str(tmp_path / "maze.safetensors"), "--to", "torch", "--batch=dynamic"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--no-value"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    file = tmp_path / "maze.pt2"
    assert said.startswith(f"{file}, {file.stat().st_size:,} bytes: 1,000 steps checked")
    assert "h_in                   float32 [1, batch, 8]" in said
    assert "h_out to h_in" in said
    assert "  value" not in said
    assert said.rstrip().endswith(f"step = torch.export.load('{file}').module()")

    both = [*arguments[:2], "--to", "torch", "numpy", "--out", str(tmp_path / "all"), "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main(both)
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    places = {place.name for place in (tmp_path / "all").iterdir()}
    assert places == {"policy.pt2", "policy_numpy"}


def test_what_cannot_be_exported_is_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        ([str(tmp_path / "none.safetensors")], "There is no file"),
        (["x", "--batch", "0"], "batch is 0"),
        (["x", "--to", "pickle"], "onnx"),
        (["x", "--to"], "to is empty"),
        ([str(policy_file(tmp_path)), "--to", "onnx", "c", "--batch", "dynamic"], "--batch 1"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["export", *arguments])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def policy_file(folder: Path) -> Path:
    agent = ActorCritic(
        spaces.Box(-1, 1, (3,)),
        spaces.Discrete(2),
        AgentConfig("rnn", hidden_size=8, encoder_size=8),
    )
    Policy(agent).save(folder / "maze.safetensors")
    return folder / "maze.safetensors"


def test_at_a_failure_the_other_formats_are_written_and_it_is_told_what_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second of three formats finds a file where its folder is to be."""
    file = policy_file(tmp_path)
    (tmp_path / "maze_c").write_text("mine")
    forms = ["numpy", "c", "c-int8"]
    with pytest.raises(SystemExit) as ended:
        main(["export", str(file), "--to", *forms])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out.startswith(f"{tmp_path / 'maze_numpy'}, ")
    assert f"\n{tmp_path / 'maze_c_int8'}, " in said.out
    assert "next: sys.path.insert" in said.out
    told = " ".join(said.err.split())
    assert told.startswith(f"error: c: {tmp_path}/maze_c/policy.h cannot be written")
    stand = f"{tmp_path}/maze_numpy, {tmp_path}/maze_c_int8"
    assert told.endswith(f"Written: {stand}. Not written: c.")
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"maze.safetensors", "maze_c", "maze_numpy", "maze_c_int8"}


def test_each_format_has_a_place_of_its_own_beside_a_policy() -> None:
    policy = Path("there", "my.maze.safetensors")
    places = [str(form.beside(policy)) for form in FORMATS.values()]
    assert places == [
        *("there/my.maze.onnx", "there/my.maze.pt2", "there/my.maze_c"),
        *("there/my.maze_c_int8", "there/my.maze_numpy"),
    ]


@pytest.mark.parametrize(
    ("to", "out", "place"),
    [
        ("torch", "new/", "new/policy.pt2"),
        ("torch", "new", "new"),
        ("numpy", "new/", "new"),
        ("torch numpy", "new", "new/policy.pt2"),
    ],
)
def test_what_ends_in_a_slash_is_a_folder_to_put_a_file_into(to: str, out: str, place: str) -> None:
    forms: Any = tuple(to.split())
    given = ExportArguments("maze.safetensors", to=forms, out=out)
    assert _place(given, Path("maze.safetensors"), FORMATS[forms[0]]) == Path(place)


@pytest.mark.parametrize(
    ("to", "out"), [("numpy", "."), ("onnx", "policy.safetensors"), ("torch", "other.safetensors")]
)
def test_no_export_goes_onto_a_trained_policy(
    to: str, out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `--to numpy` writes holds a policy.safetensors, as a run's folder does."""
    for name in ("policy.safetensors", "other.safetensors"):
        shutil.move(policy_file(tmp_path), tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SystemExit) as ended:
        main(
            ["export", str(tmp_path / "policy.safetensors"), "--to", to, f"--out={tmp_path / out}"]
        )
    assert ended.value.code == 2
    assert "would overwrite it" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
