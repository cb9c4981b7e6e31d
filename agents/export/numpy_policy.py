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
from functools import partial
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
        self._limits = json.loads(text["limits"])
        sizes = json.loads(text["mask_parts"])
        self._parts = [sum(sizes[:i]) for i in range(len(sizes))]
        fields = self.signature["inputs"]
        self._shapes = {field["name"]: tuple(field["shape"]) for field in fields}
        self._zeros = {name: np.zeros(x.size, x.dtype) for name, x in self.step.inputs.items()}
        states = self.signature["state"]
        self._observed = [
            name for name in self._shapes if name.startswith("obs") and name not in states
        ]
        self._batch = self.signature["batch"]
        self._carried = [
            (self.step.inputs[before], self.step.outputs[after])
            for before, after in self.signature["state"].items()
        ]
        self._memory = {*states} - {"previous_action_in"}
        self._takes_reward = "previous_reward" in self._shapes
        self._takes_mask = self._masked = "action_mask" in self._shapes
        self._first = np.ones(self._batch, dtype=bool)

    def reset(self, streams: Any = ...) -> None:
        """Forget: the next observation starts an episode.

        Args:
            streams: which, as an index or bool `[batch]`; by default all.

        Raises:
            ValueError: numbers for all streams, which may be flags or indices.
        """
        of_all = streams is not ... and np.shape(streams) == self._first.shape
        if of_all and np.asarray(streams).dtype.kind != "b":
            raise ValueError(f"streams is {streams!r}; give True or False for each, or an index")
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
                `signature`: `previous_action_in`, where you took another action. If you give a
                part of the memory, no stream begins an episode, even in a new policy. To have some
                begin one, give `episode_start`, bool `[batch]`, which overrides `reset` too.

        Returns:
            The action as the environment takes it; `[batch, ...]` if the observation had that axis.

        Raises:
            ValueError: an input does not fit, is missing, of another type, none of its space, or
                holds NaN, infinity or a number beyond float32; or a mask allows nothing. The memory
                stays as it was.
        """
        first = self._first
        if "episode_start" in state:
            first = self._checked("episode_start", state["episode_start"])
        elif state and not self._memory.isdisjoint(state):
            first = np.zeros_like(first)
        given = self._named(observation, reward, action_mask, first)
        given |= state
        for name, value in given.items():
            given[name] = self._checked(name, value)
        if action_mask is not None:
            rows = given["action_mask"].reshape(self._batch, -1)
            if not np.logical_or.reduceat(rows, self._parts, 1).all():
                raise ValueError("The action_mask allows nothing: one at least must be true.")
        elif self._masked:
            given["action_mask"] = True  # in place of the last one
        self._masked = action_mask is not None
        batched = any(given[name].ndim == len(self._shapes[name]) for name in self._observed)
        given["episode_start"] = first
        self.step.begin(given, self._masked)
        for before, after in self._carried:
            before[...] = after
        self._first.fill(False)
        action = self.step.outputs["action"].copy()
        return action if batched else action[0]

    def output(self, name: str) -> Array:
        """Another output of the last step, by its name in `signature`: logits, value, h_out."""
        self.step.finish()
        return self.step.outputs[name].copy()

    def _named(
        self, observation: Any, reward: Any, action_mask: Any, first: Array
    ) -> dict[str, Any]:
        """What a step is given, by the names in `signature`, and no input that it lacks."""
        several = isinstance(observation, Mapping)
        given = dict(observation) if several else {self._observed[0]: observation}
        if len(given) != len(self._observed) or not all(map(given.__contains__, self._observed)):
            raise ValueError(
                f"The observation is to have the parts {self._observed}, named as in `signature`; "
                f"it has {list(given)}."
            )
        if self._takes_reward and reward is None and first.all():
            reward = np.zeros(self._batch)  # not read
        if self._takes_reward != (reward is not None):
            raise ValueError(
                "This policy needs the previous_reward at every step but an episode's first."
                if self._takes_reward
                else "This policy takes no previous_reward."
            )
        if reward is not None:
            given["previous_reward"] = reward
        if action_mask is not None:
            if not self._takes_mask:
                raise ValueError("This policy takes no action_mask.")
            given["action_mask"] = action_mask
        return given

    def _checked(self, name: str, value: Any) -> Array:
        """An input as an array, which fits."""
        shape = self._shapes.get(name)
        if shape is None:
            raise ValueError(f"There is no input {name!r}; there are {list(self._shapes)}.")
        array = np.asarray(value)
        if array.shape != shape and (array.shape != shape[1:] or shape[0] != 1):
            raise ValueError(f"{name} has shape {array.shape}; expected {shape}.")
        expected = self._zeros[name].dtype
        if array.dtype != expected and not goes_into(array.dtype, expected):
            raise ValueError(f"{name} is of type {array.dtype}; expected {expected}.")
        if array.dtype.kind == "f" and not finite_in_single(array, self._zeros[name]):
            raise ValueError(f"{name} holds NaN, infinity or a number beyond float32.")
        is_flag = expected.kind == "b" and array.dtype.kind != "b"
        if is_flag and ((array != 0) & (array != 1)).any():
            raise ValueError(f"{name} is {array.tolist()}; expected True or False, or 1 or 0.")
        if name in self._limits:
            low, high = self._limits[name]
            x = array.reshape(-1, len(low))
            if ((x < low) | (x > high) | (x % 1 != 0)).any():
                raise ValueError(
                    f"{name} is {array.tolist()}; expected whole numbers from {low} to {high}."
                )
        return array


def finite_in_single(array: Array, zeros: Array) -> bool:
    """Whether all numbers are finite in float32, given as many zeros in a row.

    Times 0, NaN and infinity give NaN: sooner than to ask for each.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(array.astype(np.float32, copy=False).reshape(-1).dot(zeros) == 0)


