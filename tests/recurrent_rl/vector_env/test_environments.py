"""What environments return is brought to its types, or refused by environment, number and step."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy
from recurrent_rl.checks.check import check_env
from recurrent_rl.collector import Collector
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.evaluation_result import Evaluation
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.environments import Environments
from recurrent_rl.vector_env.vectorize import make_vector_env
from tests.envs.kinds import KINDS

F = np.float32
SMALL = AgentConfig("gru", hidden_size=8, encoder_size=8)


def agent_for(env: VectorEnv, config: AgentConfig = SMALL) -> ActorCritic:
    torch.manual_seed(0)
    agent = ActorCritic(env.single_observation_space, env.single_action_space, config)
    torch.nn.init.normal_(agent.critic.weight)
    return agent


class Clock(VectorEnv[Any, Any, Any]):
    """Episodes of four steps, a reward of 1 at each; shows the step. Results in any form."""

    def __init__(
        self,
        num_envs: int = 3,
        mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        form: Callable[[Any], Any] = np.asarray,
        by_time: bool = False,
    ) -> None:
        self.num_envs, self.form, self.by_time = num_envs, form, by_time
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = spaces.Box(0, 10, (1,), F)
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.t = np.zeros(self.num_envs)
        self.over = np.zeros(self.num_envs, dtype=bool)
        return self.form(self.t[:, None]), {}

    def step(self, actions: Any) -> Any:
        infos: dict[str, Any] = {}
        fresh = self.over
        self.t = np.where(fresh, 0, self.t + 1)
        done = self.t >= 4
        rewards = np.where(fresh, 0.0, 1.0)
        if self.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP:
            self.over = done
        else:
            infos = {"final_obs": self.form(self.t[:, None])}
            self.t = np.where(done, 0, self.t)
        none = np.zeros_like(done)
        terminated, truncated = (none, done) if self.by_time else (done, none)
        given = [self.form(x) for x in (self.t[:, None], rewards, terminated, truncated)]
        return *given, infos


FORMS: dict[str, Callable[[Any], Any]] = {
    "bool": np.asarray,
    "uint8": lambda x: np.asarray(x, np.uint8),
    "int64": lambda x: np.asarray(x, np.int64),
    "float32": lambda x: np.asarray(x, F),
    "list": lambda x: np.asarray(x).tolist(),
    "tensor": lambda x: torch.as_tensor(np.asarray(x)),
    "column": lambda x: np.asarray(x).reshape(3, 1),
}


@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("form", FORMS)
def test_ends_rewards_and_observations_of_any_form_are_the_same_rollout(
    form: str, mode: AutoresetMode, by_time: bool
) -> None:
    rollouts = []
    for name in ("bool", form):
        env = Clock(3, mode, FORMS[name], by_time)
        collector = Collector(env, agent_for(env), 20, 10, seed=0)
        collector.collect(0)
        assert {one.length for one in collector.episodes.ended} == {4}
        assert {one.total for one in collector.episodes.ended} == {4.0}
        rollouts.append(collector.collect(1))
    one, other = rollouts
    for name in ("episode_start", "valid", "rewards", "terminated", "truncated", "next_values"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(one.components[""], other.components[""])
    assert one.episode_start.any()
    assert (~one.valid).any() == (mode is AutoresetMode.NEXT_STEP)


@pytest.mark.parametrize("form", FORMS)
def test_an_evaluation_counts_the_same_episodes_whatever_the_form_of_their_ends(form: str) -> None:
    env = Clock(3, form=FORMS[form])
    result = evaluate(Policy(agent_for(env)), env, 7, seed=0)
    assert result.lengths.tolist() == [4] * 7
    assert result.returns.tolist() == [4.0] * 7


@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("told_final", [False, True])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_an_environment_of_another_autoreset_mode_than_it_names_is_refused(
    mode: AutoresetMode, told_final: bool, by_time: bool
) -> None:
    other = {AutoresetMode.SAME_STEP: "NEXT_STEP", AutoresetMode.NEXT_STEP: "SAME_STEP"}[mode]

    class Mislabelled(Clock):
        length = 4 if told_final else 1

        def step(self, actions: Any) -> Any:
            self.t += 4 - self.length
            *result, infos = super().step(actions)
            return *result, (infos if told_final else {})

    env = Mislabelled(3, mode, by_time=by_time)
    collector = Collector(env, agent_for(env), 5, 5, seed=0)
    env.metadata = {"autoreset_mode": AutoresetMode[other]}  # which it is
    if not told_final and mode is AutoresetMode.NEXT_STEP:
        message = "an end in the step that only resets, which there is not in autoreset mode NEXT"
    elif mode is AutoresetMode.NEXT_STEP:
        message = r"infos\['final_obs'\], which there is not in autoreset mode NEXT_STEP. Name the"
    else:
        message = rf"an end without infos\['final_obs'\].* or name the mode {other}"
    with pytest.raises(UserError, match=message):
        collector.collect()


class Reusing(gym.Env[Any, Any]):
    """Shows the step, all of whose observations are in one array; cut after four steps."""

    def __init__(self, kind: str = "box") -> None:
        box = spaces.Box(0, 10, (1,), F)
        buffer = self.buffer = np.zeros(1, F)
        self.observation_space: Any = {
            "box": box,
            "dict": spaces.Dict(a=box),
            "tuple": spaces.Tuple([box, box]),
        }[kind]
        self.shown: Any = {"box": buffer, "dict": {"a": buffer}, "tuple": (buffer, buffer)}[kind]
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.buffer[:] = 0
        return self.shown, {}

    def step(self, action: Any) -> Any:
        self.buffer += 1
        return self.shown, 1.0, False, bool(self.buffer[0] >= 4), {}


def finals(env: VectorEnv, steps: int) -> list[tuple[list[int], list[Any]]]:
    """Of each step with an end, whose last observations are read, and what these are."""
    environments = Environments(env, agent_for(env))
    environments.reset(0)
    found = [environments.step(np.zeros(env.num_envs, int)).final for _ in range(steps)]
    return [
        (one.indices.tolist(), [x.tolist() for x in one.observation.values()])
        for one in found
        if one is not None
    ]


@pytest.mark.parametrize("kind", ["box", "dict", "tuple"])
def test_a_last_observation_is_read_before_the_next_is_written_over_it(kind: str) -> None:
    env = SyncVectorEnv([partial(Reusing, kind)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    inside = list(env.envs)
    assert finals(env, 5) == [([0, 1], [[[4.0], [4.0]]] * (1 + (kind == "tuple")))]
    assert env.envs == inside


class Batched(VectorEnv[Any, Any, Any]):
    """Shows 10 i plus the step in environment i, and last observations as all observations.

    Environment i is cut when it has shown step 4, and begins at step i.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int, kind: str) -> None:
        self.num_envs, self.kind = num_envs, kind
        box = spaces.Box(-100, 100, (2,), F)
        self.single_observation_space = (
            spaces.Tuple([box, box]) if kind == "tuple" else spaces.Dict(a=box, b=box)
        )
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def seen(self, rows: Any = True) -> Any:
        shown = (10 * np.arange(self.num_envs) + self.t)[:, None].repeat(2, axis=1).astype(F)
        shown = np.where(np.reshape(rows, (-1, 1)), shown, np.nan)
        return (shown, -shown) if self.kind == "tuple" else {"a": shown, "b": -shown}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.t = np.arange(self.num_envs)
        return self.seen(), {}

    def step(self, actions: Any) -> Any:
        self.t = self.t + 1
        done = self.t >= 4
        infos = {"final_obs": self.seen(done), "_final_obs": done} if done.any() else {}
        self.t = np.where(done, 0, self.t)
        return self.seen(), np.ones(self.num_envs), np.zeros_like(done), done, infos


