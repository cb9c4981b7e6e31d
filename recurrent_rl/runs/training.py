"""Training runs: a new one, or a resumed one; evaluated where they have all their steps."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from recurrent_rl.agents.arguments import argument, check_is
from recurrent_rl.agents.files import remove_leftovers
from recurrent_rl.agents.policy import load_policy
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.fields import FolderPath, Workers
from recurrent_rl.group import ALONE, Group
from recurrent_rl.output import say
from recurrent_rl.process import (
    computing,
    global_generators_kept,
    keeping_freed_memory,
    seed_process,
    working_directory_kept,
)
from recurrent_rl.resolve import resolved, source_of, with_workers
from recurrent_rl.runs.callbacks import AnyCallback, Callback, as_callbacks
from recurrent_rl.runs.checkpoint_file import Checkpoint, read_checkpoint
from recurrent_rl.runs.copies import newest
from recurrent_rl.runs.evaluation import evaluate_ways
from recurrent_rl.runs.evaluation_result import Evaluation, SavedEvaluation
from recurrent_rl.runs.failures import call_to_resume, close_or_tell, note
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.launch import Begun, follow_the_first, together
from recurrent_rl.runs.learning_curve import what_was_lost
from recurrent_rl.runs.loop import LoopResult, run_iterations
from recurrent_rl.runs.monitor import Monitor
from recurrent_rl.runs.periodic import check_source
from recurrent_rl.runs.resuming import restored, set_aside, source_of_run
from recurrent_rl.runs.torchrun import Launch, begun_by, mistakes_told_once, of_launch
from recurrent_rl.runs.trackers import check_installed
from recurrent_rl.runs.unread_infos import notes_on_infos
from recurrent_rl.signals import StopSignals, noting
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.properties import images_in_stacks, left_out
from recurrent_rl.vector_env.sources import Environment, Source


@dataclass(frozen=True)
class TrainResult:
    """What a call of `train` or `resume` leaves behind."""

    run_dir: Path
    """The run's folder, as an absolute path like those below."""
    policy_path: Path
    timesteps: int
    seconds: float
    stopped_by: int | None
    """The signal that ended the run early, or None."""
    resumed_from: int = 0
    """Steps that were taken before this call."""
    evaluation: Evaluation | None = None
    """Episodes played after the last step; None without `eval_episodes`, after an early end, and
    where the run's folder had its evaluation before."""
    notes: tuple[str, ...] = ()
    """Messages for the user, such as that a resumed run began new episodes or has other learning
    rates, that no environment reported one of `info_metrics`, that infos have `success`, which is
    not read, or that the policy returned far more in training than in the evaluation."""
    stop_reason: str | None = None
    """Why a callback has ended the run before it had all its steps; None where none has."""
    best_policy_path: Path | None = None
    """The policy that did best in evaluations during training (`eval_interval`); None where none
    is kept."""


def train(
    config: TrainConfig,
    env: Environment | None = None,
    *,
    progress: bool = True,
    callbacks: Sequence[AnyCallback] = (),
    seed_globals: bool = False,
    stop: StopSignals | None = None,
) -> TrainResult:
    """Train an agent from its first step, in a new run folder, and evaluate it at the end.

    Ctrl-C, SIGTERM and SIGHUP end the run early with everything saved, and then take their usual
    course: Ctrl-C raises KeyboardInterrupt. Under torchrun, which would take that for a failure,
    the call returns instead, and the result's `stopped_by` says so. Any other error, such as one of
    your environment, is raised after the last whole iteration is saved. A note on it, or the
    message of a UserError, says what `resume` loses.

    Args:
        config: the settings.
        env: what to train on, where the settings have no env_id: an id; a class, or a function that
            returns an environment, called once for each (and once more to ask how long an episode
            can be, where num_steps is left to the default); an environment, which is the only one
            then. A subclass of VectorEnv, or a function with an argument num_envs, is called once
            with that number and makes so many; a VectorEnv is taken as it is. An environment that
            is given is left open at the end.
        progress: show a progress bar, what was chosen, and what of an observation is left out or
            read as a vector.
        callbacks: each a `Callback`, or a function that is called after each iteration with the
            `TrainingState`.
        seed_globals: for the time of the run seed Python's `random` and NumPy's global generator,
            from which some environments draw.
        stop: by default the signals above take their usual course once all is saved. With a
            `StopSignals` of yours the call returns instead, and the result's `stopped_by` has the
            signal.

    Raises:
        UserError: an argument, the settings, the environment or what it returns are at fault.
        KeyboardInterrupt: on Ctrl-C, unless `stop` is given or torchrun has started this process.
            It says how to resume.
    """
    expected = 'a TrainConfig: train(TrainConfig("CartPole-v1")), or train(TrainConfig(), env=...)'
    check_is("config", config, TrainConfig, expected)
    callbacks = as_callbacks(callbacks)
    _check_options(progress, seed_globals, stop)
    with (
        computing(config.threads, config.precision),
        _leaving_no_trace(seed_globals, stop) as (noted, joined),
    ):
        with mistakes_told_once():
            check_installed(config.track)
            source = source_of(config, env)
            check_source(config, source)
            asked = config.workers not in ("auto", 1)  # which is the default
            config = of_launch(resolved(config, source), asked)
        group = _join(joined, config, source)
        call = _Call(source, progress, callbacks, seed_globals, noted, joined, group)
        return call.announced(_begun(call, config), interrupts=stop is None)


