"""Named suites: tasks that are trained and compared together by `recurrent-rl benchmark`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from recurrent_rl.agents.settings import changed
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.vector_env.config import EnvConfig


@dataclass(frozen=True)
class Task:
    """An environment, and how long to train on it."""

    name: str
    env_id: str
    total_timesteps: int
    env: EnvConfig = field(default_factory=EnvConfig)

    def config(self, total_timesteps: int | None = None, **settings: Any) -> TrainConfig:
        """The run's settings: the defaults but for `settings`, as for `change`.

        Args:
            total_timesteps: instead of the task's own.
            settings: changes to the defaults.

        Raises:
            UserError: a setting is unknown or makes no sense.
        """
        steps = total_timesteps or self.total_timesteps
        return change(TrainConfig(self.env_id, total_timesteps=steps, env=self.env), settings)


def change(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """The config with these fields changed; `agent` and `env` hold fields of their own.

    Raises:
        UserError: a setting is unknown or makes no sense.
    """
    try:
        return changed(config, settings)
    except ValueError as error:
        why = str(error)
        raise UserError(
            f"The settings cannot be used: {why}{'' if why.endswith(('.', '?')) else '.'} "
            'Names are as in `recurrent-rl train --help`; the agent\'s go under "agent", as in '
            '{"agent": {"hidden_size": 64}}.'
        ) from error


@dataclass(frozen=True)
class Suite:
    """Tasks, and what to try on them where nothing else is given."""

    description: str
    tasks: tuple[Task, ...]
    memories: tuple[str, ...] = ("gru-rotor", "gru", "lstm")
    seeds: int = 3

    def only(self, names: Collection[str]) -> Suite:
        """The suite with only the tasks whose names begin with one of these, if any is named.

        Raises:
            UserError: there is no such task.
        """
        if not names:
            return self
        for name in names:
            if not any(task.name.startswith(name) for task in self.tasks):
                known = "; ".join(task.name for task in self.tasks)
                raise UserError(f"The suite has no task {name!r}. It has {known}.")
        tasks = tuple(task for task in self.tasks if task.name.startswith(tuple(names)))
        return dataclasses.replace(self, tasks=tasks)


def ours(name: str, total_timesteps: int, **kwargs: Any) -> Task:
    """A task of an environment of this library, named by it and by its arguments."""
    title = name + "".join(f", {key} {value}" for key, value in kwargs.items())
    env = EnvConfig(env_kwargs=kwargs)
    return Task(title, f"recurrent_rl/{name}-v0", total_timesteps, env)


def _levels(name: str, *total_timesteps: int) -> tuple[Task, ...]:
    levels = zip(("Easy", "Medium", "Hard"), total_timesteps, strict=True)
    return tuple(ours(f"{name}-{level}", steps) for level, steps in levels)


M = 1_000_000

POPGYM = (
    *_levels("RepeatPrevious", M, 5 * M, 5 * M),
    *_levels("RepeatFirst", M, 2 * M, 5 * M),
    *_levels("Autoencode", 15 * M, 5 * M, 10 * M),
    *_levels("CountRecall", 10 * M, 5 * M, 5 * M),
    *_levels("MultiarmedBandit", 15 * M, 10 * M, 5 * M),
    *_levels("HigherLower", 5 * M, 5 * M, 5 * M),
    *_levels("NoisyPositionOnlyCartPole", 10 * M, 15 * M, 10 * M),
    *_levels("PositionOnlyCartPole", M, M, M),
    *_levels("Concentration", 5 * M, 5 * M, 5 * M),
)

LADDER = (M // 4, M // 4, M // 4, M, 2 * M, 4 * M)
"""Steps for horizons of 1, 4, 16, 64, 256 and 1,024: a longer episode asks once in more steps."""

POSITIONS = {"HalfCheetah": (8, 17), "Hopper": (5, 11), "Walker2d": (8, 17), "Ant": (13, 105)}
"""Of MuJoCo's bodies: how many of the numbers observed are positions and angles, and how many there
are in all."""

LADDER_MEMORIES = ("rnn", "lstm", "gru", "mingru", "lru", "rotor", "gru-rotor", "gru-matrix")

SUITES: dict[str, Suite] = {
    "memory": Suite(
        "what memory is worth: four tasks that none solves without",
        (
            ours("RepeatPrevious-Easy", M // 2),
            ours("TMaze", M // 2, length=50),
            ours("Recall", M // 2, distance=64),
            ours("CartPole-NoVelocity", M // 2),
        ),
        memories=("none", "rnn", "lstm", "gru", "gru-rotor"),
    ),
    "popgym": Suite(
        "27 tasks of POPGym (Morad et al., ICLR 2023)", POPGYM, memories=("gru-rotor", "gru")
    ),
    "control": Suite(
        "classic control without velocities, in RL Zoo's budgets of steps",
        (
            ours("CartPole-NoVelocity", 100_000),
            ours("Pendulum-NoVelocity", 100_000),
            ours("MountainCar-NoVelocity", 300_000),
        ),
    ),
    "long": Suite(
        "one thing to remember for a thousand steps",
        (ours("TMaze", 5 * M, length=1000), ours("Recall", 5 * M, distance=1024)),
        memories=("mingru", "gru", "lstm", "gru-rotor"),
        seeds=1,
    ),
    "untuned": Suite(
        "two environments that no default was chosen for, without velocities (need box2d)",
        (
            Task("Acrobot-v1", "Acrobot-v1", M // 10, EnvConfig(hide_indices=(4, 5))),
            Task("LunarLander-v3", "LunarLander-v3", M // 10, EnvConfig(hide_indices=(2, 3, 5))),
        ),
        seeds=5,
    ),
    "bodies": Suite(
        "four bodies of MuJoCo, of which only positions are seen (need mujoco)",
        tuple(
            Task(
                f"{name}-positions",
                f"{name}-v5",
                3 * M,
                EnvConfig(hide_indices=tuple(range(seen, size))),
            )
            for name, (seen, size) in POSITIONS.items()
        ),
        memories=("gru-rotor", "gru", "lstm", "none"),
    ),
    "images": Suite(
        "two rooms of MiniGrid, of which only the image ahead is seen (need minigrid)",
        (ours("RedBlueDoors-6x6", M), ours("RedBlueDoors-8x8", 2 * M)),
        memories=("gru-rotor", "gru-matrix", "gru", "lstm", "none"),
    ),
    "ladder": Suite(
        "how far each memory remembers: four bits, over 1 to 1,024 steps",
        tuple(ours("Ladder", steps, horizon=4**n, bits=4) for n, steps in enumerate(LADDER)),
        memories=LADDER_MEMORIES,
        seeds=1,
    ),
    "capacity": Suite(
        "how much each memory remembers: 4, 16 and 64 bits, over 256 steps",
        tuple(ours("Ladder", 2 * M, horizon=256, bits=bits) for bits in (4, 16, 64)),
        memories=LADDER_MEMORIES,
        seeds=1,
    ),
}


def find_suite(name: str) -> Suite:
    """The suite of this name.

    Raises:
        UserError: there is none; the message lists them.
    """
    if name not in SUITES:
        known = "; ".join(f"{known}: {suite.description}" for known, suite in SUITES.items())
        raise UserError(f"There is no suite {name!r}. There are {known}.")
    return SUITES[name]