@pytest.mark.parametrize("num_envs", [2, 3])
@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_last_observations_of_all_in_one_are_read_in_the_rows_that_ended(
    kind: str, num_envs: int
) -> None:
    env = Batched(num_envs, kind)
    expected = [
        ([i], [[[10.0 * i + 4] * 2], [[-10.0 * i - 4] * 2]]) for i in reversed(range(num_envs))
    ]
    assert finals(env, 4) == expected
    assert not [x for x in check_env(env, raise_faults=False) if x.severity == "fault"]


class Masking(Reusing):
    """Allows one action alone, by a method, and pays for the other."""

    def action_masks(self) -> Any:
        return np.array([True, False])

    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, float(action), *rest


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_a_method_that_masks_actions_is_asked_in_a_vector_environment_that_was_given(
    mode: AutoresetMode,
) -> None:
    env = SyncVectorEnv([Masking] * 3, autoreset_mode=mode)
    played = evaluate(Policy(agent_for(env)), env, 12, deterministic=False, seed=0)
    assert played.returns.tolist() == [0.0] * 12


class Spoilt(Clock):
    """Spoils the result of its second step."""

    def __init__(self, spoil: Callable[[Any], Any]) -> None:
        super().__init__(3)
        self.spoil = spoil
        self.steps = 0

    def step(self, actions: Any) -> Any:
        self.steps += 1
        result = super().step(actions)
        return self.spoil(result) if self.steps == 2 else result


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r[:4], r"step\(\) returned a tuple of 4"),
        (lambda r: (r[0][:2], *r[1:]), "an observation of 2 environments, where there are 3"),
        (lambda r: (r[0], r[1][:2], *r[2:]), r"reward of shape \[2\] .* one number of each of 3"),
        (lambda r: (r[0], ["1", "2", "3"], *r[2:]), "reward of shape .* and type <U1"),
        (lambda r: (*r[:2], r[2] + 2, *r[3:]), r"terminated \[2.0, 2.0, 2.0\]; expected true"),
        (lambda r: (*r[:4], None), "infos that are a NoneType; expected a dictionary"),
        (lambda r: (*r[:4], {"action_mask": [[1, 1]] * 2}), "'action_mask'. that cannot be used"),
        (lambda r: (*r[:4], {"is_success": ["no"] * 3}), "is_success 'no' in environment 0"),
    ],
)
def test_a_vector_environment_that_returns_something_else_is_refused_by_step(
    spoil: Any, message: str
) -> None:
    env = Spoilt(spoil)
    with pytest.raises(UserError, match=f"The environment gave at step 2: .*{message}"):
        evaluate(Policy(agent_for(env)), env, 3, seed=0)


