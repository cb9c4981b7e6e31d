"""What is asked of an observation, a reward, an end and a mask, whoever returned it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from recurrent_rl.agents.action_masks import mask_sizes
from recurrent_rl.agents.spaces import (
    FLOAT32_MAX,
    ObservationError,
    UnsupportedSpaceError,
    array_of_numbers,
    as_array,
    at,
    check_action_space,
    component_arrays,
    component_spaces,
    first_nonfinite,
    stack_observations,
)
from recurrent_rl.checks.finding import Report

CONTAINED = (
    "Return what observation_space.contains() accepts: mend what is returned, or widen the space."
)
FINE = 16
"""Different values of a number that must be told apart, at least."""
RESET = "Define it as reset(self, *, seed=None, options=None), and call super().reset(seed=seed)."


def check_spaces(env: gym.Env[Any, Any] | VectorEnv, report: Report, prefix: str = "") -> bool:
    """Whether an agent can be made for an environment's spaces; `prefix` is of their attributes."""
    refused = False
    for name, check in (("observation", component_spaces), ("action", check_action_space)):
        space: Any = getattr(env, f"{prefix}{name}_space", None)
        try:
            check(space)
        except UnsupportedSpaceError as error:
            report.refused(f"{name} space", error, "Use another space.")
            refused = True
    return not refused


def check_observations(space: gym.Space[Any], batch: Any, where: str, report: Report) -> None:
    """Look at a batch of observations: types, shapes, bounds, finite numbers."""
    try:
        arrays = component_arrays(space, batch)
    except (ObservationError, LookupError, TypeError) as error:
        report.fault("observation", f"{where}: {error}", CONTAINED)
        return
    if (found := first_nonfinite(arrays)) is not None:
        what = f"{where}: the observation{at(found[0])} holds a number that is not finite"
        report.fault("observation", f"{what}, or beyond float32.", CONTAINED)
        return
    for path, component in component_spaces(space).items():
        if not isinstance(component, spaces.Box):
            continue
        given = arrays[path]
        if given.dtype != component.dtype:
            report.note(
                "observation type",
                f"{where}: the observation{at(path)} is of type {given.dtype}, where its space "
                f"says {component.dtype}; it is cast at every step.",
                f"Return a NumPy array of {component.dtype}.",
            )
        cast = given.astype(component.dtype)
        outside = (cast < component.low) | (cast > component.high)
        if outside.any():
            entry = tuple(int(i) for i in np.argwhere(outside)[0])
            bounds = f"[{component.low[entry[1:]]}, {component.high[entry[1:]]}]"
            report.fault(
                "observation",
                f"{where}: the observation{at(path)} is {given[entry]} at {list(entry[1:])}, "
                f"outside of its bounds {bounds}.",
                CONTAINED,
            )


def check_resolution(space: gym.Space[Any], observations: list[Any], report: Report) -> None:
    """Look whether what changes from one observation to the next can be told apart.

    A type of floats keeps so many digits: beside a large number that is always there, the last of
    them are lost.
    """
    if "observation" in report or not observations:
        return
    shown = component_arrays(space, stack_observations(space, observations))
    for path, component in component_spaces(space).items():
        if not isinstance(component, spaces.Box) or component.dtype.kind != "f":
            continue
        x = shown[path].astype(component.dtype)
        largest = np.abs(x).max(axis=0)
        step = np.spacing(largest)
        lost = (np.ptp(x, axis=0) < FINE * step) & (step >= 1)
        if lost.any():
            entry = tuple(int(i) for i in np.argwhere(lost)[0])
            report.note(
                "resolution",
                f"The observation{at(path)} is near {largest[entry]:.3g} at {list(entry)}, where "
                f"{component.dtype} distinguishes only numbers that are {step[entry]:.3g} apart.",
                "Return it less its first value, or its change since the step before.",
            )


def check_reward(reward: Any, where: str, report: Report) -> None:
    """Look at one reward."""
    array = array_of_numbers(reward)
    if array is None or array.size != 1:
        report.fault(
            "reward", f"{where}: the reward is {reward!r}, which is no number.", "Return a float."
        )
    elif not abs(float(array.reshape(()))) <= FLOAT32_MAX:
        report.fault(
            "reward",
            f"{where}: the reward is {reward!r}, which is no finite float32 number.",
            "Return a finite float.",
        )
    elif array.ndim:
        report.note(
            "reward",
            f"{where}: the reward is an array of shape {list(array.shape)}; it is read as a "
            "number.",
            "Return a float.",
        )


def check_end(name: str, flag: Any, where: str, report: Report) -> bool:
    """Whether `terminated` or `truncated` is true; finds fault with what is neither."""
    array = array_of_numbers(flag)
    if array is None or array.size != 1 or array.item() not in (0, 1):
        report.fault(
            "ends",
            f"{where}: {name} is {flag!r}, which is neither true nor false.",
            f"Return {name} as a bool.",
        )
        return False
    if array.dtype.kind != "b" or array.ndim:
        report.note(
            "ends",
            f"{where}: {name} is {flag!r}; it is read as {bool(array.item())}.",
            f"Return {name} as a bool.",
        )
    return bool(array.item())


def allowed_action(
    space: gym.Space[Any], mask: NDArray[np.bool_] | None, draw: np.random.Generator
) -> Any:
    """A random action; one that the mask `[n]` allows, where there is one."""
    sizes = mask_sizes(space)
    if mask is None or sizes is None:
        return space.sample()
    parts = np.split(mask, np.cumsum(sizes)[:-1])
    chosen = [int(draw.choice(np.flatnonzero(part))) for part in parts]
    if isinstance(space, spaces.Discrete):
        return space.start + chosen[0]
    assert isinstance(space, spaces.MultiDiscrete)
    return space.start + np.array(chosen, dtype=space.dtype).reshape(space.shape)


def same(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    """Whether two results are the same, of whatever nesting; numbers to within a tolerance."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key], tolerance) for key in a)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    one, other = as_array(a), as_array(b)
    if one.shape != other.shape:
        return False
    if one.dtype.kind not in "fc" or other.dtype.kind not in "fc":
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True))
