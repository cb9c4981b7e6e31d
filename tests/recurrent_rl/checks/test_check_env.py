"""Each check finds the fault that was planted for it, and our own environments have none."""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import recurrent_rl
from recurrent_rl import Finding, UserError, check_env
from recurrent_rl.checks.finding import FaultyEnvironmentError, Report

F = np.float32


class Sound(gym.Env[Any, Any]):
    """Nothing is wrong with it: episodes of some 6 steps, at most 12, of noise."""

    observation_space: gym.Space[Any] = spaces.Box(-1, 1, (3,), F)
    action_space: gym.Space[Any] = spaces.Discrete(3)
    limit = 12

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.seen(), self.info()

    def step(self, action: Any) -> Any:
        self.t += 1
        terminated = bool(self.np_random.random() < 0.1)
        return self.seen(), 1.0, terminated, self.t >= self.limit, self.info()

    def seen(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(F)

    def info(self) -> Any:
        return {}


def changed(**changes: Any) -> type[Sound]:
    return type("Changed", (Sound,), changes)


def step_changed(change: Callable[[Any, list[Any]], Any]) -> type[Sound]:
    """With another result of each step."""

    def step(self: Sound, action: Any) -> Any:
        return change(self, list(Sound.step(self, action)))

    return changed(step=step)


def with_(place: int, value: Callable[[Any], Any]) -> type[Sound]:
    def change(env: Any, result: list[Any]) -> Any:
        result[place] = value(env)
        return tuple(result)

    return step_changed(change)


def reset_in_step(env: Any, result: list[Any]) -> Any:
    if result[2] or result[3]:
        result[0] = env.reset()[0]
    return tuple(result)


class Walk(Sound):
    """Random where it starts and nowhere else; it begins the next episode without a reset."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        gym.Env.reset(self, seed=seed)
        return self.start(), {}

    def start(self) -> Any:
        self.t, self.place = 0, self.np_random.uniform(-0.5, 0.5, 3).astype(F)
        return self.place.copy()

    def step(self, action: Any) -> Any:
        self.t += 1
        self.place[action] += 0.1
        over = self.t == 4
        return self.start() if over else self.place.copy(), 1.0, over, False, {}


def reused(self: Any) -> Any:
    if not hasattr(self, "buffer"):
        self.buffer = np.zeros(3, F)
    self.buffer[:] = self.np_random.uniform(-1, 1, 3)
    return self.buffer


def own_draws(self: Any, *, seed: Any = None, options: Any = None) -> Any:
    Sound.reset(self, seed=seed)
    self._np_random = generator.spawn(1)[0]
    return self.seen(), {}


def one_stream(self: Any, *, seed: Any = None, options: Any = None) -> Any:
    Sound.reset(self, seed=seed)
    if seed is not None:
        self._np_random = np.random.default_rng(7)
    return self.seen(), {}


def always_alike(self: Any, *, seed: Any = None, options: Any = None) -> Any:
    Sound.reset(self, seed=seed)
    self._np_random = np.random.default_rng(7)
    return self.seen(), {}


def forgets(self: Any, *, seed: Any = None, options: Any = None) -> Any:
    """What an episode left behind shows in the next."""
    self.runs = getattr(self, "runs", 0) + 1
    Sound.reset(self, seed=seed)
    return np.full(3, 1 / self.runs, F), {}


generator = np.random.default_rng(0)


def fails(self: Any, action: Any) -> Any:
    raise KeyError("no such door")


def masked(mask: Callable[[Any], Any]) -> dict[str, Any]:
    return {"info": lambda self: {"action_mask": mask(self)}}


class Falling(Sound):
    """Random actions end it long before its time is over, which it tells as termination."""

    limit = 500

    def step(self, action: Any) -> Any:
        observation, reward, terminated, out_of_time, info = super().step(action)
        return observation, reward, terminated or out_of_time, False, info


class Countdown(gym.Wrapper[Any, Any, Any, Any]):
    """A limit of 300 steps that terminates."""

    def reset(self, **options: Any) -> Any:
        self.left = np.int64(300)
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        self.left -= 1
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or bool(self.left == 0), truncated, info


class Corridor(Sound):
    """One step further each time, to a goal that lies somewhere else in each episode."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        result = super().reset(seed=seed)
        self.goal = int(self.np_random.integers(10, 40))
        return result

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.seen(), 1.0, self.t >= self.goal, False, {}


FAULTS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "reset takes no seed": (
        changed(reset=lambda self: (np.zeros(3, F), {})),
        "reset() cannot be called with seed and options",
        "reset(self, *, seed=None, options=None)",
    ),
    "reset returns no info": (
        changed(reset=lambda self, *, seed=None, options=None: np.zeros(3, F)),
        "reset() returned a ndarray",
        "Return a tuple",
    ),
    "step returns four": (step_changed(lambda e, r: tuple(r[:4])), "a tuple of 4", "Return a tup"),
    "step raises": (changed(step=fails), "raised KeyError: 'no such door' (line ", "Mend it"),
    "info is no dictionary": (with_(4, lambda e: None), "the info is a NoneType", "a dictionary"),
    "observation outside of its bounds": (
        with_(0, lambda e: np.full(3, 1.5, F)),
        "is 1.5 at [0], outside of its bounds [-1.0, 1.0]",
        "widen the space",
    ),
    "observation of another shape": (
        with_(0, lambda e: np.zeros(2, F)),
        "has shape [1, 2]",
        "observation_space.contains()",
    ),
    "observation not finite": (with_(0, lambda e: np.full(3, np.nan, F)), "not finite", "contains"),
    "reward no number": (with_(1, lambda e: "1"), "the reward is '1'", "Return a float"),
    "reward ragged": (with_(1, lambda e: [1, [2]]), "the reward is [1, [2]]", "Return a float"),
    "reward not finite": (with_(1, lambda e: float("inf")), "no finite float32", "finite float"),
    "end neither true nor false": (with_(2, lambda e: None), "terminated is None", "as a bool"),
    "its own time limit as termination": (
        lambda: gym.wrappers.TimeLimit(
            with_(2, lambda e: e.t >= e.limit)(), max_episode_steps=Sound.limit
        ),
        "episodes that reached the time limit of 12 steps (max_episode_steps) reported terminated",
        "Return truncated=True and terminated=False",
    ),
    "its own time limit, which no random episode reaches, as termination": (
        lambda: gym.wrappers.TimeLimit(Falling(), max_episode_steps=500),
        "With Falling.t set forward, the step that reaches the time limit of 500 steps",
        "Return truncated=True and terminated=False",
    ),
    "the same, counted down by a wrapper": (
        lambda: gym.wrappers.TimeLimit(Countdown(Sound()), max_episode_steps=300),
        "With Countdown.left set forward, the step that reaches the time limit of 300 steps",
        "Return truncated=True and terminated=False",
    ),
    "it resets itself": (
        step_changed(reset_in_step),
        "The step that ends an episode calls reset()",
        "Return the episode's last observation",
    ),
    "it begins the next episode itself": (
        Walk,
        "is the one that the next episode begins with, in all of 4",
        "Return the episode's last observation",
    ),
    "it draws from elsewhere": (
        changed(reset=own_draws),
        "two resets with seed 0 and the same actions the first observation is not the same",
        "Draw from self.np_random alone",
    ),
    "an episode leaves something behind": (
        changed(reset=forgets),
        "the same actions the first observation is not the same",
        "set all of the state anew in reset()",
    ),
    "it writes over what it returned": (
        changed(seen=reused),
        "writes into the array that it has handed out",
        "self.buffer.copy()",
    ),
    "mask of another size": (changed(**masked(lambda e: [1, 0])), "mask of [2] entries", "Give in"),
    "mask that forbids all": (
        changed(**masked(lambda e: [0, 0, 0])),
        "the action mask forbids every action",
        "Allow at least one action",
    ),
    "mask only now and then": (
        changed(info=lambda self: {"action_mask": [1, 1, 0]} if self.t % 2 else {}),
        "After reset(seed=0) there is no info['action_mask'], which there is at other steps",
        "from reset() and every step()",
    ),
    "action space without a head": (
        changed(action_space=spaces.Box(0, 9, (1,), np.int64)),
        "The action space Box(0, 9, (1,), int64) is not supported",
        "Use Discrete",
    ),
    "observation space without an encoder": (
        changed(observation_space=spaces.Text(3)),
        "The observation space Text",
        "Use Box",
    ),
    "a constructor that fails": (
        changed(__init__=lambda self: [][0]),
        "It cannot be made: IndexError",
        "Mend its constructor",
    ),
    "no generator of Gymnasium's": (
        changed(reset=lambda self, *, seed=None, options=None: (np.zeros(3, F), {}), step=fails),
        "raised KeyError",
        "Mend it",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_told_with_its_fix(fault: str) -> None:
    make, what, fix = FAULTS[fault]
    with pytest.raises(FaultyEnvironmentError) as raised:
        check_env(make)
    found = [one for one in raised.value.findings if what in one.what]
    assert [one.severity for one in found] == ["fault"], raised.value.findings
    assert fix in found[0].fix
    assert what in str(raised.value)
    assert f"Fix: {found[0].fix}" in str(raised.value)


def late(self: Any, action: Any) -> Any:
    observation, reward, terminated, _, info = Sound.step(self, action)
    return observation, reward, terminated or self.t > self.limit, False, info


def at_thirty(self: Any, action: Any) -> Any:
    self.t += 1
    return self.seen(), 1.0, self.t == 30, False, {}


class Endless(Sound):
    def step(self, action: Any) -> Any:
        return self.seen(), 0.0, False, False, {}


NOTES: dict[str, tuple[Callable[..., Any], str]] = {
    "a limit of its own as termination": (
        Falling,
        "With Falling.t set forward, the step that reaches limit (500) reports terminated",
    ),
    "the same one step later": (
        changed(limit=500, step=late),
        "With Changed.t set forward, the step that reaches limit (500) reports terminated",
    ),
    "all episodes of one length": (
        changed(step=at_thirty),
        "All 4 episodes of random actions reported terminated at step 30",
    ),
    "an episode that never ends": (Endless, "No episode ended within 1,000 steps"),
    "a seed that is not used": (changed(reset=one_stream), "differ from each other, but not with"),
    "nothing is random": (changed(reset=always_alike), "nothing is random"),
    "float64": (changed(seen=lambda self: self.np_random.uniform(-1, 1, 3)), "of type float64"),
    "a clock beside what changes": (
        changed(
            observation_space=spaces.Box(0, 4e9, (3,), F),
            seen=lambda self: (self.np_random.uniform(-1, 1, 3) + 1.7e9).astype(F),
        ),
        "near 1.7e+09 at [0], where float32 distinguishes only numbers that are 128 apart",
    ),
    "a success that is not read": (
        changed(info=lambda self: {"success": self.t > 4}),
        "the info has 'success', which is not read",
    ),
    "an end of 0 and 1": (with_(2, lambda e: int(e.t > 5)), "terminated is 0; it is read as False"),
    "a reward in an array": (with_(1, lambda e: np.ones(1)), "an array of shape [1]"),
    "a stack of images": (
        changed(
            observation_space=spaces.Box(0, 255, (4, 9, 9, 3), np.uint8),
            seen=lambda self: self.np_random.integers(0, 256, (4, 9, 9, 3), np.uint8),
        ),
        "The observation of shape (4, 9, 9, 3) is read as a vector of 972 numbers",
    ),
    "bounds without end": (
        changed(observation_space=spaces.Box(-np.inf, np.inf, (3,), F)),
        "Gymnasium's checker: A Box observation space minimum value is -infinity",
    ),
    "actions without end": (
        changed(action_space=spaces.Box(-1, np.inf, (2,), F)),
        "Gymnasium's checker: A Box action space maximum value is infinity",
    ),
}


@pytest.mark.parametrize("note", NOTES)
def test_what_works_and_may_not_be_meant_is_a_note(note: str) -> None:
    make, what = NOTES[note]
    found = [one for one in check_env(make, raise_faults=False) if what in one.what]
    assert [one.severity for one in found] == ["note"]
    assert found[0].fix


def test_an_error_of_gymnasiums_own_checker_is_a_fault() -> None:
    def reset(self: Any, *, seed: Any = None, options: Any = None) -> Any:
        self.own = np.random.default_rng(seed)
        self.t = 0
        return self.seen(), {}

    def seen(self: Any) -> Any:
        return self.own.uniform(-1, 1, 3).astype(F)

    def step(self: Any, action: Any) -> Any:
        self.t += 1
        return self.seen(), 0.0, self.t > 5, False, {}

    with pytest.raises(FaultyEnvironmentError, match=r"Gymnasium's checker: .*super\(\)\.reset"):
        check_env(changed(reset=reset, seen=seen, step=step))


def test_an_environment_with_nothing_wrong_has_no_findings_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    given: list[Any] = [Sound, Sound(), lambda: Sound(), Corridor]
    given += [lambda: gym.wrappers.TimeLimit(Sound(), 5)]
    given += [lambda: gym.wrappers.TimeLimit(Corridor(), 60)]
    below_zero = spaces.Discrete(3, start=-3)
    uneven = spaces.Box(np.array([-0.5, 0, -2], F), np.array([1.5, 0.25, 7], F))
    given += [changed(action_space=uneven)]
    given += [changed(action_space=below_zero, **masked(lambda e: np.array([1, 0, 1], np.int8)))]
    for env in given:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert check_env(env) == ()
    assert capfd.readouterr() == ("", "")


def test_faults_are_returned_where_that_is_asked_for_and_come_before_notes() -> None:
    both = with_(1, lambda e: None)
    both.observation_space = spaces.Box(-np.inf, np.inf, (3,), F)
    findings = check_env(both, raise_faults=False)
    assert [one.severity for one in findings] == sorted(one.severity for one in findings)
    assert {one.severity for one in findings} == {"fault", "note"}
    assert findings[0] == Finding("fault", findings[0].what, "Return a float.")


def test_arguments_reach_the_environment_and_a_given_one_takes_none() -> None:
    class Named(Sound):
        def __init__(self, size: int) -> None:
            assert size == 3

    assert check_env(Named, env_kwargs={"size": 3}) == ()
    with pytest.raises(FaultyEnvironmentError, match="cannot be made: TypeError"):
        check_env(Named)
    with pytest.raises(UserError, match="env_kwargs go with an id"):
        check_env(Sound(), env_kwargs={"size": 3})


class Telling(Sound):
    """A vector, a text that changes, and one that never does."""

    observation_space = spaces.Dict(
        {
            "seen": Sound.observation_space,
            "said": spaces.Text(3),
            "task": spaces.Text(2, min_length=2, charset="a"),
        }
    )

    def seen(self) -> Any:
        return {"seen": super().seen(), "said": "abc", "task": "aa"}


def test_an_environment_is_checked_as_training_sees_it() -> None:
    """Texts that never change are left out, keys are selected, wrappers go around the rest."""
    (fault,) = check_env(Telling, raise_faults=False)
    assert "'said' is text that may change" in fault.what
    assert "--observe seen" in fault.fix
    (note,) = check_env(Telling, observe=["seen", "task"])
    assert "'task' is always the text 'aa'" in note.what
    assert check_env(Telling, observe=["seen"], wrappers=["frame-stack:2"]) == ()
    with pytest.raises(UserError, match=r"observe names 'sen', .* Did you mean seen\?"):
        check_env(Telling, observe=["sen"])
    with pytest.raises(UserError, match="observe is 'seen'; it must be a list or tuple"):
        check_env(Telling, observe="seen")
    with pytest.raises(UserError, match="Wrapper grayscale cannot go around"):
        check_env(Telling, observe=["seen"], wrappers=["grayscale"])
    with pytest.raises(UserError, match="observe and wrappers go around single environments"):
        check_env(SyncVectorEnv([Telling]), observe=["seen"])


def test_an_environment_that_was_given_stays_open() -> None:
    closed: list[Any] = []
    env = changed(close=lambda self: closed.append(self))()
    assert check_env(env) == ()
    vector = SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.SAME_STEP)
    assert check_env(vector) == ()
    gc.collect()
    assert (closed, vector.closed) == ([], False)
    assert check_env(type(env)) == ()  # and one that was made is closed
    assert len(closed) == 1


def test_both_forms_of_an_id_are_checked_whatever_the_other_has() -> None:
    gym.register(
        "Forms-v0",
        lambda **_: with_(1, lambda e: None)(),
        vector_entry_point=lambda **_: Several("no final"),
    )
    try:
        found = [one.what for one in check_env("Forms-v0", raise_faults=False)]
    finally:
        gym.registry.pop("Forms-v0")
    assert any("the reward is None" in what for what in found)
    assert any("an end without infos['final_obs']" in what for what in found)


def test_a_refusal_is_split_between_its_sentences_and_not_in_an_array() -> None:
    actions = spaces.Dict({"drive": spaces.Box(np.array([-0.5, 0], F), np.array([1.5, 0.25], F))})
    (found,) = check_env(changed(action_space=actions), raise_faults=False)
    assert found.what == f"The action space {actions} is not supported."
    assert found.fix.startswith("Use Discrete")


class Trial(gym.Wrapper[Any, Any, Any, Any]):
    """Joins two episodes."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.first = True
        return self.env.reset(seed=seed)

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if (terminated or truncated) and self.first:
            self.first = False
            return self.env.reset()[0], reward, False, False, info
        return observation, reward, terminated, truncated, info


def test_an_episode_of_several_that_are_cut_by_time_has_no_fault() -> None:
    def make() -> Any:
        return Trial(gym.make("Pendulum-v1", max_episode_steps=10))

    assert check_env(make) == ()
    assert check_env(SyncVectorEnv([make] * 3, autoreset_mode=AutoresetMode.SAME_STEP)) == ()


def test_a_limit_that_is_given_to_make_vec_is_the_one_that_is_held() -> None:
    settings = {"autoreset_mode": AutoresetMode.SAME_STEP}
    env = gym.make_vec("Pendulum-v1", 2, max_episode_steps=210, vector_kwargs=settings)
    assert check_env(env) == ()


def test_an_episode_is_played_for_as_many_steps_as_an_evaluation_plays() -> None:
    class Endless(with_(2, lambda e: False)):  # type: ignore[misc]
        limit, max_episode_steps = 1_000, 20

    (note,) = check_env(lambda: gym.wrappers.TimeLimit(Endless(), 50))
    assert note.what.startswith("No episode ended within 20 steps of random actions:")


def test_a_fault_takes_the_place_of_a_note_on_the_same_topic() -> None:
    report = Report()
    report.note("reward", "odd", "mend it")
    report.fault("reward", "wrong", "mend it")
    report.note("reward", "odd", "mend it")
    assert report.findings() == (Finding("fault", "wrong", "mend it"),)


@pytest.mark.parametrize("given", [3, None, lambda: 3])
def test_what_makes_no_environment_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match="env"):
        check_env(given)


def test_an_unknown_id_is_refused_with_what_is_near() -> None:
    with pytest.raises(UserError, match="Did you mean CartPole-v"):
        check_env("CartPol-v1")


class Several(VectorEnv[Any, Any, Any]):
    """Three environments of noise, with one fault that is switched on by its name."""

    def __init__(self, fault: str = "") -> None:
        self.num_envs, self.fault = 3, fault
        mode = AutoresetMode.SAME_STEP
        if fault in ("resets twice", ""):
            mode = AutoresetMode.NEXT_STEP
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED if fault == "mode" else mode}
        self.single_observation_space = spaces.Box(-1, 1, (2,), F)
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = spaces.Box(-1, 1, (3, 2), F)
        self.action_space = spaces.MultiDiscrete([2] * 3)
        self.buffer = np.zeros((3, 2), F)
        if fault in ("time limit", "goes on"):
            self.spec = copy.deepcopy(gym.spec("Acrobot-v1"))
            self.spec.max_episode_steps = 6 if fault == "time limit" else 3

    def seen(self) -> Any:
        drawn = [one.uniform(-1, 1, 2) for one in self.draws]
        if self.fault == "outside":
            drawn = [2 + one for one in drawn]
        if self.fault == "buffer":
            self.buffer[:] = drawn
            return self.buffer
        return np.array(drawn, F)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if self.fault == "seed":
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        together = self.fault == "copies"
        self.draws = [np.random.default_rng((seed or 0) + i * (not together)) for i in range(3)]
        self.t, self.over = np.zeros(3, int), np.zeros(3, bool)
        return self.seen(), {}

    def step(self, actions: Any) -> Any:
        next_step = self.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        fresh = self.over & next_step
        self.t = np.where(fresh, 0, self.t + 1)
        done = (self.t >= 6 + (0 if self.fault else np.arange(3))) & ~fresh
        self.over = done
        last, infos = self.seen(), {}
        rewards = np.where(fresh, 0.0 if self.fault != "resets twice" else 1.0, 1.0)
        shown = last
        if not next_step and done.any():
            shown = self.seen()
            final = shown if self.fault == "next first" else last
            infos = {} if self.fault == "no final" else {"final_obs": final, "_final_obs": done}
            self.t = np.where(done, 0, self.t)
        if self.fault == "mask" and self.t[0] == 2:
            infos = {**infos, "action_mask": np.ones((3, 2), bool)}
        return shown, rewards, done, np.zeros(3, bool), infos


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("mode", "autoreset_mode is AutoresetMode.DISABLED"),
        ("resets twice", "Its autoreset_mode says NEXT_STEP, in which that step only resets"),
        ("no final", "an end without infos['final_obs']: in autoreset mode SAME_STEP"),
        ("next first", "infos['final_obs'] is the observation that is returned at the same step"),
        ("copies", "all 3 environments show the same"),
        ("seed", "After two resets with seed 0 and the same actions not all is the same"),
        ("buffer", "the observations that were returned before it have changed since"),
        ("outside", "outside of its bounds [-1.0, 1.0]"),
        ("mask", "there is no action mask of some environment, which there is at other steps"),
        ("time limit", "episodes that reached the time limit of 6 steps"),
        ("goes on", "An episode went on after the time limit of 3 steps"),
    ],
)
def test_a_fault_of_a_vector_environment_is_found(fault: str, what: str) -> None:
    with pytest.raises(FaultyEnvironmentError) as raised:
        check_env(Several(fault))
    found = [one for one in raised.value.findings if what in one.what]
    assert [one.severity for one in found] == ["fault"], raised.value.findings
    assert found[0].fix


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_a_vector_environment_with_nothing_wrong_has_no_findings(mode: AutoresetMode) -> None:
    assert check_env(SyncVectorEnv([Sound] * 3, autoreset_mode=mode)) == ()
    assert check_env(Several()) == ()


OURS = [env_id for env_id, spec in gym.registry.items() if spec.namespace == "recurrent_rl"]
OF_GYMNASIUM = ["CartPole-v1", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1"]


@pytest.mark.parametrize("env_id", [*sorted(OURS), *OF_GYMNASIUM])
def test_registered_environments_have_no_fault(env_id: str) -> None:
    """Long episodes are not played to their end here."""
    assert len(OURS) >= 50
    if "RedBlueDoors" in env_id:
        pytest.importorskip("minigrid")
    assert all(one.severity == "note" for one in check_env(env_id, max_steps=60))


def test_the_names_are_public() -> None:
    assert recurrent_rl.check_env is check_env
    assert recurrent_rl.FaultyEnvironmentError is FaultyEnvironmentError


def test_a_missing_package_is_the_users_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> gym.Env[Any, Any]:
        raise gym.error.DependencyNotInstalled("Box2D is not installed: pip install it.")

    with pytest.raises(UserError, match=r"lacking cannot be made: Box2D is not installed"):
        check_env(lacking)