class Single(gym.Env[Any, Any]):
    """Episodes of five steps; a subclass spoils something."""

    observation_space: spaces.Space[Any] = spaces.Box(-1, 1, (2,), F)
    action_space: spaces.Space[Any] = spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, F), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return np.zeros(2, F), 1.0, self.t >= 5, False, {}


changed: dict[str, Any] = {}
"""The classes behind the ids that `register` made."""


@pytest.fixture
def register() -> Iterator[Callable[..., str]]:
    """Register an environment made of a change to each step's result, for one test."""
    made: list[str] = []

    def of(
        change: Callable[[Single, Any], Any],
        first: Callable[[Single, Any], Any] = lambda _, result: result,
        observation: gym.Space[Any] | None = None,
        action: gym.Space[Any] | None = None,
    ) -> str:
        class Changed(Single):
            observation_space = observation or Single.observation_space
            action_space = action or Single.action_space

            def reset(self, *, seed: Any = None, options: Any = None) -> Any:
                return first(self, super().reset(seed=seed))

            def step(self, action: Any) -> Any:
                return change(self, super().step(action))

        env_id = f"Odd{len(made)}-v0"
        gym.register(env_id, lambda **_: Changed())
        changed[env_id] = Changed
        made.append(env_id)
        return env_id

    yield of
    for env_id in made:
        gym.registry.pop(env_id)


BOX = spaces.Box(-1, 1, (2,), F)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["box", "dict", "tuple"])
def test_tensors_are_read_whatever_their_type_and_whether_they_require_a_gradient(
    register: Any, kind: str, dtype: torch.dtype
) -> None:
    x = torch.full((2,), 0.5, dtype=dtype, requires_grad=True)
    space, shown = {
        "box": (BOX, x),
        "dict": (spaces.Dict(a=BOX, b=spaces.Discrete(3)), {"a": x, "b": torch.tensor(2)}),
        "tuple": (spaces.Tuple([BOX, BOX]), (x, [0.5, 0.5])),
    }[kind]
    reward = torch.tensor(1.0, dtype=dtype, requires_grad=True)
    env_id = register(
        lambda _, r: (shown, reward, *r[2:]), lambda _, r: (shown, r[1]), observation=space
    )
    played(env_id)
    observation, _ = make_vector_env(env_id, 2).reset(seed=0)
    assert make_vector_env(env_id, 2).observation_space.contains(observation)


