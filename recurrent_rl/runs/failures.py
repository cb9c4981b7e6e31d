"""A run that fails: what is saved of it, and what its error says of that."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recurrent_rl.agents.policy import load_policy
from recurrent_rl.agents.raising import in_words
from recurrent_rl.errors import UserError
from recurrent_rl.output import say
from recurrent_rl.runs.checkpoint import environment_state, save
from recurrent_rl.runs.checkpoint_file import read_timesteps
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.sources import Source


def save_after_error(
    error: BaseException,
    trainer: Trainer,
    folder: RunFolder,
    is_saved: bool,
    steps_before: int,
    resuming: str,
) -> str:
    """Save the last whole iteration; says what is saved, what resuming loses, and how to.

    Args:
        error: why the run fails.
        trainer: whose iteration failed, or what came after it.
        folder: of the run.
        is_saved: whether the checkpoint there is of this iteration, environments included.
        steps_before: that each environment had taken when the last iteration began.
        resuming: what goes on with it, as `to_resume` says.
    """
    told = _where(trainer)
    if trainer.iteration == 0:
        return f"{told} Nothing was learnt yet, so nothing is lost. From its first step: {resuming}"
    last = "From the last checkpoint" if folder.checkpoint.exists() else "From its first step"
    lost = _lost(trainer, is_saved, steps_before)
    if not is_saved and trainer.group.broken:
        # What the others know of their environments cannot be had, and from the last checkpoint
        # the run goes on as if nothing had happened.
        if folder.checkpoint.exists():
            last = f"From the checkpoint after {read_timesteps(folder.checkpoint):,} steps"
        return f"{told} {last}: {resuming}"
    gone = not folder.exists()
    if not is_saved:
        try:
            save(trainer, folder)
        except Exception as another:
            why = f": {another}" if isinstance(another, UserError) else f" ({another!r})."
            if str(another) == str(error):
                why = ", for the same reason."
            kept = _kept_policy(trainer, folder)
            return f"{told} Saving it failed too{why}{kept} {last}: {resuming}"
    several = trainer.iteration > 1
    return (
        f"{told} Its {trainer.iteration:,} whole iteration{'s' * several} "
        f"({trainer.timesteps:,} steps) {'are' if several else 'is'} saved; to resume loses "
        f"{' and '.join(lost) or 'nothing'}: {resuming}"
        f"{' The folder was made again for them; what was logged before is not in it.' * gone}"
    )


def _where(trainer: Trainer) -> str:
    """Where the run failed."""
    where = f"in iteration {trainer.iteration + 1}"
    if not trainer.mid_rollout:
        where = f"after iteration {trainer.iteration}"
    return (
        f"The run on {trainer.config.env_id} failed {where}, "
        f"after step {trainer.collector.environments.steps:,} of each environment."
    )


def _kept_policy(trainer: Trainer, folder: RunFolder) -> str:
    """Where the policy of the last whole iteration is, if it was saved; else nothing."""
    try:
        timesteps = load_policy(folder.policy).summary["timesteps"]
    except Exception:  # there is none, or one that cannot be read here
        return ""
    if timesteps != trainer.timesteps:
        return ""
    return (
        f" What was learnt is whole in {folder.shown.policy}, to play with or for init_from "
        "(--init-from)."
    )


def _lost(trainer: Trainer, is_saved: bool, steps_before: int) -> list[str]:
    """What the last whole iteration, once it is saved, does not hold."""
    lost = []
    if not _tells_state(trainer) or (trainer.mid_rollout and not is_saved):
        lost.append("the episodes under way")
    if trainer.mid_rollout:
        unfinished = trainer.collector.environments.steps - steps_before
        lost.append(f"the {unfinished * trainer.config.num_envs:,} steps of the unfinished rollout")
    return lost


def _tells_state(trainer: Trainer) -> bool:
    """Whether the environments tell their exact state; no where that is what failed."""
    try:
        return environment_state(trainer) is not None
    except Exception:
        return False


def to_resume(trainer: Trainer, folder: RunFolder, has_callbacks: bool) -> str:
    """The command that goes on with a run; or the call, where no command can give what it needs."""
    if not trainer.source.found_by_name or has_callbacks:
        return call_to_resume(folder.shown.path, trainer.source, has_callbacks)
    return folder.to_resume()


def call_to_resume(run_dir: Path, source: Source, has_callbacks: bool) -> str:
    """The call that goes on with a run, with what it needs again."""
    arguments = [repr(str(run_dir))]
    arguments += [] if source.found_by_name else ["env=..."]
    arguments += ["callbacks=[...]"] if has_callbacks else []
    return f"recurrent_rl.resume({', '.join(arguments)})"


def note(error: BaseException, text: str) -> None:
    """Have the error's traceback end in this text; where Python is too old, print it before."""
    if sys.version_info >= (3, 11):
        error.add_note(text)
    else:
        say(text, stderr=True)


@contextmanager
def telling(text: str) -> Iterator[None]:
    """Have an error end in this text: the message of a UserError, or a note on any other."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{error} {text}") from error
    except Exception as error:
        note(error, text)
        raise


def close_or_tell(close: Callable[[], None]) -> None:
    """Close environments that are needed no more; an error in it is told, and ends nothing."""
    try:
        close()
    except (Exception, SystemExit) as error:
        told = in_words(error).rstrip(".")
        say(f"The environments could not be closed: {told}.", stderr=True)


@contextmanager
def closed_by(close: Callable[[], None]) -> Iterator[None]:
    """Close at the end. An error that is under way is told, and not one of closing after it."""
    try:
        yield
    except BaseException as error:
        try:
            close()
        except Exception as also:
            note(error, f"Closing failed too: {also!r}.")
        raise
    close()
