"""`recurrent-rl convert`: a policy file out of a model that another library has saved."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from recurrent_rl.agents.settings import validated
from recurrent_rl.cli.terminal import parse
from recurrent_rl.errors import UserError
from recurrent_rl.fields import EnvId, FolderPath, JsonObject
from recurrent_rl.runs.progress import make_console


@validated
@dataclass(frozen=True)
class ConvertArguments:
    """Convert a model of sb3-contrib's RecurrentPPO into a policy file.

    Nothing in the model's file is executed.
    """

    model: Annotated[FolderPath, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL.zip")]
    """File that model.save wrote."""
    env_id: EnvId
    """Environment that it was trained on: a Gymnasium id, or module:name to import a module
    first."""
    env_kwargs: JsonObject = field(default_factory=dict, hash=False)
    """Its arguments as a JSON object."""
    normaliser: Annotated[FolderPath | None, tyro.conf.arg(metavar="FILE")] = None
    """JSON file with mean, var and count of the VecNormalize that it was trained behind;
    docs/migrating.md shows how to write it."""
    out: Annotated[FolderPath | None, tyro.conf.arg(metavar="FILE")] = None
    """Policy file to write; by default beside the model, with .safetensors in its name."""


def convert_command(arguments: Sequence[str]) -> int:
    """Convert a model of sb3-contrib's RecurrentPPO into a policy file."""
    given, console = parse(ConvertArguments, "convert", arguments), make_console()

    from recurrent_rl.agents.config import AgentConfig
    from recurrent_rl.agents.policy import Policy
    from recurrent_rl.agents.sb3.convert import convert_sb3
    from recurrent_rl.command import flags_of
    from recurrent_rl.vector_env.config import EnvConfig
    from recurrent_rl.vector_env.vectorize import make_vector_env

    model = Path(given.model)
    normaliser = None if given.normaliser is None else _statistics(Path(given.normaliser))
    config = EnvConfig(given.env_kwargs)
    env = make_vector_env(given.env_id, 1, config)
    spaces = env.single_observation_space, env.single_action_space
    env.close()
    policy = convert_sb3(model, *spaces, normaliser=normaliser)
    trained_on = {"env_id": given.env_id, "env": dataclasses.asdict(config)}
    path = model.with_suffix(".safetensors") if given.out is None else Path(given.out)
    Policy(policy.agent, policy.summary | trained_on).save(path)
    console.print(f"Saved {path}", soft_wrap=True, highlight=False)
    evaluate = ["evaluate", str(path), "--env-id", given.env_id]
    train = [
        "train",
        given.env_id,
        "--init-from",
        str(path),
        *flags_of(policy.config, AgentConfig()),
    ]
    for what, command in (("Evaluate it", evaluate), ("Train it on", train)):
        line = f"{what}: {shlex.join(['recurrent-rl', *command])}"
        console.print(line, soft_wrap=True, highlight=False)
    return 0


def _statistics(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"The statistics in {path} cannot be read: {error}") from error
