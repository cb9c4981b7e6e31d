"""`check_env`: an environment, however it is given, is made, played in and told about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Annotated, Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.raising import place
from recurrent_rl.agents.settings import SettingError, at_least, build, refusal
from recurrent_rl.checks.finding import FaultyEnvironmentError, Finding, Report
from recurrent_rl.checks.single import check_single
from recurrent_rl.checks.vector_env import check_vector_env
from recurrent_rl.errors import UserError
from recurrent_rl.fields import JsonObject
from recurrent_rl.vector_env.checked_env import with_masks_in_infos
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.properties import images_in_stacks
from recurrent_rl.vector_env.sources import find_source
from recurrent_rl.vector_env.vectorize import make_vector_env
from recurrent_rl.vector_env.wrapping import (
    fixed_texts,
    observing,
    refuse_normalising,
    without_fixed_texts,
    wrapped,
)

COUNT = 3
"""Environments of a vector environment that is made for the check."""
TAKEN = (
    "a Gymnasium id, an environment, a vector environment, or a class or function that makes one"
)

Maker = Callable[..., Any]


def check_env(
    env: str | gym.Env[Any, Any] | VectorEnv | Callable[..., Any],
    *,
    env_kwargs: dict[str, Any] | None = None,
    observe: Sequence[str] = (),
    wrappers: Sequence[str] = (),
    max_steps: int | None = None,
    seed: int = 0,
    raise_faults: bool = True,
) -> tuple[Finding, ...]:
    """Check that an environment is what Gymnasium asks for, and what recurrent training needs.

    Episodes of random actions are played, a few thousand steps at most where they are short. What
    is checked is listed in docs/your-environment.md. As with the checkers of Gymnasium and
    Stable-Baselines3, to call it is enough: a fault raises an error. Nothing is printed.

    Args:
        env: a registered id, also `module:EnvId`; a class, or a function that returns an
            environment; or an environment or vector environment, which is stepped, and not closed.
            Of an id that has a batched form both forms are checked.
        env_kwargs: arguments to make it with.
        observe: keys of a Dict observation to see, as in `EnvConfig`.
        wrappers: to put around it, as in `EnvConfig`. Batched forms are not checked then.
        max_steps: steps of an episode after which it is given up; by default the environment's time
            limit or, where it states none, 1,000.
        seed: of the first episode and its actions: the same check again.
        raise_faults: false returns faults too.

    Returns:
        What was found, faults first; with `raise_faults` there are only notes.

    Raises:
        FaultyEnvironmentError: there is a fault; the message names all, with their fixes, and
            the attribute `findings` holds them.
        UserError: there is no such environment, it lacks a key, a wrapper cannot go around it, or
            an argument is of another type.
    """
    env_kwargs = {} if env_kwargs is None else argument("env_kwargs", env_kwargs, JsonObject)
    chosen = {"env_kwargs": env_kwargs, "observe": observe, "wrappers": wrappers}
    settings = build(EnvConfig, chosen)
    max_steps = argument("max_steps", max_steps, Annotated[int | None, at_least(1)])
    seed = argument("seed", seed, Annotated[int, at_least(0)])
    raise_faults = argument("raise_faults", raise_faults, bool)
    report = Report()
    with ExitStack() as stack:
        for maker in _makers(env, settings):
            try:
                made = maker()
            except UserError:
                raise
            except gym.error.DependencyNotInstalled as error:
                raise UserError(f"{name_of(env)} cannot be made: {error}") from error
            except Exception as error:
                report.fault(
                    "made",
                    f"It cannot be made: {type(error).__name__}: {error}{place(error)}",
                    "Mend its constructor, or give the arguments that it needs.",
                )
                continue
            if not isinstance(made, (gym.Env, VectorEnv)):
                raise SettingError(refusal("what env() returns", made, "an environment"))
            if made is not env:
                stack.enter_context(closing(made))
            if isinstance(made, gym.Env):
                if (seen := _as_trained(made, settings, report)) is not None:
                    check_single(seen, report, max_steps, seed)
                    _note_vectors(seen, "observation_space", report)
            elif settings.observe or settings.wrappers:
                raise SettingError(
                    "observe and wrappers go around single environments, and this one steps its "
                    "own together. Leave them out."
                )
            else:
                check_vector_env(made, report, max_steps, seed)
                _note_vectors(made, "single_observation_space", report)
    findings = report.findings()
    if report.is_faulty and raise_faults:
        raise FaultyEnvironmentError(_told(env, findings), findings)
    return findings


def _makers(env: Any, settings: EnvConfig) -> Iterator[Maker]:
    """What makes each form of the environment that there is."""
    kwargs = settings.env_kwargs
    if isinstance(env, str):
        source = find_source(env)
        if source.one is not None:
            yield partial(source.one, kwargs)
            if settings.observe or settings.wrappers:
                return
        if source.many is not None:
            yield lambda: make_vector_env(source, COUNT, settings)
    elif isinstance(env, (gym.Env, VectorEnv)):
        if kwargs:
            raise SettingError("env_kwargs go with an id, a class or a function; env is made.")
        yield lambda: env
    else:
        check_is("env", env, Callable, TAKEN)
        yield lambda: env(**kwargs)


def _as_trained(
    env: gym.Env[Any, Any], settings: EnvConfig, report: Report
) -> gym.Env[Any, Any] | None:
    """The environment as training sees it; None where training refuses it, a fault.

    Raises:
        UserError: it lacks a key, or a wrapper cannot go around it.
    """
    if settings.observe:
        env = observing(env, settings.observe)
    for name in settings.wrappers:
        env = wrapped(env, name)
    if not hasattr(env, "observation_space"):
        return env
    try:
        refuse_normalising(env, "The environment")
        seen = without_fixed_texts(env)
    except UserError as error:
        report.refused("training", error)
        return None
    for key, text in fixed_texts(seen).items():
        report.note(
            f"text {key}",
            f"The observation's {key!r} is always the text {text!r}; training leaves it out.",
            "Leave it out by observe, or make it a number where the agent is to see it.",
        )
    return with_masks_in_infos(seen)


def _note_vectors(env: Any, space: str, report: Report) -> None:
    """Note what may be a stack of images, and is read as a vector."""
    if not report.is_faulty:
        for path, *told in images_in_stacks(getattr(env, space)):
            report.note(f"axes {path}", *told)


def name_of(env: Any) -> str:
    """What an environment, however given, is called in messages."""
    if isinstance(env, str):
        return env
    spec = getattr(env, "spec", None)
    kind = env if isinstance(env, type) else type(getattr(env, "unwrapped", env))
    own = env.__name__ if hasattr(env, "__name__") else kind.__name__
    return str(getattr(spec, "id", None) or own)


def _told(env: Any, findings: tuple[Finding, ...]) -> str:
    faults = [one for one in findings if one.severity == "fault"]
    head = f"{name_of(env)} has {len(faults)} fault{'s' * (len(faults) > 1)}:"
    return "\n".join([head, *(f"- {one.what} Fix: {one.fix}" for one in faults)])