@dataclass(frozen=True)
class _Call:
    """What a call of `train` or `resume` is given, and the workers it is among."""

    source: Source
    progress: bool
    callbacks: Sequence[Callback]
    seed_globals: bool
    stop: StopSignals
    joined: ExitStack
    """Holds the workers of torchrun, which are left before an evaluation."""
    group: Group | None
    """They; None where torchrun has not started this process."""

    def announced(self, result: TrainResult, interrupts: bool) -> TrainResult:
        """The result, with a note on what was lost since training, if much was.

        Where a signal takes its usual course, how to resume is told, by a KeyboardInterrupt too.
        """
        if interrupts and result.stopped_by is not None:
            again = call_to_resume(result.run_dir, self.source, bool(self.callbacks))
            self.stop.outcome = f"Stopped early; everything is saved. Resume: {again}"
            if self.progress:
                say(self.stop.outcome)
        if result.stopped_by is not None or result.evaluation is None:
            return result
        lost = what_was_lost(RunFolder(result.run_dir), result.evaluation)
        if lost is None:
            return result
        if self.progress:
            say(lost)
        return dataclasses.replace(result, notes=(*result.notes, lost))


def _begun(call: _Call, config: ResolvedConfig) -> TrainResult:
    """What `train` does; goes on with the run that torchrun began, where it starts anew."""
    launch = Launch.of_this_process()
    if launch is not None and call.group is not None:
        begun = newest(call.group, begun_by(launch, config))
        if launch.rank > 0:
            return _followed(call.group, call)
        if begun is not None:
            return _resumed(call, begun, config)
    if call.seed_globals:
        seed_process(config.seed)
    here = Path.cwd()  # an environment may change it
    with ExitStack() as lock:
        with _trainer(call, config, None) as trainer:
            folder = RunFolder.make(config, here)
            lock.enter_context(folder.locked())
            folder.save_config(config)
            if launch is not None:
                folder.launch.write_text(launch.run_id)
            if call.progress:
                say(*config.choices(), *_workers(launch), *_of_observations(trainer))
            ran = run_iterations(trainer, folder, call.progress, call.callbacks, call.stop)
            result = _result(trainer, folder, ran, call.stop)
        call.joined.close()
        return _evaluated(call, folder, result, config)


