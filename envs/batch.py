"""Batch-first environments: one class steps N at once; `single.py` makes one of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from recurrent_rl.envs.arguments import ActionCheck, check_count
from recurrent_rl.envs.card import Card, Played, draw, hidden_parts, write
from recurrent_rl.envs.drawing import Colours, entries_of, parts_of
from recurrent_rl.envs.streams import Streams

Rows = NDArray[np.intp]
Rewards = NDArray[np.float64]
Flags = NDArray[np.bool_]


RENDERING: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}
"""What Gymnasium is told of pictures: they are read, so few come in a second."""


class BatchEnv(VectorEnv[Any, Any, Any]):
    """N environments as NumPy arrays, in autoreset mode SAME_STEP.

    A subclass gives the two spaces and `max_episode_steps`, names in `state` its arrays of one row
    for each environment, and writes `_begin`, `_advance` and `_observe`. All that is random comes
    from `self.streams`, so that what an environment shows depends on its own seed only.

    Args:
        num_envs: number of environments.
        observation_space: of one environment.
        action_space: of one environment.
        max_episode_steps: the longest an episode can last.
        render_mode: None, `ansi` for text or `rgb_array` for pictures.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (declared as Gymnasium does)
        "autoreset_mode": AutoresetMode.SAME_STEP,
        **RENDERING,
    }
    state: ClassVar[tuple[str, ...]]
    """Names of the attributes that hold the environments' state: arrays `[N, ...]`."""
    to_remember: ClassVar[str] = "nothing"
    """What a policy must remember to do well, in a few words."""
    observation_names: Sequence[str] = ()
    """What each number of an observation of kinds stands for, for pictures: of at most two
    characters they stand on the tiles, and where one is empty the tile is too."""
    observation_labels: Sequence[str] = ()
    """What each entry of a MultiDiscrete observation is, where they are different things."""
    action_names: Sequence[str] = ()
    """The same of a Discrete action."""
    memoryless_return: float | None = None
    """Return of the best policy without memory, where it is known."""
    best_return: float | None = None
    """Return of the best policy, where it is known."""

    def __init__(
        self,
        num_envs: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        max_episode_steps: int,
        render_mode: str | None = None,
    ) -> None:
        check_count("num_envs", num_envs, 1)
        check_count("max_episode_steps", max_episode_steps, 1)
        self.num_envs = num_envs
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self.max_episode_steps = max_episode_steps
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(
                f"render_mode is {render_mode!r}; it must be None, "
                f"{' or '.join(self.metadata['render_modes'])}."
            )
        self.render_mode = render_mode
        self._played = None if render_mode is None else Played(num_envs)
        self._action_check = ActionCheck(self.action_space, action_space)
        self._streams: Streams | None = None
        self._all_rows: Rows = np.arange(num_envs)
        self._all_environments: Flags = np.ones(num_envs, dtype=bool)

    def _begin(self, rows: Rows) -> None:
        """Start new episodes in these environments."""
        raise NotImplementedError

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        """Step all environments: rewards, terminated and truncated, `[N]` each."""
        raise NotImplementedError

    def _observe(self) -> Any:
        """The observation `[N, ...]`, in memory of its own; may be read twice, draws nothing."""
        raise NotImplementedError

    def _success(self) -> Flags | None:
        """Whether each episode that ends now reached its goal, `[N]`; None if there is no goal."""
        return None

    def _infos(self) -> dict[str, NDArray[Any]]:
        """What infos hold at reset and at each step, `[N, ...]` each; for example action masks."""
        return {}

    def unseen(self, i: int) -> dict[str, Any]:
        """What environment i does not show now and a policy has to remember, by name.

        `answer` is the action that is right now, or will be when it is asked for. Other integers
        are kinds of what is observed, other numbers plain numbers; None is nothing now.
        """
        return {}

    def _scene(self, i: int, action: Any) -> Colours | None:
        """Environment i as a picture, after this action; None where it is no place."""
        return None

    def render(self) -> tuple[Any, ...] | None:
        """A card of each environment: a picture `[H, 640, 3]`, or text in mode `ansi`.

        Each shows the observation, what must be remembered, the last action and its reward. Where
        an episode has ended the card is of the next one, which has begun.
        """
        if self._played is None:
            gym.logger.warn("Make the environment with a render_mode: nothing is drawn without.")
            return None
        form = draw if self.render_mode == "rgb_array" else write
        observations = list(iterate(self.observation_space, self._observe()))
        return tuple(form(self._card(i, seen, self._played)) for i, seen in enumerate(observations))

    def _card(self, i: int, seen: Any, played: Played) -> Card:
        observes, acts = self.single_observation_space, self.single_action_space
        action = played.actions[i]
        observation = parts_of(observes, seen, self.observation_names)
        if self.observation_labels:
            observation = entries_of(observation[0], self.observation_labels)
        return Card(
            title=type(self).__name__,
            steps=int(played.steps[i]),
            total=float(played.totals[i]),
            observation=observation,
            action=[] if action is None else parts_of(acts, action, self.action_names),
            reward=None if action is None else float(played.rewards[i]) + 0.0,  # no -0
            to_remember="" if self.to_remember == "nothing" else self.to_remember,
            hidden=hidden_parts(
                self.unseen(i), observes, acts, self.action_names, self.observation_names
            ),
            scene=self._scene(i, action) if self.render_mode == "rgb_array" else None,
        )

    @property
    def streams(self) -> Streams:
        """The environments' random streams."""
        if self._streams is None:
            raise gym.error.ResetNeeded("Call reset() before step().")
        return self._streams

    def seed_streams(self, seed: int | Sequence[int] | None) -> None:
        """Give environment i the seed `seed + i` or `seed[i]`; None keeps the present streams."""
        if seed is None and self._streams is not None:
            return
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if isinstance(seed, (int, np.integer)):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [int(one) for one in seed]
            if len(seeds) != self.num_envs:
                raise ValueError(f"There are {len(seeds)} seeds for {self.num_envs} environments.")
        self._streams = Streams(seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start new episodes in all environments.

        Args:
            seed: environment i takes `seed + i`, or `seed[i]`; None continues the present streams.
            options: not used.

        Returns:
            The observation `[N, ...]`, and infos as SyncVectorEnv lays them out.
        """
        self.seed_streams(seed)
        self._begin(self._all_rows)
        if self._played is not None:
            self._played.begin(self._all_rows)
        return self._observe(), _with_masks(self._infos(), self._all_environments)

    def step(self, actions: Any) -> tuple[Any, Rewards, Flags, Flags, dict[str, Any]]:
        """Step all environments; where an episode ends, the next one begins in the same step.

        Args:
            actions: `[N, ...]`.

        Returns:
            The observation `[N, ...]`; rewards, terminated and truncated, `[N]` each; and infos, in
            which `final_obs` and `final_info` are those of the episodes that ended.
        """
        rewards, terminated, truncated = self._advanced(actions)
        observation = self._observe()
        done = terminated | truncated
        rows = np.flatnonzero(done)
        if not len(rows):
            infos = _with_masks(self._infos(), self._all_environments)
            return observation, rewards, terminated, truncated, infos
        final: NDArray[Any] = np.full(self.num_envs, None, dtype=object)
        if isinstance(observation, np.ndarray):
            final[rows] = list(observation[rows])
        else:
            each = list(iterate(self.observation_space, observation))
            for row in rows:
                final[row] = each[row]
        last_infos = self._infos()
        success = self._success()
        if success is not None:
            last_infos["is_success"] = success
        final_info = _with_masks(last_infos, done)
        self._begin(rows)
        if self._played is not None:
            self._played.begin(rows)
        infos = {
            **_with_masks(self._infos(), self._all_environments),
            "final_obs": final,
            "_final_obs": done,
            "final_info": final_info,
            "_final_info": done.copy(),
        }
        return self._observe(), rewards, terminated, truncated, infos

    def _advanced(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        """`_advance` with these actions, once they are checked; noted where pictures tell of it."""
        if self._streams is None:
            raise gym.error.ResetNeeded("Call reset() before step().")
        actions = self._action_check.read(actions)
        advanced = self._advance(actions)
        if self._played is not None:
            self._played.step(actions, advanced[0])
        return advanced

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """The exact state of all environments and their random streams, as arrays."""
        return self._arrays(self.streams)

    def _arrays(self, streams: Streams) -> dict[str, NDArray[Any]]:
        drawn = {f"streams/{name}": x for name, x in streams.state_dict().items()}
        return {name: np.array(getattr(self, name)) for name in self.state} | drawn

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue exactly where `state_dict` was taken, bit for bit.

        Raises:
            ValueError: the state is of another environment, other arguments or another number of
                environments; nothing is changed then.
        """
        streams = Streams([0] * self.num_envs)
        own = self._arrays(streams)
        if state.keys() != own.keys():
            raise ValueError(f"The state holds {sorted(state)}; expected {sorted(own)}.")
        for name, array in own.items():
            if state[name].shape != array.shape:
                raise ValueError(
                    f"{name} of the state has shape {list(state[name].shape)}; expected "
                    f"{list(array.shape)}: make the environment with the same arguments and "
                    "num_envs."
                )
        streams.load_state_dict(
            {n.removeprefix("streams/"): x for n, x in state.items() if n.startswith("streams/")}
        )
        self._streams = streams
        for name in self.state:
            setattr(self, name, state[name].copy())


def _with_masks(infos: dict[str, NDArray[Any]], present: Flags) -> dict[str, Any]:
    """Infos as SyncVectorEnv lays them out: `_name` says where they are, the rest holds zero."""
    masked: dict[str, Any] = {}
    for name, value in infos.items():
        masked[name] = np.where(
            present.reshape(-1, *[1] * (value.ndim - 1)), value, value.dtype.type()
        )
        masked[f"_{name}"] = present.copy()
    return masked
