"""This library, in the repository's own environment.

The variants with workers take `--threads` as a number of processes, of one thread each where there
are several; their peak memory is the first one's.

With `--env python` the velocities are hidden by the library's own option. `vectorization="sync"`
then steps single environments through SyncVectorEnv, as all others do: by default the library would
take the batched form that Gymnasium has of CartPole. Observations and returns are normalised, as is
the library's default.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import common

if TYPE_CHECKING:
    from recurrent_rl.config import TrainConfig

SHORT = 32  # as fast as 8 and 16 at 256 and 512 environments, and faster than 128
VARIANTS = {
    "default": "sequences of 128 steps in the update",
    "best": f"sequences of {SHORT} steps in the update: fewer steps one after the other",
    "bfloat16": "as default, products of the memory in bfloat16",
    "best-bfloat16": "as best, products of the memory in bfloat16",
    "workers": "as default, in several processes",
    "best-workers": "as best, in several processes",
}


def config_of(args: argparse.Namespace) -> TrainConfig:
    """The settings of a run."""
    from recurrent_rl.agents.config import AgentConfig
    from recurrent_rl.config import TrainConfig
    from recurrent_rl.vector_env.config import EnvConfig

    workers = args.threads if "workers" in args.variant else 1
    python = args.env == "python"
    return TrainConfig(
        "CartPole-v1" if python else f"recurrent_rl.envs:{common.BATCH_ID}",
        seed=args.seed,
        total_timesteps=args.steps,
        num_envs=args.num_envs,
        num_steps=common.NUM_STEPS,
        seq_len=SHORT if "best" in args.variant else None,
        learning_rate=args.learning_rate,
        lr_schedule="constant",
        adam_eps=common.ADAM_EPS,
        gamma=common.GAMMA,
        gae_lambda=common.GAE_LAMBDA,
        update_epochs=common.EPOCHS,
        num_minibatches=common.MINIBATCHES,
        clip_coef=common.CLIP,
        # The others take every pass. What a rule that ends them early is worth, a return tells.
        target_kl=None if args.stop_at_return is None else TrainConfig.target_kl,
        ent_coef=common.ENT_COEF,
        ent_schedule="constant",
        vf_coef=common.VF_COEF,
        max_grad_norm=common.MAX_GRAD_NORM,
        device="cpu",
        threads=1 if workers > 1 else args.threads,
        workers=workers,
        eval_episodes=0,
        log_dir="runs",
        precision="bfloat16" if "bfloat16" in args.variant else "float32",
        agent=AgentConfig(
            memory="lstm",
            hidden_size=common.HIDDEN,
            encoder_size=common.HIDDEN,
            encoder_layers=1,
            activation="tanh",
            previous_action=False,
        ),
        env=EnvConfig(hide_indices=(1, 3), vectorization="sync") if python else EnvConfig(),
    )


def main() -> None:
    args = common.parse_args(__doc__, VARIANTS)
    report = common.Report(args, ["recurrent-rl"])
    from recurrent_rl.process import keeping_freed_memory
    from recurrent_rl.runs.callbacks import TrainingState
    from recurrent_rl.runs.training import train
    from recurrent_rl.trainer import Trainer

    config = config_of(args)
    # Of the last 100 episodes, as the other runners count it.
    mean_return = "rollout/ep_rew_mean"
    if config.workers > 1:

        def tell(state: TrainingState) -> None:
            try:
                report.iteration(state.timesteps, state.metrics.get(mean_return))
            except common.Finished:
                state.stop("the steps are taken")

        with report.training():
            train(config, progress=False, callbacks=[tell])
        return
    trainer = Trainer(config)
    with keeping_freed_memory(), report.training():  # as in a run
        while True:
            scalars = trainer.iterate()
            report.iteration(trainer.timesteps, scalars.get(mean_return))
    trainer.close()


if __name__ == "__main__":
    main()
