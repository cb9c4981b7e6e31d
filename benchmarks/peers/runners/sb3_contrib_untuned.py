"""sb3-contrib's RecurrentPPO as it comes, on an environment with entries of the observation hidden.

Eight environments; all else is the library's default. Prints one JSON line: the mean returns of the
policy's episodes after training, with deterministic actions and with stochastic ones.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

ENVIRONMENTS = 8


class Hidden(gym.ObservationWrapper[Any, Any, Any]):
    """The observation without some of its entries."""

    def __init__(self, env: gym.Env[Any, Any], hide: list[int]) -> None:
        super().__init__(env)
        box = env.observation_space
        assert isinstance(box, gym.spaces.Box)
        self.kept = np.delete(np.arange(box.shape[0]), hide)
        low, high = box.low[self.kept], box.high[self.kept]
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)

    def observation(self, observation: Any) -> Any:
        return observation[self.kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env_id")
    parser.add_argument("--hide", type=int, nargs="*", default=[])
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--episodes", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)

    def make(seed: int) -> Any:
        return make_vec_env(
            given.env_id,
            ENVIRONMENTS,
            seed,
            wrapper_class=Hidden,
            wrapper_kwargs={"hide": given.hide},
        )

    began = time.monotonic()
    model = RecurrentPPO("MlpLstmPolicy", make(given.seed), seed=given.seed, device="cpu")
    model.learn(given.steps)
    seconds = time.monotonic() - began
    found = {"steps": model.num_timesteps, "seconds": round(seconds, 1)}
    for kind in ("deterministic", "stochastic"):
        environments = make(10_000_000 + given.seed)
        mean, _ = evaluate_policy(
            model, environments, given.episodes, deterministic=kind == "deterministic"
        )
        found[kind] = float(mean)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
