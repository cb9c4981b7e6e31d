"""The list of environments and the page about each, as they are read at 80 columns."""

import re
import sys

import gymnasium as gym
import pytest
from gymnasium.envs.registration import load_env_creator

import recurrent_rl.envs  # noqa: F401 (registers them)
from recurrent_rl.cli import main
from recurrent_rl.cli.envs import families

OURS = [env_id for env_id, spec in gym.registry.items() if spec.namespace == "recurrent_rl"]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main(["envs", *arguments])
    return capsys.readouterr().out


def test_the_list_has_a_line_for_each_task_and_fits_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(capsys)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 40
    (repeat,) = (line.split() for line in lines if line.startswith("RepeatPrevious"))
    assert " ".join(repeat) == "RepeatPrevious the last k cards, in order -0.4902 1"
    assert re.search(r"^TMaze +one sign, along a corridor +0 +1$", text, re.MULTILINE)
    assert "recurrent_rl/NAME-Easy-v0, NAME-Medium-v0, NAME-Hard-v0" in text
    assert "Probe" not in text
    with_probes = printed(capsys, "--probes")
    for family in families():
        assert family in with_probes


def test_each_of_our_environments_says_in_a_few_words_what_to_remember() -> None:
    for env_id in OURS:
        spec = gym.spec(env_id)
        kind = load_env_creator(str(spec.vector_entry_point or spec.entry_point))
        to_remember: str = getattr(kind, "to_remember", "")
        assert 0 < len(to_remember) <= 33
        has_memory = "Probe" not in env_id or "Memory" in env_id
        assert (to_remember != "nothing") == has_memory


@pytest.mark.parametrize("name", ["TMaze", "tmaze-v0", "recurrent_rl/TMaze-v0"])
def test_a_page_tells_all_about_an_environment(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = printed(capsys, name)
    text = " ".join(page.split())
    for expected in (
        "recurrent_rl/TMaze-v0 TMaze: a sign at the start of a corridor says which way to turn",
        "After Bakker (2002)",  # the docstring to its end
        "observation Discrete(4)",
        "action Discrete(4)",
        "longest episode 22 steps",
        "memoryless return 0",
        "best return 1",
        "length 10 steps from the sign to the junction.",
        "Train: recurrent-rl train recurrent_rl/TMaze-v0 Change:",
        """recurrent-rl train recurrent_rl/TMaze-v0 --env-kwargs '{"length": 10}'""",
    ):
        assert expected in text


def test_a_page_shows_the_levels_of_a_task_beside_each_other_or_one_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = " ".join(printed(capsys, "RepeatPrevious").split())
    assert "Easy Medium Hard" in text
    assert "longest episode 51 steps 103 steps 155 steps" in text
    assert "k 4 32 64 the answer is the suit" in text
    text = " ".join(printed(capsys, "RepeatPrevious-Hard").split())
    assert "longest episode 155 steps memoryless" in text
    assert "k 64 the answer is the suit" in text
    assert "Easy" not in text


@pytest.mark.parametrize("name", families())
def test_every_page_fits_80_columns_but_for_its_commands(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name.startswith("RedBlueDoors"):
        pytest.importorskip("minigrid")
    for line in printed(capsys, name).splitlines():
        assert len(line) <= 80 or "recurrent-rl train" in line


def test_environments_that_need_another_package_are_listed_and_their_page_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "minigrid.envs.redbluedoors", None)
    text = printed(capsys)
    assert text.count("(not installed)") == 2
    assert "TMaze" in text
    with pytest.raises(SystemExit, match="2"):
        main(["envs", "RedBlueDoors-6x6"])
    assert "pip install 'recurrent-rl[minigrid]'" in capsys.readouterr().err


def test_an_unknown_environment_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["envs", "TMazz"])
    error = capsys.readouterr().err
    assert "recurrent-rl has no environment 'TMazz'. Did you mean TMaze" in error
    assert "`recurrent-rl envs` lists all" in error
    with pytest.raises(SystemExit, match="2"):
        main(["envs", "xyzzyxyzzy"])
    assert "Did you mean" not in capsys.readouterr().err
