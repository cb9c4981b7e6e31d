"""Our environments draw themselves as Gymnasium's do, and tell what must be remembered."""

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

import recurrent_rl.envs  # noqa: F401 (registers them)
from recurrent_rl.envs.card import HEIGHT, Card, draw, write
from recurrent_rl.envs.drawing import LEFT, WIDTH, Part, colours, parts_of, tile_side, written
from recurrent_rl.envs.scenes import (
    _DONE,
    _HIDDEN,
    _SEEN,
    SCENE_HEIGHT,
    cart_pole,
    mountain_car,
    pendulum,
    t_maze,
)
from recurrent_rl.envs.single import SingleEnv
from recurrent_rl.envs.tmaze import FORWARD, JUNCTION, TMaze

IDS = {
    str(spec.vector_entry_point): env_id
    for env_id, spec in gym.registry.items()
    if spec.namespace == "recurrent_rl" and spec.vector_entry_point
}
"""One of each class."""
FRAME = (HEIGHT, WIDTH, 3)
SCENE_FRAME = (HEIGHT + SCENE_HEIGHT, WIDTH, 3)


def actions_of(env: gym.Env[Any, Any], count: int) -> list[Any]:
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(count)]
    return [max(action, 1) for action in actions] if "Mask" in str(env.unwrapped) else actions


@pytest.mark.parametrize("env_id", IDS.values())
def test_every_environment_draws_itself_at_each_step_and_plays_on_as_without(env_id: str) -> None:
    plain, told, drawn = (
        gym.make(env_id, render_mode=mode, disable_env_checker=True)
        for mode in (None, "ansi", "rgb_array")
    )
    for env in (plain, told, drawn):
        env.reset(seed=0)
    base: Any = plain.unwrapped
    first: Any = drawn.render()
    ended, total, steps = False, 0.0, 0
    for action in actions_of(plain, base.max_episode_steps):
        results = [env.step(action) for env in (plain, told, drawn)]
        assert len({result[1:4] for result in results}) == 1
        total, steps = total + float(results[0][1]), steps + 1
        text: Any = told.render()  # of the last step too, after which nothing is asked
        assert f"step {steps}   return {total:+.3g}" in text
        ended = results[0][2] or results[0][3]
        if ended:
            break
    assert ended
    last: Any = drawn.render()
    with_scene = base.batch._scene(0, None) is not None
    assert first.shape == last.shape == (SCENE_FRAME if with_scene else FRAME)
    assert first.dtype == last.dtype == np.uint8
    assert (first != last).any()


ANSWERED = (
    *("RepeatPrevious-Easy-v0", "RepeatPrevious-Medium-v0", "RepeatFirst-Easy-v0"),
    *("Autoencode-Easy-v0", "CountRecall-Hard-v0", "Recall-v0", "Ladder-v0"),
    *("Probe-Memory-v0", "TMaze-v0"),
)


@pytest.mark.parametrize("name", ANSWERED)
def test_who_is_told_what_must_be_remembered_earns_the_best_return(name: str) -> None:
    env: Any = gym.make_vec(f"recurrent_rl/{name}", num_envs=3)
    seen, _ = env.reset(seed=5)
    totals = np.zeros(3)
    nothing = np.zeros(env.single_action_space.shape, dtype=np.int64)
    while True:
        answers = [env.unseen(i)["answer"] for i in range(3)]
        actions = np.array([nothing if answer is None else answer for answer in answers])
        if "TMaze" in name:
            actions = np.where(seen == JUNCTION, actions, FORWARD)
        seen, rewards, terminated, _, _ = env.step(actions)
        totals += rewards
        if terminated.any():
            break
    np.testing.assert_allclose(totals, env.best_return)


def test_the_seasons_next_value_is_the_best_prediction() -> None:
    env: Any = gym.make_vec("recurrent_rl/Forecast-v0", num_envs=2, noise=0.0)
    env.reset(seed=1)
    for _ in range(10):
        before = env.value
        _, rewards, *_ = env.step(np.stack([env.unseen(i)["answer"] for i in range(2)]))
        np.testing.assert_allclose(rewards, np.abs(env.value - before) / 128)