@pytest.mark.parametrize("reward", [torch.ones(1).to_sparse(), [1.0, [2.0]]])
def test_a_reward_that_no_array_can_hold_is_refused(register: Any, reward: Any) -> None:
    with pytest.raises(UserError, match=r"(?s)at its step 1: reward is .*; expected a number"):
        played(register(lambda _, r: (r[0], reward, *r[2:])))


@pytest.mark.parametrize("shown", [torch.ones(2).to_sparse(), [torch.ones(1, requires_grad=True)]])
def test_an_observation_that_no_array_can_hold_is_refused(register: Any, shown: Any) -> None:
    with pytest.raises(UserError, match=r"at its step 1: its observation space .* does not allow"):
        played(register(lambda _, r: (shown, *r[1:])))


def played(env_id: str, episodes: int = 12) -> Evaluation:
    """Train an iteration and evaluate; what an oddity must survive."""
    config = TrainConfig(env_id, num_envs=4, num_steps=16, agent=SMALL)
    trainer = Trainer(config)
    trainer.iterate()
    result = evaluate(trainer.policy(), make_vector_env(env_id, 4), episodes, seed=0)
    assert result.returns.tolist() == [5.0] * episodes
    return result


@pytest.mark.parametrize(
    "change",
    [
        lambda e, r: (r[0], np.array([1.0]), *r[2:]),
        lambda e, r: (r[0], np.array(1.0), np.bool_(r[2]), np.array(r[3]), r[4]),
        lambda e, r: (r[0], 1, int(r[2]), int(r[3]), r[4]),
        lambda e, r: (r[0].astype(np.float64), *r[1:]),
        lambda e, r: (r[0].tolist(), *r[1:]),
        lambda e, r: (*r[:4], {"path": np.zeros((e.t, 2)), "note": "x" * e.t, "l": list("ab")}),
        lambda e, r: (*r[:4], {"v": 1 if e.t % 2 else "text", "w": None if e.t % 3 else 2.0}),
        lambda e, r: (*r[:4], {"final_obs": "mine", "final_info": {"a": 1}}),
    ],
    ids=[
        "reward of shape [1]",
        "arrays of no dimension",
        "integers",
        "float64 observation",
        "list observation",
        "ragged infos",
        "infos of changing types",
        "infos by Gymnasium's own names",
    ],
)
def test_what_can_be_brought_to_its_type_is(register: Any, change: Any) -> None:
    played(register(change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, r: (r[0], None, *r[2:]), "reward is None; expected a number"),
        (lambda e, r: (r[0], np.ones(2), *r[2:]), r"reward is array\(\[1., 1.\]\)"),
        (lambda e, r: (r[0], "1", *r[2:]), "reward is '1'"),
        (
            lambda e, r: (r[0], 1e39, *r[2:]),
            r"reward 1e\+39 in environment 0; a reward must be a finite",
        ),
        (lambda e, r: (*r[:2], 2, *r[3:]), "terminated is 2; expected true or false"),
        (lambda e, r: (*r[:2], 0.3, *r[3:]), r"terminated is 0\.3; expected true or false"),
        (lambda e, r: (*r[:3], math.nan, r[4]), "truncated is nan; expected true or false"),
        (lambda e, r: (*r[:3], None, r[4]), "truncated is None; expected true or false"),
        (lambda e, r: (*r[:2], r[2], r[4]), r"step\(\) returned a tuple of 4; expected \(obs"),
        (lambda e, r: (*r[:4], None), "the info is a NoneType; expected a dictionary"),
        (lambda e, r: (*r[:4], {"is_success": "yes"}), "is_success is 'yes'; expected true or"),
        (lambda e, r: (np.zeros(3, F), *r[1:]), r"has shape \[1, 3\]"),
        (lambda e, r: (np.full(2, np.nan, F), *r[1:]), "of environment 0 holds NaN or infinity"),
    ],
)
def test_what_cannot_is_refused_by_environment_and_step(
    register: Any, change: Any, message: str
) -> None:
    env_id = register(lambda e, r: change(e, r) if e.t == 3 else r)
    with pytest.raises(UserError, match=f"{env_id}.* at (its )?step 3: .*{message}"):
        played(env_id)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Box(0, 255, (2,), np.uint8), np.full(2, 0.5)),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([300, -1])),
        (spaces.Box(-128, 127, (2,), np.int8), np.array([200, 1])),
        (spaces.Box(-5, 5, (2,), np.int32), np.array([0.5, 1.5])),
        (spaces.Box(0, 1, (2,), np.bool_), np.array([2, 0])),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_values_that_a_space_would_cut_or_wrap_are_refused(
    register: Any, space: spaces.Box, value: Any
) -> None:
    good = np.zeros(2, space.dtype)
    env_id = register(
        lambda e, r: (value if e.t == 2 else good, *r[1:]), lambda e, r: (good, r[1]), space
    )
    with pytest.raises(UserError, match=f"Environment 0 of {env_id} at its step 2"):
        played(env_id)


