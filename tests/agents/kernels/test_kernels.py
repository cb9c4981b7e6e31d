"""What unrolls a layer: every kernel against the loop, and how one is chosen."""

import shutil
import subprocess
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.kernels import compiled, library
from recurrent_rl.agents.kernels.cell import Cell, LayerState
from recurrent_rl.agents.kernels.dispatch import KERNELS, STEPS, VARIABLE, choose_kernel, serving
from recurrent_rl.agents.kernels.safeguards import MemoryInputError, SecondDerivativeError
from recurrent_rl.agents.kernels.scan import (
    by_doubling,
    by_doubling_backwards,
    in_order,
    in_order_backwards,
)
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.registry import make_memory

needs_compiled = pytest.mark.skipif(library.library() is None, reason="built without a compiler")

# What was built from C to serve a memory.
COMPILED = dict.fromkeys(compiled.CELLS, "compiled") | {
    "rotor": "compiled-rotor",
    "matrix": "compiled-matrix",
}
# T, B, F, H: one of everything; less and more than a vector; padding everywhere; several blocks of
# the batch; several windows of steps; the size that the defaults have.
SIZES = [(1, 1, 1, 1), (7, 5, 3, 10), (9, 70, 20, 64), (40, 37, 16, 33), (130, 16, 128, 128)]


def on_each_instruction_set(
    kernel: str, memory: Memory, given: dict[str, Tensor]
) -> Iterator[list[Tensor]]:
    """What `run` finds with portable code, with AVX2 and with AVX-512, where the processor can."""
    built = library.built()
    try:
        for number in range(3):
            built.recurrent_limit_isa(number)
            if built.recurrent_isa() == number:
                yield run(kernel, memory, given)
    finally:
        built.recurrent_limit_isa(2)


@pytest.fixture
def bfloat16() -> Iterator[None]:
    if not library.has_bfloat16():
        pytest.skip("this machine has no AMX")
    library.set_bfloat16(True)
    yield
    library.set_bfloat16(False)


def fitting(name: str, size: tuple[int, ...]) -> tuple[int, ...]:
    """The size, with an even number of units for cells with complex ones."""
    return (*size[:3], size[3] + size[3] % 2) if name in ("rotor", "lru") else size


def case(name: str, size: tuple[int, ...], rate: float, dtype: torch.dtype) -> dict[str, Tensor]:
    """Inputs, states, weights that need gradients, and resets; and what to multiply outputs by."""
    steps, batch, features, hidden = fitting(name, size)
    memory = make_memory(name, features, hidden, 1)
    fields = [field[0] for field in memory.initial_state(batch)] * 2
    generator = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    def value(field: Tensor) -> Tensor:
        if field.is_floating_point():
            return normal(*field.shape).requires_grad_()
        return torch.randint(100, field.shape, generator=generator)

    return {
        "x": normal(steps, batch, features).requires_grad_(),
        "h": value(fields[0]),  # the state's first field and its second
        "c": value(fields[1]),
        "start": torch.rand(steps, batch, generator=generator) < rate,
        "dy": normal(steps, batch, memory.output_size),
        "dh": normal(*fields[0].shape),
        "dc": normal(*fields[1].shape),
    }


def unroll(
    kernel: str, memory: Memory, x: Tensor, fields: LayerState, start: Tensor
) -> tuple[Tensor, LayerState]:
    """The memory's only layer by this kernel."""
    assert isinstance(memory, LayeredMemory)
    return KERNELS[kernel].unroll(memory.cell, memory.weights(0), x, fields, start)


