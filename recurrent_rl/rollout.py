"""Rollouts: what the agent saw and did, and the collector that carries its memory across them."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.compiled import frozen_weights
from recurrent_rl.agents.spaces import (
    Leaves,
    ObservationError,
    first_nonfinite,
    leaf_arrays,
    stack_observations,
    storage_dtype,
)
from recurrent_rl.agents.states import MemoryState, cat_states, select_state
from recurrent_rl.episodes import EpisodeStatistics
from recurrent_rl.errors import UserError


def action_masks(infos: dict[str, Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The copies' action masks `[B, n]`; all is allowed in a copy that does not tell.

    Args:
        infos: of a vector environment's reset or step.
        shape: `(B, n)`.
    """
    masks = np.ones(shape, dtype=bool)
    if "action_mask" in infos:
        told = np.asarray(infos.get("_action_mask", np.ones(shape[0])), dtype=bool)
        masks[told] = np.asarray(infos["action_mask"]).reshape(shape)[told]
    return masks


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
        self, agent: ActorCritic, num_steps: int, num_envs: int, chunk_length: int, masked: bool
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
        self.action_mask = (
            zeros(rows, agent.head.mask_size, dtype=torch.bool)
            if masked and agent.head.mask_size is not None
            else None
        )
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
        seed: of the environments and of the sampling of actions.

    Raises:
        UserError: the autoreset mode is DISABLED or unknown; an observation or reward is NaN or
            infinite, or an observation is outside its declared shape.
    """

    def __init__(
        self, env: VectorEnv, agent: ActorCritic, num_steps: int, chunk_length: int, seed: int
    ) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
            raise UserError(
                f"The environment's autoreset_mode is {mode}; recurrent-rl needs SAME_STEP or "
                "NEXT_STEP. For gymnasium.vector.SyncVectorEnv and AsyncVectorEnv pass "
                "autoreset_mode=AutoresetMode.SAME_STEP; another vector environment must name its "
                'mode in metadata["autoreset_mode"].'
            )
        self.env = env
        self.agent = agent
        self.same_step = mode is AutoresetMode.SAME_STEP
        self.episodes = EpisodeStatistics.of(env.num_envs)
        self.generator = torch.Generator(agent.device).manual_seed(seed)
        self.steps_taken = 0
        observation, infos = env.reset(seed=seed)
        masked = agent.head.mask_size is not None and "action_mask" in infos
        self.rollout = Rollout(agent, num_steps, env.num_envs, chunk_length, masked)
        self._start(observation, infos)

    def restart(self, seed: int) -> None:
        """Begin new episodes in all copies, with a fresh memory."""
        self._start(*self.env.reset(seed=seed))

    def _start(self, observation: Any, infos: dict[str, Any]) -> None:
        self.state = self.agent.initial_state(self.env.num_envs)
        self._write_observation(self.rollout.num_steps, observation, infos)
        self.rollout.episode_start[-1] = True
        self.rollout.valid[-1] = True

    def next_row(self) -> dict[str, Tensor]:
        """What the agent will read first in the next rollout, by name; views, `[B, ...]` each."""
        return self.rollout.inputs(-1)

    @torch.no_grad()
    @frozen_weights()
    def collect(self) -> Rollout:
        """Take `num_steps` steps; the result is overwritten by the next call."""
        rollout, agent, state = self.rollout, self.agent, self.state
        self._carry_over()
        rollout.chunk_states = []
        truncations: list[_Truncation] = []
        for t in range(rollout.num_steps):
            if t % rollout.chunk_length == 0:
                rollout.chunk_states.append(state)
            leaves, episode_start, mask = rollout.row(t)
            output, state = agent.step(leaves, state, episode_start, mask)
            action = output.distribution.sample(self.generator)
            rollout.values[t] = output.value
            rollout.actions[t] = action
            rollout.log_probs[t] = output.distribution.log_prob(action)

            observation, reward, terminated, truncated, infos = self.env.step(
                agent.head.to_env(action)
            )
            self.steps_taken += 1
            self._write_outcome(t, reward, terminated, truncated, infos)
            self._write_observation(t + 1, observation, infos, t)
            ended_by_time = truncated & ~terminated
            if self.same_step and ended_by_time.any():
                truncations.append(self._truncation(t, ended_by_time, infos, state))
        rollout.chunk_states.append(state)
        self.state = state
        self._value_what_followed(truncations)
        return rollout

    def _carry_over(self) -> None:
        """The row after the last step becomes the first row."""
        first = self.rollout.inputs(0)
        for name, x in self.next_row().items():
            first[name].copy_(x)

    def _write_outcome(
        self,
        t: int,
        reward: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        infos: dict[str, Any],
    ) -> None:
        rollout = self.rollout
        if not np.isfinite(reward).all():
            copy = int(np.flatnonzero(~np.isfinite(reward))[0])
            raise UserError(
                f"The environment returned reward {reward[copy]} in copy {copy} at step "
                f"{self.steps_taken}. A reward must be a finite number; mend the environment."
            )
        done = terminated | truncated
        rollout.rewards[t] = torch.as_tensor(reward)
        rollout.terminated[t] = torch.as_tensor(terminated)
        rollout.truncated[t] = torch.as_tensor(truncated)
        valid = rollout.valid[t]
        self.episodes.step(reward, done, infos, valid.cpu().numpy())
        if self.same_step:
            rollout.episode_start[t + 1] = torch.as_tensor(done)
            rollout.valid[t + 1] = True
        else:
            # NEXT_STEP: the row after an end still shows the old episode's last observation, its
            # action is ignored, and the new episode starts in the row behind it.
            rollout.episode_start[t + 1] = ~valid
            rollout.valid[t + 1] = ~torch.as_tensor(done, device=valid.device)

    def _write_observation(
        self, row: int, observation: Any, infos: dict[str, Any], t: int | None = None
    ) -> None:
        """Fill `row` with an observation, and with the action and reward of step `t` before it."""
        rollout, agent = self.rollout, self.agent
        leaves = self._leaves(agent.observation_space, observation)
        if t is not None:
            leaves = agent.with_previous(leaves, rollout.actions[t], rollout.rewards[t])
        for path, x in leaves.items():
            rollout.leaves[path][row].copy_(x)
        if rollout.action_mask is not None:
            shape = tuple(rollout.action_mask[row].shape)
            rollout.action_mask[row] = torch.as_tensor(action_masks(infos, shape))

    def _leaves(self, space: gym.Space[Any], observation: Any, rows: Any = None) -> Leaves:
        try:
            arrays = leaf_arrays(space, observation)
        except ObservationError as error:
            raise UserError(f"At step {self.steps_taken}: {error} Mend the environment.") from error
        if (bad := first_nonfinite(arrays)) is not None:
            path, index = bad
            copy = index if rows is None else int(rows[index])
            raise UserError(
                f"The environment returned an observation with NaN or infinity in copy {copy} at "
                f"step {self.steps_taken}" + (f", under {path!r}" if path else "") + ". "
                "Observations must be finite numbers; mend the environment."
            )
        return {path: torch.as_tensor(x) for path, x in arrays.items()}

    def _truncation(
        self, t: int, ended: NDArray[np.bool_], infos: dict[str, Any], state: MemoryState
    ) -> _Truncation:
        """Keep the final observations of the copies that ended by time, and their memory."""
        if "final_obs" not in infos:
            raise UserError(
                "The environment truncated an episode without infos['final_obs']: with autoreset "
                "mode SAME_STEP the last observation of an episode must be given there."
            )
        agent, rollout = self.agent, self.rollout
        copies = np.flatnonzero(ended)
        rows = torch.as_tensor(copies, device=agent.device)
        final = stack_observations(
            agent.observation_space, [infos["final_obs"][copy] for copy in copies]
        )
        leaves = agent.with_previous(
            {
                path: x.to(agent.device, rollout.leaves[path].dtype)
                for path, x in self._leaves(agent.observation_space, final, copies).items()
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
