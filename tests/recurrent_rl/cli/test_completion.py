"""The scripts that complete commands, as the shells take them."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from recurrent_rl.cli import COMMANDS, completion, main

script = cache(completion.script)


def test_every_command_is_completed_with_its_own_arguments() -> None:
    classes = completion.arguments_of_commands()
    assert [kind.__name__ for kind in classes.values()] == [
        f"{x.title()}Arguments" for x in COMMANDS
    ]


@pytest.mark.parametrize(
    ("shell", "beginning"),
    [("bash", "# AUTO"), ("zsh", "#compdef recurrent-rl\n"), ("fish", "# AUTO")],
)
def test_each_shell_takes_its_script(
    shell: str, beginning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["completion", shell])
    text = capsys.readouterr().out
    assert text.startswith(beginning)
    assert all(f"{command!r}" in text for command in COMMANDS)
    if found := shutil.which(shell):
        saved = tmp_path / "script"
        saved.write_text(text)
        subprocess.run([found, "-n", saved], check=True, timeout=60)


# What each shell is told to do: the script's path comes first, then the words of the line.
ASKING = {
    "bash": """
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _tyro_recurrent_rl
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        _describe() { print -l -- "${(@)${(@P)2}%%:*}" }
        _files() { print -l -- ${words[CURRENT]}*(N) }
        words=("${@:2}") CURRENT=$(($# - 1))
        source "$1"
    """,
    "fish": """
        source $argv[1]
        complete --do-complete "$argv[2..]"
    """,
}


@pytest.mark.parametrize("shell", ASKING)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", set(COMMANDS)),
        ("ev", {"evaluate"}),
        ("train --tot", {"--total-timesteps"}),
        ("train X-v0 --res", {"--resume"}),
        ("train --lr-schedule ", {"constant", "linear"}),
        ("envs --pro", {"--probes"}),
        ("train X-v0 --memory lst", {"lstm", "lstm-peephole"}),
        ("evaluate my-r", {"my-run"}),
        ("compare my-run my-r", {"my-run"}),
        ("train --resume my-r", {"my-run"}),
        ("train X-v0 --log-dir my-r", {"my-run"}),
    ],
)
def test_a_shell_completes(shell: str, words: str, expected: set[str], tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    (tmp_path / "script").write_text(script(shell))
    (tmp_path / "my-run").mkdir()
    without_settings = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    name = [] if shell == "fish" else [shell]
    line = [*name, str(tmp_path / "script"), "recurrent-rl", *words.split(" ")]
    answer = subprocess.run(
        [shell, *without_settings, "-c", ASKING[shell], *line],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers = {one.split("\t")[0].rstrip("/") for one in answer.stdout.splitlines()}
    assert {one for one in answers if words or not one.startswith("-")} == expected


def test_another_shell_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "tcsh"])
    assert "tcsh" in capsys.readouterr().err
