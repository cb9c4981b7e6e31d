"""Random environments train, save, load elsewhere and act the same, or are refused by name."""

import json
import subprocess
import sys
import warnings
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.agents.space_json import space_from_json, space_to_json
from recurrent_rl.agents.spaces import UnsupportedSpaceError, component_spaces
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.checked_env import CheckedEnv

DTYPES = (np.float32, np.float64, np.uint8, np.int8, np.int32, np.int64, np.uint16, np.bool_)
SHAPES = ((), (1,), (3,), (2, 2), (4, 5), (5, 4, 3), (3, 6, 5), (40, 40, 1), (2, 2, 2, 2))


def _box(low_high: tuple[Any, Any], shape: tuple[int, ...], dtype: Any) -> Any:
    box: Any = spaces.Box
    return box(*low_high, shape, dtype)


@st.composite
def boxes(draw: st.DrawFn) -> Any:
    dtype: Any = draw(st.sampled_from(DTYPES))
    shape = draw(st.sampled_from(SHAPES))
    if dtype is np.bool_:
        return _box((0, 1), shape, dtype)
    limits: list[Any] = [(0, 1), (0, 100)]
    if np.dtype(dtype).kind == "f":  # Gymnasium cannot sample from all that float64 can hold
        limits += [(-1e30, 1e30), (-np.inf, np.inf), (0, np.inf), (-1e-6, 1e-6)]
    else:
        limits += [(np.iinfo(dtype).min, np.iinfo(dtype).max)]
    return _box(draw(st.sampled_from(limits)), shape, dtype)


def discretes() -> st.SearchStrategy[gym.Space[Any]]:
    sizes = st.integers(1, 5)
    return st.one_of(
        st.builds(lambda n, start: spaces.Discrete(n, start=start), sizes, st.integers(-3, 3)),
        st.builds(spaces.MultiDiscrete, st.lists(sizes, min_size=1, max_size=3)),
        st.just(spaces.MultiDiscrete(np.array([[2, 3], [4, 1]]))),
        st.builds(spaces.MultiBinary, sizes),
        st.just(spaces.MultiBinary([2, 2])),
    )


def observations() -> st.SearchStrategy[gym.Space[Any]]:
    keys = st.sampled_from(["a", "b", "previous_action", "z z", "ü"])
    return st.recursive(
        st.one_of(boxes(), discretes()),
        lambda inner: st.one_of(
            st.builds(spaces.Dict, st.dictionaries(keys, inner, min_size=1, max_size=3)),
            st.builds(spaces.Tuple, st.lists(inner, min_size=1, max_size=3)),
        ),
        max_leaves=4,
    )


def actions() -> st.SearchStrategy[gym.Space[Any]]:
    sides = [(-1.0, 1.0), (0.0, 50.0), (-np.inf, np.inf), (0.0, np.inf)]
    shapes = st.sampled_from([(), (1,), (2,), (2, 2)])
    floats = st.builds(
        _box,
        st.sampled_from(sides),
        shapes,
        st.sampled_from([np.float32, np.float64]),
    )
    return st.one_of(discretes(), floats)


class Random(gym.Env[Any, Any]):
    """Samples of its spaces; episodes end at random, in either way or both."""

    def __init__(self, observation: gym.Space[Any], action: gym.Space[Any], seed: int) -> None:
        self.observation_space = observation
        self.action_space = action
        self.rng = np.random.default_rng(seed)
        observation.seed(seed)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        reward = float(self.rng.choice([0.0, 1.0, -1e3, 1e-6]))
        ends = self.rng.random(2) < 0.15
        return self.observation_space.sample(), reward, bool(ends[0]), bool(ends[1]), {}


def vector_env(
    observation: gym.Space[Any], action: gym.Space[Any], mode: AutoresetMode
) -> VectorEnv:
    def one(number: int) -> gym.Env[Any, Any]:
        # Spaces hold random numbers of their own.
        return CheckedEnv(Random(deepcopy(observation), deepcopy(action), number), number)

    return SyncVectorEnv([partial(one, i) for i in range(3)], autoreset_mode=mode)


def acted(policy: Policy) -> list[Any]:
    """What a policy does on samples of its space, rewards beside them."""
    # Made anew: parts of the original may be one object, and share their random numbers.
    space = space_from_json(space_to_json(policy.observation_space))
    space.seed(1)
    actions, state = [], None
    for t in range(4):
        action, state = policy.predict(space.sample(), state, deterministic=True, reward=0.5 * t)
        valid = np.asarray(action) if isinstance(policy.action_space, spaces.Box) else action
        assert policy.action_space.contains(valid), action
        actions.append(np.asarray(action).tolist())
    return actions


