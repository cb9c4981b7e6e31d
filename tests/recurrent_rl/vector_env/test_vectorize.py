"""Any environment by its id: the right vectorisation, hidden information, and clear refusals."""

import dataclasses
import sys
from multiprocessing import Value
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.envs.batch import BatchEnv
from recurrent_rl.errors import UserError
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.properties import known_returns, longest_episode, stated_returns
from recurrent_rl.vector_env.sources import find_source
from recurrent_rl.vector_env.vectorize import make_vector_env

# Its version differs between releases of Gymnasium.
TAXI = max(env_id for env_id in gym.registry if env_id.startswith("Taxi-"))


def test_our_environments_are_stepped_in_their_batched_form() -> None:
    env = make_vector_env("recurrent_rl/TMaze-v0", 3, EnvConfig({"length": 5}))
    assert isinstance(env, BatchEnv)
    assert env.max_episode_steps == 12
    assert known_returns(env) == (0.0, 1.0)


def test_others_are_stepped_by_their_own_vector_form_or_in_turn() -> None:
    assert not isinstance(make_vector_env("CartPole-v1", 2), SyncVectorEnv)
    env = make_vector_env("Acrobot-v1", 2)
    assert isinstance(env, SyncVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert known_returns(env) == (None, None)


def test_environments_can_be_stepped_in_processes() -> None:
    env = make_vector_env("CartPole-v1", 2, EnvConfig(vectorization="async"))
    assert isinstance(env.unwrapped, AsyncVectorEnv)
    try:
        assert env.reset(seed=0)[0].shape == (2, 4)
    finally:
        env.close()


def test_information_is_hidden_as_requested() -> None:
    full = make_vector_env("CartPole-v1", 2, EnvConfig(vectorization="sync"))
    config = EnvConfig(hide_indices=(1, 3), vectorization="sync")
    raw = make_vector_env("CartPole-v1", 2, config)  # the policy hides them itself
    np.testing.assert_array_equal(raw.reset(seed=0)[0], full.reset(seed=0)[0])
    delayed = make_vector_env("CartPole-v1", 2, EnvConfig(observation_delay=2))
    assert (delayed.reset(seed=0)[0] == 0).all()
    noisy = make_vector_env("CartPole-v1", 2, EnvConfig(observation_noise=0.5))
    assert (noisy.reset(seed=0)[0] != full.reset(seed=0)[0]).all()
    flicker = make_vector_env("CartPole-v1", 64, EnvConfig(flicker=0.5))
    dark = (flicker.reset(seed=0)[0] == 0).all(axis=1)
    assert 10 < dark.sum() < 54


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_delay_after_which_an_episode_shows_nothing_is_refused(vectorization: Any) -> None:
    least = EnvConfig(observation_delay=499, vectorization=vectorization)
    make_vector_env("CartPole-v1", 1, least).close()
    with pytest.raises(UserError, match=r"observation_delay is 500, but .* at most 500 steps"):
        make_vector_env("CartPole-v1", 1, dataclasses.replace(least, observation_delay=500))
    with pytest.raises(UserError, match="observation_delay is 10000000; it must be at most"):
        EnvConfig(observation_delay=10**7)


def test_a_module_named_before_the_id_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_envs.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert find_source("my_envs:Mine-v0").spec is gym.spec("Mine-v0")
    finally:
        gym.registry.pop("Mine-v0", None)
        sys.modules.pop("my_envs", None)


def test_what_can_be_earned_is_asked_without_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "not_to_import.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert stated_returns("not_to_import:Nothing-v0", EnvConfig()) == (None, None)
    assert stated_returns("not_to_import:recurrent_rl/TMaze-v0", EnvConfig()) == (0.0, 1.0)
    assert stated_returns("recurrent_rl/TMaze-v0", EnvConfig(vectorization="sync"))[0] is None
    assert stated_returns("CartPole-v1", EnvConfig(flicker=0.5)) == (None, None)
    assert stated_returns("Acrobot-v1", EnvConfig()) == (None, None)


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("CartPol-v1", "Unknown environment 'CartPol-v1'. Did you mean CartPole-v1"),
        ("CartPol-v1", "registers or defines it, write that before it: my_module:CartPol-v1"),
        ("CartPole-v9", "Did you mean CartPole-v1"),
        ("MyRobot-v0", "environment 'MyRobot-v0'. `recurrent-rl envs` lists.*my_module:MyRobot-v0"),
        ("RepeatPrevious-Easy-v0", "Did you mean recurrent_rl/RepeatPrevious-Easy-v0"),
        ("recurrent_rl/TMase-v0", "Did you mean recurrent_rl/TMaze-v0"),
        ("xyzzy", "`recurrent-rl envs` lists ours"),
        ("no_such_module:X-v0", "Module 'no_such_module' .* cannot be imported"),
    ],
)
def test_an_unknown_environment_is_refused_with_near_matches(env_id: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_source(env_id)


@pytest.mark.parametrize(
    ("env_id", "config"),
    [
        ("recurrent_rl/TMaze-v0", EnvConfig({"lenght": 5})),
        ("recurrent_rl/TMaze-v0", EnvConfig({"length": -5})),
        ("CartPole-v1", EnvConfig({"lenght": 5})),
        ("FrozenLake-v1", EnvConfig(flicker=0.5)),
    ],
)
def test_an_environment_that_cannot_be_made_is_refused_by_name(
    env_id: str, config: EnvConfig
) -> None:
    with pytest.raises(UserError, match=f"{env_id} could not be made"):
        make_vector_env(env_id, 2, config)


@pytest.mark.parametrize(
    ("env_id", "config", "steps"),
    [
        ("recurrent_rl/Recall-v0", EnvConfig({"distance": 30}, flicker=0.1), 32),
        ("CartPole-v1", EnvConfig(), 500),
        ("Acrobot-v1", EnvConfig(hide_indices=(4, 5)), 500),
        ("Acrobot-v1", EnvConfig({"max_episode_steps": 70}), 70),
        ("Blackjack-v1", EnvConfig(), None),  # does not tell
    ],
)
def test_how_long_an_episode_can_be_is_asked_of_the_environment(
    env_id: str, config: EnvConfig, steps: int | None
) -> None:
    assert longest_episode(env_id, config) == steps


@pytest.mark.parametrize(
    ("env_id", "env"),
    [
        ("CartPole-v1", EnvConfig()),  # its own vector form, autoreset NEXT_STEP
        ("Acrobot-v1", EnvConfig(hide_indices=(4, 5))),
        ("Pendulum-v1", EnvConfig(observation_noise=0.1)),
        (TAXI, EnvConfig()),  # Discrete observations, action masks in its infos
        ("FrozenLake-v1", EnvConfig({"is_slippery": False})),
        ("Blackjack-v1", EnvConfig()),  # a Tuple of Discrete
    ],
)
def test_gymnasiums_environments_train(env_id: str, env: EnvConfig) -> None:
    agent = AgentConfig("lstm", hidden_size=8, encoder_size=8)
    config = TrainConfig(env_id, num_envs=4, num_steps=32, agent=agent, env=env)
    trainer = Trainer(config)
    for _ in range(2):
        scalars = trainer.iterate()
    assert scalars["memory/first_ratio_error"] < 1e-4
    assert (trainer.collector.rollout.action_mask is not None) == (env_id == TAXI)
    trainer.close()


def play(env: VectorEnv, steps: int) -> None:
    for _ in range(steps):
        env.step(np.zeros(env.num_envs, np.int64))


class Shrinking(gym.Env[Any, Any]):
    """Returns an observation of another shape at its fifth step, in environment 1."""

    observation_space = gym.spaces.Dict({"v": gym.spaces.Box(-1, 1, (3,))})
    action_space = gym.spaces.Discrete(2)
    made = 0

    def __init__(self, box: bool) -> None:
        self.box = box
        self.number = Shrinking.made
        Shrinking.made += 1
        if box:
            self.observation_space = gym.spaces.Box(-1, 1, (3,))  # type: ignore[assignment]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._observation(3), {}

    def _observation(self, size: int) -> Any:
        vector = np.zeros(size, np.float32)
        return vector if self.box else {"v": vector}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        size = 2 if self.t == 5 and self.number == 1 else 3
        return self._observation(size), 0.0, False, False, {}


@pytest.mark.parametrize("box", [True, False])
def test_an_observation_outside_its_declared_shape_is_refused_by_environment_and_step(
    box: bool,
) -> None:
    gym.register("Shrinking-v0", lambda **_: Shrinking(box), disable_env_checker=True)
    Shrinking.made = 0
    try:
        env = make_vector_env("Shrinking-v0", 3)
        env.reset(seed=0)
        with pytest.raises(UserError, match=r"Environment 1 .* its step 5: .* has shape \[1, 2\]"):
            play(env, 10)
    finally:
        gym.registry.pop("Shrinking-v0")


class Odd(gym.Env[Any, Any]):
    """It has these spaces, and observes another after its reset."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.action_space = action_space
        if observation_space is not None:
            self.observation_space = observation_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space = Box(-1, 1, (4,))
        return self.observation_space.sample(), {}


TWO, BOX = gym.spaces.Discrete(2), Box(-1, 1, (3,))
DIFFER = "The environments of .* differ in their spaces, and all must have the same"


@pytest.mark.parametrize(
    ("vectorization", "given", "message"),
    [
        ("sync", [(BOX, TWO), (Box(-1, 1, (2,)), TWO)], DIFFER),
        ("sync", [(BOX, TWO), (BOX, gym.spaces.Discrete(3))], DIFFER),
        # The program itself makes one more, for its spaces.
        ("async", [(BOX, TWO), (BOX, TWO), (Box(-1, 1, (2,)), TWO)], DIFFER),
        ("async", [(BOX, TWO), (BOX, TWO), (BOX, gym.spaces.Discrete(3))], DIFFER),
        (
            "sync",
            [(None, TWO)],
            "The observation_space of .* is None; it must be a gymnasium.Space",
        ),
        ("sync", [(BOX, 4)], "The action_space of .* is 4; .* Set self.action_space in its const"),
        ("sync", [(BOX, TWO)] * 2, r"step 0: its observation space Box.*\(3,\).* shape \[1, 4\]"),
    ],
)
def test_spaces_that_are_missing_differ_or_change_are_refused(
    vectorization: Literal["sync", "async"], given: list[Any], message: str
) -> None:
    made = Value("i", 0)  # of all processes

    def make() -> gym.Env[Any, Any]:
        with made.get_lock():
            made.value += 1
            return Odd(*given[made.value - 1])

    with pytest.raises(UserError, match=message):
        make_vector_env(make, 2, EnvConfig(vectorization=vectorization)).reset(seed=0)


def test_a_mask_that_is_none_is_no_mask_and_a_component_without_entries_is_nothing_to_see() -> None:
    class Sparse(gym.Env[Any, Any]):
        observation_space = gym.spaces.Dict({"a": Box(0, 1, (0,)), "b": Box(0, 1, (2,))})
        action_space = TWO

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return self.observation_space.sample(), {"action_mask": None}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return self.observation_space.sample(), 1.0, bool(action), False, {"action_mask": None}

    settings = TrainConfig(
        num_envs=2, num_steps=4, num_minibatches=1, agent=AgentConfig("none", hidden_size=4)
    )
    trainer = Trainer(settings, source=find_source(Sparse))
    trainer.iterate()
    trainer.close()
    assert trainer.collector.rollout.action_mask is None
