"""Whether a memory keeps its contract: the checks that our own are held to, for one of yours.

    from recurrent_rl.testing import check_memory

    def test_my_memory_keeps_the_contract():
        check_memory(MyMemory)

Each check says in an AssertionError what was expected.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.drawing import borrowed_generator
from recurrent_rl.agents.files import load_tensors, save_tensors
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.states import (
    MemoryState,
    differentiable,
    fault_of,
    map_state,
    names_of,
    select_state,
    tensors_of,
    with_tensors,
)

__all__ = ["CHECKS", "check_memory"]

STEPS, STREAMS, FEATURES, HIDDEN = 11, 4, 3, 8
TOLERANCES = {torch.float64: (1e-6, 1e-8), torch.float32: (1e-3, 1e-4)}
"""Relative and absolute, of what two ways of computing the same may differ by."""

MakeMemory = Callable[[int, int, int], Memory]


def check_memory(make: MakeMemory) -> None:
    """Try whether a memory keeps its contract, with one layer and with two.

    What is tried is in `CHECKS`, by name. Random numbers are drawn from a seed of its own, and the
    caller's stay as they are.

    Args:
        make: the class, or a function that makes one: from input_size, hidden_size and num_layers.

    Raises:
        AssertionError: it does not; says what was expected.
    """
    check_is("make", make, Callable, "a class of a memory, or a function that makes one")
    for num_layers in (1, 2):
        for check in CHECKS.values():
            with borrowed_generator():
                check(Case(make, num_layers))


@dataclass(frozen=True)
class Case:
    """A memory to try, and what to try it on."""

    make: MakeMemory
    num_layers: int

    @property
    def name(self) -> str:
        """Of the memory, for messages."""
        return f"{getattr(self.make, '__name__', 'the memory')} of {self.num_layers} layers"

    def fail(self, what: str) -> NoReturn:
        """Say what was expected."""
        raise AssertionError(f"{self.name}: {what}")

    def expect(self, holds: bool, what: str) -> None:
        """Say what was expected, unless it holds."""
        if not holds:
            self.fail(what)

    def memory(self, dtype: torch.dtype | None = None, seed: int = 0) -> Memory:
        """One with weights from this seed, none of them zero; in the most exact type it has."""
        torch.default_generator.manual_seed(seed)
        memory = self.make(FEATURES, HIDDEN, self.num_layers)
        self.expect(isinstance(memory, Memory), "it must be a recurrent_rl.Memory.")
        memory = memory.to(dtype or self.dtype(memory))
        with torch.no_grad():
            for parameter in memory.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return memory

    def dtype(self, memory: Memory) -> torch.dtype:
        """The most exact type that it claims."""
        return max(memory.dtypes, key=lambda dtype: dtype.itemsize)

    def inputs(self, memory: Memory, seed: int = 1) -> Tensor:
        """Inputs `[T, B, F]`."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(STEPS, STREAMS, FEATURES, generator=generator, dtype=torch.float64)
        return x.to(self.dtype(memory))

    def used_state(self, memory: Memory, batch: int = STREAMS) -> MemoryState:
        """A state in the midst of episodes that began at different times."""
        state = memory.initial_state(batch)
        generator = torch.Generator().manual_seed(2)
        for t in range(5):
            x = torch.randn(batch, FEATURES, generator=generator, dtype=torch.float64)
            start = torch.arange(batch) % 5 == t
            _, state = memory.step(x.to(self.dtype(memory)), state, start)
        return map_state(Tensor.detach, state)

    def resets(self) -> Iterator[tuple[str, Tensor | None]]:
        """Patterns of resets `[T, B]`, by name."""
        generator = torch.Generator().manual_seed(3)
        random = torch.rand(STEPS, STREAMS, generator=generator) < 0.2
        together = torch.zeros(STEPS, STREAMS, dtype=torch.bool)
        together[[0, 4, 5]] = True
        yield "no resets", torch.zeros_like(random)
        yield "episode_start=None", None
        yield "random resets", random
        yield "resets of all streams at once", together
        yield "a reset at every step", torch.ones_like(random)

    def same(self, found: Tensor, expected: Tensor, what: str, exact: bool = False) -> None:
        """Refuse tensors that differ by more than rounding; says where they differ most."""
        self.expect(
            found.shape == expected.shape and found.dtype == expected.dtype,
            f"{what}: {found.dtype} {list(found.shape)}, expected {expected.dtype} "
            f"{list(expected.shape)}.",
        )
        relative, absolute = (0.0, 0.0) if exact else TOLERANCES.get(found.dtype, (0.0, 0.0))
        if torch.allclose(found, expected, relative, absolute, equal_nan=True):
            return
        at = int((found.to(torch.complex128) - expected.to(torch.complex128)).abs().argmax())
        index = [int(i) for i in torch.unravel_index(torch.tensor(at), found.shape)]
        self.fail(
            f"{what}: {found.flatten()[at].item()} at {index}, expected "
            f"{expected.flatten()[at].item()}."
        )

    def same_states(self, found: MemoryState, expected: MemoryState, what: str) -> None:
        """`same` of each tensor."""
        for name, a, b in zip(names_of(expected), tensors_of(found), tensors_of(expected)):  # noqa: B905
            self.same(a, b, f"{what}, {name}")


