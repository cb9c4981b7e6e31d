"""A trained policy on NumPy: `from policy import Policy`. Needs numpy and safetensors.

    policy = Policy()  # reads policy.safetensors, which lies beside this file
    action = policy.act(observation)  # keeps the memory; an episode starts
    action = policy.act(observation)  # the next step of it
    policy.reset()  # the next observation starts an episode

Written by recurrent-rl from a policy that it trained. The weights' file also holds the step: a list
of plain array operations. Nothing of it is executed as code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

Array = Any
"""A NumPy array."""


class Policy:
    """Plays one stream of observations, or several side by side, and keeps the memory between.

    Args:
        path: of the weights' file; by default `policy.safetensors` beside this file.

    Attributes:
        signature: what a step takes and gives: names, shapes, types and meaning.
        step: the step as a function of all its inputs, the state among them.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        path = Path(__file__).with_name("policy.safetensors") if path is None else path
        with safe_open(str(path), "numpy") as file:
            text = file.metadata()
            constants = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.signature = json.loads(text["signature"])
        self.step = Step(json.loads(text["step"]), constants)
        self._fields = {field["name"]: field for field in self.signature["inputs"]}
        self._shapes = {name: tuple(field["shape"]) for name, field in self._fields.items()}
        self._observed = [name for name in self._fields if name.startswith("obs")]
        self._batch = self.signature["batch"]
        self._carried = [
            (self.step.inputs[before], self.step.outputs[after])
            for before, after in self.signature["state"].items()
        ]
        self._allowed = np.ones(self._shapes.get("action_mask", ()), dtype=bool)
        self._first = np.ones(self._batch, dtype=bool)

    def reset(self, streams: Any = ...) -> None:
        """Forget: the next observation starts an episode.

        Args:
            streams: which, as an index or bool `[batch]`; by default all.
        """
        self._first[streams] = True

    def act(
        self, observation: Any, reward: Any = None, action_mask: Any = None, **state: Any
    ) -> Array:
        """The most probable action.

        Args:
            observation: raw, as the environment gives it; of a policy with several components, a
                dict of them by the names in `signature`. With a batch of one there may be no batch
                axis.
            reward: of the step before; only for policies that are fed it.
            action_mask: true for what is allowed; only for policies that take one.
            state: parts of the state to be put in the place of what is kept, by their names in
                `signature`: `previous_action_in`, where you took another action.

        Returns:
            The action as the environment takes it; `[batch, ...]` if the observation had that axis.

        Raises:
            ValueError: an input does not fit, is missing, or holds NaN or infinity. The memory
                stays as it was.
        """
        several = isinstance(observation, Mapping)
        parts = observation if several else {self._observed[0]: observation}
        if set(parts) != set(self._observed):
            raise ValueError(f"The observation has the parts {self._observed}, not {list(parts)}.")
        given: dict[str, Any] = dict(parts)
        if "previous_reward" in self._fields and reward is None and self._first.all():
            reward = np.zeros(self._batch)  # not read
        if "action_mask" in self._fields and action_mask is None:
            action_mask = self._allowed
        for name, value in (("previous_reward", reward), ("action_mask", action_mask)):
            if (value is not None) != (name in self._fields):
                raise ValueError(
                    f"This policy takes no {name}."
                    if value is not None
                    else f"This policy needs the {name} at every step but an episode's first."
                )
            if value is not None:
                given[name] = value
        given |= state
        batched = any(np.ndim(parts[name]) == len(self._shapes[name]) for name in self._observed)
        checked = {name: self._checked(name, value) for name, value in given.items()}
        outputs = self.step(checked | {"episode_start": self._first})
        for before, after in self._carried:
            before[...] = after
        self._first[...] = False
        action = outputs["action"].copy()
        return action if batched else action[0]

    def output(self, name: str) -> Array:
        """Another output of the last step, by its name in `signature`: logits, value, h_out."""
        return self.step.outputs[name].copy()

    def _checked(self, name: str, value: Any) -> Array:
        if name not in self._fields:
            raise ValueError(f"There is no input {name!r}; there are {list(self._fields)}.")
        if value is self._allowed:
            return value
        shape, dtype = self._shapes[name], self._fields[name]["dtype"]
        array = np.asarray(value)
        if array.shape == shape[1:] and shape[0] == 1:
            array = array[None]
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}; expected {shape}.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity.")
        return array if array.dtype == dtype else array.astype(dtype)


