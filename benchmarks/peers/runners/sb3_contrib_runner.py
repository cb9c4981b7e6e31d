"""sb3-contrib's RecurrentPPO.

Its own vector environments copy and stack per environment; here an adapter hands it the batch of a
Gymnasium vector environment, with `--env python` that of SyncVectorEnv. Minibatches are contiguous
pieces of the rollout, padded to the longest episode part.
"""

from __future__ import annotations

from typing import Any

import common
import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

VARIANTS = {
    "default": "the library's default: an LSTM each for actor and critic",
    "best": "one LSTM that actor and critic share; observations and rewards through VecNormalize",
}


class Encoder(BaseFeaturesExtractor):
    """The 128 tanh units before the LSTM."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space, common.HIDDEN)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(space.shape[0], common.HIDDEN), torch.nn.Tanh()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Adapter(VecEnv):
    """A Gymnasium vector environment as one of Stable-Baselines3."""

    def __init__(self, env: common.CountedVectorEnv, seed: int) -> None:
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.env = env
        self.first_seed: int | None = seed

    def reset(self) -> Any:
        observation, _ = self.env.reset(seed=self.first_seed)
        self.first_seed = None
        return observation

    def step_async(self, actions: Any) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        observation, rewards, terminated, truncated, found = self.env.step(self.actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            infos[i]["terminal_observation"] = found["final_obs"][i]
            infos[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        return observation, rewards.astype(np.float32), done, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class Reporting(BaseCallback):
    """Reports each iteration: when the next rollout starts, the update before it is done."""

    def __init__(self, report: common.Report, episodes: common.Episodes) -> None:
        super().__init__()
        self.report = report
        self.episodes = episodes

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps:
            self.report.iteration(self.num_timesteps, self.episodes.mean)


def main() -> None:
    args = common.parse_args(__doc__, VARIANTS)
    report = common.Report(args, ["sb3-contrib", "stable-baselines3"])
    torch.set_num_threads(args.threads)
    env = common.make_env(args.env, args.num_envs)
    best = args.variant == "best"
    adapted: VecEnv = Adapter(env, args.seed)
    if best:
        adapted = VecNormalize(adapted, gamma=common.GAMMA)
    model = RecurrentPPO(
        "MlpLstmPolicy",
        adapted,
        learning_rate=args.learning_rate,
        n_steps=common.NUM_STEPS,
        batch_size=common.NUM_STEPS * args.num_envs // common.MINIBATCHES,
        n_epochs=common.EPOCHS,
        gamma=common.GAMMA,
        gae_lambda=common.GAE_LAMBDA,
        clip_range=common.CLIP,
        ent_coef=common.ENT_COEF,
        vf_coef=common.VF_COEF,
        max_grad_norm=common.MAX_GRAD_NORM,
        policy_kwargs={
            "features_extractor_class": Encoder,
            "net_arch": {"pi": [], "vf": []},
            "lstm_hidden_size": common.HIDDEN,
            "n_lstm_layers": 1,
            "shared_lstm": best,
            "enable_critic_lstm": not best,
        },
        seed=args.seed,
        device="cpu",
        verbose=0,
    )
    rollout = common.NUM_STEPS * args.num_envs
    with report.training():
        # One rollout more than is requested: the report ends the run.
        model.learn(args.steps + 2 * rollout, callback=Reporting(report, env.episodes))


if __name__ == "__main__":
    main()