def goes_into(given: np.dtype[Any], expected: np.dtype[Any]) -> bool:
    """Whether numbers of a type go into another without loss, but for rounding; 1 is true.

    Of uint64 the same bits go into int64, as a step reads whole numbers that large.
    """
    if expected.kind in "bf":
        return given.kind in "biuf"
    return np.can_cast(given, expected) or (given == np.uint64 and expected == np.int64)


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
            np.array(constants[name]).reshape(-1) if name in constants else np.zeros(size, dtype)
            for name, dtype, size in listing["buffers"]
        ]
        self.inputs = self._views(listing["inputs"])
        self.outputs = self._views(listing["outputs"])
        self._start = self.inputs["episode_start"]
        fixed = {i for i, (name, _, _) in enumerate(listing["buffers"]) if name in constants}
        needed, names = needed_first(listing), {x[0]: name for name, x in listing["inputs"].items()}
        self._later: list[Call] = []
        self._first: dict[tuple[bool, bool], list[Call]] = {
            (starts, masks): [] for starts in (False, True) for masks in (False, True)
        }
        for i, (kind, out, operands, options) in enumerate(listing["operations"]):
            made = calls(kind, self._view(out), *map(self._view, operands), **options)
            when = names[operands[0][0]] if kind == "replace" else None
            if fixed.issuperset(x[0] for x in operands):
                for call in made:
                    call()
            elif i not in needed:
                self._later += made
            else:
                made = list(made)
                for (starts, masks), found in self._first.items():
                    if (starts or when != "episode_start") and (masks or when != "action_mask"):
                        found += made

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Carry it out.

        Args:
            inputs: those that change, by name, in their shapes.

        Returns:
            `outputs`.
        """
        self.begin(inputs)
        self.finish()
        return self.outputs

    def begin(self, inputs: Mapping[str, Array], masks: bool = True) -> None:
        """Carry out what the action and the state need.

        Args:
            inputs: as of a whole step.
            masks: false: `action_mask` allows everything.
        """
        for name, value in inputs.items():
            self.inputs[name][...] = value
        for call in self._first[self._start.item(0), masks]:
            call()

    def finish(self) -> None:
        """Carry out the rest, which other outputs need."""
        for call in self._later:
            call()

    def _views(self, views: Mapping[str, Any]) -> dict[str, Array]:
        return {name: self._view(view) for name, view in views.items()}

    def _view(self, view: Any) -> Array:
        buffer, offset, shape, strides = view
        array = self._arrays[buffer][offset:]
        steps = [stride * array.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(array, shape, steps)


def needed_first(listing: Mapping[str, Any]) -> set[int]:
    """The operations that the action and the state need, or that read what the next step changes.

    An operation `replace` may be left out where its input is false (`episode_start`), or true
    (`action_mask`), everywhere.
    """
    of_state = {name: view[0] for name, view in listing["inputs"].items()}
    changing = {
        buffer for name, buffer in of_state.items() if name.endswith("_in") or "start" in name
    }
    buffers = {x[0] for name, x in listing["outputs"].items() if name.endswith("_out")}
    buffers.add(listing["outputs"]["action"][0])
    found = set()
    for i, (_, out, operands, _) in reversed([*enumerate(listing["operations"])]):
        read = {view[0] for view in operands}
        if out[0] in buffers or read & changing:
            found.add(i)
            buffers |= read
    return found


Call = Callable[[], Any]


def calls(kind: str, out: Array, *operands: Array, **options: Any) -> Iterable[Call]:
    """What is called to carry out an operation.

    Nothing is written over one of its operands: NumPy looks at such arrays for longer.
    """
    if kind in UFUNCS:
        return [partial(UFUNCS[kind], *operands, out)]
    return KINDS[kind](out, *operands, **options)


def copy(out: Array, x: Array) -> Iterable[Call]:
    """X in the output's type."""
    yield partial(out.__setitem__, ..., x)


