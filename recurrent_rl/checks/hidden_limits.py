"""A time limit that is told as termination, found also where no random episode lasts so long."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit

from recurrent_rl.checks.episodes import Played
from recurrent_rl.checks.finding import Report
from recurrent_rl.vector_env.wrapping import layers

COUNTED = 20
"""Steps of an episode in which a number has to count them."""
LIMIT = re.compile(
    r"max_?(episode_?)?(steps?|length|len|t|time)$|(time|step)_?limit$|horizon$"
    r"|episode_?(length|len|steps)$|^limit$",
    re.IGNORECASE,
)
"""What a time limit is called as an attribute."""

TIME_LIMIT = (
    "Return truncated=True and terminated=False where the time is over, or leave the limit to "
    "gymnasium.register(max_episode_steps=...). Where the task itself ends at that step, register "
    "it without max_episode_steps."
)
MEANT = (
    "See that the task itself ends there. If it is a limit of time, return truncated=True and "
    "terminated=False at that step."
)


class _Counter(NamedTuple):
    """An attribute that counts the steps of an episode, up or down."""

    place: int
    """Of its environment or wrapper, among `_layers`."""
    name: str
    start: int
    sign: int


def check_hidden_limit(
    env: gym.Env[Any, Any], episodes: Sequence[Played], limit: int | None, report: Report
) -> None:
    """Set what counts the steps forward to the time limit, and see how the episode ends there.

    A limit that is registered and told as termination is a fault. One that an attribute names is a
    note: the task itself may end there. Numbers in arrays are not looked at.

    Args:
        env: what was played; it is reset at the end.
        episodes: that were played; those of three steps and more tell something.
        limit: the environment's time limit as it was registered with, if any.
        report: takes the finding.
    """
    episodes = [one for one in episodes if len(one.actions) > 2]
    if not episodes or (env.spec is not None and env.spec.nondeterministic):
        return
    for counter in _counters(env, episodes):
        layer = _layers(env)[counter.place]
        shown = f"{type(layer).__name__}.{counter.name}"
        named = {} if limit else _named_limits(layer)
        if limit and _end_just_at(env, episodes, counter, limit):
            report.fault(
                "time limit",
                f"With {shown} set forward, the step that reaches the time limit of "
                f"{limit} steps (max_episode_steps) reports terminated: what is cut by time is "
                "learnt from as if nothing had followed.",
                TIME_LIMIT,
            )
        for name, steps in named.items():
            if any(_end_just_at(env, episodes, counter, last) for last in (steps, steps + 1)):
                report.note(
                    "time limit",
                    f"With {shown} set forward, the step that reaches {name} ({steps}) "
                    "reports terminated, not truncated: nothing is learnt of what would follow.",
                    MEANT,
                )
    env.reset(seed=episodes[0].seed)


def _layers(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    """The environment and its wrappers, but for Gymnasium's own time limit."""
    return [layer for layer in layers(env) if not isinstance(layer, TimeLimit)]


def _whole_numbers(layer: Any) -> dict[str, int]:
    return {
        name: int(value)
        for name, value in getattr(layer, "__dict__", {}).items()
        if type(value) is int or isinstance(value, np.integer)
    }


def _named_limits(layer: Any) -> dict[str, int]:
    """Its attributes, and its class's, that are called like a time limit."""
    there = {name: getattr(layer, name, None) for name in dir(type(layer)) if LIMIT.search(name)}
    of_class = {name: x for name, x in there.items() if type(x) is int}
    return {
        k: x for k, x in (of_class | _whole_numbers(layer)).items() if LIMIT.search(k) and x > 2
    }


def _counters(env: gym.Env[Any, Any], episodes: Sequence[Played]) -> list[_Counter]:
    """The attributes that count the steps of all these episodes."""
    found: list[set[_Counter]] = []
    for one in episodes:
        layers = _layers(env)
        env.reset(seed=one.seed)
        seen = [list(map(_whole_numbers, layers))]
        for action in one.actions[: min(COUNTED, len(one.actions) - 1)]:
            env.step(action)
            seen.append(list(map(_whole_numbers, layers)))
        found.append(
            {
                _Counter(i, name, start, sign)
                for i in range(len(layers))
                for name, start in seen[0][i].items()
                for sign in (1, -1)
                if all(then[i].get(name) == start + sign * t for t, then in enumerate(seen))
            }
        )
    return sorted(set.intersection(*found), key=lambda one: one.name)


def _end_just_at(
    env: gym.Env[Any, Any], episodes: Sequence[Played], counter: _Counter, steps: int
) -> bool:
    """Whether the step that is counted as this one terminates, and the one before it does not."""
    return all(
        _end(env, one, counter, steps - 1) == (False, False)
        and _end(env, one, counter, steps) == (True, False)
        for one in episodes
    )


def _end(
    env: gym.Env[Any, Any], played: Played, counter: _Counter, steps: int
) -> tuple[bool, bool] | None:
    """How an episode's second step ends where it is counted as this one; None: by an error."""
    env.reset(seed=played.seed)
    env.step(played.actions[0])
    layer = _layers(env)[counter.place]
    kind = type(getattr(layer, counter.name))
    setattr(layer, counter.name, kind(counter.start + counter.sign * (steps - 1)))
    try:
        _, _, terminated, truncated, _ = env.step(played.actions[1])
    except Exception:  # other parts of it count the steps too
        return None
    finally:  # as if it had not been moved, where reset leaves it alone
        setattr(layer, counter.name, kind(counter.start + 2 * counter.sign))
    return bool(terminated), bool(truncated)
