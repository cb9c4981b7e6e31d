"""Four of our environments as they draw themselves, for docs/scenes.png.

    python benchmarks/learning/scenes.py

Each after a few steps of the actions below (seed 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from jobs import ROOT
from PIL import Image

import recurrent_rl.envs  # noqa: F401 (registers them)

PLAYED: tuple[tuple[str, dict[str, Any], int, Callable[[int], Any]], ...] = (
    ("CartPole-NoVelocity-v0", {"noise": 0.15}, 5, lambda t: t % 2),
    ("Pendulum-NoVelocity-v0", {"noise": 0.3}, 3, lambda t: np.array([1.5], np.float32)),
    ("MountainCar-NoVelocity-v0", {}, 40, lambda t: np.array([1.0 if t < 14 else -0.8])),
    ("TMaze-v0", {}, 6, lambda t: 0),
)
"""Environment, arguments, steps, and the action of each."""


def frame(name: str, kwargs: dict[str, Any], steps: int, action: Callable[[int], Any]) -> Any:
    env = gym.make(f"recurrent_rl/{name}", render_mode="rgb_array", **kwargs)
    env.reset(seed=1)
    for t in range(steps):
        env.step(action(t))
    return env.render()


def main() -> None:
    frames = [frame(*played) for played in PLAYED]
    rows = [np.concatenate(frames[i : i + 2], axis=1) for i in (0, 2)]
    image = Image.fromarray(np.concatenate(rows))
    image.quantize(255, dither=Image.Dither.NONE).save(ROOT / "docs" / "scenes.png")
    print("docs/scenes.png")


if __name__ == "__main__":
    main()