def test_what_else_is_hidden_is_told() -> None:
    table: Any = gym.make("recurrent_rl/Concentration-Easy-v0").unwrapped
    table.reset(seed=0)
    seen = table.step(7)[0]
    assert seen[7] == table.unseen()["cards"][7] != table.batch.face_down
    cards: Any = gym.make("recurrent_rl/HigherLower-Easy-v0").unwrapped
    first, _ = cards.reset(seed=0)
    to_come = cards.unseen()["to come"]
    assert to_come.tolist() == [3 if rank == first else 4 for rank in range(13)]
    pole: Any = gym.make("recurrent_rl/CartPole-NoVelocity-v0").unwrapped
    before, _ = pole.reset(seed=0)
    speeds = pole.unseen()["speeds"]
    after = pole.step(0)[0]
    np.testing.assert_allclose((after - before) / 0.02, speeds, atol=1e-5)
    deck: Any = gym.make("recurrent_rl/Autoencode-Easy-v0").unwrapped
    shown = [deck.reset(seed=0)[0][1], deck.step(0)[0][1]]
    assert deck.unseen()["answer"] is None
    assert deck.unseen()["cards"].tolist() == shown


def test_a_batch_draws_each_environment() -> None:
    kwargs: dict[str, Any] = {"length": 2, "render_mode": "rgb_array"}
    env: Any = gym.make_vec("recurrent_rl/TMaze-v0", num_envs=3, **kwargs)
    env.reset(seed=[4, 5, 4])
    frames = env.render()
    assert [frame.shape for frame in frames] == [SCENE_FRAME] * 3
    single = gym.make("recurrent_rl/TMaze-v0", **kwargs)
    for seed, frame in ((4, frames[0]), (5, frames[1]), (4, frames[2])):
        single.reset(seed=seed)
        np.testing.assert_array_equal(single.render(), frame)
    goal = env.state_dict()["goal"]
    for action in (FORWARD, FORWARD, 2 + goal[0]):  # the third ends the first's episode
        env.step(np.array([action, FORWARD, 1]))
    env.render_mode = "ansi"
    assert [text.split("\n")[0].split("   ")[1:] for text in env.render()] == [
        ["step 0", "return +0"],
        ["step 3", "return -0.5"],
        ["step 3", "return -1.5"],
    ]


def test_a_kind_has_its_colour_wherever_it_stands() -> None:
    env: Any = gym.make("recurrent_rl/RepeatPrevious-Easy-v0", k=1, render_mode="rgb_array")
    suit, _ = env.reset(seed=2)
    frame = env.render()
    colour = colours(Part("", np.array(suit), 4))
    rows, columns = np.nonzero((frame == colour).all(axis=2))
    observation, hidden = rows < 80, rows >= 100  # its answer, and the card it comes from
    assert columns.min() >= LEFT
    assert observation.sum() > 200
    assert hidden.sum() > 2 * 200


def test_a_card_says_what_its_numbers_are_and_leaves_face_down_tiles_empty() -> None:
    cards: Any = gym.make("recurrent_rl/Concentration-Hard-v0", render_mode="ansi")
    cards.reset(seed=0)
    cards.step(1)
    shown = cards.render().splitlines()[1].split()[1:]
    assert [mark for mark in shown if mark != "-"] == [shown[1]]
    assert shown[1] in ("A", *map(str, range(2, 11)), "J", "Q", "K")
    face_down = Part("", np.array(13), 14, names=(*["A"] * 13, ""))
    assert (colours(face_down) == colours(Part("", np.array(np.nan)))).all()
    count: Any = gym.make("recurrent_rl/CountRecall-Medium-v0", render_mode="ansi")
    count.reset(seed=0)
    assert re.search(r"shown \d \w+, how many of \d \w+", count.render())


def test_a_mode_that_there_is_not_is_refused_and_none_draws_nothing() -> None:
    with pytest.raises(ValueError, match="render_mode is 'human'; it must be None, ansi or rgb_"):
        TMaze(render_mode="human")
    env = TMaze(2)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="with a render_mode"):
        assert env.render() is None


def test_an_environment_of_older_code_that_knows_of_no_rendering_is_made() -> None:
    class Old(TMaze):
        def __init__(self, num_envs: int = 1) -> None:
            super().__init__(num_envs, length=2)

    class OldEnv(SingleEnv):
        batch_type = Old

    assert OldEnv().reset(seed=0)[0] in (0, 1)


def card(space: gym.Space[Any], value: Any) -> Card:
    return Card("mine", 1, 0.5, parts_of(space, value), [], None)