def stepped(
    memory: Memory, x: Tensor, state: MemoryState, start: Tensor | None
) -> tuple[Tensor, MemoryState]:
    """As `unroll`, by repeated `step`."""
    outputs = []
    for t in range(len(x)):
        y, state = memory.step(x[t], state, None if start is None else start[t])
        outputs.append(y)
    return torch.stack(outputs), state


def _check_states(case: Case) -> None:
    """A state is a NamedTuple of finite tensors `[..., B, ...]` where the weights are."""
    memory = case.memory()
    for batch in (5, 1):
        _check_state(case, memory.initial_state(batch), "initial_state(batch)", batch)
        kinds = [(x.dtype, list(x.shape)) for x in tensors_of(memory.initial_state(batch))]
        x = case.inputs(memory)[0, :1].expand(batch, -1)
        for name, (_, after) in {
            "step": memory.step(x, memory.initial_state(batch)),
            "unroll": memory.unroll(x.expand(3, -1, -1), memory.initial_state(batch)),
        }.items():
            _check_state(case, after, f"the state after {name}", batch)
            for which, a, kind in zip(names_of(after), tensors_of(after), kinds, strict=True):
                case.expect(
                    (a.dtype, list(a.shape)) == kind,
                    f"{which} after {name} is {a.dtype} {list(a.shape)}; expected {kind[0]} "
                    f"{kind[1]}, as initial_state({batch}) gives: types and sizes stay.",
                )
    if any(True for _ in memory.parameters()):
        fresh = tensors_of(memory.to("meta").initial_state(2))
        case.expect(
            all(x.is_meta for x in fresh),
            "initial_state must make its tensors where the weights are, for example by "
            "weight.new_zeros(...).",
        )


def _check_state(case: Case, state: MemoryState, what: str, batch: int) -> None:
    fault = fault_of(state, batch)
    case.expect(fault is None, f"{what} is no state: {fault}.")
    for name, x in zip(names_of(state), tensors_of(state), strict=True):
        case.expect(
            not x.is_floating_point() or bool(x.isfinite().all()),
            f"{name} of {what} holds NaN or infinity, which a checkpoint refuses; expected finite "
            "numbers.",
        )


def _shown(x: object) -> str:
    return f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def _check_outputs(case: Case) -> None:
    """Outputs are `[B, output_size]` and `[T, B, output_size]`, of the weights' type."""
    memory = case.memory()
    x, state = case.inputs(memory), case.used_state(memory)
    for name, y, lead in (
        ("step", memory.step(x[0], state)[0], [STREAMS]),
        ("unroll", memory.unroll(x, state)[0], [STEPS, STREAMS]),
    ):
        expected = [*lead, memory.output_size]
        case.expect(
            list(y.shape) == expected and y.dtype == x.dtype,
            f"{name} gives {_shown(y)}; expected {x.dtype} {expected}, where output_size is "
            f"{memory.output_size}.",
        )


def _check_values(case: Case) -> None:
    """`unroll` gives the values of repeated `step`, under any resets."""
    memory = case.memory()
    x, state = case.inputs(memory), case.used_state(memory)
    for pattern, start in case.resets():
        whole, end = memory.unroll(x, state, start)
        steps, last = stepped(memory, x, state, start)
        case.same(whole, steps, f"unroll's outputs are not those of repeated step ({pattern})")
        case.same_states(end, last, f"unroll's state is not that of repeated step ({pattern})")


