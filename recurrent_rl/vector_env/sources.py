"""What environments are made of: a registered id, a class, a function, or one that was given.

`find_source` is the one place that tells them apart. The others ask a `Source`.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import SyncVectorEnv, VectorEnv

from recurrent_rl.agents.arguments import argument
from recurrent_rl.agents.importing import (
    has,
    import_module,
    name_of,
    public_callables,
)
from recurrent_rl.agents.settings import SettingError, close_matches, did_you_mean, refusal, shown
from recurrent_rl.errors import UserError
from recurrent_rl.fields import EnvId, described, is_description

Environment: TypeAlias = (
    str
    | gym.Env[Any, Any]
    | VectorEnv
    | Callable[..., gym.Env[Any, Any]]
    | Callable[..., VectorEnv]
)
"""What a user gives: an id or `module:name`, an environment, or a class or function that makes
one."""

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """What environments are made of, and how."""

    name: str
    """An id, `module:name`, or a description in angle brackets; what a run records as env_id."""
    one: Callable[[Arguments], gym.Env[Any, Any]] | None
    """Makes one environment; None where they come only together."""
    many: Callable[[int, Arguments], VectorEnv] | None
    """Makes so many environments that step together; None where there is no such form."""
    spec: EnvSpec | None = None
    """Of a registered id."""
    given: gym.Env[Any, Any] | VectorEnv | None = None
    """The environment itself, where it was made before. Who made it closes it."""

    @property
    def found_by_name(self) -> bool:
        """Whether another process, or a later one, makes the same of the name alone."""
        return not is_description(self.name)

    @property
    def count(self) -> int | None:
        """How many environments there are, where they were made before."""
        if self.given is None:
            return None
        return self.given.num_envs if isinstance(self.given, VectorEnv) else 1

    def check_workers(self, workers: int, torchrun: bool = False, setting: str = "workers") -> None:
        """Refuse several processes where they cannot all make the environment.

        Args:
            workers: processes that each make their own.
            torchrun: each runs the program, and so has a function that it gives.
            setting: that asks for so many.

        Raises:
            UserError: says how they can.
        """
        if workers == 1 or self.found_by_name or (torchrun and self.given is None):
            return
        if self.given is not None:
            raise UserError(
                f"{setting} is {workers}, but {self.name} is an environment of this process alone. "
                f"Set {setting} to 1, or give the class or function that makes it."
            )
        raise UserError(
            f"{setting} is {workers}, but another process cannot import {self.name}. Move it to a "
            f"module of its own, at the top level, and import it from there; or set {setting} to 1."
        )

    def close(self, env: VectorEnv) -> None:
        """Close an environment that was made of this, but not one that was given."""
        if env is not self.given:
            env.close()


def find_source(env: Any, what: str = "env") -> Source:
    """What this stands for.

    Args:
        env: an `Environment`.
        what: the argument is called, for messages.

    Raises:
        UserError: there is no environment of that name.
        SettingError: it is nothing of which environments are made.
    """
    if isinstance(env, str):
        return _named(argument(what, env, EnvId))
    if isinstance(env, VectorEnv):
        return Source(_described(env), None, lambda *_: env, given=env)
    if isinstance(env, gym.Env):
        return Source(_described(env), lambda _: env, None, given=env)
    if callable(env):
        return _made_by(env, _name_to_record(env))
    refused = refusal(what, env, "an environment's id, a class, a function or an environment")
    refused += _of_another_library(env)
    if isinstance(env, (list, tuple)):  # as other libraries take several
        refused += (
            " Of several environments give the class or function that makes one, and their number "
            "as num_envs; or a gymnasium.vector.SyncVectorEnv of them."
        )
    raise SettingError(refused)


def _named(text: str) -> Source:
    """What an id or `module:name` stands for."""
    if is_description(text):
        raise UserError(
            f"The environment {text} was given in Python and cannot be found by a name. Give it "
            "again, as env=...; or name the class or function as module:name."
        )
    module_name, _, name = text.rpartition(":")
    if not module_name:
        return _registered(text, name)
    module = import_module(module_name, repr(text))
    if name.startswith("/"):
        return _registered(text, name[1:])
    is_id = name in gym.registry
    path = name.removeprefix(".")
    if not has(module, path):
        if is_id:
            return _registered(text, name)
        raise _no_such(module_name, path, [*public_callables(module), *gym.registry])
    if is_id:
        raise UserError(
            f"{text!r} is both an id that is registered and an attribute of the module. Write "
            f"{module_name}:/{name} for the id, {module_name}:.{name} for the class or function."
        )
    thing = attrgetter(path)(module)
    if not callable(thing):
        raise UserError(
            f"{text!r} is {shown(thing)}, which makes no environment. Name a class, or a function "
            "that returns an environment."
        )
    return _made_by(thing, text)


def _no_such(module: str, name: str, choices: Iterable[str]) -> UserError:
    hint = did_you_mean(name, choices, f"{module}:")
    return UserError(
        f"Unknown environment {name!r}: module {module!r} has no attribute of this name, and there "
        f"is no such id.{hint}"
    )


def _registered(text: str, name: str) -> Source:
    """The registered environment of this id."""
    spec = find_spec(name)
    one = None if spec.entry_point is None else partial(_one_registered, spec)
    many = None if spec.vector_entry_point is None else partial(_many_registered, spec)
    return Source(text, one, many, spec)


def _one_registered(spec: EnvSpec, kwargs: Arguments) -> gym.Env[Any, Any]:
    """One environment of a registered id.

    Gymnasium's `make` keeps an argument called max_episode_steps for its own time limit, and so
    `make_vec` loses one that an environment is registered with: single environments would play
    another task than the batched form. Where there is one, all arguments are the environment's.
    """
    if spec.vector_entry_point is not None and spec.max_episode_steps is None:
        spec = copy.deepcopy(spec)
        spec.kwargs |= kwargs
        kwargs = {}
    return gym.make(spec, disable_env_checker=True, **kwargs)


def _many_registered(spec: EnvSpec, num_envs: int, kwargs: Arguments) -> VectorEnv:
    return gym.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs)


def _made_by(make: Any, name: str) -> Source:
    """What a class or function makes: of many environments, if it takes their number."""
    if _takes_num_envs(make):
        return Source(name, None, partial(_many_made, make, name))
    return Source(name, partial(_one_made, make, name), None)


def _takes_num_envs(make: Any) -> bool:
    if isinstance(make, type) and issubclass(make, (gym.Env, VectorEnv)):
        return issubclass(make, VectorEnv)
    try:
        return "num_envs" in inspect.signature(make).parameters
    except (TypeError, ValueError):  # of a class in C, for example
        return False


def _one_made(make: Callable[..., Any], name: str, kwargs: Arguments) -> gym.Env[Any, Any]:
    env = make(**kwargs)
    if isinstance(env, gym.Env):
        return env
    if isinstance(env, VectorEnv):
        raise UserError(
            f"{name} returned a vector environment. Give it an argument num_envs: it is then "
            "called once, with the number of environments, and returns so many."
        )
    raise UserError(
        f"{name} returned {shown(env)}; it must return a gymnasium.Env."
        f"{_of_another_library(env) or ' Let its class be a subclass of that.'}"
    )


_OTHER_LIBRARIES = {
    "gym": (
        " It is of gym, which Gymnasium has replaced: import gymnasium as gym, and have step() "
        "return (observation, reward, terminated, truncated, info)."
    ),
    "pettingzoo": (
        " It is of PettingZoo, where several agents act, and one is trained here: write a "
        "gymnasium.Env that plays one of them, with policies of yours for the others."
    ),
    "stable_baselines3": (
        " It is a vector environment of Stable-Baselines3: give what makes a single one, and their "
        "number as num_envs."
    ),
}


def _of_another_library(env: Any) -> str:
    """What to do with an environment of another library's base class; nothing if it has none."""
    bases = {base.__module__.partition(".")[0] for base in type(env).__mro__}
    return next((hint for name, hint in _OTHER_LIBRARIES.items() if name in bases), "")


