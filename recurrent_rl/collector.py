"""The collector: steps the environments with the agent, whose memory it carries across rollouts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.kernels import changing_weights, frozen_weights
from recurrent_rl.agents.memory.states import MemoryState, cat_states, select_state
from recurrent_rl.agents.spaces import Components
from recurrent_rl.blocks import Block
from recurrent_rl.episodes import EpisodeStatistics
from recurrent_rl.group import ALONE, Group
from recurrent_rl.rollout import Rollout
from recurrent_rl.seeding import Stream, generator, number
from recurrent_rl.vector_env.environments import Environments, Final, Step


class _Truncation(NamedTuple):
    """What is needed to value the final observations of the environments truncated at one step."""

    t: int
    rows: Tensor  # [n]
    components: Components  # [n, ...]
    state: MemoryState  # fields [layers, n, hidden]


class Collector:
    """Steps the environments with the agent; each rollout continues where the last one ended.

    Memory, observations and episodes are carried over.

    Args:
        env: vector environment in autoreset mode SAME_STEP or NEXT_STEP, of the block.
        agent: acts, and values what it sees.
        num_steps: rows of a rollout.
        chunk_length: steps after which the memory's state is stored, again and again.
        seed: of the run. Environments and actions draw from streams of it, each environment its
            own: the same whatever the number of workers.
        block: which environments of the run these are; None: all.
        group: the workers that step the others.

    Raises:
        UserError: the autoreset mode is DISABLED or unknown; what the environment returns is not
            what its spaces declare, or not finite.
    """

    def __init__(
        self,
        env: VectorEnv,
        agent: ActorCritic,
        num_steps: int,
        chunk_length: int,
        seed: int,
        block: Block | None = None,
        group: Group = ALONE,
    ) -> None:
        self.environments = Environments(env, agent)
        self.agent = agent
        self.seed = seed
        self.block = block or Block.whole(env.num_envs)
        self.episodes = EpisodeStatistics(
            env.num_envs, first=self.block.first, info_metrics=self.environments.info_metrics
        )
        self.rollout = Rollout(agent, num_steps, env.num_envs, chunk_length)
        self._start(self.environments.reset(self._first_seed(), group.total))

    def restart(self, iteration: int) -> None:
        """Begin new episodes in all environments, with a fresh memory, before this iteration."""
        self._start(self.environments.reset(self._first_seed(iteration)))

    def _first_seed(self, iteration: int = 0) -> int:
        """The seed of the block's first environment; the others have those that follow."""
        return number(self.seed, Stream.ENVIRONMENTS, iteration) + self.block.first

    def _start(self, step: Step) -> None:
        self.state = self.agent.initial_state(len(step.reward))
        self._write_row(self.rollout.num_steps, step)
        self.rollout.valid[-1] = torch.as_tensor(step.valid)

    def next_row(self) -> dict[str, Tensor]:
        """What the agent will read first in the next rollout, by name; views, `[B, ...]` each."""
        return self.rollout.inputs(-1)

    @torch.no_grad()
    @frozen_weights()
    def collect(self, iteration: int = 0) -> Rollout:
        """Take `num_steps` steps; the result is overwritten by the next call.

        Args:
            iteration: of the run. What is random in the actions depends on the seed and on it.

        Raises:
            UserError: the environment or the agent gave what is not finite, or the environment
                what its spaces do not declare.
        """
        rollout, agent, state = self.rollout, self.agent, self.state
        self._carry_over()
        rollout.chunk_states = []
        truncations: list[_Truncation] = []
        # What no step reads of the steps before it is written at the end, all at once.
        followed, values, log_probs = [], [], []
        actions = rollout.actions.unbind()
        valid = rollout.valid[0].cpu().numpy()
        # That of all environments is drawn, [T, B, ...]: each has the same in any block.
        noise = agent.head.noise(
            (rollout.num_steps, self.block.total), generator(self.seed, Stream.ACTIONS, iteration)
        )[:, self.block.rows]
        for t, drawn in enumerate(noise):
            if t % rollout.chunk_length == 0:
                rollout.chunk_states.append(state)
            components, episode_start, mask = rollout.row(t)
            output, state = agent.step(components, state, episode_start, mask)
            action = output.distribution.sample(drawn)
            values.append(output.value)
            actions[t].copy_(action)
            log_probs.append(output.distribution.log_prob(action))

            step = self._step(agent.head.to_env(action))
            self.episodes.step(step, valid, self.environments.steps)
            valid = step.valid
            followed.append((step.reward, step.terminated, step.truncated, valid))
            self._write_row(t + 1, step, actions[t])
            if step.final is not None:
                truncations.append(self._truncation(t, step, step.final, state))
        rollout.chunk_states.append(state)
        rollout.values[:-1] = torch.stack(values)
        rollout.log_probs.copy_(torch.stack(log_probs))
        rows = (rollout.rewards, rollout.terminated, rollout.truncated, rollout.valid[1:])
        for x, of_steps in zip(rows, zip(*followed, strict=True), strict=True):
            x.copy_(torch.as_tensor(np.stack(of_steps)))
        self.state = state
        self._value_what_followed(truncations)
        return rollout

    def _step(self, actions: NDArray[Any]) -> Step:
        """Step the environments, whose code may have models of its own, and train or replace them.

        Args:
            actions: `[B, ...]`.
        """
        with torch.enable_grad(), changing_weights():
            return self.environments.step(actions)

    def _carry_over(self) -> None:
        """The row after the last step becomes the first row."""
        first = self.rollout.inputs(0)
        for name, x in self.next_row().items():
            first[name].copy_(x)

    def _write_row(self, row: int, step: Step, action: Tensor | None = None) -> None:
        """Fill `row` with what the agent reads: what a step shows, and what was done before it."""
        rollout = self.rollout
        components = self.agent.as_tensors(step.observation)
        if action is not None:
            reward = torch.as_tensor(step.reward)
            components = self.agent.with_previous(components, action, reward)
        into, episode_start, _ = rollout.row(row)
        for path, x in components.items():
            into[path].copy_(x)
        episode_start.copy_(torch.as_tensor(step.episode_start))
        if step.action_mask is not None:
            masks = rollout.use_masks(step.action_mask.shape[1])
            masks[row] = torch.as_tensor(step.action_mask)
        elif rollout.action_mask is not None:
            rollout.action_mask[row] = True

    def _truncation(self, t: int, step: Step, final: Final, state: MemoryState) -> _Truncation:
        """Keep the final observations of the environments that were truncated, and their memory."""
        agent, rollout = self.agent, self.rollout
        rows = torch.as_tensor(final.indices, device=agent.device)
        components = agent.with_previous(
            agent.as_tensors(final.observation),
            rollout.actions[t, rows],
            torch.as_tensor(step.reward[final.indices]).to(rollout.rewards),
        )
        return _Truncation(t, rows, components, select_state(state, rows))

    def _value_what_followed(self, truncations: list[_Truncation]) -> None:
        """Fill `next_values`: all truncated rows of the rollout are valued in one batch."""
        rollout, agent = self.rollout, self.agent
        components, episode_start, mask = rollout.row(rollout.num_steps)
        rollout.values[-1] = agent.step(components, self.state, episode_start, mask)[0].value
        rollout.next_values.copy_(rollout.values[1:])
        if not truncations:
            return
        rows = torch.cat([x.rows for x in truncations])
        times = torch.cat([torch.full_like(x.rows, x.t) for x in truncations])
        output, _ = agent.step(
            {path: torch.cat([x.components[path] for x in truncations]) for path in components},
            cat_states([x.state for x in truncations]),
            torch.zeros_like(rows, dtype=torch.bool),
        )
        rollout.next_values[times, rows] = output.value