def largest(space: gym.Space[Any]) -> float:
    """The largest number that an observation can hold, as the agent would take it."""
    parts = component_spaces(space).values()
    bounds = [np.abs([b.low, b.high]).max() for b in parts if isinstance(b, spaces.Box)]
    return max([0.0, *map(float, bounds)])


def two_iterations(
    observation: gym.Space[Any],
    action: gym.Space[Any],
    mode: AutoresetMode,
    agent: AgentConfig,
    path: Path,
) -> list[Any] | None:
    """Train, evaluate and save; what the policy does then, or None where a space is refused."""
    if "matrix" in agent.memory and not agent.normalize_observations:
        # It multiplies what it is given: raw numbers beyond all measure overflow.
        observation = observation if largest(observation) < 1e6 else spaces.Discrete(3)
    config = TrainConfig(
        "Random-v0", num_envs=3, num_steps=8, num_minibatches=1, update_epochs=2, agent=agent
    )
    gym.register("Random-v0", vector_entry_point=lambda **_: vector_env(observation, action, mode))
    try:
        trainer = Trainer(config)
    except UnsupportedSpaceError as error:
        if "previous_action" not in str(error):
            raise
        return None
    finally:
        gym.registry.pop("Random-v0")
    try:
        for _ in range(2):
            scalars = trainer.iterate()
    except UserError as error:
        # Observations as large as 1e30, taken as they are, can overflow.
        if agent.normalize_observations or "became" not in str(error):
            raise
        return None
    assert scalars.get("memory/first_ratio_error", 0.0) < 1e-3
    policy = trainer.policy()
    assert len(evaluate(policy, vector_env(observation, action, mode), 5, seed=0).returns) == 5
    policy.save(path)
    again = load_policy(path)
    assert again.observation_space == observation
    assert again.action_space == action
    return acted(policy)


WIDTHS = st.lists(st.integers(1, 4), max_size=2)
AGENTS = st.builds(
    lambda critic, **settings: AgentConfig(
        separate_memory=critic != "shared", critic_memory=critic != "none", **settings
    ),
    critic=st.sampled_from(["shared", "own", "none"]),
    memory=st.sampled_from(sorted(MEMORIES)),
    hidden_size=st.just(6),
    encoder_size=st.integers(2, 5),
    encoder_layers=st.integers(0, 2),
    previous_action=st.booleans(),
    previous_reward=st.booleans(),
    actor_layers=WIDTHS,
    critic_layers=WIDTHS,
    one_hot=st.booleans(),
    image_features=st.integers(1, 5),
    normalize_observations=st.booleans(),
)
MODES = st.sampled_from([AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
ELSEWHERE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_training import acted
from recurrent_rl import load_policy
print(json.dumps({path: acted(load_policy(path)) for path in sys.argv[2:]}))
"""


def fuzz(examples: int, folder: Path, derandomize: bool) -> int:
    """So many random trainings, and all their policies in one fresh process; how many there were.

    Raises:
        AssertionError: something acts otherwise there than here.
    """
    expected: dict[str, list[Any]] = {}

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
    )
    @given(observations(), actions(), MODES, AGENTS)
    def one(
        observation: gym.Space[Any],
        action: gym.Space[Any],
        mode: AutoresetMode,
        agent: AgentConfig,
    ) -> None:
        path = folder / f"{len(expected)}.safetensors"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium's, about odd spaces
            done = two_iterations(observation, action, mode, agent, path)
        if done is not None:
            expected[str(path)] = done

    one()
    paths = list(expected)
    for begin in range(0, len(paths), 500):
        part = paths[begin : begin + 500]
        here = str(Path(__file__).parent)
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ELSEWHERE, here, *part],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        told = json.loads(result.stdout.splitlines()[-1])
        for path in part:
            assert told[path] == expected[path], path
    return len(expected)


def test_random_environments_train_and_act_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    assert fuzz(25, tmp_path, derandomize=True) > 10


@pytest.mark.slow
def test_thousands_of_random_environments_train_and_act_the_same(tmp_path: Path) -> None:
    print(fuzz(2000, tmp_path, derandomize=False), "environments trained")
