"""What a policy was trained on, and what may be imported for it to play there."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import gymnasium as gym

from recurrent_rl.agents.actor_critic import found_parts
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.config import EnvConfig
from recurrent_rl.errors import UserError
from recurrent_rl.runs.folder import RunFolder


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
        UserError: neither the command line nor the policy says which, or only a policy file names
            the module; gives the command then.
    """
    own_id: Any
    own_env: EnvConfig | None
    if RunFolder(source).exists():
        config = RunFolder(source).load_config()
        own_id, own_env = config.env_id, config.env
    else:
        own_id, own_env = policy.summary.get("env_id"), None
        if env_id is None:
            own_id = _without_import(own_id, source)
    env_id = env_id or str(own_id)
    env_config = EnvConfig()
    if isinstance(own_id, str) and env_id.rpartition(":")[2] == own_id.rpartition(":")[2]:
        env_config = own_env or environment_settings(policy)
    if env_kwargs is not None:
        env_config = dataclasses.replace(env_config, env_kwargs=env_kwargs)
    return env_id, env_config


def _without_import(env_id: Any, source: Path) -> str:
    """The id that a policy file names, where it is registered without an import."""
    if not isinstance(env_id, str):
        raise UserError("The policy does not say which environment it is for; name it: --env-id ID")
    module, _, name = env_id.rpartition(":")
    if module and name not in gym.registry:
        command = shlex.join(["recurrent-rl", "evaluate", str(source), "--env-id", env_id])
        raise UserError(
            f"The policy file says that it was trained on {env_id!r}. What a file names is not "
            f"imported by itself; if you trust that module: {command}"
        )
    return name


def environment_settings(policy: Policy) -> EnvConfig:
    """The settings of the environment that a policy file was trained on, as the file tells them.

    Raises:
        UserError: they cannot be read.
    """
    try:
        return EnvConfig.from_dict(policy.summary["env"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"The policy file's settings of its environment cannot be read ({error!r}). Evaluate "
            "its run folder instead."
        ) from error


def policy_of(source: Path) -> Policy:
    """The policy of a run folder, or in a file.

    The parts of one's own that a run's config.json names are imported, as the environment's module
    is: whoever can write there has a module imported already. Those that a file names are not.

    Raises:
        PolicyFileError: as `load_policy`.
    """
    if (folder := RunFolder(source)).exists():
        found_parts(folder.load_config().agent, {})
    return load_policy(source)