def test_a_reset_that_takes_no_seed_is_refused_with_the_form_it_should_have() -> None:
    class Old(Single):
        def reset(self) -> Any:  # type: ignore[override]
            return np.zeros(2, F), {}

    gym.register("Old-v0", lambda **_: Old())
    try:
        with pytest.raises(UserError, match=r"Old-v0 .* define it as reset\(self, \*, seed=None"):
            make_vector_env("Old-v0", 2)
    finally:
        gym.registry.pop("Old-v0")


def test_a_reset_without_info_is_refused(register: Any) -> None:
    env_id = register(lambda e, r: r, lambda e, r: r[0])
    with pytest.raises(UserError, match=r"at its step 0: reset\(\) returned a ndarray; expected"):
        played(env_id)


@pytest.mark.parametrize(
    ("reported", "rate"),
    [
        (lambda e, last: {"is_success": True} if last and e.good else {}, 0.5),
        (lambda e, last: {"is_success": True if last and e.good else None}, 0.5),
        (lambda e, last: {"is_success": e.good} if last else {}, 0.5),
        (lambda e, last: {"is_success": e.t == 2}, 1.0),
        (lambda e, last: {"is_success": np.array([e.good and e.t == 1])}, 0.5),
        (lambda e, last: {"is_success": False}, 0.0),
        (lambda e, last: {}, None),
    ],
    ids=[
        "only when true",
        "none else",
        "at the end",
        "on the way",
        "first step",
        "never",
        "silent",
    ],
)
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_the_success_rate_is_of_all_episodes(
    register: Any, reported: Any, rate: float | None, mode: AutoresetMode
) -> None:
    def begin(env: Any, result: Any) -> Any:
        env.good = not getattr(env, "good", False)  # every second episode
        return result

    env_id = register(lambda e, r: (*r[:4], reported(e, r[2])), begin)
    single = partial(gym.make, env_id, disable_env_checker=True)
    if mode is AutoresetMode.SAME_STEP:
        env = make_vector_env(env_id, 4)
    else:
        env = SyncVectorEnv([single] * 4, autoreset_mode=mode)
    agent = agent_for(env)
    result = evaluate(Policy(agent), env, 16, seed=0)
    assert result.success_rate == rate
    collector = Collector(env, agent, 60, 60, seed=0)
    collector.collect(0)
    assert len(collector.episodes.ended) >= 36
    shown = collector.episodes.latest().means().get("rollout/success_rate")
    assert shown == (None if rate is None else pytest.approx(rate, abs=0.1))


def maskings(env: Any, form: str) -> Any:
    """A mask of `MultiDiscrete([2, 3])` that allows one action of each component, in any form."""
    one = np.eye(2, dtype=np.int8)[env.t % 2]
    two = np.eye(3, dtype=np.int8)[env.t % 3]
    flat = np.concatenate([one, two])
    return {
        "array": flat,
        "bool": flat.astype(bool),
        "floats": flat.astype(float),
        "list": flat.tolist(),
        "tuple": (one, two),
        "lists": [one.tolist(), two.tolist()],
        "matrix": np.stack([np.append(one, 0), two]),
        "tensor": torch.as_tensor(flat),
    }[form]


