"""Evaluating a run that is there: the Python of `recurrent-rl evaluate RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from recurrent_rl.agents.arguments import argument
from recurrent_rl.agents.settings import at_least
from recurrent_rl.fields import FolderPath
from recurrent_rl.runs.evaluation import evaluate_ways
from recurrent_rl.runs.evaluation_result import SavedEvaluation
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.resuming import source_of_run
from recurrent_rl.runs.trained_on import policy_of
from recurrent_rl.signals import StopSignals
from recurrent_rl.vector_env.sources import Environment


def evaluate_run(
    run_dir: str | Path,
    episodes: int = 100,
    *,
    env: Environment | None = None,
    seed: int = 0,
    compare: bool = True,
    max_steps: int | None = None,
    progress: bool = True,
) -> SavedEvaluation:
    """Play episodes with a run's last policy, and keep what is found in the run's folder.

    There `load_run` and `recurrent-rl compare` read it.

    Args:
        run_dir: the run folder.
        episodes: to play in each way.
        env: the environment as it was given to `train`, as for `resume`.
        seed: repeats the same episodes.
        compare: also evaluate with stochastic actions, and with the memory reset at every step.
        max_steps: as for `evaluate`.
        progress: show a progress bar.

    Returns:
        What the folder holds now: an evaluation of the same policy that is of more episodes, or of
        more ways of playing, stays.

    Raises:
        UserError: an argument is of another type, the folder holds no run or cannot be written to,
            its environment cannot be found without `env`, or `env` is another one; or as
            `evaluate`.
        PolicyFileError: there is no policy yet, or its file is damaged.
    """
    folder = RunFolder(Path(argument("run_dir", run_dir, FolderPath))).fixed()
    episodes = argument("episodes", episodes, Annotated[int, at_least(1)])
    seed = argument("seed", seed, Annotated[int, at_least(0)])
    compare = argument("compare", compare, bool)
    progress = argument("progress", progress, bool)
    config = folder.load_config()
    source = source_of_run(folder, config, env, "evaluate_run")
    policy = policy_of(folder.path)
    folder.check_writable()
    played = evaluate_ways(
        policy,
        source,
        config.env,
        episodes,
        seed,
        StopSignals(),  # of which none is noted: they take their course
        compare=compare,
        max_steps=max_steps,
        progress=progress,
    )
    return folder.save_evaluation(SavedEvaluation.of(policy, played))
