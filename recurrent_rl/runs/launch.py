"""The other workers of a run: processes that this one starts and ends, or those of torchrun."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing import current_process, get_start_method, set_start_method
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributed import FileStore, Store  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import (
    ProcessContext,
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from recurrent_rl.agents.files import temporary_folder
from recurrent_rl.agents.importing import class_path, unreachable
from recurrent_rl.agents.named_parts import PARTS
from recurrent_rl.agents.parts import Parts
from recurrent_rl.agents.raising import in_a_sentence
from recurrent_rl.auxiliary import AUX_LOSSES
from recurrent_rl.blocks import block_of
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import RaisedError, UserError
from recurrent_rl.group import ALONE, Group, joined
from recurrent_rl.process import (
    computing,
    global_generators_kept,
    keeping_freed_memory,
    pick_device,
    seed_process,
)
from recurrent_rl.runs.checkpoint import restore
from recurrent_rl.runs.checkpoint_file import read_checkpoint
from recurrent_rl.runs.failures import close_or_tell
from recurrent_rl.runs.loop import follow
from recurrent_rl.runs.torchrun import (
    Launch,
    end_with_agent,
    ended_elsewhere,
    mistakes_told_once,
)
from recurrent_rl.signals import (
    StopSignals,
    check_may_start_others,
    held_back,
    join_within,
    kill,
    let_through,
    when_parent_ends,
)
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.sources import Source, find_spec

PATIENCE = 10.0
"""Seconds in which a worker has to end when it has nothing more to do, before it is killed."""
GRACE = 1.0
"""Seconds in which the others have to end when one of them has failed, before they are killed."""
RAISED = 1
"""Exit status of a worker in which an error was raised."""
DEATH_SECONDS = 10.0
"""Seconds to wait for the end of a worker that sends no more."""
KINDS: dict[str, Parts[Any]] = {**PARTS, AUX_LOSSES.kind: AUX_LOSSES}
"""What may be one's own, by the settings that name it."""


class Begun(NamedTuple):
    """What the first worker lets the others begin."""

    config: ResolvedConfig
    checkpoint: Path | None
    """That all resume from; None for the run's first step."""
    seed_globals: bool
    """Whether Python's and NumPy's global generators are seeded in each worker."""


@contextmanager
def together(config: ResolvedConfig) -> Iterator[Group]:
    """Join the other workers of a run, until the end of this context.

    Where torchrun has started this process, they are those of its launch. Else this one is the
    first, and starts the others.

    Args:
        config: the settings; with one worker nothing is started.

    Raises:
        UserError: a worker could not start, raised an error or ended by itself; says which.
    """
    launch = Launch.of_this_process()
    place = 0 if launch is None else launch.place
    device = pick_device(config.device, place)
    with mistakes_told_once():
        block_of(config, 0, config.workers)  # refuses too many before any is started
    if launch is not None:
        end_with_agent()
        with joined(
            launch.meeting(config.worker_timeout),
            launch.rank,
            launch.size,
            device,
            config.worker_timeout,
            launch.neighbours,
            explain=ended_elsewhere,
        ) as group:
            yield group
    elif config.workers == 1:
        yield ALONE
    else:
        with _started(config, device) as group:
            yield group


@contextmanager
def _started(config: ResolvedConfig, device: torch.device) -> Iterator[Group]:
    """Start the other workers, and end them."""
    if getattr(current_process(), "_inheriting", False):
        # A worker that is still importing a script without a guard; the first says what it lacks.
        raise SystemExit(RAISED)
    check_may_start_others("Set workers to 1")
    parts = parts_to_import(config)
    with ExitStack() as stack:
        meeting = Path(stack.enter_context(temporary_folder())) / "workers"
        with held_back():
            others = start_processes(
                _work,
                args=(str(meeting), config, parts, get_start_method(allow_none=True)),
                nprocs=config.workers - 1,
                join=False,
                start_method="spawn",
            )
        assert others is not None
        store = FileStore(str(meeting), config.workers)
        stack.callback(kill, others.processes)
        _wait_for(others, store)
        group = stack.enter_context(
            joined(
                store,
                rank=0,
                size=config.workers,
                device=device,
                timeout=config.worker_timeout,
                explain=lambda: _why(others, store),
            )
        )
        try:
            yield group
        except BaseException:
            kill(others.processes)  # before the group is left, which would wait for them
            raise
        join_within(others.processes, PATIENCE)


def parts_to_import(config: TrainConfig) -> dict[str, type[nn.Module]]:
    """The parts that are not the library's by the settings that name them, for other processes.

    Raises:
        UserError: they could not import one.
    """
    names = _names(config)
    own = [kind for kind, name in names.items() if KINDS[kind].is_own(name)]
    parts: dict[str, Any] = {kind: KINDS[kind].named(names[kind]) for kind in own}
    for kind, part in parts.items():
        if why := unreachable(part):
            raise UserError(
                f"The {kind} {names[kind]!r} is {class_path(part)}, and {why}: other "
                "workers cannot import it. Put the class at the top level of a module, or train "
                "with workers=1."
            )
    return parts


def take_parts(config: TrainConfig, parts: Mapping[str, type[nn.Module]]) -> None:
    """Let what `parts_to_import` gave in another process stand for its names in this one."""
    for kind, part in parts.items():
        KINDS[kind].take(_names(config)[kind], part)


