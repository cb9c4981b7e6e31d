"""The settings of an environment: how it is made, and what is hidden from the agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from recurrent_rl.agents.settings import (
    Read,
    at_least,
    at_most,
    from_0_below_1,
    no_repeats,
    validated,
)
from recurrent_rl.fields import LARGEST_SIZE, InfoKeys, JsonObject, ObservedKeys
from recurrent_rl.vector_env.wrapping import wrapper_name

WrapperName = Annotated[str, Read(wrapper_name)]
"""A wrapper's short name, or module:function, also with arguments as JSON behind it."""

NO_MATTER_OF_THE_TASK = ("vectorization", "info_metrics")
"""Settings of `EnvConfig` that change nothing in what an environment does."""


@validated
@dataclass(frozen=True)
class EnvConfig:
    """How the environment is made, and which information is hidden from the agent."""

    env_kwargs: JsonObject = field(default_factory=dict, hash=False)
    """Arguments of the environment: a dict or, on the command line, a JSON object such as
    '{"length": 50}'."""
    vectorization: Literal["auto", "sync", "async"] = "auto"
    """How several environments are stepped: sync one after the other, async each in a process of
    its own (for slow ones), auto by the environment's own batched form where it has one, else
    sync."""
    observe: ObservedKeys = ()
    """Keys of a Dict observation to see. One key gives that component alone, several a Dict of
    them. By default all."""
    wrappers: Annotated[
        tuple[WrapperName, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="wrapper", metavar="WRAPPER"),
    ] = ()
    """Wrapper to put around each environment, the first innermost: flatten, frame-stack:4,
    grayscale, resize:84x84, or module:function, with arguments as JSON behind it if it has some. On
    the command line give it once for each."""
    hide_indices: Annotated[
        tuple[Annotated[int, at_least(0)], ...],
        no_repeats("an entry"),
    ] = ()
    """Hide entries of a vector observation, by their places from 0: 1 3 hides the velocities of
    CartPole-v1."""
    flicker: Annotated[float, from_0_below_1()] = 0.0
    """Probability with which a whole observation is replaced by zeros."""
    observation_noise: Annotated[float, at_least(0)] = 0.0
    """Standard deviation of Gaussian noise added to the observation."""
    observation_delay: Annotated[int, at_least(0), at_most(LARGEST_SIZE)] = 0
    """Show each observation so many steps late; fewer than an episode has."""
    info_metrics: InfoKeys = ()
    """Log numbers from the environment's infos, by their keys: each episode's mean and last
    value."""
