"""Functions of a number in fewer operations, or in such as are called sooner."""

from __future__ import annotations

from dataclasses import replace

from recurrent_rl.agents.export.listing import Operation, View
from recurrent_rl.agents.export.passes.rewriting import (
    Rewriting,
    is_constant,
    is_number,
    is_row,
    value_of,
)


def likeliest(steps: Rewriting) -> None:
    """The place of the largest log-probability is that of the largest logit."""
    for i, one in enumerate(steps.operations):
        if one.kind != "argmax":
            continue
        x = _of_log_softmax(steps, one.operands[0])
        if x is not None:
            steps.operations[i] = replace(one, operands=(x,))


def _of_log_softmax(steps: Rewriting, y: View) -> View | None:
    """X in the shape of y = x - max - log(sum); or of any x from which one number is taken."""
    writers = steps.writers(y)
    if len(writers) != 1 or writers[0].kind != "sub" or not y.is_dense:
        return None
    (out, (x, number)) = writers[0].out, writers[0].operands
    if (out.offset, out.size) != (y.offset, y.size) or not (is_row(out) and is_row(x)):
        return None
    if y.shape[:-1].count(1) != len(y.shape) - 1 or not is_number(number):
        return None
    found = View(x.buffer, y.shape, y.strides, x.offset)
    return _of_log_softmax(steps, found) or found


def halves(steps: Rewriting) -> None:
    """Sigmoids as (1 + tanh(x / 2)) / 2."""
    found: list[Operation] = []
    for one in steps.operations:
        if one.kind != "sigmoid":
            found.append(one)
            continue
        half = steps.number(0.5, one.out)
        x = one.operands[0]
        for kind, operands in (("mul", (half,)), ("tanh", ()), ("mul", (half,)), ("add", (half,))):
            out = one.out if kind == "add" else steps.array(one.out.shape, one.out.dtype)
            found.append(Operation(kind, out, (x, *operands)))
            x = out
    steps.operations = found


def scaled_errors(steps: Rewriting) -> None:
    """The error function of a multiple of x: its polynomial takes the factor in."""
    for i, one in enumerate(steps.operations):
        scaled = steps.source(one.operands[0]) if one.kind == "erf" else None
        if scaled is None or scaled.kind != "mul" or not is_number(scaled.operands[1]):
            continue
        factor = value_of(scaled.operands[1])
        if factor is not None:
            options = {"scale": float(factor.flat[0])}
            steps.operations[i] = Operation("erf", one.out, scaled.operands[:1], options)


def roots(steps: Rewriting) -> None:
    """Exponentials of logarithms.

    With s = sigmoid(x) and log_sigmoid(x) = min(x, 0) - log(1 + e^-|x|):

    - exp(log_sigmoid(x)) = s;
    - exp((log_sigmoid(-x) + log(1 + s)) / 2) = sqrt(1 - s^2) = sqrt((1 + s) / (1 + e^x)), in which
      nothing cancels. E^x then also gives s.
    """
    for one in list(steps.operations):
        if one.kind != "exp":
            continue
        x = _of_log_sigmoid(steps, one.operands[0])
        if x is not None:
            steps.operations[steps.operations.index(one)] = Operation("sigmoid", one.out, (x,))
            continue
        found = _of_root(steps, one)
        if found is not None:
            _with_root(steps, one, *found)


def _of_log_sigmoid(steps: Rewriting, y: View) -> View | None:
    """X, where y is log_sigmoid(x)."""
    below, above = steps.operands(y, "sub", 2)
    least, zero = steps.operands(below, "min", 2)
    (exponential,) = steps.operands(above, "log1p", 1)
    (negative,) = steps.operands(exponential, "exp", 1)
    (size,) = steps.operands(negative, "neg", 1)
    (x,) = steps.operands(size, "abs", 1)
    if least is not None and is_constant(least, 0):
        least, zero = zero, least
    if x is None or zero is None or not is_constant(zero, 0) or least != x:
        return None
    return x


def _of_root(steps: Rewriting, one: Operation) -> tuple[View, Operation] | None:
    """Of exp((log_sigmoid(-x) + log(1 + s)) / 2): x, and what computes s = sigmoid(x)."""
    total, half = steps.operands(one.operands[0], "mul", 2)
    left, right = steps.operands(total, "add", 2)
    (s,) = steps.operands(right, "log1p", 1)
    negative = None if left is None else _of_log_sigmoid(steps, left)
    (x,) = steps.operands(negative, "neg", 1)
    source = None if s is None else steps.source(s)
    if x is None or half is None or source is None or not is_constant(half, 0.5):
        return None
    return (x, source) if source.kind == "sigmoid" and source.operands == (x,) else None


def _with_root(steps: Rewriting, one: Operation, x: View, sigmoid: Operation) -> None:
    """Compute s = e^x / (1 + e^x), and the root."""

    def new(kind: str, *operands: View, out: View | None = None) -> View:
        if out is None:
            out = steps.array(one.out.shape, x.dtype)
        made.append(Operation(kind, out, operands))
        return out

    made: list[Operation] = []
    largest, unit = steps.number(80.0, one.out), steps.number(1.0, one.out)
    exponential = new("exp", new("min", x, largest))
    above = new("add", exponential, unit)
    s = new("div", exponential, above, out=sigmoid.out)
    at = steps.operations.index(sigmoid)
    steps.operations[at : at + 1] = made
    made = []
    new("sqrt", new("div", new("add", s, unit), above), out=one.out)
    at = steps.operations.index(one)
    steps.operations[at : at + 1] = made
