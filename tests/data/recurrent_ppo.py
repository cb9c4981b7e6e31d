"""Makes recurrent_ppo.zip and recurrent_ppo.json: a small RecurrentPPO, and what it says and does.

    python tests/data/recurrent_ppo.py

Needs stable-baselines3 and sb3-contrib; the files were made with 2.9.2 of both.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

FOLDER = Path(__file__).parent
STEPS = 200


class Wandering(gym.Env[Any, Any]):
    """Shows a place and a sign; rewards an action near to the place."""

    observation_space = gym.spaces.Dict(
        {"place": gym.spaces.Box(-50, 50, (2,)), "sign": gym.spaces.Discrete(3)}
    )
    action_space = gym.spaces.Box(np.array([-1, -3], np.float32), np.array([2, 1], np.float32))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.seen(), {}

    def seen(self) -> dict[str, Any]:
        self.place = self.np_random.normal([20, -3], [5, 2]).astype(np.float32)
        return {"place": self.place, "sign": int(self.np_random.integers(3))}

    def step(self, action: Any) -> Any:
        reward = -float(np.abs(action * 10 - self.place).mean())
        return self.seen(), reward, bool(self.np_random.random() < 0.1), False, {}


def main() -> None:
    env: Any = VecNormalize(DummyVecEnv([Wandering]), norm_obs_keys=["place"])
    settings = {
        "lstm_hidden_size": 4,
        "net_arch": {"pi": [4], "vf": [3]},
        "activation_fn": torch.nn.ReLU,
    }
    model = RecurrentPPO(
        "MultiInputLstmPolicy",
        env,
        learning_rate=0.02,
        n_steps=128,
        seed=0,
        device="cpu",
        policy_kwargs=settings,
    )
    model.learn(1024)
    model.save(FOLDER / "whole.zip")
    short = zipfile.ZipFile(FOLDER / "recurrent_ppo.zip", "w")
    with zipfile.ZipFile(FOLDER / "whole.zip") as whole, short:
        for name in ("data", "policy.pth", "_stable_baselines3_version"):
            short.writestr(name, whole.read(name))
    (FOLDER / "whole.zip").unlink()

    moments = env.obs_rms["place"]
    statistics = {
        "mean": moments.mean.tolist(),
        "var": moments.var.tolist(),
        "count": moments.count,
    }
    (FOLDER / "recurrent_ppo.json").write_text(
        json.dumps(
            {
                "normaliser": {name: {"place": x} for name, x in statistics.items()},
                "steps": steps(model, env),
            }
        )
    )


def steps(model: Any, env: Any) -> list[dict[str, Any]]:
    """What is seen, and the deterministic actions and the values that follow."""
    rng = np.random.default_rng(0)
    zeros = torch.zeros(model.policy.lstm_hidden_state_shape)
    states, told, start = RNNStates((zeros, zeros), (zeros, zeros)), [], True
    for _ in range(STEPS):
        place = rng.normal([20, -3], [5, 2]).astype(np.float32).round(3)
        seen: dict[str, Any] = {"place": place[None], "sign": rng.integers(3, size=1)}
        tensors, _ = model.policy.obs_to_tensor(env.normalize_obs(seen))
        with torch.no_grad():
            action, value, _, states = model.policy(
                tensors, states, torch.tensor([float(start)]), deterministic=True
            )
        clipped = np.clip(action[0].numpy(), env.action_space.low, env.action_space.high)
        told.append(
            {
                "place": [round(float(x), 3) for x in place],
                "sign": int(seen["sign"][0]),
                "start": start,
                "action": [round(float(x), 7) for x in clipped],
                "value": round(float(value), 7),
            }
        )
        start = bool(rng.random() < 0.1)
    return told


if __name__ == "__main__":
    main()
