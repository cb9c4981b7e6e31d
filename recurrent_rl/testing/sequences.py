"""Checks of a memory: a sequence is repeated steps, and what is apart stays apart."""

from __future__ import annotations

import torch

from recurrent_rl.agents.memory.states import differentiable, select_state
from recurrent_rl.testing.case import STEPS, STREAMS, Case, both_ways, gradients, named, stepped


def check_values(case: Case) -> None:
    """`unroll` gives the values of repeated `step`, under any resets."""
    memory = case.memory()
    x, state = case.inputs(memory), case.used_state(memory)
    for pattern, start in case.resets():
        whole, end = memory.unroll(x, state, start)
        steps, last = stepped(memory, x, state, start)
        case.same(whole, steps, f"unroll's outputs are not those of repeated step ({pattern})")
        case.same_states(end, last, f"unroll's state is not that of repeated step ({pattern})")


def check_gradients(case: Case) -> None:
    """`unroll` gives the gradients of repeated `step`, under any resets."""
    memory = case.memory()
    for pattern, start in case.resets():
        found = []
        for run in (memory.unroll, lambda *given: stepped(memory, *given)):
            x, state = case.inputs(memory).requires_grad_(), case.used_state(memory)
            of_state = [field.requires_grad_() for field in differentiable(state)]
            y, end = run(x, state, start)
            wanted = {"the input": x, **named(of_state), **dict(memory.named_parameters())}
            found.append(gradients(case, [y, *differentiable(end)], wanted))
        for name, gradient in found[0].items():
            what = f"unroll's gradient of {name} is not that of repeated step ({pattern})"
            case.same(gradient, found[1][name], what)


def check_no_leak_of_values(case: Case) -> None:
    """What an episode gives does not depend on the one before, nor on what comes later."""
    memory = case.memory()
    x, used, at = case.inputs(memory), case.used_state(memory), 6
    start = torch.zeros(STEPS, STREAMS, dtype=torch.bool)
    start[at] = True
    for name, run in both_ways(memory):
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


def check_no_leak_of_gradients(case: Case) -> None:
    """No gradient of an episode reaches the one before: it is exactly zero."""
    memory = case.memory()
    at, stream = 6, 1
    start = torch.zeros(STEPS, STREAMS, dtype=torch.bool)
    start[at, stream] = True
    for name, run in both_ways(memory):
        x, state = case.inputs(memory).requires_grad_(), case.used_state(memory)
        of_state = [field.requires_grad_() for field in differentiable(state)]
        y, _ = run(x, state, start)
        found = gradients(case, [y[at:, stream]], {"the input": x, **named(of_state)})
        found["the input"] = found["the input"][:at]
        for which, gradient in found.items():
            case.expect(
                bool((gradient == 0).all()),
                f"{name}: a gradient of {float(gradient.abs().max()):.3g} passes a reset, to "
                f"{which} of the episode before; expected exactly 0.",
            )


def check_streams(case: Case) -> None:
    """Streams know nothing of each other, in values and gradients."""
    memory = case.memory()
    x, state = case.inputs(memory), case.used_state(memory)
    start = dict(case.resets())["random resets"]
    assert start is not None
    for name, run in both_ways(memory):
        together, end = run(x, state, start)
        for index in ([2], [3, 0]):
            some = torch.tensor(index)
            alone, last = run(x[:, some], select_state(state, some), start[:, some])
            what = f"{name}: a stream depends on the others of its batch; expected, as alone"
            case.same(together[:, some], alone, what)
            case.same_states(select_state(end, some), last, what)
        inputs = x.clone().requires_grad_()
        y, _ = run(inputs, state, start)
        (gradient,) = gradients(case, [y[:, 1]], {"the input": inputs}).values()
        others = gradient[:, [0, 2, 3]]
        case.expect(
            bool((others == 0).all()),
            f"{name}: a gradient of {float(others.abs().max()):.3g} passes from one stream to "
            "another; expected exactly 0.",
        )
