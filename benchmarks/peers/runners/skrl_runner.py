"""skrl's PPO_RNN, with its running scalers on observations and values, as in its own examples.

The environment goes through skrl's Gymnasium wrapper. skrl's advantages continue across a time
limit, so the adapter calls a truncated episode terminated too; skrl then bootstraps its last
reward.
"""

from __future__ import annotations

import argparse
from typing import Any

import common
import torch
from gymnasium.vector import VectorWrapper
from skrl.agents.torch.ppo import PPO_RNN
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed

SHORT = 8  # the fastest of 8, 16 and 128 at 256 environments; 16 reaches 450 sooner
VARIANTS = {
    "default": "sequences of 128 steps in the update",
    "best": f"sequences of {SHORT} steps in the update: fewer steps one after the other",
}


class EndAtTimeLimit(VectorWrapper):
    """Calls truncated episodes terminated as well."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, rewards, terminated, truncated, infos = self.env.step(actions)
        return observation, rewards, terminated | truncated, truncated & ~terminated, infos


class SharedModel(CategoricalMixin, Model):
    """Encoder, LSTM and two heads; the value reads what the policy has just computed."""

    def __init__(self, env: Any, sequence_length: int) -> None:
        Model.__init__(
            self,
            observation_space=env.observation_space,
            action_space=env.action_space,
            device="cpu",
        )
        CategoricalMixin.__init__(self)
        self.sequence_length = sequence_length
        self.num_envs = env.num_envs
        self.encoder = torch.nn.Sequential(
            torch.nn.Linear(self.num_observations, common.HIDDEN), torch.nn.Tanh()
        )
        self.lstm = torch.nn.LSTM(common.HIDDEN, common.HIDDEN, batch_first=True)
        self.logits = torch.nn.Linear(common.HIDDEN, self.num_actions)
        self.values = torch.nn.Linear(common.HIDDEN, 1)
        self.shared: tuple[torch.Tensor, list[torch.Tensor]] | None = None

    def get_specification(self) -> dict[str, Any]:
        size = (1, self.num_envs, common.HIDDEN)
        return {"rnn": {"sequence_length": self.sequence_length, "sizes": [size, size]}}

    def act(self, inputs: dict[str, Any], *, role: str = "") -> tuple[torch.Tensor, dict[str, Any]]:
        if role == "policy":
            return CategoricalMixin.act(self, inputs, role=role)
        features, states = self.shared or self.remember(inputs)
        self.shared = None
        return self.values(features), {"rnn": states}

    def compute(
        self, inputs: dict[str, Any], role: str = ""
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        self.shared = self.remember(inputs)
        features, states = self.shared
        return self.logits(features), {"rnn": states}

    def remember(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The LSTM's output and its last states."""
        encoded = self.encoder(inputs["observations"])
        state = (inputs["rnn"][0], inputs["rnn"][1])
        if "terminated" not in inputs:
            output, state = self.lstm(encoded.unsqueeze(1), state)
            return output.squeeze(1), list(state)
        sequences = encoded.view(-1, self.sequence_length, common.HIDDEN)
        # The states of the sequences' first steps; then in pieces between the ends of episodes.
        state = tuple(s.view(1, -1, self.sequence_length, common.HIDDEN)[:, :, 0] for s in state)
        state = (state[0].contiguous(), state[1].contiguous())
        ended = (inputs["terminated"] | inputs["truncated"]).view(-1, self.sequence_length)
        cuts = (ended[:, :-1].any(0).nonzero().flatten() + 1).tolist()
        outputs = []
        for start, stop in zip([0, *cuts], [*cuts, self.sequence_length], strict=True):
            if start:
                kept = (~ended[:, start - 1]).float().unsqueeze(-1)
                state = (state[0] * kept, state[1] * kept)
            output, state = self.lstm(sequences[:, start:stop], state)
            outputs.append(output)
        return torch.cat(outputs, 1).flatten(0, 1), list(state)


class Agent(PPO_RNN):
    """Reports each iteration."""

    report: common.Report
    counted: common.CountedVectorEnv

    def update(self, *, timestep: int, timesteps: int) -> None:
        super().update(timestep=timestep, timesteps=timesteps)
        steps = (timestep + 1) * self.counted.num_envs
        self.report.iteration(steps, self.counted.episodes.mean)


def make_agent(args: argparse.Namespace, env: Any) -> Agent:
    model = SharedModel(env, SHORT if args.variant == "best" else common.NUM_STEPS)
    return Agent(
        models={"policy": model, "value": model},
        memory=RandomMemory(memory_size=common.NUM_STEPS, num_envs=env.num_envs, device="cpu"),
        observation_space=env.observation_space,
        action_space=env.action_space,
        device="cpu",
        cfg={
            "rollouts": common.NUM_STEPS,
            "learning_epochs": common.EPOCHS,
            "mini_batches": common.MINIBATCHES,
            "learning_rate": args.learning_rate,
            "discount_factor": common.GAMMA,
            "gae_lambda": common.GAE_LAMBDA,
            "ratio_clip": common.CLIP,
            "value_clip": 0.0,
            "value_loss_scale": common.VF_COEF,
            "entropy_loss_scale": common.ENT_COEF,
            "grad_norm_clip": common.MAX_GRAD_NORM,
            "time_limit_bootstrap": True,
            "observation_preprocessor": RunningStandardScaler,
            "observation_preprocessor_kwargs": {"size": env.observation_space, "device": "cpu"},
            "value_preprocessor": RunningStandardScaler,
            "value_preprocessor_kwargs": {"size": 1, "device": "cpu"},
            "experiment": {"write_interval": 0, "checkpoint_interval": 0},
        },
    )


def main() -> None:
    args = common.parse_args(__doc__, VARIANTS)
    report = common.Report(args, ["skrl"])
    torch.set_num_threads(args.threads)
    set_seed(args.seed)
    counted = common.make_env(args.env, args.num_envs)
    env = wrap_env(EndAtTimeLimit(counted), wrapper="gymnasium", verbose=False)
    agent = make_agent(args, env)
    agent.report, agent.counted = report, counted
    # More steps than are requested: the report ends the run.
    timesteps = args.steps // args.num_envs + 2 * common.NUM_STEPS
    cfg = {"timesteps": timesteps, "disable_progressbar": True, "headless": True}
    trainer = SequentialTrainer(env=env, agents=agent, cfg=cfg)
    with report.training():
        trainer.train()


if __name__ == "__main__":
    main()
