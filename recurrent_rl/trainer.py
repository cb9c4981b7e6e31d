"""The algorithm: collect, estimate advantages, update."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from recurrent_rl.advantages import gae
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.files import NonFiniteError
from recurrent_rl.agents.generators import forked_torch_state
from recurrent_rl.agents.moments import Moments
from recurrent_rl.agents.normalisers import AdvantageNormaliser
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.agents.warm_start import begin_with
from recurrent_rl.auxiliary import AUX_LOSSES, AuxiliaryLoss, make_aux_loss
from recurrent_rl.blocks import block_of
from recurrent_rl.collector import Collector
from recurrent_rl.command import command_of
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.diagnostics import memory_diagnostics
from recurrent_rl.episodes import Ended, merged
from recurrent_rl.errors import UserError
from recurrent_rl.group import ALONE, Group
from recurrent_rl.learner import Learner
from recurrent_rl.optimizer import Adam
from recurrent_rl.ppo import check_finite, update
from recurrent_rl.process import computing, pick_device
from recurrent_rl.resolve import resolved, source_of
from recurrent_rl.rollout import Rollout
from recurrent_rl.seeding import Stream, generator, number
from recurrent_rl.vector_env.sources import Environment, Source
from recurrent_rl.vector_env.vectorize import make_vector_env


class Trainer:
    """Environment, agent and optimiser, and one iteration of PPO over them.

    As a context it closes the environments at its end.

    Args:
        config: the settings; with the same settings two trainers do exactly the same. Sizes left at
            their default are filled in.
        env: what to train on, as for `train`, where the settings have no env_id.
        group: the workers that train together; each has a trainer. They learn what one would.
        source: what the environments are made of; by default `env`, or what the settings name.
        fresh: false where a checkpoint is restored next, so that `init_from` is not read.

    Raises:
        UserError: an argument is of another type, the environment cannot be made, the device
            cannot be used, there are more workers than can share the environments, or the policy
            of `init_from` does not fit.
        PolicyFileError: the file of `init_from` is missing or damaged.
        UnsupportedSpaceError: no encoder or head fits the environment's spaces.
    """

    def __init__(
        self,
        config: TrainConfig,
        env: Environment | None = None,
        *,
        group: Group = ALONE,
        source: Source | None = None,
        fresh: bool = True,
    ) -> None:
        check_is("config", config, TrainConfig, 'a TrainConfig: TrainConfig("CartPole-v1")')
        check_is("group", group, Group, "the workers that train together")
        if source is not None:
            check_is("source", source, Source, "what find_source makes of an environment")
        self.source = source = source or source_of(config, env)
        self.config = config = resolved(config, source)
        self.group = group
        self.block = block = block_of(config, group.rank, group.size)
        self.device = pick_device(config.device, group.rank % group.neighbours)
        _check_can_train(config, group, self.device)
        self.iteration = 0
        self.mid_rollout = False
        """Whether an iteration is under way or has failed. The environments are then amid a
        rollout; all else is as after the last whole iteration."""
        start = config.init_from if fresh else None
        # Read before an environment can change the working directory.
        given = load_policy(start) if start is not None and group.rank == 0 else None
        self.env = make_vector_env(source, block.count, config.env)
        try:
            with self._computing():
                self.agent = self._first_agent(start is not None, given)
                auxiliary = self._auxiliary()
                self.advantage_normaliser = AdvantageNormaliser().to(self.device)
                self.learnt = nn.ModuleDict({"agent": self.agent})
                """All that is learnt, by the names that checkpoints have for it."""
                if auxiliary is not None:
                    self.learnt["auxiliary"] = auxiliary
                self.learnt["advantages"] = self.advantage_normaliser
                self.optimizer = Adam(
                    self.learnt.parameters(),
                    lr=config.learning_rate,
                    eps=config.adam_eps,
                    fused=True,
                )
                self.learner = Learner(self.agent, auxiliary, self.optimizer, group, block)
                self.collector = Collector(
                    self.env,
                    self.agent,
                    config.num_steps,
                    config.chunk_length,
                    config.seed,
                    block,
                    group,
                )
        except BaseException:
            self.close()
            raise
        self.on_rollout: Callable[[Rollout], None] | None = None
        """Called with each rollout before the agent learns from it."""
        self.interrupt_is_second: Callable[[], bool] = lambda: False
        """Whether a KeyboardInterrupt amid a rollout is of a second Ctrl-C, which waits for no
        other worker."""
        self.env_attributes: dict[str, Any] = {}
        """What is set in all environments before the next rollout, by the attribute's name."""
        self.attributes_set: dict[str, Any] = {}
        """What was set in them so far."""
        self.timesteps = 0
        """Environment steps taken so far, of all environments together."""
        self.ended = Ended([], frozenset())
        """The latest episodes of all workers, as of the last iteration."""

    def __repr__(self) -> str:
        memory, steps = self.config.agent.memory, f"{self.timesteps:,}"
        of_all = f"{self.config.total_timesteps:,} steps"
        return f"<Trainer: {memory} on {self.source.name}, {steps} of {of_all}>"

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def done(self) -> bool:
        """Whether the run has all its steps."""
        return self.iteration >= self.config.num_iterations

    def __iter__(self) -> Iterator[dict[str, float]]:
        """The scalars of one iteration after the other, until the run has all its steps."""
        while not self.done:
            yield self.iterate()

    def iterate(self) -> dict[str, float]:
        """Do one iteration of PPO: a rollout and the updates on it.

        Returns:
            Scalars under their TensorBoard tags.

        Raises:
            UserError: the run has all its steps; or an environment, a setting or what is learnt is
                at fault, and the message says which and where.
        """
        if self.done:
            raise UserError(
                f"The run has all its {self.timesteps:,} steps. Raise total_timesteps to train "
                "for more."
            )
        self.mid_rollout = True
        began, waited = time.perf_counter(), self.group.waited
        with self._computing():
            scalars = self._iterate()
        self.mid_rollout = False
        if not self.group.alone:
            waited = self.group.waited - waited
            scalars["time/wait_share"] = waited / (time.perf_counter() - began)
        return scalars

    def _iterate(self) -> dict[str, float]:
        config, agent, group = self.config.scheduled(self.iteration), self.agent, self.group
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = config.learning_rate
        rollout = self._collect()
        with self._undone_if_it_fails():
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
            of_returns, of_advantages = group.total(
                [Moments.of(returns[valid]), Moments.of(advantages[valid])]
            )
            check_finite("return", of_returns.total)
            if config.agent.normalize_returns:
                agent.return_normaliser.update(of_returns, agent.critic)
            if config.normalize_advantages:
                advantages = self.advantage_normaliser.forward(advantages, of_advantages)
            scalars = self._memory_diagnostics(rollout, advantages, returns, config)
            shuffle = generator(config.seed, Stream.MINIBATCHES, self.iteration)
            scalars |= update(self.learner, rollout, advantages, returns, config, shuffle)
            if config.agent.normalize_observations:
                # Only now: within an iteration the agent sees the same in rollout and update.
                components = {path: x[:-1] for path, x in rollout.components.items()}
                agent.take_in(components, valid, rollout.episode_start[:-1], group.total)
            for name, parameter in self.learnt.named_parameters():
                check_finite(f"parameter {name}", parameter)
        self.iteration += 1
        self.timesteps += self.config.batch_size
        scalars |= {"train/learning_rate": config.learning_rate, "train/ent_coef": config.ent_coef}
        return scalars | self.ended.means()

    def _collect(self) -> Rollout:
        """A rollout, where all workers have one; else every worker raises what one of them met."""

        def collect() -> Ended:
            self.set_attributes()
            rollout = self.collector.collect(self.iteration)
            check_finite("agent's value of what it sees", rollout.values)
            check_finite("agent's value of what it sees", rollout.next_values)
            if self.on_rollout is not None:
                self.on_rollout(rollout)
            return self.collector.episodes.latest()

        worker = f"Worker {self.group.rank}, whose environment 0 is the run's environment "
        done = self.group.done_by_all(
            collect, f"{worker}{self.block.first}", self.interrupt_is_second
        )
        self.ended = merged(done)
        return self.collector.rollout

    def set_attributes(self) -> None:
        """Set in all environments of this worker what is to be set before the next rollout.

        Raises:
            UserError: an environment refuses it, or has no such attribute.
        """
        attributes, self.env_attributes = self.env_attributes, {}
        for name, value in attributes.items():
            self.collector.environments.set_attribute(name, value)
        self.attributes_set |= attributes

    def _computing(self) -> AbstractContextManager[None]:
        return computing(self.config.threads, self.config.precision, self.group.neighbours)

    def _first_agent(self, is_trained: bool, given: Policy | None) -> ActorCritic:
        """What training begins with, the same at each worker.

        Args:
            is_trained: by `init_from`.
            given: that policy, in the first worker.
        """
        agent = self._untrained_agent().to(self.device)
        if is_trained:
            if given is not None:
                begin_with(agent, given)
            agent.reader.is_centred = True  # in all workers, which else would add up their firsts
        self.group.take_over(agent.state_dict().values())
        return agent

    def _untrained_agent(self) -> ActorCritic:
        """An agent for the environment; the caller's random numbers stay where they are."""
        env, config = self.env, self.config
        with forked_torch_state(number(config.seed, Stream.WEIGHTS)):
            return ActorCritic(
                env.single_observation_space,
                env.single_action_space,
                config.agent,
                config.env.hide_indices,
            )

    def _auxiliary(self) -> AuxiliaryLoss | None:
        """What the memory is taught beside, the same at each worker; None: nothing."""
        if (name := getattr(self.config, AUX_LOSSES.kind)) is None:
            return None
        with forked_torch_state(number(self.config.seed, Stream.AUXILIARY)):
            auxiliary = make_aux_loss(name, self.agent).to(self.device)
        self.group.take_over(auxiliary.state_dict().values())
        return auxiliary

    @contextmanager
    def _undone_if_it_fails(self) -> Iterator[None]:
        """Put what is learnt back to where it was if something is raised inside."""
        learnt = list(self.learnt.state_dict().values())
        slots = [x for state in self.optimizer.state.values() for x in state.values()]
        before = [x.clone() for x in learnt + slots]
        try:
            yield
        except BaseException as error:
            if not isinstance(error, NonFiniteError):  # which all workers meet, in their sums
                self.group.fall_out()
            with torch.no_grad():
                for x, old in zip(learnt + slots, before, strict=True):
                    x.copy_(old)
            if not slots:
                self.optimizer.state.clear()
            if isinstance(error, UserError):
                raise type(error)(f"In iteration {self.iteration + 1}: {error}") from error
            raise

    def _memory_diagnostics(
        self,
        rollout: Rollout,
        advantages: torch.Tensor,
        returns: torch.Tensor,
        config: ResolvedConfig,
    ) -> dict[str, float]:
        every = config.memory_interval
        if every is None or self.iteration % every or self.group.rank > 0:
            return {}
        data = rollout.sequences(advantages, returns)
        return memory_diagnostics(self.agent, data, config)

    def policy(self) -> Policy:
        """The agent as it is now, to save or to act with."""
        summary = {
            "env_id": self.config.env_id,
            "env": dataclasses.asdict(self.config.env),
            "timesteps": self.timesteps,
            "seed": self.config.seed,
            "command": command_of(self.config),
            **self.ended.means(),
        }
        return Policy(self.agent, summary)

    def close(self) -> None:
        """Close the environments, but for one that was given."""
        self.source.close(self.env)


def _check_can_train(config: ResolvedConfig, group: Group, device: torch.device) -> None:
    """Refuse settings that this process or its device cannot do.

    Raises:
        UserError: names the setting and what to set it to.
    """
    if group.alone and config.workers > 1:
        raise UserError(
            f"workers is {config.workers}, and a Trainer of your own is one process. Set "
            "workers to 1, or call recurrent_rl.train(config), which starts them."
        )
    if config.aux_loss == "next-observation" and config.chunk_length == 1:
        raise UserError(
            "aux_loss is 'next-observation', which predicts within a sequence, and seq_len is 1: "
            "raise seq_len, or leave aux_loss out."
        )
    if config.precision == "bfloat16" and device.type != "cpu":
        raise UserError(
            f"precision bfloat16 is of the CPU's kernel, and device is {str(device)!r}: "
            "leave precision at float32, or set device to cpu."
        )
