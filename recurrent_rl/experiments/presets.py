"""Tuned settings of tasks: what `recurrent-rl train ENV_ID --preset` takes.

docs/results.md has what they reach, and `benchmarks/learning/published.py` measures it; for the
ladder `ladder.py` beside it does, and for Recall `discount.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from recurrent_rl.config import flat


class Preset(NamedTuple):
    """What helps a task, beside the defaults."""

    settings: dict[str, Any]
    memory: str | None = None
    """Instead of the default."""
    steps: int | None = None
    """Of training."""

    def fields(self) -> dict[str, Any]:
        """As a `TrainConfig` has them, nested."""
        fields = dict(self.settings)
        if self.memory is not None:
            fields["agent"] = {"memory": self.memory, **fields.get("agent", {})}
        return fields | ({} if self.steps is None else {"total_timesteps": self.steps})

    def text(self) -> str:
        """The settings, as a row tells them."""
        return ", ".join(f"{name} {value}" for name, value in flat(self.settings).items())


M = 1_000_000
# The reward follows at once, or soon: what is further away only adds noise to the advantages.
AT_ONCE = {"gamma": 0.5, "gae_lambda": 0.5}
SOON = {"gamma": 0.9, "gae_lambda": 0.5}
# What is asked at once is remembered sooner where an advantage is about the last few actions.
NEAR = {"gae_lambda": 0.8}
# A pole that stands pays alike at every step: with a short look ahead the advantages are then
# noise, and policies that were perfect fall again.
FAR = {"gae_lambda": 0.95}
# Rollouts in which the noise of the advantages averages out, in minibatches of the usual size.
LARGE = {"num_envs": 512, "num_minibatches": 8}
# Many cards are seen at once, and each may be turned: what lies where must pass the encoder. The
# card that was turned is seen anyway.
WIDE = {"agent": {"encoder_size": 512, "one_hot": True, "previous_action": False}}
PRESETS: dict[str, Preset] = {
    "RepeatPrevious-Easy": Preset(NEAR, "gru-matrix", M // 2),
    "RepeatPrevious-Medium": Preset(NEAR, "gru-matrix", M),
    "RepeatPrevious-Hard": Preset(NEAR, "gru-matrix", M),
    "RepeatFirst-Easy": Preset(NEAR, "gru-matrix", M // 2),
    "RepeatFirst-Medium": Preset(NEAR, "gru-matrix", M),
    "RepeatFirst-Hard": Preset(NEAR, "gru-matrix", 2 * M),
    "Autoencode-Easy": Preset(NEAR, "gru-matrix", M),
    "Autoencode-Medium": Preset(NEAR, "gru-matrix", 3 * M // 2),
    # As many numbers in a key as there are places, or some are confused.
    "Autoencode-Hard": Preset(NEAR | {"agent": {"hidden_size": 192}}, "gru-matrix", 2 * M),
    "CountRecall-Easy": Preset(AT_ONCE | LARGE, "gru-matrix", 15 * M),
    "CountRecall-Medium": Preset(AT_ONCE | LARGE, "gru-matrix", 15 * M),
    "CountRecall-Hard": Preset(AT_ONCE, "gru-matrix", 10 * M),
    "Concentration-Easy": Preset(SOON, "gru-matrix", 3 * M),
    "Concentration-Medium": Preset(SOON | LARGE | WIDE, steps=12 * M),
    "Concentration-Hard": Preset(SOON | LARGE | WIDE, steps=5 * M),
    "HigherLower-Easy": Preset(AT_ONCE, steps=3 * M),
    "HigherLower-Medium": Preset(AT_ONCE, steps=3 * M),
    "HigherLower-Hard": Preset(AT_ONCE, steps=3 * M),
    "Ladder": Preset(AT_ONCE, "gru", 4 * M),
    "Recall": Preset(AT_ONCE, "gru", M),
    "MultiarmedBandit-Easy": Preset(FAR | {"agent": {"hidden_size": 256}}, "gru", 15 * M),
    "PositionOnlyCartPole-Easy": Preset(FAR, steps=M),
    "PositionOnlyCartPole-Medium": Preset(FAR, steps=M),
    "PositionOnlyCartPole-Hard": Preset(FAR, steps=M),
    "CartPole-NoVelocity": Preset(FAR | {"update_epochs": 10}, steps=M // 10),
    "Pendulum-NoVelocity": Preset(
        FAR
        | {
            "num_steps": 200,  # whole episodes
            "gamma": 0.95,
            "learning_rate": 3e-3,
            "update_epochs": 6,
            "ent_coef": 0.0,
        },
        steps=M // 10,
    ),
    "MountainCar-NoVelocity": Preset(
        FAR | {"agent": {"action_persistence": 0.9}}, steps=3 * M // 10
    ),
}
"""By task: the last part of the environment's id, without its version."""
