"""A vector environment whose every result has its type: what training and evaluation step.

Environments return rewards as lists, ends as integers, masks as tuples, and successes in whatever
step they happen. All of it is brought to one form here, once, or refused by environment and step.
Both autoreset modes look alike from here on: a step says where episodes start, and which rows an
autoreset inserted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from recurrent_rl.agents.action_masks import (
    ActionMaskError,
    allows_nothing,
    as_mask,
    flat_mask,
    mask_sizes,
)
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.arguments import argument
from recurrent_rl.agents.moments import Total
from recurrent_rl.agents.raising import place
from recurrent_rl.agents.spaces import (
    FLOAT32_MAX,
    ObservationError,
    as_array,
    rows_of,
    stack_observations,
)
from recurrent_rl.envs.batch import BatchEnv
from recurrent_rl.errors import RaisedError, UserError
from recurrent_rl.fields import InfoKeys
from recurrent_rl.vector_env.checked_env import (
    CheckedEnv,
    in_a_word,
    with_masks_in_infos,
    wrong_result,
)
from recurrent_rl.vector_env.infos import MEND, SUCCESS, UNREAD_SUCCESS, recorded, reported
from recurrent_rl.vector_env.wrapping import OwnObservations, layers

Arrays = dict[str, NDArray[Any]]

NEEDED_MODE = (
    "recurrent-rl needs SAME_STEP or NEXT_STEP. For gymnasium.vector.SyncVectorEnv and "
    "AsyncVectorEnv pass autoreset_mode=AutoresetMode.SAME_STEP; another vector environment names "
    'its mode in metadata["autoreset_mode"], as gymnasium.vector.AutoresetMode has it and not as '
    "text."
)


def unusable_mode(env: VectorEnv) -> str | None:
    """The autoreset mode of an environment, in words, where it is not one that is needed."""
    mode = env.metadata.get("autoreset_mode")
    if mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
        return None
    return repr(mode) if isinstance(mode, str) else str(mode)


class Final(NamedTuple):
    """The last observations of the episodes that were cut by time, in mode SAME_STEP."""

    indices: NDArray[np.intp]
    """`[n]`: the numbers of their environments."""
    observation: Arrays
    """`[n, ...]` by component."""


class Step(NamedTuple):
    """What all `B` environments show after a reset or a step."""

    observation: Arrays
    """What the agent reads next, by component, `[B, ...]`."""
    episode_start: NDArray[np.bool_]
    """`[B]`: whether it is an episode's first."""
    valid: NDArray[np.bool_]
    """`[B]`: false where the next action is ignored, since in mode NEXT_STEP it only resets."""
    action_mask: NDArray[np.bool_] | None
    """`[B, n]`: what the next action may be; None where no environment gives a mask."""
    reward: NDArray[np.float64]
    """`[B]`: of the step just taken; 0 where it only reset."""
    terminated: NDArray[np.bool_]
    """`[B]`."""
    truncated: NDArray[np.bool_]
    """`[B]`."""
    reported: dict[str, NDArray[np.float64]]
    """What infos say of the step just taken, by key, where they say anything: `is_success` as 1 or
    0, and each of the `info_metrics`; `[B]`, NaN where nothing was reported."""
    recorded: NDArray[np.float64] | None
    """`[2, B]`: return and length of the episodes that ended, as RecordEpisodeStatistics tells
    them, NaN elsewhere; None where it tells of none."""
    final: Final | None
    """Where mode SAME_STEP has already begun the next episode."""


TURN = "recurrent_rl_turn"
"""The attribute of what is stepped that tells whose turn it is: who reset it last."""


def _innermost(env: VectorEnv) -> object:
    """What two vector environments share that step the same environments."""
    base = env.unwrapped
    return base.envs[0].unwrapped if isinstance(base, SyncVectorEnv) else base


def _lent(env: VectorEnv) -> list[gym.Env[Any, Any]] | None:
    """What stands in for the environments of a SyncVectorEnv that was not made here; None: nothing.

    Gymnasium's takes an episode's last observation as the environment hands it out. One that writes
    the next over it would be read wrongly, and nobody would ask a method `action_masks`.
    """
    base = env.unwrapped
    if type(base) is not SyncVectorEnv:  # what is of another class may look for its own inside
        return None
    checked = any(isinstance(layer, CheckedEnv) for layer in layers(base.envs[0]))
    if checked or not all(isinstance(one, gym.Env) for one in base.envs):
        return None
    return [with_masks_in_infos(OwnObservations(one)) for one in base.envs]