def _check_gradients(case: Case) -> None:
    """`unroll` gives the gradients of repeated `step`, under any resets."""
    memory = case.memory()
    for pattern, start in case.resets():
        found = []
        for run in (memory.unroll, lambda *given: stepped(memory, *given)):
            x, state = case.inputs(memory).requires_grad_(), case.used_state(memory)
            of_state = [field.requires_grad_() for field in differentiable(state)]
            y, end = run(x, state, start)
            wanted = {"the input": x, **_named(of_state), **dict(memory.named_parameters())}
            found.append(_gradients(case, [y, *differentiable(end)], wanted))
        for name, gradient in found[0].items():
            what = f"unroll's gradient of {name} is not that of repeated step ({pattern})"
            case.same(gradient, found[1][name], what)


def _named(of_state: list[Tensor]) -> dict[str, Tensor]:
    return {f"the state's tensor {i}": x for i, x in enumerate(of_state)}


def _gradients(case: Case, outputs: list[Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a sum with random weights; zero where there is none."""
    generator = torch.Generator().manual_seed(4)
    total = torch.zeros((), dtype=torch.float64)
    for y in outputs:
        weights = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        total = total + (y.abs() * weights if y.is_complex() else y * weights.to(y.dtype)).sum()
    frozen = [name for name, x in wanted.items() if not x.requires_grad]
    free = {name: x for name, x in wanted.items() if name not in frozen}
    if not total.requires_grad:
        case.fail(
            "no gradient reaches the input; expected outputs that depend on it, without detach() "
            "and no_grad()."
        )
    found = torch.autograd.grad(total, list(free.values()), allow_unused=True)
    return {
        name: torch.zeros_like(x) if g is None else g
        for (name, x), g in zip(free.items(), found, strict=True)
    }


def _check_no_leak_of_values(case: Case) -> None:
    """What an episode gives does not depend on the one before, nor on what comes later."""
    memory = case.memory()
    x, used, at = case.inputs(memory), case.used_state(memory), 6
    start = torch.zeros(STEPS, STREAMS, dtype=torch.bool)
    start[at] = True
    for name, run in _both(memory):
        other = x.clone()
        other[at:] = case.inputs(memory, seed=7)[at:]
        case.same(
            run(other, used, None)[0][:at],
            run(x, used, None)[0][:at],
            f"{name}: an output depends on inputs that come later",
        )
        after, _ = run(x, used, start)
        alone, _ = run(x[at:], memory.initial_state(STREAMS), None)
        case.same(
            after[at:],
            alone,
            f"{name}: what an episode gives depends on what was before its start; expected the "
            "outputs from initial_state",
        )


def _both(
    memory: Memory,
) -> tuple[tuple[str, Callable[..., tuple[Tensor, MemoryState]]], ...]:
    """The two ways through a sequence."""
    return ("unroll", memory.unroll), ("step", lambda *given: stepped(memory, *given))


def _check_no_leak_of_gradients(case: Case) -> None:
    """No gradient of an episode reaches the one before: it is exactly zero."""
    memory = case.memory()
    at, stream = 6, 1
    start = torch.zeros(STEPS, STREAMS, dtype=torch.bool)
    start[at, stream] = True
    for name, run in _both(memory):
        x, state = case.inputs(memory).requires_grad_(), case.used_state(memory)
        of_state = [field.requires_grad_() for field in differentiable(state)]
        y, _ = run(x, state, start)
        found = _gradients(case, [y[at:, stream]], {"the input": x, **_named(of_state)})
        found["the input"] = found["the input"][:at]
        for which, gradient in found.items():
            case.expect(
                bool((gradient == 0).all()),
                f"{name}: a gradient of {float(gradient.abs().max()):.3g} passes a reset, to "
                f"{which} of the episode before; expected exactly 0.",
            )


def _check_streams(case: Case) -> None:
    """Streams know nothing of each other, in values and gradients."""
    memory = case.memory()
    x, state = case.inputs(memory), case.used_state(memory)
    start = dict(case.resets())["random resets"]
    assert start is not None
    for name, run in _both(memory):
        together, end = run(x, state, start)
        for index in ([2], [3, 0]):
            some = torch.tensor(index)
            alone, last = run(x[:, some], select_state(state, some), start[:, some])
            what = f"{name}: a stream depends on the others of its batch; expected, as alone"
            case.same(together[:, some], alone, what)
            case.same_states(select_state(end, some), last, what)
        inputs = x.clone().requires_grad_()
        y, _ = run(inputs, state, start)
        (gradient,) = _gradients(case, [y[:, 1]], {"the input": inputs}).values()
        others = gradient[:, [0, 2, 3]]
        case.expect(
            bool((others == 0).all()),
            f"{name}: a gradient of {float(others.abs().max()):.3g} passes from one stream to "
            "another; expected exactly 0.",
        )


def _check_nothing_kept(case: Case) -> None:
    """Nothing is kept in the module, drawn at random, or written over: a call can be repeated."""
    memory = case.memory()
    x, state = case.inputs(memory), case.used_state(memory)
    before = {name: value.clone() for name, value in memory.state_dict().items()}
    given = [x.clone(), *(field.clone() for field in tensors_of(state))]
    for name, run in _both(memory):
        first, end = run(x, state, None)
        for which, now, then in zip(["x", *names_of(state)], [x, *tensors_of(state)], given):  # noqa: B905
            case.same(now, then, f"{name} writes over its argument {which}", exact=True)
        run(case.inputs(memory, seed=8), end, None)
        again, last = run(x, state, None)
        what = f"{name} gives another result the second time, from the same state"
        case.same(again, first, what, exact=True)
        for a, b in zip(tensors_of(last), tensors_of(end), strict=True):
            case.same(a, b, what, exact=True)
    for name, value in memory.state_dict().items():
        case.same(value, before[name], f"step and unroll change {name} in the module", exact=True)


def _check_seed(case: Case) -> None:
    """Weights follow from torch's seed alone."""
    other = case.memory().state_dict()
    for name, value in case.memory().state_dict().items():
        case.same(value, other[name], f"with the same seed {name} starts differently", exact=True)


def _check_files(case: Case) -> None:
    """Weights and states pass through a file, and give the same as before."""
    memory, other = case.memory(), case.memory(seed=9)
    x, state = case.inputs(memory), case.used_state(memory)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.safetensors"
        tensors = {f"memory/{name}": value for name, value in memory.state_dict().items()}
        states = enumerate(tensors_of(state))
        tensors |= {f"state/{i}": field.contiguous().clone() for i, field in states}
        try:
            save_tensors(path, tensors, {}, "", 1)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            case.fail(f"its weights and state cannot be saved ({error}).")
        loaded, _ = load_tensors(path, "", 1)
    weights = {name[7:]: x for name, x in loaded.items() if name.startswith("memory/")}
    fields = [loaded[f"state/{i}"] for i in range(len(tensors_of(state)))]
    try:
        other.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        case.fail(f"the saved weights do not fit another of its kind ({error}).")
    case.same(
        other.unroll(x, with_tensors(state, fields))[0],
        memory.unroll(x, state)[0],
        "after saving and loading it computes something else; expected that all it needs is a "
        "parameter or a buffer, or follows from the sizes",
        exact=True,
    )


def _check_dtypes(case: Case) -> None:
    """In each type that it claims it computes the same, but for rounding."""
    memory = case.memory()
    best = case.dtype(memory)
    x, exact = (
        case.inputs(memory),
        memory.unroll(case.inputs(memory), memory.initial_state(STREAMS)),
    )
    for dtype in memory.dtypes:
        if dtype == best:
            continue
        memory = case.memory(best).to(dtype)
        fresh = memory.initial_state(STREAMS)
        for name, field in zip(names_of(fresh), tensors_of(fresh), strict=True):
            case.expect(
                not field.is_floating_point() or field.dtype == dtype,
                f"{name} of initial_state is {field.dtype} when the weights are {dtype}; expected "
                "their type, for example by weight.new_zeros(...). What the class does not claim "
                "in `dtypes` is not tried.",
            )
        y, _ = memory.unroll(x.to(dtype), fresh)
        case.expect(y.dtype == dtype, f"in {dtype} its outputs are {y.dtype}; expected {dtype}.")
        case.same(y, exact[0].to(dtype), f"in {dtype} it computes something else than in {best}")


CHECKS: dict[str, Callable[[Case], None]] = {
    "states": _check_states,
    "outputs": _check_outputs,
    "values of unroll": _check_values,
    "gradients of unroll": _check_gradients,
    "no leak of values": _check_no_leak_of_values,
    "no leak of gradients": _check_no_leak_of_gradients,
    "independent streams": _check_streams,
    "nothing kept": _check_nothing_kept,
    "seed": _check_seed,
    "files": _check_files,
    "types": _check_dtypes,
}
"""What is tried, by name."""
