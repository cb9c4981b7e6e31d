"""How fast the kernels that unroll a memory are, forward and backward, against the peak.

    python benchmarks/speed/kernels.py  # about five minutes; prints Markdown

One layer of 128 units fed by 128 features. Every figure is a median over rounds in which all
contenders run in turn, so that they share whatever else the machine does. The peak is that of
`torch.nn.functional.linear` on two 2048 x 2048 matrices, or of `torch.mm` where that is faster, in
the same rounds. Freed memory is kept, as in training, for all contenders alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from recurrent_rl.agents.kernels import library
from recurrent_rl.agents.kernels.dispatch import KERNELS, choose_kernel, serving
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.registry import make_memory
from recurrent_rl.process import available_cores, keeping_freed_memory

STEPS, SIZE = 128, 128
STDERR = Console(stderr=True)
DENSE: dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
}
AT_RATES = ("lstm", "gru", "rnn", "gru-original", "lstm-peephole", "rotor", "matrix")
GROWING = ("lstm", "gru", "mingru", "minlstm", "lru", "rotor", "matrix")
Run = Callable[[], None]


def products(memory: Memory) -> int:
    """Multiplications and additions of a step of one row, forward and backward, in its products."""
    return 3 * 2 * sum(weight.numel() for weight in memory.parameters() if weight.dim() == 2)


def memory_of(cell: str) -> LayeredMemory:
    memory = make_memory(cell, SIZE, SIZE, 1, horizon=128)
    assert isinstance(memory, LayeredMemory)
    return memory


def unrolled(
    cell: str, kernel: str, batch: int, rate: float, steps: int = STEPS
) -> tuple[Run, Memory]:
    """A function that unrolls a cell with resets at this rate and goes back through it."""
    torch.manual_seed(0)
    memory = memory_of(cell)
    x = torch.randn(steps, batch, SIZE).tanh().requires_grad_()
    start = torch.rand(steps, batch) < rate
    fields = tuple(field[0] for field in memory.initial_state(batch))
    gradient = torch.randn(steps, batch, memory.output_size)

    def run() -> None:
        memory.zero_grad(set_to_none=True)
        x.grad = None
        y, _ = KERNELS[kernel].unroll(memory.cell, memory.weights(0), x, fields, start)
        torch.autograd.backward(y, gradient)

    return run, memory


def dense(cell: str, batch: int) -> Run:
    """The same with torch's own layer, without resets."""
    torch.manual_seed(0)
    layer = DENSE[cell](SIZE, SIZE)
    x = torch.randn(STEPS, batch, SIZE).tanh().requires_grad_()
    gradient = torch.randn(STEPS, batch, SIZE)

    def run() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        torch.autograd.backward(layer(x)[0], gradient)

    return run


def in_turn(contenders: dict[str, Run], rounds: int) -> dict[str, float]:
    """Median seconds of each, all run once a round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(rounds + 2):
        for name, run in contenders.items():
            begin = time.perf_counter()
            run()
            if round_number >= 2:  # the first two warm up
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_runs() -> dict[str, Run]:
    """The products whose speed is the peak."""
    a, b = torch.randn(2, 2048, 2048)

    def linear() -> None:
        nn.functional.linear(a, b)

    def mm() -> None:
        torch.mm(a, b)

    return {"peak linear": linear, "peak mm": mm}


def peak(times: dict[str, float]) -> float:
    """Multiplications and additions a second."""
    return 2 * 2048**3 / min(times["peak linear"], times["peak mm"])


def at_all_reset_rates(cells: list[str], batches: list[int], rounds: int) -> None:
    """Prints what share of the peak each kernel reaches, and what resets cost."""
    print(
        "| B | cell | kernel | ms | share of peak | x time without resets: 2 % resets | 20 % "
        "| x torch's layer without resets |\n|---|---|---|---|---|---|---|---|"
    )
    for batch in batches:
        for cell in track(cells, description=f"B = {batch}", console=STDERR, transient=True):
            runs: dict[str, Run] = peak_runs()
            if cell in DENSE:
                runs["dense"] = dense(cell, batch)
            kernels = serving(memory_of(cell).cell, torch.zeros(1))
            for kernel in kernels:
                for rate in (0.0, 0.02, 0.2):
                    runs[f"{kernel} {rate}"], memory = unrolled(cell, kernel, batch, rate)
            times = in_turn(runs, rounds)
            work = products(memory) * STEPS * batch
            if cell in DENSE:
                share = work / times["dense"] / peak(times)
                print(f"| {batch} | {cell} | torch, no resets | {1e3 * times['dense']:.1f} "
                      f"| {share:.0%} | | | 1 |")  # fmt: skip
            for kernel in kernels:
                none, some, many = (times[f"{kernel} {rate}"] for rate in (0.0, 0.02, 0.2))
                against = f"{some / times['dense']:.2f}" if cell in DENSE else ""
                print(f"| {batch} | {cell} | {kernel} | {1e3 * some:.1f} "
                      f"| {work / some / peak(times):.0%} | {some / none:.2f} | {many / none:.2f} "
                      f"| {against} |")  # fmt: skip


def kept_bytes(run: Run) -> int:
    """What a forward pass keeps for the backward pass, each tensor once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(kept.values())


def growth(cells: list[str], rounds: int) -> None:
    """Prints time and memory for longer sequences and larger batches."""
    print("\n| T | B | cell | kernel | us per step and row | kept for the backward pass, MB |")
    print("|---|---|---|---|---|---|")
    sizes = [(steps, 16) for steps in (128, 512, 2048, 4096)]
    sizes += [(128, batch) for batch in (64, 256, 1024)]
    for cell in cells:
        kernel = choose_kernel(memory_of(cell).cell, torch.zeros(1))
        for steps, batch in track(sizes, description=cell, console=STDERR, transient=True):
            run, _ = unrolled(cell, kernel, batch, 0.02, steps)
            seconds = in_turn({"it": run}, rounds)["it"]
            print(
                f"| {steps} | {batch} | {cell} | {kernel} | {1e6 * seconds / steps / batch:.2f} "
                f"| {kept_bytes(run) / 1e6:.1f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=sorted({*AT_RATES, *GROWING}))
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--threads", type=int, default=min(2, available_cores()))
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with keeping_freed_memory():
        measure(arguments.cells, arguments.batches, arguments.threads, arguments.rounds)


def measure(cells: list[str] | None, batches: list[int], threads: int, rounds: int) -> None:
    times = in_turn(peak_runs(), rounds)
    print(
        f"Peak {peak(times) / 1e9:.0f} GFLOP/s on {threads} threads "
        f"(F.linear {2 * 2048**3 / times['peak linear'] / 1e9:.0f}); compiled kernel: "
        f"{library.instruction_set()}; torch {torch.__version__}.\n"
    )
    at_all_reset_rates([c for c in AT_RATES if c in (cells or AT_RATES)], batches, rounds)
    growth([c for c in GROWING if c in (cells or GROWING)], max(3, rounds // 3))


if __name__ == "__main__":
    main()
