"""rsl_rl, with its observation normalisation.

It has no LSTM that actor and critic share, no encoder before the LSTM and no discrete actions: the
two models below add the encoder and the distribution, and are an LSTM each for actor and critic.
The environment is a VecEnv over the batch of a Gymnasium vector environment, with `--env python`
that of SyncVectorEnv. In the update it goes over whole episode parts, padded.
"""

from __future__ import annotations

from typing import Any

import common
import torch
from rsl_rl.algorithms import PPO
from rsl_rl.env import VecEnv
from rsl_rl.models import MLPModel, RNNModel
from rsl_rl.modules import RNN
from rsl_rl.modules.distribution import Distribution
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

VARIANTS = {
    "default": "the work as stated, but for the two LSTMs",
    "best": "the same; meant for more environments",
}


class Adapter(VecEnv):
    """A Gymnasium vector environment as one of rsl_rl."""

    def __init__(self, env: common.CountedVectorEnv, seed: int) -> None:
        self.env = env
        self.num_envs = env.num_envs
        self.num_actions = 1
        self.max_episode_length = 500
        self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.long)
        self.device = "cpu"
        self.cfg: dict[str, Any] = {}
        self.observation = self.packed(env.reset(seed=seed)[0])

    def packed(self, observation: Any) -> TensorDict:
        return TensorDict({"policy": torch.from_numpy(observation)}, batch_size=[self.num_envs])

    def get_observations(self) -> TensorDict:
        return self.observation

    def step(
        self, actions: torch.Tensor
    ) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, Any]]:
        observation, rewards, terminated, truncated, _ = self.env.step(actions[:, 0].long().numpy())
        self.observation = self.packed(observation)
        return (
            self.observation,
            torch.from_numpy(rewards).float(),
            torch.from_numpy(terminated | truncated).long(),
            {"time_outs": torch.from_numpy(truncated & ~terminated).float()},
        )


class Choice(Distribution):
    """One of two actions, stored as an integer in one column."""

    def __init__(self, output_dim: int) -> None:
        super().__init__(output_dim)
        self.logits = torch.zeros(0)

    @property
    def input_dim(self) -> int:
        return 2

    def update(self, mlp_output: torch.Tensor) -> None:
        self.logits = torch.log_softmax(mlp_output, -1)

    def sample(self) -> torch.Tensor:
        return torch.bernoulli(self.mean)

    def deterministic_output(self, mlp_output: torch.Tensor) -> torch.Tensor:
        return mlp_output.argmax(-1, keepdim=True)

    def log_prob(self, outputs: torch.Tensor) -> torch.Tensor:
        return self.logits.gather(-1, outputs.long()).squeeze(-1)

    @property
    def mean(self) -> torch.Tensor:
        return self.logits.exp()[..., 1:]

    @property
    def std(self) -> torch.Tensor:
        return (self.mean * (1 - self.mean)).sqrt()

    @property
    def entropy(self) -> torch.Tensor:
        return -(self.logits.exp() * self.logits).sum(-1)

    @property
    def params(self) -> tuple[torch.Tensor, ...]:
        return (self.logits,)


class EncoderModel(RNNModel):
    """The library's recurrent model with an encoder before the LSTM and one layer after it."""

    def __init__(
        self, obs: TensorDict, obs_groups: Any, obs_set: str, output_dim: int, **kwargs: Any
    ) -> None:
        super().__init__(obs, obs_groups, obs_set, output_dim, **kwargs)
        self.encoder = torch.nn.Sequential(
            torch.nn.Linear(self.obs_dim, common.HIDDEN), torch.nn.Tanh()
        )
        self.rnn = RNN(common.HIDDEN, common.HIDDEN, 1, "lstm")
        size = output_dim if self.distribution is None else 2
        self.mlp = torch.nn.Linear(common.HIDDEN, size)

    def get_latent(
        self, obs: TensorDict, masks: torch.Tensor | None = None, hidden_state: Any = None
    ) -> torch.Tensor:
        encoded = self.encoder(MLPModel.get_latent(self, obs))
        return self.rnn(encoded, masks, hidden_state).squeeze(0)


class ReportingPPO(PPO):
    """Reports each iteration."""

    report: common.Report
    env: common.CountedVectorEnv
    iterations = 0

    def update(self) -> dict[str, float]:
        losses = super().update()
        self.iterations += 1
        steps = self.iterations * common.NUM_STEPS * self.env.num_envs
        self.report.iteration(steps, self.env.episodes.mean)
        return losses


def main() -> None:
    args = common.parse_args(__doc__, VARIANTS)
    report = common.Report(args, ["rsl-rl-lib", "tensordict"])
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    env = common.make_env(args.env, args.num_envs)
    model = {
        "class_name": EncoderModel,
        "obs_normalization": True,
        "rnn_type": "lstm",
        "rnn_hidden_dim": common.HIDDEN,
        "rnn_num_layers": 1,
    }
    cfg = {
        "num_steps_per_env": common.NUM_STEPS,
        "save_interval": 10**9,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "check_for_nan": False,
        "actor": {**model, "distribution_cfg": {"class_name": Choice}},
        "critic": dict(model),
        "algorithm": {
            "class_name": ReportingPPO,
            "num_learning_epochs": common.EPOCHS,
            "num_mini_batches": common.MINIBATCHES,
            "clip_param": common.CLIP,
            "gamma": common.GAMMA,
            "lam": common.GAE_LAMBDA,
            "value_loss_coef": common.VF_COEF,
            "entropy_coef": common.ENT_COEF,
            "learning_rate": args.learning_rate,
            "schedule": "fixed",
            "max_grad_norm": common.MAX_GRAD_NORM,
            "use_clipped_value_loss": False,
            "normalize_advantage_per_mini_batch": True,
        },
    }
    runner = OnPolicyRunner(Adapter(env, args.seed), cfg, log_dir=None, device="cpu")
    runner.alg.report, runner.alg.env = report, env
    rollout = common.NUM_STEPS * args.num_envs
    with report.training():
        # More iterations than are requested: the report ends the run.
        runner.learn(args.steps // rollout + 2)


if __name__ == "__main__":
    main()