def run(kernel: str, memory: Memory, given: dict[str, Tensor]) -> list[Tensor]:
    """Outputs, final fields and all gradients; the compiled kernel on two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if kernel in STEPS else 1)
    try:
        return outputs_and_gradients(kernel, memory, given)
    finally:
        torch.set_num_threads(threads)


def outputs_and_gradients(kernel: str, memory: Memory, given: dict[str, Tensor]) -> list[Tensor]:
    fields = (given["h"], given["c"])[: len(memory.state_type._fields)]
    y, after = unroll(kernel, memory, given["x"], fields, given["start"])
    total = (y * given["dy"]).sum()
    for field, name in zip(after, ("dh", "dc"), strict=False):
        total = total + (field * given[name]).sum()
    wanted = [given["x"], *(f for f in fields if f.requires_grad), *memory.parameters()]
    return [y.detach(), *(f.detach() for f in after), *torch.autograd.grad(total, wanted)]


def make(name: str, size: tuple[int, ...], dtype: torch.dtype) -> Memory:
    torch.manual_seed(5)
    memory = make_memory(name, size[2], fitting(name, size)[3], 1).to(dtype)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return memory


@needs_compiled
@pytest.mark.parametrize(
    ("size", "rate"),
    [
        *((SIZES[0], rate) for rate in (0.0, 1.0)),
        *((SIZES[1], rate) for rate in (0.0, 0.2, 1.0)),
        (SIZES[2], 0.2),
        *((size, 0.02) for size in SIZES[2:]),
    ],
)
@pytest.mark.parametrize("name", COMPILED)
def test_the_compiled_kernel_computes_what_the_loop_does(
    name: str, size: tuple[int, ...], rate: float
) -> None:
    memory = make(name, size, torch.float32)
    given = case(name, size, rate, torch.float32)
    expected = run("loop", memory, given)
    for found in on_each_instruction_set(COMPILED[name], memory, given):
        for ours, loops in zip(found, expected, strict=True):
            assert_close(ours, loops, rtol=1e-4, atol=3e-5 * max(1.0, float(loops.abs().max())))


@needs_compiled
@pytest.mark.parametrize("size", SIZES[:4])
@pytest.mark.parametrize("name", COMPILED)
def test_the_compiled_kernel_is_exact_in_double_precision(name: str, size: tuple[int, ...]) -> None:
    memory = make(name, size, torch.float64)
    given = case(name, size, 0.1, torch.float64)
    kernel = COMPILED[name]
    for ours, loops in zip(run(kernel, memory, given), run("loop", memory, given), strict=True):
        assert_close(ours, loops, rtol=1e-9, atol=1e-11 * max(1.0, float(loops.abs().max())))


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_insertion_is_exact_in_double_precision(name: str, size: tuple[int, ...]) -> None:
    memory = make(name, size, torch.float64)
    given = case(name, size, 0.1, torch.float64)
    for ours, loops in zip(
        run("insertion", memory, given), run("loop", memory, given), strict=True
    ):
        assert_close(ours, loops, rtol=1e-9, atol=1e-11 * max(1.0, float(loops.abs().max())))


@needs_compiled
@pytest.mark.parametrize("name", ["gru", "rotor", "matrix"])
def test_threads_of_our_own_compute_the_same_to_the_last_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = make(name, SIZES[-1], torch.float32)
    given = case(name, SIZES[-1], 0.02, torch.float32)
    on_openmp = run(COMPILED[name], memory, given)
    monkeypatch.setattr(library, "_openmp", lambda: None)
    for ours, theirs in zip(run(COMPILED[name], memory, given), on_openmp, strict=True):
        assert torch.equal(ours, theirs)


@needs_compiled
@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("name", compiled.CELLS)
@pytest.mark.usefixtures("bfloat16")
def test_in_bfloat16_the_kernel_differs_by_the_rounding_of_products(
    name: str, size: tuple[int, ...]
) -> None:
    memory = make(name, size, torch.float32)
    given = case(name, size, 0.1, torch.float32)
    library.set_bfloat16(False)
    exact = run("compiled", memory, given)
    library.set_bfloat16(True)
    rounded = run("compiled", memory, given)
    for ours, floats in zip(rounded, exact, strict=True):
        assert (ours - floats).norm() <= 0.02 * floats.norm()
    assert not torch.equal(rounded[0], exact[0])


@needs_compiled
@pytest.mark.usefixtures("bfloat16")
def test_in_bfloat16_an_input_may_be_of_any_size() -> None:
    """Its factors do not fit on the stack: they are packed a stretch at a time."""
    torch.manual_seed(0)
    memory, x = make_memory("gru", 33_000, 4, 1), torch.randn(32, 8, 33_000)
    given, state = x.requires_grad_(), memory.initial_state(8)
    found = []
    for bfloat16 in (False, True):
        library.set_bfloat16(bfloat16)
        y, _ = memory.unroll(given, state)
        inputs = [given, *memory.parameters()]
        found.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    for exact, rounded in zip(*found, strict=True):
        assert (rounded - exact).norm() <= 0.02 * exact.norm()


@needs_compiled
@pytest.mark.parametrize("name", compiled.CELLS)
@pytest.mark.usefixtures("bfloat16")
def test_in_bfloat16_a_rollouts_steps_are_the_updates_sequence(name: str) -> None:
    memory = make(name, SIZES[2], torch.float32)
    given = case(name, SIZES[2], 0.1, torch.float32)
    state = memory.initial_state(70)
    x = given["x"].detach()
    whole, _ = memory.unroll(x, state, given["start"])
    with torch.no_grad(), library.frozen_weights():
        for t in range(len(x)):
            y, state = memory.step(x[t], state, given["start"][t])
            assert torch.equal(y, whole[t])


@needs_compiled
def test_bfloat16_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "has_bfloat16", lambda: False)
    with pytest.raises(UserError, match="bfloat16 needs the compiled kernel and a processor with"):
        library.set_bfloat16(True)


@needs_compiled
@pytest.mark.parametrize("name", COMPILED)
def test_a_step_on_frozen_weights_is_a_step(name: str) -> None:
    memory = make(name, SIZES[1], torch.float32)
    given = case(name, SIZES[1], 0.5, torch.float32)
    x, start = given["x"].detach(), given["start"]
    with torch.no_grad():
        for _ in range(2):  # the second time with other weights
            assert not library.keeps_steps()
            state, expected = memory.initial_state(5), []
            for t in range(len(x)):
                y, state = memory.step(x[t], state, start[t])
                expected.append(y)
            state = memory.initial_state(5)
            with library.frozen_weights():
                assert library.keeps_steps()
                for t in range(len(x)):
                    y, state = memory.step(x[t], state, start[t])
                    assert_close(y, expected[t])
            for parameter in memory.parameters():
                parameter.mul_(0.5)


@needs_compiled
def test_a_step_on_frozen_weights_takes_one_type_only_and_any_layout() -> None:
    memory = make("lstm", (1, 5, 3, 8), torch.float32)
    x, state = torch.randn(3, 5).t(), memory.initial_state(5)
    start = torch.tensor([True, False] * 5)[::2]
    with torch.no_grad(), library.frozen_weights():
        y, state = memory.step(x, state, start)
        assert_close(y, memory.unroll(x.unsqueeze(0), memory.initial_state(5))[0][0])
        for number in range(2):
            fields = list(state)
            fields[number] = fields[number].double()
            with pytest.raises(MemoryInputError, match=r"state\.[hc] is torch\.float64"):
                memory.step(x, type(state)(*fields), start)


@needs_compiled
def test_extreme_inputs_saturate_and_do_not_overflow() -> None:
    memory = make("lstm", (5, 4, 3, 8), torch.float32)
    given = case("lstm", (5, 4, 3, 8), 0.0, torch.float32)
    given["x"] = (given["x"].detach() * 1e6).requires_grad_()
    for ours, loops in zip(run("compiled", memory, given), run("loop", memory, given), strict=True):
        assert_close(ours, loops, rtol=1e-4, atol=1e-5 * max(1.0, float(loops.abs().max())))


@needs_compiled
def test_a_rotor_turns_by_any_angle_and_fades_by_any_gate() -> None:
    memory = make("rotor", (60, 4, 3, 40), torch.float32)
    given = case("rotor", (60, 4, 3, 40), 0.1, torch.float32)
    with torch.no_grad():
        memory.get_parameter("theta_l0").copy_(torch.linspace(-100, 100, 20))
        given["x"].mul_(10)
    expected = run("loop", memory, given)
    for found in on_each_instruction_set("compiled-rotor", memory, given):
        for ours, loops in zip(found, expected, strict=True):
            assert_close(ours, loops, rtol=1e-3, atol=3e-5 * max(1.0, float(loops.abs().max())))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
def test_the_compiled_kernel_stays_within_its_arrays(tmp_path: Path) -> None:
    source = Path(__file__).with_name("sequence_check.c")
    program = tmp_path / "check"
    options = ["-O1", "-g", "-Wno-psabi", "-fsanitize=address,undefined"]
    stop = "-fno-sanitize-recover=undefined"
    libraries = ["-lm", "-lpthread"]
    subprocess.run(["gcc", *options, stop, "-o", program, source, *libraries], check=True)
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "clean\n"), result.stderr


def cell_of(name: str) -> Cell:
    memory = make_memory(name, 3, 4, 1)
    assert isinstance(memory, LayeredMemory)
    return memory.cell


SERVED = [
    (name, kernel)
    for name in (*compiled.CELLS, "rotor", "lru", "mingru", "minlstm", "matrix")
    for kernel in serving(cell_of(name), torch.zeros(1))
]


def fields_of_numbers(name: str) -> list[str]:
    """Those of the state that can be other than finite, by their names in a case."""
    state = make_memory(name, 3, 4, 1).initial_state(1)
    return [key for key, field in zip("hc", state, strict=False) if field.is_floating_point()]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("name", "kernel", "where"),
    [(*at, where) for at in SERVED for where in ("x", *fields_of_numbers(at[0]))],
)
def test_what_is_not_finite_stays_in_its_episode(
    name: str, kernel: str, where: str, bad: float
) -> None:
    size = (9, 3, 3, 6)
    memory = make(name, size, torch.float64)
    given = case(name, size, 0.0, torch.float64)
    start = given["start"]
    start[4] = start[7] = True
    start[6, 1] = True
    good = outputs_and_gradients(kernel, memory, given)
    with torch.no_grad():
        axis = 1 if where == "x" else 0
        given[where].select(axis, 1)[..., 2 if where == "x" else 0] = bad
        if where == "x":  # in the first episode of column 1 only
            given[where][4:, 1] = case(name, size, 0.0, torch.float64)["x"][4:, 1].detach()
    given = {
        key: value.detach().requires_grad_(value.requires_grad) for key, value in given.items()
    }
    found = outputs_and_gradients(kernel, memory, given)
    number = len(memory.state_type._fields)
    assert_close(found[0][4:], good[0][4:])
    assert_close(found[0][:, [0, 2]], good[0][:, [0, 2]])
    for ours, expected in zip(found[1 : 1 + number], good[1 : 1 + number], strict=True):
        assert_close(ours, expected)
    assert_close(found[1 + number][4:], good[1 + number][4:])


@pytest.mark.parametrize(("name", "kernel"), [at for at in SERVED if "chunked" not in at])
def test_a_gradient_that_is_not_finite_stays_in_its_episode(name: str, kernel: str) -> None:
    size = (9, 3, 3, 6)
    memory = make(name, size, torch.float64)
    given = case(name, size, 0.0, torch.float64)
    given["start"][4] = True
    good = outputs_and_gradients(kernel, memory, given)
    given["dy"][6, 1, 0] = float("nan")
    found = outputs_and_gradients(kernel, memory, given)
    number = len(memory.state_type._fields)
    parameters = sum(1 for _ in memory.parameters())
    for ours, expected in zip(
        found[1 + number : -parameters], good[1 + number : -parameters], strict=True
    ):  # of x, h and c
        steps = slice(None, 4) if ours.dim() == 3 else slice(None)
        assert_close(ours[steps], expected[steps])
    assert_close(found[1 + number][:, [0, 2]], good[1 + number][:, [0, 2]])


@pytest.mark.parametrize(("name", "kernel"), SERVED)
def test_a_second_derivative_is_right_or_refused(name: str, kernel: str) -> None:
    size = (5, 2, 3, 4)
    memory = make(name, size, torch.float64)
    given = case(name, size, 0.4, torch.float64)
    given["start"][2, 0] = True

    def second(kernel: str) -> Tensor:
        fields = (given["h"], given["c"])[: len(memory.state_type._fields)]
        y, _ = unroll(kernel, memory, given["x"], fields, given["start"])
        # The gradient that comes back is a constant, and x's gradient depends on x elsewhere too.
        (first,) = torch.autograd.grad(
            y.sum() + given["x"].pow(3).sum(), given["x"], create_graph=True
        )
        return torch.autograd.grad(first.sum(), given["x"])[0]

    if kernel in ("loop", "chunked"):
        assert_close(second(kernel), second("loop"))
        assert not torch.allclose(second(kernel), 6 * given["x"])
    else:
        with pytest.raises(SecondDerivativeError, match="RECURRENT_RL_KERNEL=loop"):
            second(kernel)


@pytest.mark.parametrize("kernel", ["compiled-rotor", "scan", "loop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("forget", [90.0, 120.0, 1000.0, -90.0, -1000.0])
def test_a_rotor_whose_gate_is_saturated_has_finite_gradients(
    kernel: str, dtype: torch.dtype, forget: float
) -> None:
    if kernel in STEPS and library.library() is None:
        pytest.skip("built without a compiler")
    size = (5, 2, 3, 4)
    memory = make("rotor", size, dtype)
    with torch.no_grad():
        memory.get_parameter("bias_l0")[4:6] = forget
    given = case("rotor", size, 0.2, dtype)
    expected = torch.sigmoid(torch.tensor(forget, dtype=dtype))
    found = outputs_and_gradients(kernel, memory, given)
    assert all(x.isfinite().all() for x in found)
    if forget > 0:  # all is kept, and nothing written
        assert float(expected) == 1
        given["start"][:] = False
        fields = (given["h"],)
        _, (h,) = unroll(kernel, memory, given["x"], fields, given["start"])
        size_of = [x.unflatten(-1, (-1, 2)).norm(dim=-1) for x in (h, given["h"])]
        assert_close(*size_of)


@needs_compiled
@pytest.mark.parametrize("name", COMPILED)
def test_numbers_still_to_be_negated_are_read_negated(name: str) -> None:
    size = (3, 4, 3, 8)
    memory = make(name, size, torch.float64)
    given = case(name, size, 0.2, torch.float64)
    expected = outputs_and_gradients(COMPILED[name], memory, given)
    lazy = {
        key: value
        if key == "start"
        else torch._neg_view(-value.detach()).requires_grad_(value.requires_grad)
        for key, value in given.items()
    }
    assert lazy["x"].is_neg()
    for ours, theirs in zip(
        outputs_and_gradients(COMPILED[name], memory, lazy), expected, strict=True
    ):
        assert_close(ours, theirs)


@needs_compiled
def test_a_nan_is_passed_on() -> None:
    memory = make("gru", (3, 4, 3, 8), torch.float32)
    x = torch.zeros(3, 4, 3)
    x[1, 2, 0] = float("nan")
    y, _ = memory.unroll(x, memory.initial_state(4), torch.zeros(3, 4, dtype=torch.bool))
    assert y.isnan().any(dim=2).tolist() == [[False] * 4, *[[False, False, True, False]] * 2]


@needs_compiled
def test_numbers_of_two_types_are_refused() -> None:
    memory = make("gru", (3, 4, 3, 8), torch.float32)
    with pytest.raises(MemoryInputError, match=r"x is torch\.float64 on cpu and state\.h is"):
        memory.unroll(torch.zeros(3, 4, 3, dtype=torch.float64), memory.initial_state(4))
    for name in ("gru", "lstm", "lstm-peephole", "rotor"):
        memory = make(name, (3, 4, 3, 8), torch.float32)
        for number in range(len(memory.state_type._fields)):
            fields = list(memory.initial_state(4))
            fields[number] = fields[number].double()
            with pytest.raises(MemoryInputError, match=r"state\.[hc] is torch\.float64 on cpu"):
                memory.unroll(torch.zeros(3, 4, 3), memory.state_type(*fields))


@needs_compiled
@pytest.mark.parametrize("name", COMPILED)
def test_weights_that_the_kernel_would_read_beyond_are_refused(name: str) -> None:
    size = (3, 4, 3, 8)
    last = list(make(name, size, torch.float32).named_parameters())
    for position, (weight, value) in enumerate(last):
        if weight.startswith(("output", "skip", "frequency")):
            continue  # torch's own product reads them
        for wrong in (value.detach().double(), value.detach()[:-1]):
            memory = make(name, size, torch.float32)
            list(memory.parameters())[position].data = wrong
            with pytest.raises((MemoryInputError, RuntimeError), match=r"expected|size|dtype|type"):
                memory.unroll(torch.zeros(3, 4, 3), memory.initial_state(4))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("steps", [1, 2, 7, 64])
def test_a_scan_by_doubling_is_the_scan_in_order(steps: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, steps, 3, dtype=dtype)
    expected = [b[0]]
    for t in range(1, steps):
        expected.append(a[t] * expected[-1] + b[t])
    assert_close(in_order(a, b.clone()), torch.stack(expected))
    assert_close(by_doubling(a, b), torch.stack(expected))
    backwards = in_order(torch.cat([a[:1], a[1:].flip(0)]), b.flip(0)).flip(0)
    assert_close(in_order_backwards(a, b.clone()), backwards)
    assert_close(by_doubling_backwards(a, b), backwards)


def test_without_the_compiled_kernel_torchs_own_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "library", lambda: None)
    x = torch.zeros(5, 2, 3)
    for name, expected in {
        "lstm": "insertion",
        "gru": "insertion",
        "rnn": "loop",
        "lru": "scan",
        "rotor": "scan",
    }.items():
        assert choose_kernel(cell_of(name), x) == expected
    assert library.instruction_set() == "not built"


def test_the_environment_names_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(5, 2, 3)
    monkeypatch.setenv(VARIABLE, "insertion")
    assert choose_kernel(cell_of("lstm"), x) == "insertion"
    assert choose_kernel(cell_of("mingru"), x) == "scan"  # does not serve this one
    monkeypatch.setenv(VARIABLE, "quick")
    with pytest.raises(UserError, match="RECURRENT_RL_KERNEL is 'quick'; choose one of compiled"):
        choose_kernel(cell_of("lstm"), x)


@needs_compiled
def test_python_lays_out_the_structures_as_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    built = library.built()
    layout = (built.recurrent_layout() + built.steps_layout()).decode()
    assert layout == library.layout()
    assert layout.startswith("Sequence 208\ncell 0 8\n")
    built_files = Path(library.__file__).parent.glob("_sequence*")  # one for each Python
    (path,) = (path for path in built_files if path.name[len("_sequence") :] in EXTENSION_SUFFIXES)
    monkeypatch.setattr(library, "layout", lambda: layout.replace("cell 0", "cell 8"))
    with pytest.warns(RuntimeWarning, match="was built from other sources, and is not used"):
        assert library._load(path) is None


def test_a_library_that_does_not_load_is_not_used_and_the_fix_is_told(tmp_path: Path) -> None:
    path = tmp_path / "_sequence.so"
    path.write_bytes(b"of another system")
    with pytest.warns(RuntimeWarning, match=r"cannot be loaded \(.*\).* pip install -e \."):
        assert library._load(path) is None
