"""Whole numbers at the command line: 1e6 is one, 1.5 is none, and text is told how to write one."""

import dataclasses
from typing import Any

import pytest

from recurrent_rl.cli.benchmark import BenchmarkArguments
from recurrent_rl.cli.terminal import parse
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.suites import change
from tests.recurrent_rl.cli.commands import ended, one_line


def test_whole_numbers_may_be_written_with_an_exponent() -> None:
    given = parse(TrainConfig, "train", ["X-v0", "--total-timesteps=1e6", "--seq-len", "1.6e1"])
    assert given == TrainConfig("X-v0", total_timesteps=1_000_000, seq_len=16)
    assert parse(TrainConfig, "train", ["X-v0", "--seq-len", "None"]) == TrainConfig("X-v0")
    hidden = parse(TrainConfig, "train", ["X-v0", "--hide-indices", "1", "3"]).env.hide_indices
    assert hidden == (1, 3)


def given(name: str, text: str) -> Any:
    option = f"--{name.replace('_', '-')}"
    return settings_in(parse(TrainConfig, "train", ["X-v0", option, text]))[name]


# A number alone, one or None, one or a word, one of a class within.
@pytest.mark.parametrize("name", ["total_timesteps", "seq_len", "workers", "hidden_size"])
def test_a_setting_that_is_a_whole_number_takes_1e6_and_no_fraction(name: str) -> None:
    number = given(name, "1.6e1")
    assert number == 16
    assert type(number) is int
    with pytest.raises(UserError, match=rf"^{name} is .*; it must be a whole number\.$"):
        given(name, "1.5")


def test_a_whole_number_may_be_written_in_several_ways() -> None:
    for text in ("16", "1_6", "16.0"):
        assert given("num_envs", text) == 16
        assert type(given("num_envs", text)) is int
    for text in ("1e-3", "15e-1", "inf", "nan"):
        with pytest.raises(UserError, match=r"^num_envs is .*; it must be a whole number\.$"):
            given("num_envs", text)
    with pytest.raises(SystemExit, match="2"):
        given("num_envs", "1M")


def settings_in(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(config).items():
        found |= settings_in(value) if dataclasses.is_dataclass(value) else {name: value}
    return found


def test_text_that_is_no_number_is_answered_with_how_to_write_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, err = ended(["train", "X-v0", "--total-timesteps", "1,000"], capsys)
    assert status == 2
    assert "'1,000' is no whole number; write it as 1000000, 1_000_000 or 1e6." in one_line(err)


def test_whole_numbers_in_json_may_be_written_with_an_exponent() -> None:
    text = '{"length": 1e2, "noise": 1.0, "std": 1e-3, "far": 1e300}'
    given = parse(TrainConfig, "train", ["X-v0", "--env-kwargs", text]).env.env_kwargs
    assert given == {"length": 100, "noise": 1.0, "std": 0.001, "far": 1e300}
    assert [type(value) for value in given.values()] == [int, float, float, float]
    settings = '{"total_timesteps": 1e6, "agent": {"hidden_size": 6.4e1}}'
    held = parse(BenchmarkArguments, "benchmark", ["memory", "--settings", settings]).settings
    changed = change(TrainConfig("X-v0"), held)
    assert (changed.total_timesteps, changed.agent.hidden_size) == (1_000_000, 64)
    with pytest.raises(UserError, match=r"num_envs is 1\.5; it must be a whole number"):
        change(TrainConfig("X-v0"), {"num_envs": 1.5})
