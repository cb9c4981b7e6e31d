"""Rollouts: what the agent saw and did, and the collector that carries its memory across them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.compiled import frozen_weights
from recurrent_rl.agents.spaces import Leaves, storage_dtype
from recurrent_rl.agents.states import MemoryState, cat_states, select_state
from recurrent_rl.environments import Environments, Final, Step
from recurrent_rl.episodes import EpisodeStatistics
from recurrent_rl.seeding import Stream, generator, number


class Sequences(NamedTuple):
    """Chunks of a rollout, side by side: what an update learns from. `C` chunks of `L` steps."""

    leaves: Leaves  # [L, C, ...]
    action_mask: Tensor | None  # [L, C, mask_size]
    episode_start: Tensor  # [L, C]
    valid: Tensor  # [L, C]; false on rows that an autoreset inserted
    actions: Tensor  # [L, C, ...]
    log_probs: Tensor  # [L, C]
    values: Tensor  # [L, C]
    advantages: Tensor  # [L, C]
    returns: Tensor  # [L, C]
    state: MemoryState  # fields [layers, C, hidden]: stored before each chunk's first step
    end_state: MemoryState  # the same after its last step

    def select(self, chunks: Tensor) -> Sequences:
        """The chunks with these indices."""

        def pick(field: Any) -> Any:
            if isinstance(field, dict):
                return {name: pick(x) for name, x in field.items()}
            if isinstance(field, tuple):
                return type(field)(*map(pick, field))
            return None if field is None else field.index_select(1, chunks)

        return Sequences(*map(pick, self))


class Rollout:
    """Storage for `T` steps of `B` copies, allocated once and overwritten by each rollout.

    What the agent reads before acting has `T + 1` rows: row `T` follows the last step, and is row
    0 of the next rollout. What follows from acting has `T` rows.
    """

    def __init__(
        self, agent: ActorCritic, num_steps: int, num_envs: int, chunk_length: int
    ) -> None:
        def zeros(rows: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(rows, num_envs, *shape, dtype=dtype, device=agent.device)

        steps, rows = num_steps, num_steps + 1
        self.num_steps = num_steps
        self.chunk_length = chunk_length
        self.leaves = {
            path: zeros(rows, *(space.shape or ()), dtype=storage_dtype(space))
            for path, space in agent.leaf_spaces.items()
        }
        self.action_mask: Tensor | None = None  # from the first that is told
        self.episode_start = zeros(rows, dtype=torch.bool)
        self.valid = zeros(rows, dtype=torch.bool)
        self.values = zeros(rows)
        self.actions = zeros(steps, *agent.head.action_shape, dtype=agent.head.action_dtype)
        self.log_probs = zeros(steps)
        self.rewards = zeros(steps)
        self.terminated = zeros(steps, dtype=torch.bool)
        self.truncated = zeros(steps, dtype=torch.bool)
        # V of what followed each step: the next row's value or, at a truncation, V(final_obs).
        self.next_values = zeros(steps)
        # The memory's state before row 0, L, 2L, ... and after the last row.
        self.chunk_states: list[MemoryState] = []

    def use_masks(self, size: int) -> Tensor:
        """The action masks `[T + 1, B, size]`; before the first was told all is allowed."""
        if self.action_mask is None:
            self.action_mask = self.valid.new_ones(*self.valid.shape, size)
        return self.action_mask

    def row(self, t: int) -> tuple[Leaves, Tensor, Tensor | None]:
        """What the agent reads at row `t`: leaves `[B, ...]`, episode_start, action mask."""
        leaves = {path: x[t] for path, x in self.leaves.items()}
        mask = None if self.action_mask is None else self.action_mask[t]
        return leaves, self.episode_start[t], mask

    def inputs(self, t: int) -> dict[str, Tensor]:
        """All that row `t` holds before the agent acts, by name; views, `[B, ...]` each."""
        row = {f"leaf/{path}": x[t] for path, x in self.leaves.items()}
        row |= {"episode_start": self.episode_start[t], "valid": self.valid[t]}
        if self.action_mask is not None:
            row["action_mask"] = self.action_mask[t]
        return row

    def sequences(self, advantages: Tensor, returns: Tensor) -> Sequences:
        """Cut the rollout into chunks `[L, C, ...]`, `C = B * T / L`; views where `L = T`."""
        chunks = self.num_steps // self.chunk_length

        def cut(x: Tensor) -> Tensor:
            # [T, B, ...] -> [chunks, L, B, ...] -> [L, chunks, B, ...] -> [L, chunks * B, ...]
            x = x[: self.num_steps].unflatten(0, (chunks, self.chunk_length))
            return x.transpose(0, 1).flatten(1, 2)

        return Sequences(
            leaves={path: cut(x) for path, x in self.leaves.items()},
            action_mask=None if self.action_mask is None else cut(self.action_mask),
            episode_start=cut(self.episode_start),
            valid=cut(self.valid),
            actions=cut(self.actions),
            log_probs=cut(self.log_probs),
            values=cut(self.values),
            advantages=cut(advantages),
            returns=cut(returns),
            state=cat_states(self.chunk_states[:-1], dim=1),
            end_state=cat_states(self.chunk_states[1:], dim=1),
        )


class _Truncation(NamedTuple):
    """What is needed to value the final observations of the copies truncated at one step."""

    t: int
    rows: Tensor  # [n]
    leaves: Leaves  # [n, ...]
    state: MemoryState  # fields [layers, n, hidden]


class Collector:
    """Steps the environments with the agent; memory, observations and episodes go on across calls.

    Args:
        env: vector environment in autoreset mode SAME_STEP or NEXT_STEP.
        agent: acts, and values what it sees.
        num_steps: rows of a rollout.
        chunk_length: the memory's state is stored each time so many steps have passed.
        seed: of the run; environments and actions draw from streams of it.

    Raises:
        UserError: the autoreset mode is DISABLED or unknown; what the environment returns is not
            what its spaces declare, or not finite.
    """

    def __init__(
        self, env: VectorEnv, agent: ActorCritic, num_steps: int, chunk_length: int, seed: int
    ) -> None:
        self.environments = Environments(env, agent)
        self.agent = agent
        self.seed = seed
        self.episodes = EpisodeStatistics.of(env.num_envs)
        self.rollout = Rollout(agent, num_steps, env.num_envs, chunk_length)
        self._start(self.environments.reset(number(seed, Stream.ENVIRONMENTS), centre=True))

    def restart(self, iteration: int) -> None:
        """Begin new episodes in all copies, with a fresh memory, before this iteration."""
        self._start(self.environments.reset(number(self.seed, Stream.ENVIRONMENTS, iteration)))

    def _start(self, step: Step) -> None:
        self.state = self.agent.initial_state(len(step.reward))
        self._write_row(self.rollout.num_steps, step)

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
        # [T, B, ...]
        noise = agent.head.noise(
            tuple(rollout.rewards.shape), generator(self.seed, Stream.ACTIONS, iteration)
        )
        for t in range(rollout.num_steps):
            if t % rollout.chunk_length == 0:
                rollout.chunk_states.append(state)
            leaves, episode_start, mask = rollout.row(t)
            output, state = agent.step(leaves, state, episode_start, mask)
            action = output.distribution.sample(noise[t])
            rollout.values[t] = output.value
            rollout.actions[t] = action
            rollout.log_probs[t] = output.distribution.log_prob(action)

            step = self.environments.step(agent.head.to_env(action))
            self.episodes.step(step, rollout.valid[t].cpu().numpy())
            rollout.rewards[t] = torch.as_tensor(step.reward)
            rollout.terminated[t] = torch.as_tensor(step.terminated)
            rollout.truncated[t] = torch.as_tensor(step.truncated)
            self._write_row(t + 1, step, t)
            if step.final is not None:
                truncations.append(self._truncation(t, step.final, state))
        rollout.chunk_states.append(state)
        self.state = state
        self._value_what_followed(truncations)
        return rollout

    def _carry_over(self) -> None:
        """The row after the last step becomes the first row."""
        first = self.rollout.inputs(0)
        for name, x in self.next_row().items():
            first[name].copy_(x)

    def _write_row(self, row: int, step: Step, t: int | None = None) -> None:
        """Fill `row` with what a step shows, and with the action and reward of step `t` before."""
        rollout, agent = self.rollout, self.agent
        leaves = {path: torch.as_tensor(x) for path, x in step.observation.items()}
        if t is not None:
            leaves = agent.with_previous(leaves, rollout.actions[t], rollout.rewards[t])
        for path, x in leaves.items():
            rollout.leaves[path][row].copy_(x)
        rollout.episode_start[row] = torch.as_tensor(step.episode_start)
        rollout.valid[row] = torch.as_tensor(step.valid)
        if step.action_mask is not None:
            masks = rollout.use_masks(step.action_mask.shape[1])
            masks[row] = torch.as_tensor(step.action_mask)
        elif rollout.action_mask is not None:
            rollout.action_mask[row] = True

    def _truncation(self, t: int, final: Final, state: MemoryState) -> _Truncation:
        """Keep the final observations of the copies that ended by time, and their memory."""
        agent, rollout = self.agent, self.rollout
        rows = torch.as_tensor(final.copies, device=agent.device)
        leaves = agent.with_previous(
            {
                path: torch.as_tensor(x).to(agent.device, rollout.leaves[path].dtype)
                for path, x in final.observation.items()
            },
            rollout.actions[t, rows],
            rollout.rewards[t, rows],
        )
        return _Truncation(t, rows, leaves, select_state(state, rows))

    def _value_what_followed(self, truncations: list[_Truncation]) -> None:
        """Fill `next_values`: all truncated rows of the rollout are valued in one batch."""
        rollout, agent = self.rollout, self.agent
        leaves, episode_start, mask = rollout.row(rollout.num_steps)
        rollout.values[-1] = agent.step(leaves, self.state, episode_start, mask)[0].value
        rollout.next_values.copy_(rollout.values[1:])
        if not truncations:
            return
        rows = torch.cat([x.rows for x in truncations])
        times = torch.cat([torch.full_like(x.rows, x.t) for x in truncations])
        output, _ = agent.step(
            {path: torch.cat([x.leaves[path] for x in truncations]) for path in leaves},
            cat_states([x.state for x in truncations], dim=1),
            torch.zeros_like(rows, dtype=torch.bool),
        )
        rollout.next_values[times, rows] = output.value
