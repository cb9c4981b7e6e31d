"""`recurrent-rl envs`: the environments of this library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from recurrent_rl.agents.settings import settle
from recurrent_rl.cli.terminal import parse
from recurrent_rl.errors import UserError
from recurrent_rl.runs.progress import make_console


@dataclass(frozen=True)
class EnvsArguments:
    """List the environments of this library."""

    probes: bool = False
    """Also list the tiny environments that test a training loop."""

    def __post_init__(self) -> None:
        settle(self, UserError)


def envs_command(arguments: Sequence[str]) -> int:
    """List our environments: spaces, length, memoryless and best return."""
    import gymnasium as gym

    import recurrent_rl.envs  # noqa: F401 (registers them)

    given = parse(EnvsArguments, "envs", arguments)
    table = Table(title="Environments of recurrent-rl")
    for column in ("id", "observation", "action", "steps", "memoryless", "best"):
        table.add_column(column, no_wrap=column == "id")
    for env_id, spec in sorted(gym.registry.items()):
        if spec.namespace != "recurrent_rl" or (spec.name.startswith("Probe") > given.probes):
            continue
        try:
            env = gym.make_vec(env_id, num_envs=1)
        except gym.error.DependencyNotInstalled:  # what is missing is told by making it
            table.add_row(env_id, "not installed")
            continue
        base = env.unwrapped
        table.add_row(
            env_id,
            _describe(env.single_observation_space),
            _describe(env.single_action_space),
            str(getattr(base, "max_episode_steps", spec.max_episode_steps)),
            _figure(getattr(base, "memoryless_return", None)),
            _figure(getattr(base, "best_return", None)),
        )
        env.close()
    console = make_console()
    console.print(table)
    console.print("Any other Gymnasium id trains too.  Train: recurrent-rl train ENV_ID")
    return 0


def _describe(space: Any) -> str:
    """A space in a word: the bounds of a Box have no room in a table."""
    return f"Box{space.shape}" if type(space).__name__ == "Box" else str(space)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