def final_is_batched(given: Any, space: gym.Space[Any]) -> bool:
    """Whether last observations come as the observation does, and not one for each environment.

    Args:
        given: as `infos["final_obs"]`.
        space: of one observation.
    """
    if isinstance(space, gym.spaces.Dict):
        return isinstance(given, Mapping)
    if isinstance(space, gym.spaces.Tuple):
        return isinstance(given, tuple) and len(given) == len(space.spaces)
    return False


class Environments:
    """The environments of a vector environment, as an agent sees them.

    Args:
        env: in autoreset mode SAME_STEP or NEXT_STEP. Which numbers in its infos are read is its
            attribute `info_metrics`, as `make_vector_env` sets it.
        agent: reads its observations.

    Attributes:
        count: number of environments, `B`.
        info_metrics: keys of the numbers that are read of infos.
        steps: taken by each environment.
        valid: bool `[B]`; false where the next action is ignored, since in mode NEXT_STEP it only
            resets. With `steps`, all that a resumed run has to put back here.
        unread_success: whether an info at an end had `success`, which is not read, so far.

    Raises:
        UserError: the autoreset mode is DISABLED or unknown.
    """

    def __init__(self, env: VectorEnv, agent: ActorCritic) -> None:
        if (mode := unusable_mode(env)) is not None:
            raise UserError(f"The environment's autoreset_mode is {mode}; {NEEDED_MODE}")
        self.env = env
        self.count = env.num_envs
        self.agent = agent
        self.same_step = env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        self.info_metrics: tuple[str, ...] = argument(
            "info_metrics", getattr(env.unwrapped, "info_metrics", ()), InfoKeys
        )
        self.steps = 0
        self.unread_success = False
        self.valid = np.ones(self.count, dtype=bool)
        self._innermost, self._turn = _innermost(env), object()
        self._lent = _lent(env)

    def reset(self, seed: int | None, centre: Total | None = None) -> Step:
        """Start new episodes in all environments.

        Args:
            seed: environment i takes `seed + i`.
            centre: let the agent subtract from all observations what is far from zero in this one,
                over the environments of all workers.

        Raises:
            UserError: what the environment returned is not what its spaces declare.
            RaisedError: it called exit.
        """
        self._turn = object()
        setattr(self._innermost, TURN, self._turn)
        result = self._called(self.env.reset, seed=seed)
        if wrong := wrong_result("reset", result):
            raise self._fault(wrong)
        observation, infos = result[0], self._mapping(result[1])
        if centre is not None:
            self._read(observation, partial(self.agent.centre_on, total=centre))
        none = np.zeros(self.count, dtype=bool)
        self.valid = ~none
        return Step(
            observation=self._read(observation),
            episode_start=~none,
            valid=self.valid,
            action_mask=self._masks(infos, self.valid),
            reward=np.zeros(self.count),
            terminated=none,
            truncated=none,
            reported={},
            recorded=None,
            final=None,
        )

    def step(self, actions: NDArray[Any]) -> Step:
        """Step all environments.

        Args:
            actions: `[B, ...]`, in the action space's type.

        Raises:
            UserError: what the environment returned is not what its spaces declare, or no finite
                number; the message names the environment, its number and the step. Or others have
                reset these environments meanwhile.
            RaisedError: an environment called exit.
        """
        if getattr(self._innermost, TURN, None) is not self._turn:
            raise UserError(
                f"{self._name()} was reset by others after step {self.steps}, such as by "
                "evaluate(policy, env) amid a training on that env: its episodes were lost. Give "
                "evaluate environments of its own: the id, the class or the function that makes "
                "them."
            )
        result = self._called(self.env.step, actions)
        self.steps += 1
        if wrong := wrong_result("step", result):
            raise self._fault(wrong)
        observation, reward, terminated, truncated, given = result
        infos = self._mapping(given)
        inserted = ~self.valid
        terminated = self._flags("terminated", terminated)
        truncated = self._flags("truncated", truncated)
        done = terminated | truncated
        ends = bool(done.any())
        if ends:
            self._check_mode("final_obs" in infos, bool((done & inserted).any()))
            final = infos.get("final_info")
            self.unread_success |= UNREAD_SUCCESS in infos or (
                isinstance(final, Mapping) and UNREAD_SUCCESS in final
            )
        if self.same_step:
            start = done
        else:
            # The row after an end still shows the old episode's last observation, its action is
            # ignored, and the new episode starts in the row behind it.
            start, self.valid = inserted, ~done
        return Step(
            observation=self._read(observation),
            episode_start=start,
            valid=self.valid,
            action_mask=self._masks(infos, self.valid),
            reward=self._rewards(reward, inserted),
            terminated=terminated,
            truncated=truncated,
            reported=self._reported(infos, done, inserted),
            recorded=self._recorded(infos, done) if ends else None,
            final=self._final(infos, truncated & ~terminated) if self.same_step and ends else None,
        )

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute of every environment.

        Raises:
            UserError: an environment has none of this name, or refuses the value; or the vector
                environment has no `set_attr`.
        """
        env: Any = self.env
        while isinstance(env, VectorWrapper) and not hasattr(env, "set_attr"):
            env = env.env
        if not hasattr(env, "set_attr"):
            fix = "Set vectorization to sync, or write that method: values has one for each."
            if isinstance(env.unwrapped, BatchEnv):
                fix = "Vary env_kwargs instead, and go on from the trained policy (init_from)."
            raise UserError(
                f"{self._name()} is stepped in one batch, without a method set_attr(name, values), "
                f"and a callback sets its attribute {name!r}. {fix}"
            )
        if hasattr(env, "call") and not all(env.call("has_wrapper_attr", name)):
            raise UserError(
                f"{self._name()} does not have the attribute {name!r} that a callback sets. "
                "Correct the name, or define the attribute in the environment's __init__."
            )
        try:
            env.set_attr(name, [value] * self.count)  # a list given alone would be one for each
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self._name()} refuses what a callback sets its attribute {name!r} to: {error}. "
                "Set another value, or define an attribute that can be set."
            ) from error

    @contextmanager
    def _lending(self) -> Iterator[None]:
        """Have what stands in for environments that were given do so, as long as they are stepped.

        Their owner finds them as they were.
        """
        if self._lent is None:
            yield
            return
        base: Any = self.env.unwrapped
        own, base.envs = base.envs, self._lent
        try:
            yield
        finally:
            base.envs = own

    def _called(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a method of the environment returns; its exit is a fault like any error of it."""
        try:
            with self._lending():
                return method(*args, **kwargs)
        except SystemExit as error:
            code = "" if error.code is None else repr(error.code)
            raise RaisedError(
                f"{self._name()} called exit({code}) after step {self.steps}{place(error)}. An "
                "environment ends episodes, and raises an error where it cannot go on: mend it."
            ) from error

    def _check_mode(self, has_final: bool, ends_again: bool) -> None:
        """Refuse ends that are not those of the autoreset mode that the environment names.

        Args:
            has_final: whether the infos of a step with an end have `final_obs`.
            ends_again: whether an environment has ended that the step had only to reset.
        """
        if self.same_step and not has_final:
            raise self._fault(
                "an end without infos['final_obs']: in autoreset mode SAME_STEP the last "
                "observation of an episode must be given there",
                'Give it; or name the mode NEXT_STEP in metadata["autoreset_mode"], if the next '
                "step is the one that resets.",
            )
        if not self.same_step and (has_final or ends_again):
            gave = "infos['final_obs']" if has_final else "an end in the step that only resets"
            raise self._fault(
                f"{gave}, which there is not in autoreset mode NEXT_STEP",
                'Name the mode SAME_STEP in metadata["autoreset_mode"], if an episode begins in '
                "the step that ends the one before.",
            )

    def _read(
        self, observation: Any, read: Callable[[Any], Any] | None = None, what: str = ""
    ) -> Arrays:
        """The components of an observation of all environments, or what else the reader makes."""
        try:
            arrays: Arrays = (read or self.agent.read)(observation)
        except ObservationError as error:
            raise self._fault(f"{what}{error}") from error
        if not (read or what) and (sizes := {len(x) for x in arrays.values()}) != {self.count}:
            raise self._fault(
                f"an observation of {sizes.pop()} environments, where there are {self.count}"
            )
        return arrays

    def _mapping(self, infos: Any) -> Mapping[str, Any]:
        if not isinstance(infos, Mapping):
            raise self._fault(f"infos that are {in_a_word(infos)}; expected a dictionary")
        return infos

    def _rewards(self, given: Any, inserted: NDArray[np.bool_]) -> NDArray[np.float64]:
        rewards = self._column("reward", given)
        if not self.same_step:
            rewards[inserted] = 0.0
        # NaN compares as false. Beyond float32 a reward would be infinite once stored.
        if not (finite := np.abs(rewards) <= FLOAT32_MAX).all():
            i = int(np.flatnonzero(~finite)[0])
            raise self._fault(
                f"reward {rewards[i]} in environment {i}; a reward must be a finite float32 number"
            )
        return rewards

    def _flags(self, name: str, given: Any) -> NDArray[np.bool_]:
        """Truth of each environment, in an array of its own: some write the next over theirs."""
        array = as_array(given)
        if array.dtype.kind == "b" and array.shape == (self.count,):
            return array.copy()
        values = self._column(name, given)
        flags: NDArray[np.bool_] = values == 1
        if not (flags | (values == 0)).all():
            raise self._fault(
                f"{name} {values.tolist()}; expected true or false of each environment"
            )
        return flags

    def _column(self, name: str, given: Any) -> NDArray[np.float64]:
        """One number of each environment, in an array of its own."""
        array, count = as_array(given), self.count
        if array.dtype.kind in "biufO" and array.shape in ((count,), (count, 1)):
            try:
                return array.reshape(count).astype(np.float64)
            except (TypeError, ValueError):
                pass
        raise self._fault(
            f"{name} of shape {list(array.shape)} and type {array.dtype}; expected one number of "
            f"each of {count} environments"
        )

    def _masks(
        self, infos: Mapping[str, Any], valid: NDArray[np.bool_]
    ) -> NDArray[np.bool_] | None:
        """The action masks `[B, n]`; all is allowed in an environment that gives none."""
        if "action_mask" not in infos:
            return None
        space, count = self.agent.action_space, self.count
        masked = np.asarray(infos.get("_action_mask", np.ones(count)), dtype=bool) & valid
        given = infos["action_mask"]
        try:
            sizes = mask_sizes(space)
            masks = np.ones((count, sum(sizes or [0])), dtype=bool)
            array = given if isinstance(given, np.ndarray) else None
            if sizes and array is not None and array.shape == masks.shape:
                masks[masked] = as_mask(array[masked])
            else:
                for i in np.flatnonzero(masked).tolist():
                    masks[i] = flat_mask(space, given[i])
        except (ActionMaskError, IndexError, KeyError, TypeError) as error:
            raise self._fault(f"infos['action_mask'] that cannot be used: {error}") from error
        if not sizes:
            return None
        self.agent.check_masks(masks.shape[1])
        if (nothing := allows_nothing(space, masks)).any():
            i = int(np.flatnonzero(nothing)[0])
            raise self._fault(
                f"an action mask in environment {i} that forbids every action, or every one of a "
                f"component: {masks[i].astype(int).tolist()}; allow at least one"
            )
        return masks

    def _reported(
        self, infos: Mapping[str, Any], done: NDArray[np.bool_], inserted: NDArray[np.bool_]
    ) -> dict[str, NDArray[np.float64]]:
        """What infos say of the step just taken, by key, where they say anything: `[B]` each."""
        parts: list[tuple[Any, NDArray[np.bool_]]] = [(infos, ~inserted)]
        if self.same_step and "final_info" in infos:
            # Where an episode has ended, the infos are already those of the next one.
            parts = [(infos, ~done), (infos["final_info"], done)]
        try:
            return reported(parts, (SUCCESS, *self.info_metrics), self.count)
        except UserError as error:
            raise self._fault(str(error), fix="") from error

    def _recorded(
        self, infos: Mapping[str, Any], done: NDArray[np.bool_]
    ) -> NDArray[np.float64] | None:
        """What RecordEpisodeStatistics, around one or all, says of the episodes that ended."""
        return recorded([(infos, done), (infos.get("final_info"), done)], self.count)

    def _final(self, infos: Mapping[str, Any], by_time: NDArray[np.bool_]) -> Final | None:
        """The last observations of these environments; None: there are none."""
        if not by_time.any():
            return None
        indices, space = np.flatnonzero(by_time), self.agent.observation_space
        given = infos["final_obs"]
        try:
            if final_is_batched(given, space):
                stacked = rows_of(given, indices)
            else:
                stacked = stack_observations(space, [given[i] for i in indices])
        except (ObservationError, IndexError, KeyError, TypeError) as error:
            raise self._fault(f"infos['final_obs'] that cannot be read: {error}") from error
        where = f"among the final observations of environments {indices.tolist()}: "
        return Final(indices, self._read(stacked, what=where))

    def _fault(self, what: str, fix: str = MEND) -> UserError:
        """The error that says what the environment gave, and where."""
        return UserError(
            f"{self._name()} gave at step {self.steps}: {what.rstrip('.')}. {fix}".rstrip()
        )

    def _name(self) -> str:
        spec = self.env.spec
        return f"Environment {spec.id}" if spec is not None else "The environment"