def resume(
    run_dir: str | Path,
    *,
    env: Environment | None = None,
    total_timesteps: int | None = None,
    device: str | None = None,
    workers: int | Literal["auto"] | None = None,
    compare: bool = False,
    progress: bool = True,
    callbacks: Sequence[AnyCallback] = (),
    seed_globals: bool = False,
    stop: StopSignals | None = None,
) -> TrainResult:
    """Resume a run from its last checkpoint; from its first step where there is none yet.

    With our own environments the continued run equals the uninterrupted one, weight for weight.
    Others cannot give their state: they are reset, and new episodes start. A run that has all its
    steps is left as it is, but for an evaluation that it lacks. Signals and errors end it as they
    end `train`.

    Args:
        run_dir: the run folder.
        env: the environment as it was given to `train`, where the run's settings cannot name it: a
            lambda, a function of the script or within another, an environment.
        total_timesteps: train to this many steps in all instead of the run's own number.
        device: compute there instead of on the run's own device.
        workers: processes from now on, instead of the run's own number.
        compare: also evaluate with stochastic actions, and with the memory reset at every step.
        progress: show a progress bar, and print the notes of the result before training.
        callbacks: as for `train`.
        seed_globals: as for `train`; seeded from the run's seed and the iteration it resumes from.
        stop: as for `train`.

    Raises:
        UserError: an argument is of another type, the folder holds no run, its environment cannot
            be found without `env`, `env` is another one, another process is training it, its
            settings are not those of its checkpoint, or the run has more than `total_timesteps`
            steps. Its files are as they were then.
        PolicyFileError: the checkpoint is damaged, or of an older version.
        KeyboardInterrupt: as for `train`.
    """
    folder = RunFolder(Path(argument("run_dir", run_dir, FolderPath))).fixed()
    workers = argument("workers", workers, Workers | None)
    compare = argument("compare", compare, bool)
    callbacks = as_callbacks(callbacks)
    _check_options(progress, seed_globals, stop)
    with mistakes_told_once():
        config = folder.load_config()
        if total_timesteps is not None:
            config = dataclasses.replace(config, total_timesteps=total_timesteps)
        if device is not None:
            config = dataclasses.replace(config, device=device)
        check_installed(config.track)
        source = source_of_run(folder, config, env)
        check_source(config, source)
        run_config = resolved(config, source)
        if workers is not None:
            run_config = with_workers(run_config, workers, source.found_by_name)
        run_config = of_launch(run_config, asked=workers not in (None, "auto"))
    with _leaving_no_trace(seed_globals, stop) as (noted, joined):
        group = _join(joined, run_config, source)
        call = _Call(source, progress, callbacks, seed_globals, noted, joined, group)
        if group is not None:
            newest(group, folder)
            if group.rank > 0:
                return _followed(group, call)
        return call.announced(_resumed(call, folder, run_config, compare), interrupts=stop is None)


def _resumed(
    call: _Call, folder: RunFolder, config: ResolvedConfig, compare: bool = False
) -> TrainResult:
    """What `resume` does in the first worker."""
    with computing(config.threads, config.precision), folder.locked():
        for place in (folder.path, folder.earlier_policy.parent):
            if place.is_dir():
                remove_leftovers(place)
        saved = folder.shown.checkpoint  # so all workers find it, each in its directory
        checkpoint = read_checkpoint(saved) if saved.exists() else None
        if call.seed_globals:
            seed_process(config.seed, checkpoint.iteration if checkpoint else 0)
        has_all = checkpoint is not None and checkpoint.iteration >= config.num_iterations
        with _trainer(call, config, checkpoint, alone=has_all) as trainer:
            notes = restored(trainer, checkpoint) if checkpoint else set_aside(folder)
            first, ran = trainer.timesteps, LoopResult(0.0, None, None)
            if not trainer.done:
                if call.progress:
                    say(*notes)
                folder.save_config(trainer.config)
                ran = run_iterations(trainer, folder, call.progress, call.callbacks, call.stop)
            elif not folder.policy.exists():
                trainer.policy().save(folder.policy)
            result = _result(trainer, folder, ran, call.stop)
        call.joined.close()
        result = dataclasses.replace(result, resumed_from=first, notes=notes + result.notes)
        return _evaluated(call, folder, result, trainer.config, compare)


@contextmanager
def _leaving_no_trace(
    seed_globals: bool, stop: StopSignals | None
) -> Iterator[tuple[StopSignals, ExitStack]]:
    """Give back at the end what a run changes in this process; meanwhile signals are noted.

    Yields the signals, and the context in which torchrun's workers are joined.
    """
    with (
        keeping_freed_memory(),
        working_directory_kept(),
        global_generators_kept(seed_globals),
        noting(stop, launched=Launch.of_this_process() is not None) as noted,
        ExitStack() as joined,
    ):
        yield noted, joined


@contextmanager
def _trainer(
    call: _Call, config: ResolvedConfig, checkpoint: Checkpoint | None, alone: bool = False
) -> Iterator[Trainer]:
    """The first worker's trainer; the other workers train until the end of this context.

    Args:
        call: whose workers train; where torchrun has started none, those that the settings ask for.
        config: the settings.
        checkpoint: that all resume from.
        alone: there is nothing for the others to do.
    """
    group = call.group
    with ExitStack() as stack:
        if group is None:
            group = ALONE
            if not alone:
                call.source.check_workers(config.workers, torchrun=False)
                group = stack.enter_context(together(config))
        path = None if checkpoint is None else checkpoint.path
        group.exchange(None if alone else Begun(config, path, call.seed_globals))
        if alone:
            config, group = with_workers(config, 1), ALONE
        trainer = Trainer(config, group=group, source=call.source, fresh=checkpoint is None)
        stack.callback(close_or_tell, trainer.close)
        yield trainer


