"""Checks of a memory: a call can be repeated, and all that it needs passes through a file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from recurrent_rl.agents.files import load_tensors, save_tensors
from recurrent_rl.agents.memory.states import names_of, tensors_of, with_tensors
from recurrent_rl.testing.case import Case, both_ways


def check_nothing_kept(case: Case) -> None:
    """Nothing is kept in the module, drawn at random, or written over: a call can be repeated."""
    memory = case.memory()
    x, state = case.inputs(memory), case.used_state(memory)
    before = {name: value.clone() for name, value in memory.state_dict().items()}
    given = [x.clone(), *(field.clone() for field in tensors_of(state))]
    for name, run in both_ways(memory):
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


def check_seed(case: Case) -> None:
    """Weights follow from torch's seed alone."""
    other = case.memory().state_dict()
    for name, value in case.memory().state_dict().items():
        case.same(value, other[name], f"with the same seed {name} starts differently", exact=True)


def check_files(case: Case) -> None:
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
