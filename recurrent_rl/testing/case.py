"""A memory to try, what to try it on, and how two results are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.states import MemoryState, map_state, names_of, tensors_of

STEPS, STREAMS, FEATURES, HIDDEN = 11, 4, 3, 8
TOLERANCES = {torch.float64: (1e-6, 1e-8), torch.float32: (1e-3, 1e-4)}
"""Relative and absolute, of what two ways of computing the same may differ by."""

MakeMemory = Callable[[int, int, int], Memory]


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


def both_ways(
    memory: Memory,
) -> tuple[tuple[str, Callable[..., tuple[Tensor, MemoryState]]], ...]:
    """The two ways through a sequence."""
    return ("unroll", memory.unroll), ("step", lambda *given: stepped(memory, *given))


def named(of_state: list[Tensor]) -> dict[str, Tensor]:
    """A state's tensors by names for messages."""
    return {f"the state's tensor {i}": x for i, x in enumerate(of_state)}


def gradients(case: Case, outputs: list[Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
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