def _join(joined: ExitStack, config: ResolvedConfig, source: Source) -> Group | None:
    """Join the workers of torchrun until that context ends; None where it has not started this."""
    if Launch.of_this_process() is None:
        return None
    with mistakes_told_once():
        source.check_workers(config.workers, torchrun=True)
    return joined.enter_context(together(config))


def _followed(group: Group, call: _Call) -> TrainResult:
    """The result of a worker of torchrun's that is not the first."""
    began = time.monotonic()
    done = follow_the_first(group, call.stop, call.source)
    folder, timesteps = (RunFolder(done[0]), done[1]) if done else (RunFolder(Path()), 0)
    seconds = time.monotonic() - began
    return TrainResult(
        run_dir=folder.path,
        policy_path=folder.policy,
        timesteps=timesteps,
        seconds=seconds,
        stopped_by=call.stop.received,
        best_policy_path=folder.best_policy if folder.best_policy.exists() else None,
    )


def _check_options(progress: Any, seed_globals: Any, stop: Any) -> None:
    """Refuse an option of `train` and `resume` that is of another type."""
    argument("progress", progress, bool)
    argument("seed_globals", seed_globals, bool)
    check_is("stop", stop, (StopSignals, NoneType), "a StopSignals, or None")


def _result(trainer: Trainer, folder: RunFolder, ran: LoopResult, stop: StopSignals) -> TrainResult:
    """What the iterations leave behind, with the evaluation of the last one where there is one."""
    return TrainResult(
        run_dir=folder.path,
        policy_path=folder.policy,
        timesteps=trainer.timesteps,
        seconds=ran.seconds,
        stopped_by=stop.received,
        evaluation=ran.evaluation if folder.evaluated_timesteps() == trainer.timesteps else None,
        stop_reason=ran.stop_reason,
        notes=notes_on_infos(trainer),
        best_policy_path=folder.best_policy if folder.best_policy.exists() else None,
    )


def _workers(launch: Launch | None) -> list[str]:
    """What to tell of a number of workers that is torchrun's, whatever --workers says."""
    if launch is None:
        return []
    return [f"workers {launch.size}: as many as torchrun has started"]


def _of_observations(trainer: Trainer) -> list[str]:
    """What to tell of components that the agent does not see, or not as may be expected."""
    texts = [
        f"The observation's {key!r} is left out: it is always the text {text!r}."
        for key, text in left_out(trainer.env).items()
    ]
    if trainer.config.agent.encoder is not None:
        return texts
    stacks = images_in_stacks(trainer.env.single_observation_space)
    return texts + [" ".join(told) for _, *told in stacks]


def _evaluated(
    call: _Call,
    folder: RunFolder,
    result: TrainResult,
    config: TrainConfig,
    compare: bool = False,
) -> TrainResult:
    """The result with the evaluation of a run that has all its steps and lacks one."""
    episodes, steps = config.eval_episodes, result.timesteps
    if result.stopped_by is not None or not episodes or folder.has_evaluation(steps, compare):
        return result
    policy = load_policy(folder.policy)
    try:
        played = evaluate_ways(
            policy,
            call.source,
            config.env,
            episodes,
            config.seed,
            call.stop,
            compare=compare,
            progress=call.progress,
        )
        if played:
            folder.save_evaluation(SavedEvaluation.of(policy, played))
    except UserError as error:
        raise type(error)(
            f"The run is trained and saved in {folder.shown.path}, but could not be evaluated: "
            f"{error}"
        ) from error
    except Exception as error:
        note(
            error,
            f"The run is trained and saved in {folder.shown.path}; this was in its evaluation. "
            f"Once it is mended: {folder.to_evaluate(config)}",
        )
        raise
    if not played:
        return dataclasses.replace(result, stopped_by=call.stop.received)
    with Monitor(folder, config, steps) as monitor:
        monitor.log(played["deterministic"].scalars(), steps)
    return dataclasses.replace(result, evaluation=played["deterministic"])
