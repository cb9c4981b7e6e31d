"""What a policy was trained on, and what may be imported for it to play there."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym

from recurrent_rl.agents.files import PolicyFileError
from recurrent_rl.agents.hub import local_file
from recurrent_rl.agents.importing import name_of
from recurrent_rl.agents.named_parts import found_parts
from recurrent_rl.agents.policy import POLICY, Policy, load_policy
from recurrent_rl.agents.settings import build, shown
from recurrent_rl.errors import UserError
from recurrent_rl.fields import is_description, is_same_environment, json_object
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.vectorize import BY_WRAPPERS
from recurrent_rl.vector_env.wrapping import names_a_module


def environment_of(
    policy: Policy,
    source: Path,
    env_id: str | None = None,
    env_kwargs: dict[str, Any] | None = None,
) -> tuple[str, EnvConfig]:
    """The environment to play in: the one given, else the one that the policy was trained on.

    A module is imported for it where the command line or a run's config.json names it, never
    because a policy file does: a file may come from anyone.

    Args:
        policy: that plays.
        source: the run folder or policy file that it was loaded from.
        env_id: the environment given, if any.
        env_kwargs: its arguments, if any are given.

    Returns:
        Its id and settings.

    Raises:
        UserError: neither the command line nor the policy says which, it was given to the training
            in Python, or only a policy file names the module; gives the command then.
    """
    own_id: Any
    own_env: EnvConfig | None
    if RunFolder(source).exists():
        config = RunFolder(source).load_config()
        own_id, own_env = config.environment, config.env
        if env_id is None and is_description(own_id):
            raise _given_in_python(own_id, source)
    else:
        own_id, own_env = policy.summary.get("env_id"), None
        if env_id is None:
            own_id = _without_import(own_id, source)
    env_id = env_id or str(own_id)
    env_config = EnvConfig()
    if isinstance(own_id, str) and is_same_environment(own_id, env_id):
        env_config = own_env or environment_settings(policy)
    if env_kwargs is not None:
        env_config = dataclasses.replace(env_config, env_kwargs=env_kwargs)
    return env_id, env_config


def _without_import(env_id: Any, source: Path) -> str:
    """The id that a policy file names, where it is registered without an import."""
    if not isinstance(env_id, str):
        raise UserError("The policy does not say which environment it is for; name it: --env-id ID")
    if is_description(env_id):
        raise _given_in_python(env_id, source)
    module, _, name = env_id.rpartition(":")
    if module and name not in gym.registry:
        command = shlex.join(["recurrent-rl", "evaluate", str(source), "--env-id", env_id])
        raise UserError(
            f"The policy file says that it was trained on {env_id!r}. What a file names is not "
            f"imported by itself; if you trust that module: {command}"
        )
    return name


def _given_in_python(env_id: str, source: Path) -> UserError:
    """The error for an environment that no command can name."""
    again = f"recurrent_rl.evaluate(recurrent_rl.load_policy({str(source)!r}), env, 100)"
    if RunFolder(source).exists():
        again = RunFolder(source).to_evaluate(RunFolder(source).load_config())
    return UserError(
        f"The policy was trained on {env_id}, an environment that was given in Python and cannot "
        f"be found by a name. Evaluate it there: {again}; or name one of the same spaces: --env-id "
        "module:name"
    )


def settings_for(policy: Policy, env_id: str) -> EnvConfig:
    """The settings of the environment that a policy was trained on, where it is this one.

    Raises:
        UserError: they cannot be read; or there are some, and both environments were given in
            Python, so that nothing tells whether they are the same.
    """
    own_id = policy.summary.get("env_id")
    if not isinstance(own_id, str) or "env" not in policy.summary:
        return EnvConfig()
    if is_same_environment(_where_defined(own_id), _where_defined(env_id)):
        return environment_settings(policy)
    if is_description(own_id) and own_id == env_id:
        return _settings_of_the_unnamed(policy, own_id)
    return EnvConfig()


def _settings_of_the_unnamed(policy: Policy, env_id: str) -> EnvConfig:
    """None, where the training had none either.

    Raises:
        UserError: it had; names them.
    """
    trained, none = environment_settings(policy), EnvConfig()
    settings = [
        f"{name}={shown(value)}"
        for name in ("env_kwargs", *BY_WRAPPERS)
        if (value := getattr(trained, name)) != getattr(none, name)
    ]
    if settings:
        raise UserError(
            f"The policy was trained on {env_id} with {' and '.join(settings)}, and nothing says "
            f"whether the {env_id} that is given is the same. Give env_config=EnvConfig("
            f"{', '.join(settings)}) if it is, or env_config=EnvConfig()."
        )
    return none


def _where_defined(env_id: str) -> str:
    """The name by the module that defines it, for a `module:name` of one that is imported.

    A package may hand on what a module of it defines. Nothing is imported for the answer.
    """
    module, _, name = env_id.rpartition(":")
    found = sys.modules.get(module)
    return env_id if found is None else name_of(vars(found).get(name)) or env_id


def shown_to(policy: Policy, config: EnvConfig) -> EnvConfig:
    """The settings of environments that show a policy what it reads.

    A policy hides the entries of `hide_indices` itself. One in a file of format 1 does not: for it
    a wrapper does.
    """
    if policy.agent.reader.hide_indices or not config.hide_indices:
        return config
    hiding = "recurrent_rl.envs:HideIndices" + json.dumps({"indices": config.hide_indices})
    return dataclasses.replace(config, hide_indices=(), wrappers=(*config.wrappers, hiding))


def environment_settings(policy: Policy) -> EnvConfig:
    """The settings of the environment that a policy file was trained on, as the file tells them.

    Raises:
        UserError: they cannot be read, or name a wrapper for which a module would be imported: a
            file may come from anyone.
    """
    try:
        fields = dict(policy.summary["env"])
        if isinstance(text := fields.get("env_kwargs"), str):  # as the first policy files have it
            fields["env_kwargs"] = json_object("env_kwargs", text)
        config = build(EnvConfig, fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"The policy file's settings of its environment cannot be read ({error!r}). Evaluate "
            "its run folder instead."
        ) from error
    if of_modules := [name for name in config.wrappers if names_a_module(name)]:
        raise UserError(
            f"The policy file says that it was trained with the wrapper {of_modules[0]!r}. What a "
            "file names is not imported by itself; if you trust that module, evaluate the run's "
            "folder instead, or give evaluate(policy, env, 100, env_config="
            f"EnvConfig(wrappers={list(config.wrappers)}))."
        )
    return config


class Chosen(NamedTuple):
    """A policy, as a command was given it."""

    policy: Policy
    source: Path
    """The run folder, or the file."""
    file: Path
    """Of the policy itself."""
    label: str
    """The file, or the address of one that was downloaded."""


def chosen_policy(given: str | Path, best: bool = False) -> Chosen:
    """The policy that a command names: of a run, the last or the best; or of a file or address.

    Args:
        given: a run folder, a policy file, or an address on the Hugging Face Hub.
        best: take the policy that did best in the evaluations of the run's training.

    Raises:
        PolicyFileError: as `policy_of`, or there is no such policy.
    """
    source = local_file(given)
    is_folder = os.path.isdir(source)
    if not best:
        file = source / POLICY if is_folder else source
        label = str(file if is_folder else given)
        return Chosen(policy_of(source), source, file, label)
    file = RunFolder(source).best_policy
    if not is_folder:
        raise PolicyFileError(f"best is of a run, and {given} is none. Name the run's folder.")
    if not file.exists():
        raise PolicyFileError(
            f"{source} holds no {file.name}. Runs keep one that are trained with --eval-interval N."
        )
    return Chosen(policy_of(source, file), source, file, str(file))


def policy_of(source: Path, file: Path | None = None) -> Policy:
    """The policy of a run folder, its last one or that in a file of it; or that of a file alone.

    The parts of one's own that a run's config.json names are imported, as the environment's module
    is: whoever can write there has a module imported already. Those that a file names are not.

    Raises:
        PolicyFileError: as `load_policy`.
    """
    if os.path.isdir(source) and (folder := RunFolder(source)).exists():
        found_parts(folder.load_config().agent, {})
    return load_policy(file or source)
