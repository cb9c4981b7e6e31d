"""What the user may have meant to be read of infos, and is not."""

from __future__ import annotations

from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.infos import RENAME_SUCCESS, SUCCESS, UNREAD_SUCCESS


def notes_on_infos(trainer: Trainer) -> tuple[str, ...]:
    """What is not read so far, in sentences; nothing before the first episode has ended."""
    environments, keys = trainer.collector.environments, trainer.ended.info_keys
    if not trainer.ended.episodes:
        return ()
    notes: tuple[str, ...] = ()
    if environments.unread_success and not {SUCCESS, UNREAD_SUCCESS} & keys:
        notes = (f"The infos have 'success', which is not read. {RENAME_SUCCESS}",)
    silent = [key for key in environments.info_metrics if key not in keys]
    if not silent:
        return notes
    are = "is" if len(silent) == 1 else "are"
    return (
        *notes,
        f"No environment has reported {', '.join(map(repr, silent))} in its infos so far, "
        f"which {are} among info_metrics: see that the environment puts numbers under such "
        "keys, spelt alike.",
    )