SPACES: dict[str, tuple[gym.Space[Any], Any, str]] = {
    "negative start": (gym.spaces.Discrete(3, start=-1), -1, "observation  -1"),
    "matrix of kinds": (
        gym.spaces.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.ones((2, 2), np.int64)),
        np.array([[1, 2], [3, 4]]),
        "observation  1 2 3 4",
    ),
    "numbers": (gym.spaces.Box(-1, 1, (2,)), np.array([0.25, -1e6]), "+0.25   -1e+06"),
    "not finite": (gym.spaces.Box(-1, 1, (2,)), np.array([np.nan, np.inf]), "+nan   +inf"),
    "many numbers": (gym.spaces.Box(-1, 1, (40,)), np.linspace(-1, 1, 40), "-1.00   -0.95"),
    "too many": (gym.spaces.Box(-1, 1, (4, 84, 84)), np.zeros((4, 84, 84)), "28,224 numbers"),
    "picture": (
        gym.spaces.Box(0, 255, (64, 64, 3), np.uint8),
        np.full((64, 64, 3), 7, np.uint8),
        "a picture of 64 x 64 pixels",
    ),
    "text": (gym.spaces.Text(5), "hello", "hello"),
    "nested": (
        gym.spaces.Dict(
            {"a": gym.spaces.Discrete(3), "b": gym.spaces.Tuple([gym.spaces.Box(0, 1)])}
        ),
        {"a": 2, "b": (np.array([0.5]),)},
        "a 2, b.0 +0.50",
    ),
}


@pytest.mark.parametrize("kind", SPACES)
def test_every_kind_of_observation_is_drawn_and_written(kind: str) -> None:
    space, value, text = SPACES[kind]
    frame = draw(card(space, value))
    assert frame.shape == FRAME
    assert (frame[:, LEFT + 1 :] < 200).any()
    assert text in write(card(space, value))


def test_colours_are_of_kinds_or_of_numbers_around_zero() -> None:
    kinds: NDArray[np.uint8] = colours(Part("", np.arange(14), 14))
    assert len(np.unique(kinds, axis=0)) == 14
    low, zero, high = colours(Part("", np.array([-2.0, 0.0, 2.0]))).astype(int)
    assert low[2] > low[0]  # blue
    assert high[0] > high[2]  # orange
    assert np.ptp(zero) == 0
    assert (colours(Part("", np.array([np.nan, 1.0])))[0] == 238).all()
    of_rows = colours(Part("", np.array([[1.0], [100.0]])), np.array([[1.0], [100.0]]))
    assert (of_rows[0] == of_rows[1]).all()


@pytest.mark.parametrize("count", [1, 20, 21, 156, 1024, 10**6])
def test_all_tiles_have_room(count: int) -> None:
    side = tile_side(count, 480, 44)
    assert side >= 1
    assert side == 1 or (480 // side) * (44 // side) >= count
    assert written(Part("", np.array(1), 3, names=("ace", "two", "three"))) == "1 two"
    assert written(Part("", np.array(1), 3, names=("A", "2", "3"))) == "2"


def middle(scene: NDArray[Any], colour: tuple[int, int, int]) -> tuple[float, float]:
    """The middle of what has this colour, pixels from the left and the top; NaN: nothing has."""
    rows, columns = np.nonzero((scene == colour).all(axis=-1))
    if rows.size <= 25:  # smooth edges and letters have a few pixels of every shade
        return np.nan, np.nan
    return float(np.median(columns)), float(np.median(rows))


NOWHERE = pytest.approx((np.nan, np.nan), nan_ok=True)


def test_a_scene_shows_what_is_seen_and_in_grey_what_is_hidden_where_they_are() -> None:
    limits = (2.4, 0.2)
    still = cart_pole((0.5, 0.0), (0.5, 0.0, 0.0, 0.0), limits, 0)
    assert middle(still, _SEEN) == pytest.approx((370, 76), abs=6)  # 100 pixels a metre
    assert middle(still, _HIDDEN) == middle(still, _DONE) == NOWHERE
    noisy = cart_pole((0.5, 0.0), (-0.5, 0.0, 0.0, 0.0), limits, 1)
    assert middle(noisy, _SEEN) == pytest.approx((370, 76), abs=6)
    assert middle(noisy, _HIDDEN)[0] == pytest.approx(270, abs=6)
    assert middle(noisy, _DONE)[0] < 370  # it pushes from the left
    left = pendulum((0.0, 1.0), np.pi / 2, 0.0, 0.0)
    assert middle(left, _SEEN) == pytest.approx((320 - 40, 94), abs=6)
    assert middle(left, _HIDDEN) == NOWHERE
    upright = pendulum((0.0, 1.0), 0.0, 0.0, 0.0)
    assert middle(upright, _HIDDEN) == pytest.approx((320, 55), abs=6)
    arrived = mountain_car(0.45, 0.05, 0.0, 0.45)
    assert middle(arrived, _SEEN) == pytest.approx((553, 40), abs=8)
    assert middle(arrived, _HIDDEN)[0] > 553  # it goes to the right
    for goal, is_above in ((0, True), (1, False)):
        walked = t_maze(4, 10, goal, is_sign_seen=False)
        assert middle(walked, _SEEN) == NOWHERE != middle(t_maze(0, 10, goal, True), _SEEN)
        assert (middle(walked[:, 320:], _HIDDEN)[1] < 98) == is_above
