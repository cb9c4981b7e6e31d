"""What holds for every environment: Gymnasium's checks, N at once = N single ones, exact states."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import iterate
from numpy.typing import NDArray

import recurrent_rl.envs
from recurrent_rl.envs.batch import BatchEnv
from tests.envs.kinds import KINDS

CASES: list[tuple[str, dict[str, Any]]] = [
    *((env_id, {}) for env_id in KINDS),
    ("recurrent_rl/TMaze-v0", {"length": 3}),
    ("recurrent_rl/Recall-v0", {"distance": 0, "num_answers": 2, "num_distractors": 1}),
    ("recurrent_rl/CartPole-NoVelocity-v0", {"noise": 0.02}),
    ("recurrent_rl/Forecast-v0", {"noise": 0.0}),
    *(
        ("recurrent_rl/Probe-Signal-v0", {"observation": kind, "action": action})
        for kind, action in (
            ("image", "box"),
            ("discrete", "multidiscrete"),
            ("multidiscrete", "multibinary"),
            ("multibinary", "discrete"),
            ("dict", "discrete"),
            ("nested", "discrete"),
        )
    ),
]
case = pytest.mark.parametrize(("env_id", "kwargs"), CASES, ids=str)


def make(env_id: str, num_envs: int, **kwargs: Any) -> BatchEnv:
    env = gym.make_vec(env_id, num_envs=num_envs, **kwargs)
    assert isinstance(env, BatchEnv)
    return env


def draw_actions(env_id: str, env: BatchEnv, steps: int) -> list[Any]:
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(steps)]
    if "Mask" in env_id:
        actions = [np.maximum(a, 1) for a in actions]
    if "TMaze" in env_id:  # walk forward often enough to reach the junction
        rng = np.random.default_rng(0)
        actions = [np.where(rng.random(a.shape) < 0.7, 0, a) for a in actions]
    return actions


def rows(env: BatchEnv, observation: Any) -> list[Any]:
    return list(iterate(env.observation_space, observation))


def assert_equal(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, tuple):
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, np.ndarray) and a.dtype.kind == "O":
        assert b.dtype.kind == "O"
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        np.testing.assert_array_equal(a, b)
        assert np.asarray(a).dtype == np.asarray(b).dtype


@case
def test_gymnasiums_checker_finds_nothing(env_id: str, kwargs: dict[str, Any]) -> None:
    env = gym.make(env_id, **kwargs).unwrapped
    if "Mask" in env_id:  # it draws actions without the mask, and is meant to fail then
        env.action_space = gym.spaces.Discrete(2, start=1)
    with warnings.catch_warnings():
        if getattr(env.action_space, "high", np.zeros(1)).max() > 1:
            # Advice, not a fault: torques are in N m, as in Gymnasium's own Pendulum.
            warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        check_env(env, skip_render_check=True)


@case
def test_a_batch_is_single_environments_side_by_side(env_id: str, kwargs: dict[str, Any]) -> None:
    count, seed = 3, 11
    batch = make(env_id, count, **kwargs)
    singles = SyncVectorEnv(
        [lambda: gym.make(env_id, **kwargs).unwrapped] * count,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    assert_equal(batch.reset(seed=seed), singles.reset(seed=seed))
    ended = 0
    for actions in draw_actions(env_id, batch, 2 * batch.max_episode_steps + 50):
        ours, theirs = batch.step(actions), singles.step(actions)
        assert_equal(ours, theirs)  # the infos too, whole
        ended += int((ours[2] | ours[3]).sum())
    assert ended >= 2 * count


@case
def test_what_an_environment_shows_does_not_depend_on_the_others(
    env_id: str, kwargs: dict[str, Any]
) -> None:
    few, many = make(env_id, 2, **kwargs), make(env_id, 5, **kwargs)
    observation, _ = few.reset(seed=[3, 4])
    other, _ = many.reset(seed=[9, 3, 8, 4, 7])
    for actions in draw_actions(env_id, many, 300):
        for i, j in ((0, 1), (1, 3)):
            assert_equal(rows(few, observation)[i], rows(many, other)[j])
        observation, rewards, *_ = few.step(actions[[1, 3]])
        other, more, *_ = many.step(actions)
        assert_equal(rewards, more[[1, 3]])


@case
def test_a_saved_state_continues_bit_for_bit(env_id: str, kwargs: dict[str, Any]) -> None:
    env, again = make(env_id, 3, **kwargs), make(env_id, 3, **kwargs)
    env.reset(seed=5)
    actions = draw_actions(env_id, env, 400)
    for action in actions[:37]:
        env.step(action)
    state = env.state_dict()
    kept = {name: x.copy() for name, x in state.items()}
    again.load_state_dict(state)
    for action in actions[37:]:
        for a, b in zip(env.step(action)[:4], again.step(action)[:4], strict=True):
            assert_equal(a, b)
    assert_equal(state, kept)  # it can be gone back to once more


@case
def test_observations_belong_to_their_space_and_are_not_overwritten(
    env_id: str, kwargs: dict[str, Any]
) -> None:
    env = make(env_id, 4, **kwargs)
    first, _ = env.reset(seed=0)
    kept = [np.array(x) for x in components(first)]
    for action in draw_actions(env_id, env, 60):
        observation, *_ = env.step(action)
        for one in rows(env, observation):
            assert env.single_observation_space.contains(one)
    for before, now in zip(kept, components(first), strict=True):
        np.testing.assert_array_equal(before, now)


def components(observation: Any) -> list[NDArray[Any]]:
    if isinstance(observation, dict):
        return [x for value in observation.values() for x in components(value)]
    if isinstance(observation, tuple):
        return [x for value in observation for x in components(value)]
    return [observation]


def test_success_is_told_where_an_episode_ends() -> None:
    env = make("recurrent_rl/TMaze-v0", 3, length=1)
    goal = env.reset(seed=[0, 0, 0])[0][0]
    # At the junction the first environment goes right, the second wrong, the third waits.
    env.step(np.zeros(3, np.int64))
    infos = env.step(np.array([2 + goal, 3 - goal, 0]))[4]
    assert infos["_final_info"].tolist() == [True, True, False]
    assert infos["final_info"]["is_success"].tolist() == [True, False, False]
    assert infos["final_info"]["_is_success"].tolist() == [True, True, False]
    assert infos["final_obs"].tolist() == [3, 3, None]


def test_an_action_mask_is_told_of_the_last_observation_and_of_the_new_one() -> None:
    env = make("recurrent_rl/Probe-Mask-v0", 2)
    env.reset(seed=0)
    infos = env.step(np.array([1, 2]))[4]
    for given in (infos, infos["final_info"]):
        assert given["action_mask"].tolist() == [[0, 1, 1]] * 2
        assert given["_action_mask"].tolist() == [True, True]


def test_without_a_seed_a_reset_continues_with_new_episodes() -> None:
    env = make("recurrent_rl/RepeatPrevious-Easy-v0", 4)
    env.reset(seed=0)
    first = env.state_dict()["deck"]
    env.reset()
    assert (env.state_dict()["deck"] != first).any()
    env.reset(seed=0)
    np.testing.assert_array_equal(env.state_dict()["deck"], first)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros(3, np.int64), r"actions have shape \[3\]; expected \[2\]"),
        (np.array([0, 4]), "integers from 0 to 3; .* from 0 to 4"),
        (np.array([0.0, 1.0]), "integers from 0 to 3; got type float64"),
    ],
)
def test_wrong_actions_are_refused(actions: Any, message: str) -> None:
    env = make("recurrent_rl/TMaze-v0", 2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "actions", "message"),
    [
        (
            "Pendulum-NoVelocity-v0",
            {},
            np.array([[0.0], [np.nan]]),
            r"finite .*\[\[0.0\], \[nan\]\]",
        ),
        ("Forecast-v0", {}, np.array([[True], [False]]), "finite numbers; got type bool"),
        (
            "Probe-Signal-v0",
            {"action": "multidiscrete"},
            np.array([[0, 1], [0, 2]]),
            r"integers from \[0, 0\] to \[1, 1\]; .* to \[0, 2\]",
        ),
        (
            "Probe-Signal-v0",
            {"action": "multibinary"},
            np.array([[0, 1], [-1, 0]], np.int8),
            r"integers from 0 to 1; got type int8 from \[-1, 0\]",
        ),
    ],
)
def test_wrong_actions_of_other_spaces_are_refused_too(
    env_id: str, kwargs: dict[str, Any], actions: Any, message: str
) -> None:
    env = make(f"recurrent_rl/{env_id}", 2, **kwargs)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)


@pytest.mark.parametrize("env_id", KINDS)
def test_a_step_before_the_reset_is_refused(env_id: str) -> None:
    env, single = make(env_id, 2), gym.make(env_id).unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())
    with pytest.raises(gym.error.ResetNeeded):
        single.step(single.action_space.sample())


def test_a_state_of_another_environment_is_refused_and_changes_nothing() -> None:
    env = make("recurrent_rl/TMaze-v0", 3)
    env.reset(seed=0)
    before = env.state_dict()
    others: list[tuple[BatchEnv, str]] = [
        (make("recurrent_rl/Recall-v0", 3), r"The state holds \['answer', .* expected \['goal'"),
        (make("recurrent_rl/TMaze-v0", 2), r"has shape \[2.*\]; expected \[3.*num_envs"),
    ]
    for other, message in others:
        other.reset(seed=1)
        with pytest.raises(ValueError, match=message):
            env.load_state_dict(other.state_dict())
    assert_equal(env.state_dict(), before)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("TMaze-v0", {"length": 0}, "length is 0"),
        ("Recall-v0", {"num_answers": 1}, "num_answers is 1"),
        ("RepeatPrevious-Easy-v0", {"k": 52}, "k is 52"),
        ("RepeatFirst-Easy-v0", {"num_decks": 0}, "num_decks is 0"),
        ("CartPole-NoVelocity-v0", {"noise": -1.0}, "noise is -1.0"),
        ("Forecast-v0", {"noise": 2.0}, "noise is 2.0"),
        ("Probe-Signal-v0", {"observation": "smell"}, "choose one of vector"),
    ],
)
def test_senseless_arguments_are_refused_by_name(
    env_id: str, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gym.make_vec(f"recurrent_rl/{env_id}", num_envs=1, **kwargs)


def test_the_public_names_are_there() -> None:
    for name in recurrent_rl.envs.__all__:
        assert getattr(recurrent_rl.envs, name) is not None


@pytest.mark.parametrize(
    ("env_id", "name", "value", "allowed"),
    [
        ("TMaze-v0", "length", 1.5, "a whole number, at least 1"),
        ("TMaze-v0", "length", True, "a whole number, at least 1"),
        ("Ladder-v0", "bits", "4", "a whole number, at least 1"),
        ("Recall-v0", "num_answers", 1, "a whole number, at least 2"),
        ("RepeatPrevious-Easy-v0", "k", 52, "a whole number, from 1 to 51"),
        ("RepeatPrevious-Easy-v0", "num_decks", 2.0, "a whole number, at least 1"),
        ("MultiarmedBandit-Easy-v0", "num_arms", None, "a whole number, at least 2"),
    ],
)
def test_an_argument_that_counts_must_be_a_whole_number(
    env_id: str, name: str, value: Any, allowed: str
) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=f"{name} is {value!r}; it must be {allowed}"):
            make(f"recurrent_rl/{env_id}", **{name: value})
