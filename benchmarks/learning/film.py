"""A frame of an episode of RepeatPrevious-Easy, for docs/film.png: the card and the last steps.

    python benchmarks/learning/film.py  # trains for about a minute first

What `recurrent-rl evaluate RUN --video FILE` shows at one step of a policy of `--memory gru-matrix`
after 150,000 steps (seed 0).
"""

from __future__ import annotations

import tempfile

from jobs import ROOT
from PIL import Image

from recurrent_rl import AgentConfig, TrainConfig, load_policy, train
from recurrent_rl.runs.watching.filmed import Moment
from recurrent_rl.runs.watching.stage import Stage

ENV_ID = "recurrent_rl/RepeatPrevious-Easy-v0"
STEP = 40


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        agent = AgentConfig(memory="gru-matrix")
        config = TrainConfig(
            ENV_ID, total_timesteps=150_000, log_dir=folder, eval_episodes=0, agent=agent
        )
        policy = load_policy(train(config).policy_path)

    def keep(moment: Moment) -> None:
        if moment.steps == STEP:
            image = Image.fromarray(moment.frame())
            image.quantize(255, dither=Image.Dither.NONE).save(ROOT / "docs" / "film.png")

    with Stage(policy, ENV_ID) as stage:
        played = stage.play(1, keep, seed=0)
    print(f"docs/film.png: step {STEP} of an episode with return {played.mean:.3g}")


if __name__ == "__main__":
    main()
