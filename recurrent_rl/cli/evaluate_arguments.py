"""The arguments of `recurrent-rl evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from recurrent_rl.agents.settings import at_least, at_most, between, validated
from recurrent_rl.cli.terminal import Best, Imports, Quiet
from recurrent_rl.errors import UserError
from recurrent_rl.fields import LARGEST_SIZE, EnvId, FolderPath, JsonObject


@validated
@dataclass(frozen=True)
class EvaluateArguments:
    """Play episodes with a trained policy, with its memory and without."""

    policy: Annotated[FolderPath, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_POLICY")]
    """Run folder or policy file; or hf://OWNER/NAME of the Hugging Face Hub."""
    best: Best = False
    episodes: Annotated[int | None, at_least(1)] = None
    """Episodes to play: by default 1,000, or 3 where they are shown."""
    env_id: EnvId | None = None
    """Environment to play in; by default the one the policy was trained on."""
    env_kwargs: JsonObject | None = None
    """Its arguments as a JSON object; by default those of the training."""
    num_envs: Annotated[int, at_least(1), at_most(LARGEST_SIZE)] = 64
    """Environments stepped side by side."""
    seed: Annotated[int, at_least(0)] = 0
    """Seed of the environments; training with the same seed saw other episodes."""
    max_steps: Annotated[int | None, at_least(1)] = None
    """Steps after which an episode is given up; by default the environment's own time limit or,
    where it states none or an episode goes on beyond it, 10,000."""
    compare: bool = True
    """Play the episodes again with stochastic actions as in training, and with the memory reset at
    every step."""
    video: Annotated[FolderPath | None, tyro.conf.arg(metavar="FILE")] = None
    """Write episodes of one environment as a video, .gif or .mp4, with what the memory holds, and
    evaluate nothing."""
    watch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the episodes now: in a window where the environment opens one, else in the terminal."""
    fps: Annotated[float | None, between(0.1, 100)] = None
    """Steps per second that are shown; by default as the environment says, or 4."""
    way: Literal["deterministic", "stochastic", "memory_ablation"] = "deterministic"
    """Actions of the episodes that are shown: the policy's deterministic ones, drawn as in
    training, or with the memory reset at every step."""
    imports: Imports = ()
    quiet: Quiet = False

    def __post_init__(self) -> None:
        if self.video is not None and self.watch:
            raise UserError("--video and --watch show episodes; give one of them.")
        if self.video is None and not self.watch:
            for name, value in (("fps", self.fps), ("way", self.way != "deterministic")):
                if value:
                    raise UserError(
                        f"--{name} is of episodes that are shown: give --video FILE or --watch."
                    )
