"""The scripts that complete commands, as the shells take them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from recurrent_rl.cli import COMMANDS, main
from recurrent_rl.cli.completion import arguments_of_commands


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["completion", shell])
    assert not ended.value.code
    return capsys.readouterr().out


def test_every_command_is_completed() -> None:
    assert list(arguments_of_commands()) == list(COMMANDS)


@pytest.mark.parametrize(
    ("shell", "beginning"),
    [("bash", "# AUTO"), ("zsh", "#compdef recurrent-rl\n"), ("fish", "# AUTO")],
)
def test_each_shell_takes_its_script(
    shell: str, beginning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = script(shell, capsys)
    assert text.startswith(beginning)
    assert all(f"{command!r}" in text for command in COMMANDS)
    if found := shutil.which(shell):
        saved = tmp_path / "script"
        saved.write_text(text)
        subprocess.run([found, "-n", saved], check=True, timeout=60)


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", set(COMMANDS)),
        ("ev", {"evaluate"}),
        ("train --tot", {"--total-timesteps"}),
        ("train X-v0 --res", {"--resume"}),
        ("train --lr-schedule ", {"constant", "linear"}),
        ("envs --pro", {"--probes"}),
    ],
)
def test_bash_completes(
    words: str, expected: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "script").write_text(script("bash", capsys))
    given = ["recurrent-rl", *words.split(" ")]
    ask = f"""
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD={len(given) - 1}
        _tyro_recurrent_rl
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    answer = subprocess.run(
        ["bash", "-c", ask, "bash", str(tmp_path / "script"), *given],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    commands = {one for one in answer.stdout.split() if words or not one.startswith("-")}
    assert commands == expected


def test_another_shell_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "tcsh"])
    assert "tcsh" in capsys.readouterr().err