def _many_made(make: Callable[..., Any], name: str, num_envs: int, kwargs: Arguments) -> VectorEnv:
    env = make(num_envs=num_envs, **kwargs)
    if not isinstance(env, VectorEnv):
        raise UserError(
            f"{name} takes num_envs and returned {shown(env)}; it must return a "
            "gymnasium.vector.VectorEnv. A function that returns one environment takes no num_envs."
        )
    if env.num_envs != num_envs:
        raise UserError(
            f"{name} was called with num_envs {num_envs} and returned a vector environment of "
            f"{env.num_envs}; it must return as many as it is asked for."
        )
    return env


def _name_to_record(make: Any) -> str:
    """The name of a class or function: `module:name` where that finds it, else a description."""
    if (name := name_of(make)) is None:
        kind = getattr(make, "func", make)  # of a partial function
        return described(str(getattr(kind, "__name__", type(kind).__name__)))
    module, _, path = name.rpartition(":")
    return f"{module}:.{path}" if path in gym.registry else name


def _described(env: gym.Env[Any, Any] | VectorEnv) -> str:
    """A description of an environment that was given: its id, or its class."""
    base: Any = env.unwrapped
    if isinstance(base, SyncVectorEnv):
        base = base.envs[0].unwrapped
    return described(base.spec.id if base.spec else type(base).__name__)