@pytest.mark.parametrize("at_reset", [True, False])
@pytest.mark.parametrize(
    "form", ["array", "bool", "floats", "list", "tuple", "lists", "matrix", "tensor"]
)
def test_masks_of_any_form_are_kept_to(register: Any, form: str, at_reset: bool) -> None:
    def step(env: Any, result: Any) -> Any:
        right = env.taken == [(env.t - 1) % 2, (env.t - 1) % 3]
        free = env.t == 1 and not at_reset
        env.mask = maskings(env, form)
        return result[0], float(right or free), *result[2:4], {"action_mask": env.mask}

    def first(env: Any, result: Any) -> Any:
        return result[0], {"action_mask": maskings(env, form)} if at_reset else {}

    env_id = register(step, first, action=spaces.MultiDiscrete([2, 3]))
    remember_actions(env_id)
    played(env_id)


@pytest.mark.parametrize("where", ["environment", "wrapper"])
def test_masks_are_asked_for_where_the_environment_has_a_method_for_them(where: str) -> None:
    class Masked(Single):
        action_space = spaces.Discrete(4)

        def step(self, action: Any) -> Any:
            assert action == self.t % 4
            return super().step(action)

    class Masker(gym.Wrapper[Any, Any, Any, Any]):
        """As sb3-contrib's ActionMasker."""

        def action_masks(self) -> Any:
            base: Any = self.unwrapped
            assert base.t < 5  # an episode that is over has no actions to tell of
            return np.arange(4) == base.t % 4

    class WithMethod(Masked):
        action_masks = Masker.action_masks

    make: Any = WithMethod if where == "environment" else lambda: Masker(Masked())
    env = make_vector_env(make, 2)
    Collector(env, agent_for(env), 20, 20, seed=0).collect()
    assert evaluate(Policy(agent_for(env)), make, 4, deterministic=False).unfinished == 0
    check_env(make)  # raises where there is a fault


def remember_actions(env_id: str) -> None:
    """Let the registered environment know the action of each step."""
    creator = changed[env_id]
    original = creator.step

    def step(self: Any, action: Any) -> Any:
        self.taken = np.asarray(action).tolist()
        return original(self, action)

    creator.step = step


@pytest.mark.parametrize(
    ("space", "mask", "message"),
    [
        (spaces.Discrete(3), [0, 0, 0], "forbids every action"),
        (spaces.MultiDiscrete([2, 3]), [1, 1, 0, 0, 0], "or every one of a component"),
        (spaces.Discrete(3), [1, 0], r"mask of \[2\] entries does not fit Discrete\(3\)"),
        (spaces.Discrete(3), [1, -1, 0], "expected 1 for what is allowed and 0"),
        (spaces.MultiBinary(3), [1, 1, 1], "has no action masks; leave them out"),
        (spaces.Box(-1, 1, (2,)), [1, 1], "has no action masks; leave them out"),
    ],
)
def test_masks_that_cannot_be_kept_to_are_refused(
    register: Any, space: gym.Space[Any], mask: Any, message: str
) -> None:
    def step(env: Any, result: Any) -> Any:
        return (*result[:4], {"action_mask": mask} if env.t == 2 else {})

    env_id = register(step, action=space)
    with pytest.raises(UserError, match=f"{env_id} .*step 2: .*{message}"):
        played(env_id)


class Reuses(gym.Env[Any, Any]):
    """Writes each observation into the same array; episodes of three steps, cut by time."""

    observation_space: gym.Space[Any] = spaces.Box(-100, 100, (1,), F)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.buffer = self.shown = np.zeros(1, F)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        self.buffer[:] = -50
        return self.shown, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        self.buffer[:] = self.t
        return self.shown, 0.0, False, self.t == 3, {}


class ReusesDict(Reuses):
    """The same dictionary too."""

    observation_space = spaces.Dict({"x": Reuses.observation_space})

    def __init__(self) -> None:
        super().__init__()
        self.shown: Any = {"x": self.buffer}


