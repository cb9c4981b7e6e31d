"""RedBlueDoors: MiniGrid's image as bits, its rewards, and how it is made and missed."""

import sys
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import recurrent_rl.envs
from recurrent_rl.errors import UserError
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.properties import longest_episode
from recurrent_rl.vector_env.vectorize import make_vector_env

IDS = ("recurrent_rl/RedBlueDoors-6x6-v0", "recurrent_rl/RedBlueDoors-8x8-v0")
LEFT, RIGHT, FORWARD, TOGGLE = 0, 1, 2, 5
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
Place = tuple[int, int, int]
"""Column, row and direction."""


def make(env_id: str, **kwargs: Any) -> tuple[Any, Any]:
    """Our environment, and MiniGrid's inside it."""
    pytest.importorskip("minigrid")
    env: Any = gym.make(env_id, **kwargs)
    return env, env.unwrapped.room


def way(room: Any, goal: Place) -> list[int]:
    """The shortest way to a place through the empty room, as actions."""
    start = (int(room.agent_pos[0]), int(room.agent_pos[1]), int(room.agent_dir))
    found: dict[Place, list[int]] = {start: []}
    queue = deque([start])
    while goal not in found:
        x, y, direction = here = queue.popleft()
        dx, dy = STEPS[direction]
        for action, place in (
            (LEFT, (x, y, (direction - 1) % 4)),
            (RIGHT, (x, y, (direction + 1) % 4)),
            (FORWARD, (x + dx, y + dy, direction)),
        ):
            if place not in found and room.grid.get(*place[:2]) is None:
                found[place] = [*found[here], action]
                queue.append(place)
    return found[goal]


def open_door(env: Any, room: Any, door: str) -> Any:
    """Go the shortest way to a door and open it: what the last step returned."""
    wall = room.size // 2 if door == "red" else room.size // 2 + room.size - 1
    (row,) = (y for y in range(room.size) if room.grid.get(wall, y).type == "door")
    goal = (wall + 1, row, 2) if door == "red" else (wall - 1, row, 0)
    for action in way(room, goal):
        assert env.step(action)[1:4] == (0.0, False, False)
    return env.step(TOGGLE)


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_finds_nothing(env_id: str) -> None:
    check_env(make(env_id)[0].unwrapped, skip_render_check=True)


@pytest.mark.parametrize("env_id", IDS)
def test_all_that_is_seen_is_minigrids_image_with_a_bit_for_each_name(env_id: str) -> None:
    env, room = make(env_id)
    env.action_space.seed(0)
    seen, _ = env.reset(seed=0)
    for _ in range(200):
        assert seen in env.observation_space
        parts = np.split(seen, [11, 17], axis=-1)
        assert all((part.sum(-1) == 1).all() for part in parts)
        image = np.stack([part.argmax(-1) for part in parts], axis=-1)
        np.testing.assert_array_equal(image, room.gen_obs()["image"])
        seen, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            seen, _ = env.reset()


def test_minigrid_knows_as_many_objects_colours_and_states() -> None:
    constants = pytest.importorskip("minigrid.core.constants")
    names = (constants.OBJECT_TO_IDX, constants.COLOR_TO_IDX, constants.STATE_TO_IDX)
    assert tuple(len(indices) for indices in names) == (11, 6, 3)


@pytest.mark.parametrize(("env_id", "stated"), [(IDS[0], 0.984), (IDS[1], 0.988)])
def test_one_that_knows_where_the_doors_are_gets_the_stated_return(
    env_id: str, stated: float
) -> None:
    env, room = make(env_id)
    env.reset(seed=0)
    returns = []
    for _ in range(300):
        env.reset()
        assert open_door(env, room, "red")[1:4] == (0.0, False, False)
        _, reward, terminated, truncated, info = open_door(env, room, "blue")
        assert (terminated, truncated, info["is_success"]) == (True, False, True)
        assert reward == pytest.approx(1 - 0.9 * room.step_count / env.spec.max_episode_steps)
        returns.append(reward)
    assert np.mean(returns) == pytest.approx(stated, abs=0.001)


def test_one_that_opens_the_blue_door_first_has_lost() -> None:
    env, room = make(IDS[0])
    env.reset(seed=0)
    _, reward, terminated, _, info = open_door(env, room, "blue")
    assert (reward, terminated, info["is_success"]) == (0.0, True, False)


@pytest.mark.parametrize(("env_id", "steps"), [(IDS[0], 720), (IDS[1], 1280)])
def test_an_episode_is_cut_after_its_longest(env_id: str, steps: int) -> None:
    assert longest_episode(env_id, EnvConfig()) == steps
    env, _ = make(env_id)
    env.reset(seed=0)
    for t in range(1, steps + 1):
        _, reward, terminated, truncated, info = env.step(LEFT)
        assert (reward, terminated, truncated) == (0.0, False, t == steps)
    assert info["is_success"] is False


def test_the_same_seed_gives_the_same_episodes() -> None:
    pytest.importorskip("minigrid")
    seen = []
    for seed in (3, 3, 4):
        env = make_vector_env(IDS[0], 4)
        env.reset(seed=seed)
        env.action_space.seed(0)
        seen.append(np.stack([env.step(env.action_space.sample())[0] for _ in range(50)]))
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).any()


def test_a_room_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 3; it must be a whole number, at least 4"):
        gym.make(IDS[0], size=3)


def test_without_minigrid_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minigrid.envs.redbluedoors", None)
    assert recurrent_rl.envs.RedBlueDoorsEnv  # the module itself needs no MiniGrid
    with pytest.raises(UserError, match=r"installed: pip install 'recurrent-rl\[minigrid\]'"):
        make_vector_env(IDS[0], 2)
