"""Sample Factory in serial mode with batched sampling: its fastest on few cores.

The single environments are the agents of one environment: the batch of a Gymnasium vector
environment, with `--env python` that of SyncVectorEnv. Observations and returns are normalised, as
is its default. It is installed past its limits numpy < 2 and gymnasium < 1; for the second,
wrappers pass on attributes here, as they did before Gymnasium 1.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import common
import gymnasium as gym
import torch
from sample_factory.algo.runners.runner import AlgoObserver, Runner
from sample_factory.algo.utils.misc import ExperimentStatus
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import register_env
from sample_factory.train import make_runner

SHORT = 16  # the fastest of 8, 16, 32 and 128 at 256 environments
VARIANTS = {
    "default": "sequences of 128 steps in the update",
    "best": f"sequences of {SHORT} steps in the update: fewer steps one after the other",
}


class Adapter(gym.Env[Any, Any]):
    """A Gymnasium vector environment as one environment with many agents."""

    is_multiagent = True

    def __init__(self, env: common.CountedVectorEnv, seed: int) -> None:
        self.env = env
        self.num_agents = env.num_envs
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space
        self.first_seed = seed

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=self.first_seed)[0], {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, rewards, terminated, truncated, _ = self.env.step(actions)
        return observation, rewards.astype("float32"), terminated, truncated & ~terminated, {}

    def close(self) -> None:
        self.env.close()


def passed_on(wrapper: gym.Wrapper[Any, Any, Any, Any], name: str) -> Any:
    """The attribute of what is wrapped."""
    if name.startswith("_") or name == "env":
        raise AttributeError(name)
    return getattr(wrapper.env, name)


gym.Wrapper.__getattr__ = passed_on  # here, not in main: also for the process told of below

MADE: list[common.CountedVectorEnv] = []


def make(kind: str, num_envs: int, seed: int, *_: Any, **__: Any) -> Adapter:
    """Called here and in a process of its own that looks up the spaces."""
    MADE.append(common.make_env(kind, num_envs))
    return Adapter(MADE[-1], seed)


class Reporting(AlgoObserver):
    """Reports each iteration, and has the runner stop when the run is over."""

    def __init__(self, report: common.Report) -> None:
        self.report = report

    def on_training_step(self, runner: Runner, training_iteration_since_resume: int) -> None:
        env = MADE[-1]
        steps = training_iteration_since_resume * common.NUM_STEPS * env.num_envs
        try:
            self.report.iteration(steps, env.episodes.mean)
        except common.Finished:
            runner.cfg.train_for_env_steps = 0


def settings(args: argparse.Namespace) -> list[str]:
    """Sample Factory's command line."""
    chosen = {
        "algo": "APPO",
        "env": "peer",
        "experiment": "peer",
        "train_dir": "runs",
        "restart_behavior": "overwrite",
        "device": "cpu",
        "seed": args.seed,
        "serial_mode": True,
        "async_rl": False,
        "batched_sampling": True,
        "num_workers": 1,
        "num_envs_per_worker": 1,
        "worker_num_splits": 1,
        "rollout": common.NUM_STEPS,
        "recurrence": SHORT if args.variant == "best" else common.NUM_STEPS,
        "batch_size": common.NUM_STEPS * args.num_envs // common.MINIBATCHES,
        "num_batches_per_epoch": common.MINIBATCHES,
        "num_epochs": common.EPOCHS,
        "learning_rate": args.learning_rate,
        "lr_schedule": "constant",
        "adam_eps": common.ADAM_EPS,
        "gamma": common.GAMMA,
        "gae_lambda": common.GAE_LAMBDA,
        "ppo_clip_ratio": common.CLIP,
        "ppo_clip_value": 1e9,
        "value_loss_coeff": common.VF_COEF,
        "exploration_loss_coeff": common.ENT_COEF,
        "max_grad_norm": common.MAX_GRAD_NORM,
        "value_bootstrap": True,
        "normalize_input": True,
        "normalize_returns": True,
        "use_rnn": True,
        "rnn_type": "lstm",
        "rnn_size": common.HIDDEN,
        "rnn_num_layers": 1,
        "nonlinearity": "tanh",
        "actor_critic_share_weights": True,
        "decorrelate_experience_max_seconds": 0,
        "train_for_env_steps": 10**9,
        "save_every_sec": 10**6,
        "save_best_every_sec": 10**6,
        "experiment_summaries_interval": 10**6,
        "log_to_file": False,
    }
    line = [f"--{name}={value}" for name, value in chosen.items()]
    return [*line, "--encoder_mlp_layers", str(common.HIDDEN), "--decoder_mlp_layers"]


def main() -> None:
    args = common.parse_args(__doc__, VARIANTS)
    report = common.Report(args, ["sample-factory"])
    torch.set_num_threads(args.threads)
    register_env("peer", partial(make, args.env, args.num_envs, args.seed))
    parser, _ = parse_sf_args(settings(args))
    _, runner = make_runner(parse_full_cfg(parser, settings(args)))
    runner.register_observer(Reporting(report))
    runner.init()
    with report.training():
        if runner.run() != ExperimentStatus.SUCCESS:
            raise RuntimeError("Sample Factory stopped; see its messages above.")


if __name__ == "__main__":
    main()