@pytest.mark.parametrize(("make", "path"), [(Reuses, ""), (ReusesDict, "x")])
def test_final_observations_are_read_before_the_next_episode_writes_over_them(
    make: Any, path: str
) -> None:
    gym.register("Reuses-v0", lambda **_: make())
    try:
        env = make_vector_env("Reuses-v0", 2)
        environments = Environments(env, agent_for(env))
        environments.reset(0)
        for t in (1, 2, 3):
            step = environments.step(np.zeros(2, np.int64))
            assert (step.final is not None) == (t == 3)
        assert step.final is not None
        assert step.final.observation[path].tolist() == [[3.0], [3.0]]
        assert step.observation[path].tolist() == [[-50.0], [-50.0]]
    finally:
        gym.registry.pop("Reuses-v0")


HIDING = {
    "nothing": EnvConfig(),
    "flicker": EnvConfig(flicker=0.3),
    "noise": EnvConfig(observation_noise=0.1),
    "delay": EnvConfig(observation_delay=2),
}


@pytest.mark.parametrize("env_id", KINDS)
def test_an_id_is_the_same_task_however_it_is_stepped_and_hidden(env_id: str) -> None:
    batched = make_vector_env(env_id, 2)
    base: Any = batched.unwrapped
    steps = base.max_episode_steps + 3
    batched.action_space.seed(0)
    actions = [batched.action_space.sample() for _ in range(steps)]
    expected = outcomes(batched, actions)
    assert expected
    is_box = isinstance(batched.single_observation_space, spaces.Box)
    for name, config in HIDING.items():
        if (name != "nothing" and not is_box) or config.observation_delay >= base.max_episode_steps:
            continue
        env = make_vector_env(env_id, 2, EnvConfig(**{**vars(config), "vectorization": "sync"}))
        assert isinstance(env, SyncVectorEnv)
        assert outcomes(env, actions) == expected, name


@pytest.mark.parametrize(
    "env_id", ["recurrent_rl/PositionOnlyCartPole-Easy-v0", "recurrent_rl/MultiarmedBandit-Easy-v0"]
)
def test_an_id_is_the_same_task_in_processes(env_id: str) -> None:
    batched = make_vector_env(env_id, 2)
    batched.action_space.seed(0)
    actions = [batched.action_space.sample() for _ in range(250)]
    env = make_vector_env(env_id, 2, EnvConfig(vectorization="async"))
    try:
        assert outcomes(env, actions) == outcomes(batched, actions)
    finally:
        env.close()


def outcomes(env: VectorEnv, actions: list[Any]) -> list[tuple[int, int, float, bool]]:
    """Environment, step, return and kind of end of each episode that these actions play."""
    _, infos = env.reset(seed=3)
    total, found = np.zeros(env.num_envs), []
    for t, action in enumerate(actions):
        if "action_mask" in infos:
            action = infos["action_mask"].argmax(axis=1)
        _, rewards, terminated, truncated, infos = env.step(action)
        total += rewards
        for i in np.flatnonzero(terminated | truncated).tolist():
            found.append((i, t, round(float(total[i]), 6), bool(terminated[i])))
            total[i] = 0
    return found


class OldLimit(gym.Env[Any, Any]):
    """Tells a time limit of three steps as gym did, or as Gymnasium does."""

    observation_space, action_space = spaces.Box(0, 10, (1,), F), spaces.Discrete(2)

    def __init__(self, terminated: bool, truncated: bool) -> None:
        self.ends = terminated, truncated

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.t = 0
        return np.zeros(1, F), {}

    def step(self, action: int) -> Any:
        self.t += 1
        over = self.t == 3
        ends = (over and end for end in self.ends)
        return np.full(1, self.t, F), 1.0, *ends, {"TimeLimit.truncated": over}


def test_a_time_limit_told_as_in_gym_is_refused() -> None:
    """Else it were learnt from as an end after which there is nothing."""
    told = {}
    for ends in ((True, False), (False, True), (True, True)):
        env = make_vector_env(partial(OldLimit, *ends), 1)
        environments = Environments(env, agent_for(env))
        environments.reset(0)
        try:
            for _ in range(3):
                environments.step(np.zeros(1, np.int64))
        except UserError as error:
            told[ends] = str(error)
        env.close()
    assert told.keys() == {(True, False)}
    assert "at its step 3: terminated is true, and the info says" in told[True, False]
    assert told[True, False].endswith("Return terminated=False and truncated=True there.")
