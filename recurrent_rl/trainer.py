"""The algorithm: collect, estimate advantages, update."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recurrent_rl.advantages import gae
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.normalisers import AdvantageNormaliser, Moments
from recurrent_rl.agents.policy import Policy
from recurrent_rl.collector import Collector
from recurrent_rl.config import TrainConfig
from recurrent_rl.diagnostics import memory_diagnostics
from recurrent_rl.errors import UserError
from recurrent_rl.ppo import check_finite, update
from recurrent_rl.process import computing, pick_device
from recurrent_rl.resolve import resolve
from recurrent_rl.rollout import Rollout
from recurrent_rl.seeding import Stream, generator, number
from recurrent_rl.vectorize import longest_episode, make_vector_env


class Trainer:
    """Environment, agent and optimiser, and one iteration of PPO over them.

    Args:
        config: the settings; with the same settings two trainers do exactly the same. Sizes left at
            their default are filled in.

    Raises:
        UserError: that is no TrainConfig, the environment cannot be made, or the device cannot be
            used.
        UnsupportedSpaceError: no encoder or head fits the environment's spaces.
    """

    def __init__(self, config: TrainConfig) -> None:
        check_is("config", config, TrainConfig, 'a TrainConfig: TrainConfig("CartPole-v1")')
        sized = config.num_steps is not None  # else an environment is made to ask it
        longest = None if sized else longest_episode(config.env_id, config.env)
        self.config = config = resolve(config, longest)
        self.device = pick_device(config.device)
        self.iteration = 0
        self.mid_rollout = False
        """Whether an iteration is under way or has failed. The environments are then amid a
        rollout; all else is as after the last whole iteration."""
        self.env = make_vector_env(config.env_id, config.num_envs, config.env)
        try:
            with computing(config.threads, config.precision):
                self.agent = self._fresh_agent().to(self.device)
                self.optimizer = torch.optim.Adam(
                    self.agent.parameters(),
                    lr=config.learning_rate,
                    eps=config.adam_eps,
                    fused=True,
                )
                self.advantage_normaliser = AdvantageNormaliser().to(self.device)
                self.collector = Collector(
                    self.env, self.agent, config.num_steps, config.chunk_length, config.seed
                )
        except BaseException:
            self.env.close()
            raise
        self.timesteps = 0
        """Environment steps taken so far, of all environments together."""

    @property
    def done(self) -> bool:
        """Whether the run has all its steps."""
        return self.iteration >= self.config.num_iterations

    def iterate(self) -> dict[str, float]:
        """One iteration of PPO.

        Returns:
            Scalars under their TensorBoard tags.
        """
        self.mid_rollout = True
        with computing(self.config.threads, self.config.precision):
            scalars = self._iterate()
        self.mid_rollout = False
        return scalars

    def _iterate(self) -> dict[str, float]:
        config, agent = self.config.scheduled(self.iteration), self.agent
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate
        rollout = self.collector.collect(self.iteration)
        with self._undone_if_it_fails():
            check_finite("agent's value of what it sees", rollout.values)
            check_finite("agent's value of what it sees", rollout.next_values)
            advantages = gae(
                rollout.rewards,
                rollout.values[:-1],
                rollout.next_values,
                rollout.terminated,
                rollout.truncated,
                config.gamma,
                config.gae_lambda,
            )
            valid = rollout.valid[:-1]
            returns = advantages + rollout.values[:-1]
            check_finite("return", returns)
            if config.agent.normalize_returns:
                agent.return_normaliser.update(Moments.of(returns[valid]), agent.critic)
            if config.normalize_advantages:
                moments = Moments.of(advantages[valid])
                advantages = self.advantage_normaliser.forward(advantages, moments)
            scalars = self._memory_diagnostics(rollout, advantages, returns)
            shuffle = generator(config.seed, Stream.MINIBATCHES, self.iteration)
            scalars |= update(agent, self.optimizer, rollout, advantages, returns, config, shuffle)
            if config.agent.normalize_observations:
                # Only now: within an iteration the agent sees the same in rollout and update.
                components = {path: x[:-1] for path, x in rollout.components.items()}
                agent.observation_normaliser.update(components, valid)
            for name, parameter in agent.named_parameters():
                check_finite(f"parameter {name}", parameter)
        self.iteration += 1
        self.timesteps += self.config.batch_size
        scalars |= {"train/learning_rate": config.learning_rate, "train/ent_coef": config.ent_coef}
        return scalars | self.collector.episodes.means()

    def _fresh_agent(self) -> ActorCritic:
        """The untrained agent; the caller's random numbers stay where they are."""
        env, config = self.env, self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number(config.seed, Stream.WEIGHTS))
            return ActorCritic(
                env.single_observation_space,
                env.single_action_space,
                config.agent,
                config.env.hide_indices,
            )

    @contextmanager
    def _undone_if_it_fails(self) -> Iterator[None]:
        """Put what is learnt back to where it was if something is raised inside."""
        modules = (self.agent, self.advantage_normaliser)
        learnt = [x for module in modules for x in module.state_dict().values()]
        slots = [x for state in self.optimizer.state.values() for x in state.values()]
        before = [x.clone() for x in learnt + slots]
        try:
            yield
        except BaseException as error:
            with torch.no_grad():
                for x, old in zip(learnt + slots, before, strict=True):
                    x.copy_(old)
            if not slots:
                self.optimizer.state.clear()
            if isinstance(error, UserError):
                raise type(error)(f"In iteration {self.iteration + 1}: {error}") from error
            raise

    def _memory_diagnostics(
        self, rollout: Rollout, advantages: torch.Tensor, returns: torch.Tensor
    ) -> dict[str, float]:
        every = self.config.memory_interval
        if every is None or self.iteration % every:
            return {}
        data = rollout.sequences(advantages, returns)
        return memory_diagnostics(self.agent, data, self.config)

    def policy(self) -> Policy:
        """The agent as it is now, to save or to act with."""
        summary = {
            "env_id": self.config.env_id,
            "env": dataclasses.asdict(self.config.env),
            "timesteps": self.timesteps,
            "seed": self.config.seed,
            **self.collector.episodes.means(),
        }
        return Policy(self.agent, summary)

    def close(self) -> None:
        """Close the environments."""
        self.env.close()
