"""rl_games: its discrete PPO with observations and values normalised, as in its own examples.

The environment is a registered IVecEnv over the batch of a Gymnasium vector environment, with
`--env python` that of SyncVectorEnv. Its `run_train` compiles the model with torch.compile by
default: so does the variant `best`, and not `default`, which it made slower.
"""

from __future__ import annotations

from typing import Any

import common
import torch
from rl_games.common import env_configurations, vecenv
from rl_games.common.algo_observer import AlgoObserver
from rl_games.common.ivecenv import IVecEnv
from rl_games.torch_runner import Runner

SHORT = 8  # the fastest of 8, 16, 32 and 128 at 256 environments
VARIANTS = {
    "default": "sequences of 128 steps in the update",
    "best": f"sequences of {SHORT} steps in the update: fewer steps one after the other",
}


class Adapter(IVecEnv):
    """A Gymnasium vector environment as one of rl_games."""

    def __init__(self, env: common.CountedVectorEnv, seed: int) -> None:
        self.env = env
        self.seed_once = seed

    def reset(self) -> Any:
        return torch.from_numpy(self.env.reset(seed=self.seed_once)[0])

    def step(self, actions: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        observation, rewards, terminated, truncated, _ = self.env.step(actions.numpy())
        return (
            torch.from_numpy(observation),
            torch.from_numpy(rewards).float(),
            torch.from_numpy(terminated | truncated),
            {"time_outs": torch.from_numpy(truncated & ~terminated)},
        )

    def get_env_info(self) -> dict[str, Any]:
        return {
            "observation_space": self.env.single_observation_space,
            "action_space": self.env.single_action_space,
        }


class Reporting(AlgoObserver):
    """Reports each iteration when rl_games writes its statistics, just after the update."""

    def __init__(self, report: common.Report, env: common.CountedVectorEnv) -> None:
        super().__init__()
        self.report = report
        self.env = env
        self.reported = 0

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        if epoch_num > self.reported:  # it calls twice
            self.reported = epoch_num
            steps = epoch_num * common.NUM_STEPS * self.env.num_envs
            self.report.iteration(steps, self.env.episodes.mean)

    def after_clear_stats(self) -> None:
        """Nothing to clear."""


def params(args: Any) -> dict[str, Any]:
    """The settings as in rl_games' YAML files."""
    return {
        "seed": args.seed or 2**31 - 1,  # 0 would mean none
        "torch_threads": args.threads,  # it would set a number of its own
        "algo": {"name": "a2c_discrete"},
        "model": {"name": "discrete_a2c"},
        "network": {
            "name": "actor_critic",
            "separate": False,
            "space": {"discrete": {}},
            "mlp": {
                "units": [common.HIDDEN],
                "activation": "tanh",
                "initializer": {"name": "default"},
            },
            "rnn": {
                "name": "lstm",
                "units": common.HIDDEN,
                "layers": 1,
                "before_mlp": False,
            },
        },
        "config": {
            "name": "peer",
            "env_name": "peer",
            "device": "cpu",
            "num_actors": args.num_envs,
            "horizon_length": common.NUM_STEPS,
            "seq_length": SHORT if args.variant == "best" else common.NUM_STEPS,
            "minibatch_size": common.NUM_STEPS * args.num_envs // common.MINIBATCHES,
            "mini_epochs": common.EPOCHS,
            "learning_rate": args.learning_rate,
            "lr_schedule": None,
            "gamma": common.GAMMA,
            "tau": common.GAE_LAMBDA,
            "e_clip": common.CLIP,
            "clip_value": False,
            "critic_coef": 2 * common.VF_COEF,  # rl_games halves it
            "entropy_coef": common.ENT_COEF,
            "truncate_grads": True,
            "grad_norm": common.MAX_GRAD_NORM,
            "normalize_advantage": True,
            "normalize_input": True,
            "normalize_value": True,
            "value_bootstrap": True,
            "reward_shaper": {"scale_value": 1.0},
            "max_epochs": -1,
            "save_best_after": 10**9,
            "print_stats": False,
            "train_dir": "runs",
        },
    }


def main() -> None:
    args = common.parse_args(__doc__, VARIANTS)
    report = common.Report(args, ["rl-games"])
    env = common.make_env(args.env, args.num_envs)
    vecenv.register("PEER", lambda name, num_actors, **kwargs: Adapter(env, args.seed))
    env_configurations.register("peer", {"vecenv_type": "PEER"})
    runner = Runner(Reporting(report, env))
    runner.load({"params": params(args)})
    agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
    if args.variant == "best":
        agent.model = torch.compile(agent.model)
    with report.training():
        agent.train()


if __name__ == "__main__":
    main()