def of_two(function: Callable[..., Any], out: Array, x: Array, y: Array) -> Iterable[Call]:
    """A function that takes the output by its name alone."""
    yield partial(function, x, y, out=out)


def sigmoid(out: Array, x: Array) -> Iterable[Call]:
    """(1 + tanh(x / 2)) / 2: nothing overflows."""
    half = np.array(0.5, out.dtype)  # of no axis, with which ufuncs are quickest
    y, z = np.empty_like(out), np.empty_like(out)
    yield partial(np.multiply, x, half, y)
    yield partial(np.tanh, y, z)
    yield partial(np.multiply, z, half, y)
    yield partial(np.add, y, half, out)


def rsqrt(out: Array, x: Array) -> Iterable[Call]:
    """1 / sqrt(x)."""
    root = np.empty_like(out)
    yield partial(np.sqrt, x, root)
    yield partial(np.reciprocal, root, out)


def where(out: Array, choice: Array, x: Array, other: Array) -> Iterable[Call]:
    """X where a choice is true."""
    if choice.ndim == 0:
        yield partial(chosen, out, choice, x, other)
    else:
        yield partial(out.__setitem__, ..., other)
        yield partial(np.copyto, out, x, "no", choice)


def replace(out: Array, choice: Array, _: Array, number: Array, where: bool) -> Iterable[Call]:
    """A number in the output where a choice is what `where` says."""
    if choice.ndim == 0:
        yield partial(filled, out, choice, number, where)
    else:
        hit = np.empty(choice.shape, bool)
        yield partial(np.equal, choice, np.array(where), hit)
        yield partial(np.copyto, out, number, "no", hit)


def complex_product(out: Array, x: Array, y: Array) -> Iterable[Call]:
    """Of complex numbers whose parts stand one after the other."""
    of_parts = np.result_type(out.dtype, np.complex64)
    yield partial(np.multiply, x.view(of_parts), y.view(of_parts), out.view(of_parts))


def rows(out: Array, table: Array, index: Array) -> Iterable[Call]:
    """Those of a table with these indices."""
    yield partial(table.take, index, 0, out, "clip")


