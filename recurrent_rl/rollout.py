"""A rollout: what the agent saw and did, and how it is cut into the sequences of an update."""

from __future__ import annotations

import torch
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.memory.states import MemoryState, cat_states
from recurrent_rl.agents.spaces import Components, storage_dtype
from recurrent_rl.sequences import Sequences


class Rollout:
    """Storage for `T` steps of `B` environments, allocated once and overwritten by each rollout.

    What the agent reads before acting is `[T + 1, B, ...]`: row `T` follows the last step, and is
    row 0 of the next rollout. What follows from acting, such as `rewards`, is `[T, B, ...]`.
    """

    def __init__(
        self, agent: ActorCritic, num_steps: int, num_envs: int, chunk_length: int
    ) -> None:
        def zeros(rows: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(rows, num_envs, *shape, dtype=dtype, device=agent.device)

        steps, rows = num_steps, num_steps + 1
        self.num_steps = num_steps
        """`T`"""
        self.chunk_length = chunk_length
        """Steps of a sequence that an update learns from, `L`."""
        self.components = {
            path: zeros(rows, *(space.shape or ()), dtype=storage_dtype(space))
            for path, space in agent.component_spaces.items()
        }
        """What the agent reads, `[T + 1, B, ...]` by path; "" where it is one array."""
        self.action_mask: Tensor | None = None
        """`[T + 1, B, mask_size]`, true for what is allowed; None before the first mask."""
        self.episode_start = zeros(rows, dtype=torch.bool)
        """`[T + 1, B]`, true where an episode starts with what is read."""
        self.valid = zeros(rows, dtype=torch.bool)
        """`[T + 1, B]`, false on rows that an autoreset inserted."""
        self.values = zeros(rows)
        """`[T + 1, B]`, as the critic predicts them."""
        self.actions = zeros(steps, *agent.head.action_shape, dtype=agent.head.action_dtype)
        """`[T, B, ...]`"""
        self.log_probs = zeros(steps)
        """`[T, B]`, of the actions."""
        self.rewards = zeros(steps)
        """`[T, B]`"""
        self.terminated = zeros(steps, dtype=torch.bool)
        """`[T, B]`"""
        self.truncated = zeros(steps, dtype=torch.bool)
        """`[T, B]`"""
        self.next_values = zeros(steps)
        """`[T, B]`, V of what followed, the next row's or, at a truncation, V(final_obs)."""
        self.chunk_states: list[MemoryState] = []
        """The memory's before row 0, L, 2L, ... and after the last row."""
        # Each row's views are made once: a view takes as long as to copy what a step shows.
        starts = self.episode_start.unbind()
        columns = {path: x.unbind() for path, x in self.components.items()}
        self._rows = [
            ({path: x[t] for path, x in columns.items()}, start) for t, start in enumerate(starts)
        ]

    def use_masks(self, size: int) -> Tensor:
        """The action masks `[T + 1, B, size]`; before the first mask everything is allowed."""
        if self.action_mask is None:
            self.action_mask = self.valid.new_ones(*self.valid.shape, size)
        return self.action_mask

    def row(self, t: int) -> tuple[Components, Tensor, Tensor | None]:
        """What the agent reads at row `t`: components `[B, ...]`, episode_start, action mask."""
        components, episode_start = self._rows[t]
        mask = None if self.action_mask is None else self.action_mask[t]
        return components, episode_start, mask

    def inputs(self, t: int) -> dict[str, Tensor]:
        """All that row `t` holds before the agent acts, by name; views, `[B, ...]` each."""
        # "leaf": the name in checkpoints since version 0.1.
        row = {f"leaf/{path}": x[t] for path, x in self.components.items()}
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
            components={path: cut(x) for path, x in self.components.items()},
            action_mask=None if self.action_mask is None else cut(self.action_mask),
            episode_start=cut(self.episode_start),
            valid=cut(self.valid),
            actions=cut(self.actions),
            log_probs=cut(self.log_probs),
            values=cut(self.values),
            advantages=cut(advantages),
            returns=cut(returns),
            state=cat_states(self.chunk_states[:-1]),
            end_state=cat_states(self.chunk_states[1:]),
        )
