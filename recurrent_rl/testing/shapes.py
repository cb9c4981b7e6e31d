"""Checks of a memory: what its states and outputs are, and in which types."""

from __future__ import annotations

from recurrent_rl.agents.memory.states import MemoryState, fault_of, names_of, tensors_of
from recurrent_rl.agents.parts import form_of
from recurrent_rl.testing.case import STEPS, STREAMS, Case


def check_states(case: Case) -> None:
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


def check_outputs(case: Case) -> None:
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
            f"{name} gives {form_of(y)}; expected {x.dtype} {expected}, where output_size is "
            f"{memory.output_size}.",
        )


def check_dtypes(case: Case) -> None:
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
