"""How a run goes on that has begun: where it plays, and from which step."""

from __future__ import annotations

import dataclasses
from itertools import count
from pathlib import Path

from recurrent_rl.agents.settings import shown
from recurrent_rl.config import NO_MATTER_OF_WHAT_IS_LEARNT, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.fields import bare_name, is_description
from recurrent_rl.resolve import source_of
from recurrent_rl.runs.checkpoint import restore, settings_of
from recurrent_rl.runs.checkpoint_file import Checkpoint
from recurrent_rl.runs.folder import CONFIG, RunFolder
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.sources import Environment, Source, find_source

WORDS = {"learning_rate": "the learning rate", "ent_coef": "the entropy bonus"}
"""Of the settings that have a schedule by default, for messages."""
_MAY_CHANGE = NO_MATTER_OF_WHAT_IS_LEARNT | {"total_timesteps", "env_id"}
"""From one part of a run to the next, without a word."""


def source_of_run(
    folder: RunFolder, config: TrainConfig, env: Environment | None, call: str = "resume"
) -> Source:
    """What a run's environments are made of, by its settings or as given anew to this call.

    Raises:
        UserError: its settings name none and none is given, or they name another that there is.
    """
    recorded, run = config.environment, folder.shown.path
    if env is None:
        if is_description(recorded):
            raise UserError(
                f"The run {run} was trained on {recorded}, which cannot be found by a name. Give "
                f"the environment again: recurrent_rl.{call}({str(run)!r}, env=...)."
            )
        return source_of(config)
    source = find_source(env)
    names = [recorded, source.name]
    if source.spec is not None:  # an id is the same with a module before it
        names = [bare_name(name) for name in names]
    if names[0] != names[1] and not is_description(recorded) and _is_there(recorded):
        raise UserError(
            f"The run {run} was trained on {recorded}, and env is {source.name}. Leave env out "
            "to take the former; on another environment train anew."
        )
    return source


def _is_there(env_id: str) -> bool:
    """Whether an environment is found by this name; the module of an old one may be gone."""
    try:
        find_source(env_id)
    except UserError:
        return False
    return True


def set_aside(folder: RunFolder) -> tuple[str, ...]:
    """Keep the policies of a run whose checkpoint is lost, and what was found of them.

    Training anew would write over them, or they would pass for what it has learnt.
    """
    files = {
        folder.policy: folder.earlier_policy,
        folder.best_policy: folder.earlier_best_policy,
        folder.evaluation: folder.earlier_evaluation,
    }
    there = {file: earlier for file, earlier in files.items() if file.exists()}
    if not there:
        return ()
    if any(earlier.exists() for earlier in files.values()):  # of an earlier loss
        number = next(
            n for n in count(2) if not any(_numbered(x, n).exists() for x in files.values())
        )
        there = {file: _numbered(earlier, number) for file, earlier in there.items()}
    folder.earlier_policy.parent.mkdir(exist_ok=True)
    for file, earlier in there.items():
        file.replace(earlier)
    kept = ", ".join(earlier.name for earlier in there.values())
    return (
        f"There is no {folder.checkpoint.name}: training begins at the first step. What was there "
        f"is kept in {folder.shown.earlier_policy.parent}: {kept}.",
    )


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def restored(trainer: Trainer, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Bring the trainer to where the checkpoint was written; what to note of it."""
    exact = restore(trainer, checkpoint)
    config, done = trainer.config, trainer.iteration
    if done > config.num_iterations:
        raise UserError(
            f"The run has {trainer.timesteps:,} steps already, more than total_timesteps "
            f"{config.total_timesteps:,}. Give at least as many; to train for fewer, train anew."
        )
    if trainer.done:
        return ()
    notes = []
    if not exact:
        notes.append("These environments cannot give their state: they start new episodes.")
    notes += [
        f"{name!r} was set by a callback and cannot be kept in a checkpoint: set it in on_start."
        for name in checkpoint.env_attributes_lost
    ]
    notes += _edited(config, checkpoint)
    then = dataclasses.replace(config, total_timesteps=checkpoint.total_timesteps)
    if then.num_iterations != config.num_iterations:
        last, now = then.scheduled(max(done - 1, 0)), config.scheduled(done)
        moved = [
            f"{WORDS.get(name, name)} goes from {getattr(last, name):.3g} to "
            f"{getattr(now, name):.3g}"
            for name, points in config.all_schedules().items()
            if len(set(points)) > 1
        ]
        if moved:
            notes.append(
                f"The schedules stretch over the new total of {config.total_timesteps:,} steps: "
                f"{' and '.join(moved)}."
            )
    return tuple(notes)


def _edited(config: TrainConfig, checkpoint: Checkpoint) -> list[str]:
    """What to note of settings that were changed in the run's folder since the checkpoint."""
    now = settings_of(config)
    changed = [
        f"{name} was {shown(then)} and is {shown(now[name])}"
        for name, then in checkpoint.settings.items()
        if name not in _MAY_CHANGE and not name.startswith("env.") and now.get(name, then) != then
    ]
    if not changed:
        return []
    return [
        f"{CONFIG} was edited since the last checkpoint, and the run goes on with what it says "
        f"now: {', '.join(changed)}."
    ]