_PACKAGES = {
    "gymnasium.envs.box2d": "gymnasium[box2d]",
    "gymnasium.envs.mujoco": "gymnasium[mujoco]",
    "gymnasium.envs.phys2d": "gymnasium[jax]",
    "gymnasium.envs.tabular": "gymnasium[jax]",
}
"""What to install for the environments of a module."""
_REGISTERED_BY = {
    "ALE/": ("ale_py", "gymnasium[atari]"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "BabyAI-": ("minigrid", "minigrid"),
    "popgym-": ("popgym", "popgym"),
}
"""By what an id begins with: the module that registers it when imported, and what to install."""


def find_spec(name: str) -> EnvSpec:
    """The registered environment of this id.

    Raises:
        UserError: there is none; the message names near matches, or what to install.
    """
    for beginning, (module, package) in _REGISTERED_BY.items():
        if name not in gym.registry and name.startswith(beginning):
            try:
                import_module(module, repr(name))
            except UserError as error:
                raise UserError(_to_install(name, package)) from error
    try:
        return gym.spec(name)
    except gym.error.Error:
        near = _with_a_colon(name) or _near_matches(name)
        hint = (
            f"Did you mean {' or '.join(near)}?"
            if near
            else "`recurrent-rl envs` lists ours; gymnasium.pprint_registry() lists all."
        )
        raise UserError(
            f"Unknown environment {name!r}. {hint} Where a module of yours registers or defines "
            f"it, write that before it: my_module:{name}."
        ) from None


def _with_a_colon(name: str) -> list[str]:
    """What `module.name` was meant to be, where there is such a module."""
    module, _, attribute = name.rpartition(".")
    with suppress(ImportError, ValueError):
        if module and importlib.util.find_spec(module) is not None:
            return [f"{module}:{attribute}"]
    return []


def what_to_install(source: Source, error: Exception) -> str | None:
    """What a registered environment lacks that could not be made; None where it lacks nothing."""
    if source.spec is None or not isinstance(
        error, (gym.error.DependencyNotInstalled, ModuleNotFoundError)
    ):
        return None
    entry = str(source.spec.entry_point or source.spec.vector_entry_point)
    for module, package in _PACKAGES.items():
        if entry.startswith((f"{module}:", f"{module}.")):
            return _to_install(source.name, package)
    return None


def _to_install(name: str, package: str) -> str:
    return f"Environment {name} needs a package that is missing: pip install '{package}'"


def _near_matches(name: str) -> list[str]:
    """Up to three registered ids like `name`, with or without namespace and version."""
    known: dict[str, list[str]] = {}
    for env_id in reversed(gym.registry):  # the newest first
        for key in {_without_version(env_id), _without_version(env_id.rpartition("/")[2])}:
            known.setdefault(key, []).append(env_id)
    near = close_matches(_without_version(name), known, most=3, cutoff=0.75)
    found = []
    for key in near:
        found += sorted(known[key], key=lambda env_id: "/" in env_id)
    return list(dict.fromkeys(found))[:3]


def _without_version(env_id: str) -> str:
    return re.sub(r"-v\d+$", "", env_id)
