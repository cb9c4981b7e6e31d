"""What other libraries call a setting: who writes their name for it is told ours.

Names of Stable-Baselines3 with sb3-contrib and the zoo, CleanRL and RLlib, also where the setting
is not quite the same; what differs stands beside it. docs/migrating.md has the whole comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from recurrent_rl.agents.settings.refusals import close_matches


class Ours(NamedTuple):
    """What a setting of another library is here."""

    name: str
    differs: str = ""
    """In what, as the end of a sentence."""


_MINIBATCHES = Ours("num_minibatches", "a number of minibatches, not of steps in one")
_SIZES = "the steps of a rollout are num_envs x num_steps"
_CLIP = "in standard deviations of the return, or in its unit without normalize_returns"
_MEMORY = "any of the library's memories, or your own"
_PATH = "a class of your own"

OTHER_NAMES: Mapping[str, Ours] = {
    # rollouts
    "n_envs": Ours("num_envs"),
    "num_envs_per_env_runner": Ours("num_envs"),
    "n_steps": Ours("num_steps"),
    "rollout_fragment_length": Ours("num_steps"),
    "batch_size": _MINIBATCHES,
    "minibatch_size": _MINIBATCHES,
    "sgd_minibatch_size": _MINIBATCHES,
    "train_batch_size": Ours("num_steps", _SIZES),
    "train_batch_size_per_learner": Ours("num_steps", _SIZES),
    "max_seq_len": Ours("seq_len"),
    "timesteps": Ours("total_timesteps"),
    "n_timesteps": Ours("total_timesteps"),
    "num_timesteps": Ours("total_timesteps"),
    "num_workers": Ours("workers", "processes that learn too, each with its environments"),
    "num_env_runners": Ours("workers", "processes that learn too, each with its environments"),
    "num_learners": Ours("workers"),
    "vec_env": Ours("vectorization", "sync or async"),
    # learning
    "lr": Ours("learning_rate"),
    "anneal_lr": Ours("lr_schedule", "linear or constant"),
    "n_epochs": Ours("update_epochs"),
    "num_epochs": Ours("update_epochs"),
    "num_sgd_iter": Ours("update_epochs"),
    "lambda_": Ours("gae_lambda"),
    "clip_range": Ours("clip_coef"),
    "clip_param": Ours("clip_coef"),
    "clip_range_vf": Ours("clip_value", _CLIP),
    "clip_vloss": Ours("clip_value", f"a number, {_CLIP}"),
    "vf_clip_param": Ours("clip_value", _CLIP),
    "normalize_advantage": Ours("normalize_advantages"),
    "norm_adv": Ours("normalize_advantages"),
    "entropy_coeff": Ours("ent_coef"),
    "vf_loss_coeff": Ours("vf_coef"),
    "grad_clip": Ours("max_grad_norm"),
    "kl_target": Ours("target_kl", "where the epochs on a rollout end"),
    "normalize": Ours("normalize_observations"),
    "norm_obs": Ours("normalize_observations"),
    "norm_reward": Ours("normalize_returns", "of what the critic learns; rewards stay"),
    "observation_filter": Ours("normalize_observations"),
    # the agent
    "policy_kwargs": Ours("memory", "and what else AgentConfig has"),
    "model": Ours("memory", _MEMORY),
    "policy": Ours("memory", _MEMORY),
    "use_lstm": Ours("memory", "lstm is one of them"),
    "lstm_hidden_size": Ours("hidden_size"),
    "lstm_cell_size": Ours("hidden_size"),
    "n_lstm_layers": Ours("num_layers"),
    "enable_critic_lstm": Ours("separate_memory"),
    "shared_lstm": Ours("separate_memory", "the opposite of it, and off by default"),
    "net_arch": Ours("actor_layers", "behind the memory, and critic_layers"),
    "fcnet_hiddens": Ours("encoder_size", "before the memory, and encoder_layers"),
    "activation_fn": Ours("layers_activation", "behind the memory; before it activation"),
    "features_extractor_class": Ours("encoder", _PATH),
    # the environment
    "env": Ours("env_id", "in Python also train(config, env=...)"),
    "env_name": Ours("env_id"),
    "gym_packages": Ours("env_id", "with the module before it, as my_package:MyEnv-v0"),
    "env_config": Ours("env_kwargs"),
    "env_wrapper": Ours("wrappers"),
    "max_episode_steps": Ours(
        "env_kwargs",
        """{"max_episode_steps": 500} of a registered id; of your own class or function """
        """wrappers (--wrapper) 'gymnasium.wrappers:TimeLimit{"max_episode_steps": 500}'""",
    ),
    # the run
    "exp_name": Ours("name"),
    "tb_log_name": Ours("name"),
    "tensorboard_log": Ours("log_dir"),
    "cuda": Ours("device", "cpu, cuda or auto"),
    "num_threads": Ours("threads"),
    "n_threads": Ours("threads"),
    "capture_video": Ours("video_interval", "evaluations between two episodes that are filmed"),
    "eval_freq": Ours("eval_interval"),
    "n_eval_episodes": Ours("eval_episodes"),
    "save_freq": Ours("save_interval"),
    "trained_agent": Ours("init_from"),
    "conf_file": Ours("config_file"),
    "n_trials": Ours("trials"),
}


def suggestion(name: str, written: Mapping[str, str]) -> str:
    """A sentence that says what was likely meant; nothing where that is not known.

    Args:
        name: that is no setting.
        written: by setting how it is written there.
    """
    if name in written:
        return f" Write {written[name]}."
    ours = OTHER_NAMES.get(name)
    if ours is not None and ours.name in written:
        differs = f" ({ours.differs})" if ours.differs else ""
        return f" Here it is {written[ours.name]}{differs}."
    near = close_matches(name, written, most=1, cutoff=0.5)
    return f" Did you mean {written[near[0]]}?" if near else ""
