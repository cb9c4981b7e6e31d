"""Action masks: which actions are allowed, in any of the forms in which environments say it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.spaces import as_array


class ActionMaskError(UserError):
    """An action mask that does not fit its action space, or allows nothing."""


def mask_sizes(space: gym.Space[Any]) -> list[int] | None:
    """How many actions each component of an action has; None where actions have no masks."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec.reshape(-1)]
    return None


def flat_mask(space: gym.Space[Any], mask: Any) -> NDArray[np.bool_]:
    """One action mask, the components one behind the other.

    Args:
        space: Discrete or MultiDiscrete.
        mask: 1 or true for what is allowed: `[n]`, n the sum of all components' actions; or one
            mask for each component, as Gymnasium nests them, also as the rows of a matrix that is
            filled up with zeros.

    Returns:
        bool `[n]`.

    Raises:
        ActionMaskError: the space has no masks, or this is none of its.
    """
    sizes = mask_sizes(space)
    if sizes is None:
        raise ActionMaskError(f"{space} has no action masks; leave them out.")
    parts = [as_array(part).reshape(-1) for part in _mask_parts(mask)]
    if len(parts) == len(sizes) > 1:
        fits = all(
            len(part) >= size and not part[size:].any()
            for part, size in zip(parts, sizes, strict=True)
        )
        flat = np.concatenate([part[:n] for part, n in zip(parts, sizes, strict=True)])
    else:
        flat = np.concatenate(parts) if parts else np.empty(0)
        fits = len(flat) == sum(sizes)
    if not fits:
        shape = [len(part) for part in parts] if len(parts) > 1 else [len(flat)]
        raise ActionMaskError(
            f"An action mask of {shape} entries does not fit {space}; expected "
            + (f"{sizes[0]}." if len(sizes) == 1 else f"{sum(sizes)}, or {sizes}.")
        )
    return as_mask(flat)


def _mask_parts(mask: Any) -> list[Any]:
    """What a mask is nested of: itself, or the masks of its components, in order."""
    if isinstance(mask, (list, tuple)):
        inner = [part for one in mask for part in _mask_parts(one)]
        scalars = all(np.ndim(part) == 0 for part in inner)
        return [np.array(inner)] if scalars and inner else inner
    array = as_array(mask)
    if array.dtype.kind == "O" and array.ndim:
        return _mask_parts(array.tolist())
    return list(array.reshape(-1, array.shape[-1])) if array.ndim > 1 else [array]


def as_mask(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Zeros and ones of any type as bool.

    Raises:
        ActionMaskError: there is something else among them.
    """
    if array.dtype.kind == "b":
        return array
    try:
        values = array.astype(np.float64)
    except (TypeError, ValueError):
        values = np.full(array.shape, np.nan)
    if not ((values == 0) | (values == 1)).all():
        raise ActionMaskError(
            f"An action mask holds {array.tolist()}; expected 1 for what is allowed and 0 for "
            "what is not."
        )
    allowed: NDArray[np.bool_] = values == 1
    return allowed


def batch_of_masks(
    space: gym.Space[Any], masks: Any, batch: int, batched: bool
) -> NDArray[np.bool_]:
    """Masks for a batch of actions as bool `[B, n]`: one for each, or one for all.

    Args:
        space: of one action.
        masks: in any form of `flat_mask`; with `batched` also an array or list of `B` of them.
        batch: `B`.
        batched: whether a list of `B` entries can be one mask for each.

    Raises:
        ActionMaskError: as `flat_mask`.
    """
    refused: ActionMaskError | None = None
    if batched:
        try:
            if len(masks) == batch:
                return np.stack([flat_mask(space, mask) for mask in masks])
        except TypeError:  # no list of masks, nor one mask
            pass
        except ActionMaskError as error:
            refused = error
    try:
        one = flat_mask(space, masks)
    except ActionMaskError as error:
        raise (refused or error) from None
    return np.tile(one, (batch, 1))


def read_masks(space: gym.Space[Any], masks: Any, batch: int, batched: bool) -> NDArray[np.bool_]:
    """As `batch_of_masks`, each of which allows something.

    Raises:
        ActionMaskError: as `batch_of_masks`, or a mask allows nothing.
    """
    found = batch_of_masks(space, masks, batch, batched)
    if allows_nothing(space, found).any():
        raise ActionMaskError(
            "action_masks forbids every action, or every one of a component; allow at least one."
        )
    return found


def allows_nothing(space: gym.Space[Any], masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For which of the masks `[B, n]` some component of the action has nothing left to choose."""
    starts = np.cumsum([0, *(mask_sizes(space) or [])[:-1]])
    left = np.add.reduceat(masks, starts, axis=1, dtype=np.int64)
    nothing: NDArray[np.bool_] = (left == 0).any(axis=1)
    return nothing
