"""Action masks: the forms in which they come, and those that are none."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from recurrent_rl.agents.action_masks import (
    ActionMaskError,
    allows_nothing,
    batch_of_masks,
    flat_mask,
    read_masks,
)

PAIR = spaces.MultiDiscrete([2, 3])
FLAT = [True, False, True, True, False]


@pytest.mark.parametrize(
    "mask",
    [
        [1, 0, 1, 1, 0],
        np.array(FLAT),
        ([1, 0], [1, 1, 0]),
        (np.array([1.0, 0.0]), np.array([1, 1, 0], np.int8)),
        np.array([[1, 0, 0], [1, 1, 0]]),  # filled up with a zero
    ],
    ids=repr,
)
def test_the_same_mask_in_each_of_its_forms(mask: Any) -> None:
    assert flat_mask(PAIR, mask).tolist() == FLAT
    assert batch_of_masks(PAIR, mask, 3, batched=True).tolist() == [FLAT] * 3
    assert batch_of_masks(PAIR, [mask] * 3, 3, batched=True).tolist() == [FLAT] * 3


@pytest.mark.parametrize(
    ("space", "mask", "what"),
    [
        (PAIR, [1, 0, 1, 1], r"of \[4\] entries does not fit .* expected 5, or \[2, 3\]"),
        (PAIR, [1, 0, 1, 1, 0, 0], r"of \[6\] entries"),
        (PAIR, [[1], [1, 1, 0]], r"of \[1, 3\] entries"),
        (PAIR, [[1, 0, 1], [1, 1, 0]], r"of \[3, 3\] entries"),  # an action that there is not
        (PAIR, [1, 0, 1, 2, 0], "expected 1 for what is allowed"),
        (spaces.Discrete(3), [1, 0, 0.5], "expected 1 for what is allowed"),
        (spaces.Discrete(3), [1, 1, 0, 0], r"of \[4\] entries does not fit .* expected 3\."),
        (spaces.Box(-1, 1), [1], "has no action masks"),
    ],
    ids=repr,
)
def test_a_mask_that_is_none_of_the_space_is_refused(
    space: gym.Space[Any], mask: Any, what: str
) -> None:
    with pytest.raises(ActionMaskError, match=what):
        flat_mask(space, mask)
    with pytest.raises(ActionMaskError):
        batch_of_masks(space, [mask] * 2, 2, batched=True)


def test_masks_of_another_number_of_streams_are_refused() -> None:
    with pytest.raises(ActionMaskError, match=r"of \[3, 3, 3\] entries does not fit"):
        batch_of_masks(spaces.Discrete(3), [[1, 0, 1]] * 3, 2, batched=True)


def test_each_component_needs_an_action_that_is_allowed() -> None:
    masks = np.array([[1, 0, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
    assert allows_nothing(PAIR, masks).tolist() == [False, True, True, True]
    for mask in masks[1:]:
        with pytest.raises(ActionMaskError, match="allow at least one"):
            read_masks(PAIR, [masks[0], mask], 2, batched=True)
