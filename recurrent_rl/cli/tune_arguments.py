"""The arguments of `recurrent-rl tune`, and how its help groups them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from recurrent_rl.agents.settings import at_least, validated
from recurrent_rl.cli.terminal import Imports, Quiet
from recurrent_rl.cli.train_arguments import GROUPS as GROUPS_OF_TRAIN
from recurrent_rl.config import TrainConfig
from recurrent_rl.fields import FolderPath

GROUPS: dict[str, tuple[str, ...]] = {
    "search": (
        "trials",
        "storage",
        "search",
        "seeds_per_trial",
        "finalists",
        "confirm_seeds",
        "processes",
        "prune",
        "keep_trials",
    ),
    **GROUPS_OF_TRAIN,
}
"""The search's own options first, then the settings that it begins with."""


@validated
@dataclass(frozen=True)
class TuneArguments:
    """Search for settings that learn better than the given ones, then train both with fresh seeds.

    A search that was stopped goes on where it was: give the same command again. With --processes N
    it does N trials at a time; given several times at once, on one machine or on many that share
    the folder, the command shares the trials too. All settings of `train` are taken, as what the
    search begins with.
    """

    config: TrainConfig
    trials: Annotated[int, at_least(1)] = 30
    """Trials in all, those of earlier calls and other processes counted. The first is the settings
    as given."""
    storage: Annotated[FolderPath | None, tyro.conf.arg(metavar="FILE")] = None
    """File of the study, a journal of Optuna's. Best settings, picture and run folders go into the
    folder of its name without .journal, or of another name with .d added. By default
    runs/tune-ENVIRONMENT.journal."""
    search: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING [SETTING ...]")] = ()
    """Settings to vary; by default learning_rate, gamma, gae_lambda, ent_coef, update_epochs,
    num_envs, num_steps and memory. Others: num_minibatches, clip_coef, target_kl, max_grad_norm,
    vf_coef, lr_schedule, ent_schedule, hidden_size, num_layers, horizon, previous_reward,
    separate_memory."""
    seeds_per_trial: Annotated[int, at_least(1)] = 1
    """Runs of each trial, whose scores are averaged."""
    finalists: Annotated[int, at_least(1)] = 3
    """Trials with the highest scores, which are trained again with three fresh seeds, beside the
    given settings, to find the best; 1 lets the score decide."""
    confirm_seeds: Annotated[int, at_least(0)] = 5
    """Runs with fresh seeds of the best settings, and as many of the given ones; 0 for none."""
    processes: Annotated[int, at_least(1)] = 1
    """Processes that do trials side by side, each on its share of the cores. Ctrl-C ends all."""
    prune: bool = True
    """End a trial early whose learning curve lies below the median of the others."""
    keep_trials: bool = False
    """Keep the run folders of all trials, not only of leading and of failed ones."""
    imports: Imports = ()
    config_file: Annotated[FolderPath | None, tyro.conf.arg(name="config", metavar="FILE")] = None
    """Take settings from this file: JSON or YAML, such as an earlier run's config.json. Flags
    override it."""
    preset: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the tuned settings for this environment that come with the library. Flags and a file
    override them."""
    quiet: Quiet = False
