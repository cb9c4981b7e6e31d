"""What a run does at intervals where its settings ask for it: evaluate, and save policies."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from gymnasium.vector import VectorEnv

from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.config import TrainConfig
from recurrent_rl.envs.drawing import Colours
from recurrent_rl.errors import UserError
from recurrent_rl.runs.callbacks import Callback, TrainingState
from recurrent_rl.runs.evaluation import EVALUATION_ENVIRONMENTS, evaluate
from recurrent_rl.runs.evaluation_result import SavedEvaluation
from recurrent_rl.runs.failures import close_or_tell
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.watching.stage import Stage
from recurrent_rl.runs.watching.video_file import gif_of
from recurrent_rl.seeding import Stream, number
from recurrent_rl.vector_env.sources import Source
from recurrent_rl.vector_env.vectorize import make_vector_env

SCORE = "eval/mean_reward"
"""What the best policy is the best in; its file tells it."""

FILMED_STEPS = 200
"""Of an episode at most: training waits while it is drawn."""


def of_settings(config: TrainConfig) -> list[Callback]:
    """The callbacks that the settings ask for."""
    asked: list[Callback] = []
    if config.eval_interval is not None:
        asked.append(
            EvaluateRegularly(config.eval_interval, config.stop_at_return, config.patience)
        )
        if config.video_interval is not None:
            asked.append(FilmRegularly(config.eval_interval * config.video_interval))
    if config.save_interval is not None:
        asked.append(SavePolicies(config.save_interval))
    return asked


def check_source(config: TrainConfig, source: Source) -> None:
    """Refuse what settings ask for that these environments cannot be used for.

    Raises:
        UserError: names the setting, and what to do instead.
    """
    if config.eval_interval is not None and source.given is not None:
        raise UserError(
            f"eval_interval needs environments of its own, and {source.name} is the one that is "
            "trained on. Give the class or a function that makes it, or set eval_interval to None."
        )
    if config.video_interval is not None and source.one is None:
        raise UserError(
            f"video_interval shows one environment alone, and {source.name} steps its environments "
            "together. Give the class or a function that makes one environment, or set "
            "video_interval to None."
        )


def make_up(callbacks: Iterable[Callback], state: TrainingState) -> None:
    """Evaluate, where one of these is to do so and the last iteration lacks it."""
    for callback in callbacks:
        if isinstance(callback, EvaluateRegularly):
            callback.make_up(state)


def due(state: TrainingState, interval: int) -> bool:
    """Whether the last iteration has passed a multiple of so many steps."""
    before = state.timesteps - state.config.batch_size
    return state.timesteps // interval > before // interval


class EvaluateRegularly(Callback):
    """Evaluates the policy at intervals and when the run ends, and keeps the best there was.

    The episodes are played in environments of their own with the deterministic actions, and are
    the same each time; training goes on as if nothing had been. The metrics go to TensorBoard
    (`eval/*`) and to the run's evaluation, the best policy so far to `best_policy.safetensors`.

    Args:
        interval: steps between two evaluations.
        stop_at_return: end the run where the mean return reaches this; None: never.
        patience: end the run where for so many steps no evaluation was better; None: never. A run
            that this has ended has as much again when it is resumed, since each multiple ends it.
    """

    def __init__(
        self, interval: int, stop_at_return: float | None = None, patience: int | None = None
    ) -> None:
        self.interval = interval
        self.stop_at_return = stop_at_return
        self.patience = patience
        self._best, self._best_at = -math.inf, 0
        self._last = 0  # the steps of the latest evaluation
        self._env: VectorEnv | None = None

    def on_start(self, state: TrainingState) -> None:
        """Read what the best policy of a resumed run has reached."""
        if (path := RunFolder(state.run_dir).best_policy).exists():
            summary = load_policy(path).summary
            self._best, self._best_at = float(summary[SCORE]), int(summary["timesteps"])
        else:
            self._best, self._best_at = -math.inf, state.timesteps
        self._last = RunFolder(state.run_dir).evaluated_timesteps() or 0
        if self._last > state.timesteps:  # the run was killed between it and its checkpoint
            batch, multiple = state.config.batch_size, state.timesteps // self.interval
            self._last = math.ceil(multiple * self.interval / batch) * batch

    def on_iteration(self, state: TrainingState) -> None:
        """Evaluate where it is due."""
        self.make_up(state)

    def make_up(self, state: TrainingState) -> None:
        """Evaluate where the last iteration is due and has no evaluation.

        A signal prevents one until the run is resumed, and a callback that ends the run may be told
        of the iteration after this one.
        """
        is_due = due(state, self.interval) or state.ending
        if state.interrupted() or self._last >= state.timesteps or not is_due:
            return
        config, policy, folder = state.config, state.policy, RunFolder(state.run_dir)
        if self._env is None:
            count = min(EVALUATION_ENVIRONMENTS, config.eval_episodes)
            self._env = make_vector_env(state.trainer.source, count, config.env)
        found = evaluate(
            policy,
            self._env,
            config.eval_episodes,
            seed=number(config.seed, Stream.EVALUATION),
            should_stop=state.interrupted,
        )
        if state.interrupted():  # cut short, it would favour short episodes
            return
        before, self._last = self._last, state.timesteps
        state.evaluation = found
        state.log(found.scalars())
        folder.save_evaluation(SavedEvaluation.of(policy, {"deterministic": found}))
        if found.mean > self._best:
            self._best, self._best_at = found.mean, state.timesteps
            Policy(policy.agent, policy.summary | {SCORE: found.mean}).save(folder.best_policy)
        self._stop_where_asked(state, found.mean, before)
        state.tell("on_evaluation")

    def _stop_where_asked(self, state: TrainingState, mean: float, before: int) -> None:
        """End the run where this evaluation says so; `before` are the steps of the last one."""
        if self.stop_at_return is not None and mean >= self.stop_at_return:
            state.stop(
                f"an evaluation's mean return is {mean:.4g}, and stop_at_return "
                f"{self.stop_at_return:g}"
            )
        elif self.patience is not None and (
            (state.timesteps - self._best_at) // self.patience
            > (max(before, self._best_at) - self._best_at) // self.patience
        ):
            state.stop(
                f"no evaluation was better than the {self._best:.4g} after {self._best_at:,} steps,"
                f" and patience is {self.patience:,} steps"
            )

    def on_end(self, state: TrainingState) -> None:
        """Close the environments."""
        if self._env is not None:
            close_or_tell(self._env.close)
            self._env = None


class FilmRegularly(Callback):
    """Films the first steps of an episode at some evaluations, for TensorBoard: `eval/episode`.

    It is played with the deterministic actions in an environment of its own, and is the same each
    time; training goes on as if nothing had been. Trackers are sent no pictures.

    Args:
        interval: steps between two films.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def on_start(self, state: TrainingState) -> None:
        """See that the environment to film can be made.

        Raises:
            UserError: it cannot be made alone.
        """
        self._stage(state).close()

    def on_evaluation(self, state: TrainingState) -> None:
        """Film where it is due."""
        if not (due(state, self.interval) or state.ending):
            return
        frames: list[Colours] = []
        with self._stage(state) as stage:
            stage.play(
                1,
                lambda moment: frames.append(moment.frame()),
                seed=number(state.config.seed, Stream.EVALUATION),
                max_steps=FILMED_STEPS,
                should_stop=state.interrupted,
            )
            film = gif_of(frames, stage.fps)
        if not state.interrupted():
            state.writer.add_film("eval/episode", film, frames[0], state.timesteps)

    def _stage(self, state: TrainingState) -> Stage:
        return Stage(state.policy, state.trainer.source, state.config.env)


class SavePolicies(Callback):
    """Saves the policy at intervals into the run's folder `policies`, named by its steps.

    Args:
        interval: steps between two policies.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def on_iteration(self, state: TrainingState) -> None:
        """Save where it is due."""
        if due(state, self.interval):
            state.policy.save(self.path(state))

    def path(self, state: TrainingState) -> Path:
        """The file of the policy as it is now."""
        return RunFolder(state.run_dir).numbered_policy(state.timesteps)
