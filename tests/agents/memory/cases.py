"""What the tests of every memory share: a memory, a sequence with resets, a state in use."""

import torch
from torch import Tensor

from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.registry import MEMORIES, make_memory
from recurrent_rl.agents.memory.states import (
    MemoryState,
    map_state,
)

T, B, F, H = 11, 4, 3, 6
RECURRENT = [name for name in MEMORIES if name != "none"]


def make(name: str, layers: int = 1, dtype: torch.dtype = torch.float64) -> Memory:
    torch.manual_seed(0)
    memory = make_memory(name, F, H, layers).to(dtype)
    with torch.no_grad():  # biases and peepholes start at zero: give them something to do
        for parameter in memory.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return memory


def sequence(rate: float, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(T, B, F, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.rand(T, B, generator=generator) < rate


def some_state(memory: Memory) -> MemoryState:
    generator = torch.Generator().manual_seed(2)

    def some(field: Tensor) -> Tensor:
        x = torch.randn(field.shape, generator=generator, dtype=torch.float64)
        return (x if field.is_floating_point() else (100 * x).abs()).to(field.dtype)

    return map_state(some, memory.initial_state(B))
