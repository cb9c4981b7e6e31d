"""Statistics that a wrapper learns beside the policy: refused, with the setting in its place."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
from gymnasium import wrappers
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from recurrent_rl.checks.check import check_env
from recurrent_rl.errors import UserError
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.vectorize import make_vector_env


def task() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


def normalised() -> gym.Env[Any, Any]:
    return wrappers.NormalizeObservation(task())


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (normalised, "normalize_observations"),
        (lambda: wrappers.TransformReward(normalised(), float), "normalize_observations"),
        (lambda: wrappers.NormalizeReward(task()), "normalize_returns"),
    ],
    ids=["observation", "within another", "reward"],
)
def test_a_wrapper_that_learns_statistics_is_refused_with_the_policys_own_setting(
    make: Callable[[], gym.Env[Any, Any]], setting: str
) -> None:
    """Its statistics would be others in each evaluation, and none in a loaded policy."""
    with pytest.raises(UserError, match=rf"wrapped in Normalize.*Leave the wrapper out.*{setting}"):
        make_vector_env(make, 2)
    (fault,) = check_env(make, raise_faults=False)
    assert fault.severity == "fault"
    assert setting in fault.fix


def test_such_a_wrapper_by_its_name_is_refused_too() -> None:
    config = EnvConfig(wrappers=("gymnasium.wrappers:NormalizeObservation",))
    with pytest.raises(UserError, match=r"CartPole-v1 is wrapped in NormalizeObservation"):
        make_vector_env("CartPole-v1", 2, config)


@pytest.mark.parametrize("inside", [True, False], ids=["around each", "around all"])
def test_such_a_wrapper_in_a_vector_environment_is_refused_too(inside: bool) -> None:
    mode = AutoresetMode.SAME_STEP if inside else AutoresetMode.NEXT_STEP
    env: Any = SyncVectorEnv([normalised if inside else task] * 2, autoreset_mode=mode)
    if not inside:
        env = wrappers.vector.NormalizeObservation(env)
    with pytest.raises(UserError, match=r"wrapped in NormalizeObservation"):
        make_vector_env(env, 2)
    assert any("NormalizeObservation" in one.what for one in check_env(env, raise_faults=False))
    env.close()


def test_statistics_that_are_fixed_may_stay() -> None:
    def fixed() -> gym.Env[Any, Any]:
        env = wrappers.NormalizeObservation(task())
        env.update_running_mean = False
        return env

    make_vector_env(fixed, 2).close()