def _names(config: TrainConfig) -> dict[str, Any]:
    """What the settings name of each kind."""
    return {kind: getattr(config.agent, kind) for kind in PARTS} | {"aux_loss": config.aux_loss}


def _work(
    index: int,
    meeting: str,
    config: ResolvedConfig,
    parts: dict[str, type[nn.Module]],
    start_method: str | None,
) -> None:
    """What a process that the first worker has started does."""
    when_parent_ends(lambda: os._exit(1))
    # That of the environments' processes is as in the first worker: here it would be the one by
    # which this process was started, and each environment import all anew.
    set_start_method(start_method, force=True)
    take_parts(config, parts)
    rank, device = index + 1, pick_device(config.device, index + 1)
    with StopSignals(patient=True, silent=True) as stop:
        let_through()
        store = FileStore(meeting, config.workers)
        store.set(f"here/{rank}", "")
        try:
            with (
                keeping_freed_memory(),
                joined(store, rank, config.workers, device, config.worker_timeout) as group,
            ):
                follow_the_first(group, stop)
        except UserError as error:
            kind = "raised" if isinstance(error, RaisedError) else "mistake"
            store.set(f"{kind}/{rank}", str(error))
            raise
        except Exception as error:
            if (sentence := in_a_sentence(error)) is not None:
                store.set(f"raised/{rank}", sentence)
            raise


def follow_the_first(
    group: Group, stop: StopSignals, source: Source | None = None
) -> tuple[Path, int] | None:
    """Do what the first worker begins, until it ends.

    Args:
        group: the workers; this is not the first.
        stop: notes the signals that reach this worker.
        source: what the environments are made of; by default what the settings name.

    Returns:
        The run's folder and its steps; None where there was nothing to do.
    """
    here = Path.cwd()
    nothing: Begun | None = None
    begun = group.exchange(nothing)[0]
    if begun is None:
        return None
    config = begun.config
    if source is None:
        _check_registered(config.environment)
    saved = None if begun.checkpoint is None else read_checkpoint(begun.checkpoint)
    with (
        computing(config.threads, config.precision, group.neighbours),
        global_generators_kept(begun.seed_globals),
    ):
        if begun.seed_globals:
            seed_process(config.seed, saved.iteration if saved else 0, group.rank)
        with mistakes_told_once():
            trainer = Trainer(config, group=group, source=source, fresh=saved is None)
        with ExitStack() as stack:
            stack.callback(close_or_tell, trainer.close)
            if saved is not None:
                restore(trainer, saved)
            return follow(trainer, stop, here), trainer.timesteps


def _check_registered(env_id: str) -> None:
    """Refuse an id that only the first worker knows.

    Raises:
        UserError: says how the others can know it.
    """
    if ":" in env_id:
        return
    try:
        find_spec(env_id)
    except UserError:
        raise UserError(
            f"The environment {env_id!r} is registered in the first worker alone: the others are "
            "processes of their own. Register it in a module, and write that before it, as in "
            f'my_package:{env_id}; or in a script, outside of `if __name__ == "__main__":`.'
        ) from None


def _wait_for(others: ProcessContext, store: Store) -> None:
    """Wait until these workers have started."""
    here = [f"here/{rank}" for rank in range(1, len(others.processes) + 1)]
    while not store.check(here):
        if not all(process.is_alive() for process in others.processes):
            raise UserError(
                "A worker ended before it had begun. A script that trains with several workers "
                'needs the line `if __name__ == "__main__":` before the call, since each worker '
                "imports the script. If it has the line, what the worker printed says why."
            )
        time.sleep(0.02)


def _why(others: ProcessContext, store: Store) -> UserError | None:
    """Why a message to these workers failed, if one of them has said so or has ended."""
    deadline = time.monotonic() + DEATH_SECONDS
    while time.monotonic() < deadline and all(process.is_alive() for process in others.processes):
        if why := _told(range(1, 1 + len(others.processes)), store):
            return why
        time.sleep(0.05)
    dead = {
        rank: process.exitcode
        for rank, process in enumerate(others.processes, 1)
        if not process.is_alive()
    }
    # One that has only lost the others ends after them, by an error that is no mistake.
    for rank, status in dead.items():
        if status != RAISED:
            return _ended_by_itself(rank, status)
    if why := _told(dead, store):
        return why
    try:
        others.join(timeout=0, grace_period=GRACE)
    except ProcessRaisedException as error:
        return UserError(f"Worker {error.error_index + 1} failed. {str(error).strip()}")
    except ProcessExitedException as error:
        return _ended_by_itself(error.error_index + 1, error.exit_code)
    return None


def _told(ranks: Iterable[int], store: Store) -> UserError | None:
    """What one of these workers has said of its end."""
    for rank in ranks:
        for key, kind in (("mistake", UserError), ("raised", RaisedError)):
            if store.check([f"{key}/{rank}"]):
                return kind(f"Worker {rank}: {store.get(f'{key}/{rank}').decode()}")
    return None


def _ended_by_itself(rank: int, status: int | None) -> UserError:
    """That a worker ended without an error of Python's."""
    return UserError(
        f"Worker {rank} ended by itself, with exit status {status}: it crashed, called exit, or "
        "was killed, for want of memory perhaps. Mend the environment, or lower num_envs."
    )