def total(out: Array, x: Array) -> Iterable[Call]:
    """The sum over the last axis: by a product where there can be one, which is called sooner."""
    if x.dtype == out.dtype and out.flags.c_contiguous:
        yield partial(np.dot, x, np.ones(x.shape[-1], out.dtype), out)
    else:
        yield partial(np.add.reduce, x, -1, None, out)


def largest(out: Array, x: Array) -> Iterable[Call]:
    """Of the last axis: to look for its place and take it is quicker than a reduction."""
    if out.size == 1 and x.flags.c_contiguous:
        row, place = x.reshape(-1), np.zeros((), np.intp)
        yield partial(row.argmax, 0, place)
        yield partial(row.take, place, None, out.reshape(()), "clip")
    else:
        yield partial(np.maximum.reduce, x, -1, None, out)


def place_of_largest(out: Array, x: Array) -> Iterable[Call]:
    """On the last axis."""
    yield partial(x.argmax, -1, out)


def product(out: Array, x: Array, w: Array, *bias: Array) -> Iterable[Call]:
    """X times w, and the bias added to it."""
    row = x.shape[0] == 1 and x.ndim == 2  # for which BLAS has a quicker way
    function = np.dot if row else np.matmul
    x, out = (x[0], out[0]) if row else (x, out)
    summed = np.empty_like(out) if bias else out
    yield partial(function, x, w, summed)
    if bias:
        yield partial(np.add, summed, *bias, out)


def chosen(out: Array, first: Array, x: Array, other: Array) -> None:
    """One of two arrays, by one truth value."""
    out[...] = x if first else other


def filled(out: Array, choice: Array, number: Array, where: bool) -> None:
    """A number everywhere, if a truth value is what it is to be."""
    if bool(choice) == where:
        out[...] = number


def error_function(out: Array, x: Array, scale: float = 1.0) -> Iterable[Call]:
    """Erf(scale * x) = tanh(x p(x^2)), where p is a polynomial fitted by least squares, to 6e-8.

    Powers of x^2 stand in the rows of an array, so that their weighted sum is one product.
    """
    factors = (ERROR * scale ** (1 + 2 * np.arange(ERROR.size))).astype(x.dtype)
    large = np.array(25 / scale**2, x.dtype)  # tanh is 1 there
    powers = np.ones((ERROR.size, x.size), x.dtype)
    flat, square, y, z = (np.empty(x.size, x.dtype) for _ in range(4))
    if x.flags.c_contiguous:
        flat = x.reshape(-1)
    else:
        yield partial(flat.reshape(x.shape).__setitem__, ..., x)
    yield partial(np.multiply, flat, flat, square)
    yield partial(np.minimum, square, large, out=powers[1])
    for i in range(2, ERROR.size):
        yield partial(np.multiply, powers[i // 2], powers[i - i // 2], powers[i])
    yield partial(np.dot, factors, powers, y)
    yield partial(np.multiply, y, flat, z)
    yield partial(np.tanh, z.reshape(x.shape), out)


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
    yield partial(inside.__setitem__, ..., x)
    yield partial(gathered.__setitem__, ..., patches)
    yield partial(np.matmul, of_place, factors, summed)
    yield partial(np.add, summed.transpose(0, 3, 1, 2), bias[:, None, None], out)


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
    **{"mul": np.multiply, "div": np.divide},
    **{"pow": np.power, "mod": np.remainder, "gt": np.greater, "ge": np.greater_equal},
    **{"lt": np.less, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal},
    **{"and": np.logical_and, "or": np.logical_or},
}
KINDS: dict[str, Callable[..., Iterable[Call]]] = {
    **{"min": partial(of_two, np.minimum), "max2": partial(of_two, np.maximum)},
    **{"copy": copy, "sigmoid": sigmoid, "rsqrt": rsqrt, "erf": error_function, "where": where},
    **{"replace": replace, "complex": complex_product, "rows": rows},
    **{"product": product, "convolution": convolution},
    **{"sum": total, "max": largest, "argmax": place_of_largest},
}
"""Of operations that are no ufunc, or not one alone."""