class Step:
    """A list of array operations, carried out on arrays that are kept.

    Args:
        listing: buffers, operations, inputs and outputs, as a file holds them.
        constants: the arrays that are not computed, by name.

    Attributes:
        inputs: the arrays that a step reads, by name; what is in them stays.
        outputs: those that it leaves, by name; the next step overwrites them.
    """

    def __init__(self, listing: Mapping[str, Any], constants: Mapping[str, Array]) -> None:
        self._arrays = [
            np.ascontiguousarray(constants[name]).reshape(-1)
            if name in constants
            else np.zeros(size, dtype)
            for name, dtype, size in listing["buffers"]
        ]
        self.inputs = self._views(listing["inputs"])
        self.outputs = self._views(listing["outputs"])
        self._calls = [
            call
            for kind, out, operands, options in listing["operations"]
            for call in calls(kind, self._view(out), *map(self._view, operands), **options)
        ]

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Carry it out.

        Args:
            inputs: those that change, by name, in their shapes.

        Returns:
            `outputs`.
        """
        for name, value in inputs.items():
            self.inputs[name][...] = value
        for function, arguments in self._calls:
            function(*arguments)
        return self.outputs

    def _views(self, views: Mapping[str, Any]) -> dict[str, Array]:
        return {name: self._view(view) for name, view in views.items()}

    def _view(self, view: Any) -> Array:
        buffer, offset, shape, strides = view
        array = self._arrays[buffer][offset:]
        steps = [stride * array.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(array, shape, steps)


Call = tuple[Callable[..., Any], tuple[Any, ...]]


def calls(kind: str, out: Array, *operands: Array, **options: Any) -> Iterable[Call]:
    """What NumPy is called with to carry out an operation."""
    if kind in UFUNCS:
        yield UFUNCS[kind], (*operands, out)
    elif kind == "copy":
        yield copied, (out, *operands)
    elif kind == "sigmoid":  # (1 + tanh(x / 2)) / 2: nothing overflows
        half = np.array(0.5, out.dtype)  # of no axis, with which ufuncs are quickest
        yield np.multiply, (*operands, half, out)
        yield np.tanh, (out, out)
        yield np.multiply, (out, half, out)
        yield np.add, (out, half, out)
    elif kind == "rsqrt":
        yield np.sqrt, (*operands, out)
        yield np.reciprocal, (out, out)
    elif kind == "erf":
        yield from error_function(out, *operands)
    elif kind == "where":
        where, x, other = operands
        if where.ndim == 0:
            yield chosen, (out, where, x, other)
        else:
            yield copied, (out, other)
            yield np.copyto, (out, x, "no", where)
    elif kind == "product":
        x, w, *bias = operands
        if x.shape[0] == 1 and x.ndim == 2:  # a row, for which BLAS has a quicker way
            x, out = x[0], out[0]
            yield np.dot, (x, w, out)
        else:
            yield np.matmul, (x, w, out)
        if bias:
            yield np.add, (out, *bias, out)
    elif kind == "rows":
        table, index = operands
        yield np.take, (table, index, 0, out, "clip")
    elif kind == "convolution":
        yield from convolution(out, *operands, **options)
    elif kind == "sum" and operands[0].dtype == out.dtype and out.flags.c_contiguous:
        ones = np.ones(operands[0].shape[-1], out.dtype)  # a product is called sooner than a sum
        yield np.dot, (*operands, ones, out)
    else:
        yield REDUCTIONS[kind], (*operands, out)


def copied(out: Array, x: Array) -> None:
    """A copy, also between types."""
    out[...] = x


def chosen(out: Array, first: Array, x: Array, other: Array) -> None:
    """One of two arrays, by one truth value."""
    out[...] = x if first else other


def smaller(x: Array, y: Array, out: Array) -> None:
    """The smaller of two numbers."""
    np.minimum(x, y, out=out)


def larger(x: Array, y: Array, out: Array) -> None:
    """The larger of two numbers."""
    np.maximum(x, y, out=out)


def error_function(out: Array, x: Array) -> Iterable[Call]:
    """Erf x = tanh(x p(x^2)), where p is a polynomial fitted by least squares, to 6e-8.

    Powers of x^2 in the rows of an array, so that their weighted sum is one product.
    """
    y, kept, powers = np.zeros(x.size), np.zeros(x.shape), np.zeros((6, x.size))
    yield copied, (kept, x)
    yield np.multiply, (kept, kept, powers[0].reshape(x.shape))
    yield smaller, (powers[0], np.array(25.0), powers[0])  # tanh is 1 there
    yield np.multiply, (powers[0], powers[0], powers[1])
    yield np.multiply, (powers[0:2], powers[1], powers[2:4])
    yield np.multiply, (powers[2:4], powers[1], powers[4:6])
    yield np.dot, (ERROR[1:], powers, y)
    yield np.add, (y, ERROR[0, ...], y)
    yield np.multiply, (y, kept.reshape(-1), y)
    yield np.tanh, (y, y)
    yield copied, (out, y.reshape(x.shape))


def convolution(
    out: Array,
    x: Array,
    factors: Array,
    bias: Array,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
) -> Iterable[Call]:
    """Of images `[B, C, H, W]` by `[C * R * S, O]`: a product for each place."""
    (down, across), (rows, columns) = stride, padding
    batch, channels, height, width = x.shape
    padded = np.zeros((batch, channels, height + 2 * rows, width + 2 * columns), x.dtype)
    inside = padded[:, :, rows : rows + height, columns : columns + width]
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (2, 3))
    patches = windows[:, :, ::down, ::across].transpose(0, 2, 3, 1, 4, 5)  # [B, H', W', C, R, S]
    gathered = np.zeros(patches.shape, x.dtype)
    of_place = gathered.reshape(*patches.shape[:3], -1)
    summed = np.zeros((*patches.shape[:3], factors.shape[1]), x.dtype)
    yield copied, (inside, x)
    yield copied, (gathered, patches)
    yield np.matmul, (of_place, factors, summed)
    yield np.add, (summed.transpose(0, 3, 1, 2), bias[:, None, None], out)


ERROR = np.array(
    [
        *(1.12837970548, 1.02765481386e-1, -1.84383627207e-4, -6.25719492548e-4),
        *(8.97124773328e-5, -5.98565329651e-6, 1.58956441298e-7),
    ]
)
"""Coefficients of p in `error_function`."""
UFUNCS: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("abs", "exp", "log", "log1p", "sqrt", "sin", "cos")},
    **{name: getattr(np, name) for name in ("tanh", "floor")},
    **{"neg": np.negative, "not": np.logical_not, "add": np.add, "sub": np.subtract},
    **{"mul": np.multiply, "div": np.divide, "min": smaller, "max2": larger},
    **{"pow": np.power, "mod": np.remainder, "gt": np.greater, "ge": np.greater_equal},
    **{"lt": np.less, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal},
    **{"and": np.logical_and, "or": np.logical_or},
}
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda x, out: np.add.reduce(x, -1, None, out),
    "max": lambda x, out: np.maximum.reduce(x, -1, None, out),
    "argmax": lambda x, out: x.argmax(-1, out),
}
