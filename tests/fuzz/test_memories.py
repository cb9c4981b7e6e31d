"""Every memory, at any size and with any resets: unroll is the loop and is repeated step.

Values and gradients, from inputs of any layout; or a MemoryInputError says what does not fit.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from recurrent_rl.agents.kernels import library
from recurrent_rl.agents.kernels.dispatch import VARIABLE
from recurrent_rl.agents.kernels.safeguards import MemoryInputError
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.registry import MEMORIES, make_memory
from recurrent_rl.agents.memory.states import MemoryState, tensors_of, with_tensors

KERNELS = ("", "insertion", "scan", "chunked", "loop")  # "": what the memory takes of itself
TOLERANCE: dict[torch.dtype, dict[str, float]] = {
    torch.float32: {"rtol": 1e-3, "atol": 1e-4},
    torch.float64: {"rtol": 1e-8, "atol": 1e-10},
}


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same numbers elsewhere in memory."""
    if layout == "turned":
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided":
        wide = tensor.new_zeros(*tensor.shape[:-1], 2 * tensor.shape[-1] + 1)
        wide[..., 1::2] = tensor
        return wide[..., 1::2]
    if layout == "offset":
        return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)
    if layout == "negated":
        return tensor if tensor.dtype is torch.bool else torch._neg_view(-tensor)
    return tensor.contiguous()


LAYOUTS = st.sampled_from(["dense", "turned", "strided", "offset", "negated"])
SIZES = {"hidden": st.integers(1, 40), "layers": st.integers(1, 3), "features": st.integers(1, 9)}
NAMES = st.sampled_from(list(MEMORIES))


def make(name: str, features: int, hidden: int, layers: int, seed: int) -> Memory:
    """A memory all of whose weights have something to do; of complex units an even number."""
    if name in ("lru", "rotor") and hidden % 2:
        with pytest.raises(ValueError, match=f"hidden_size is {hidden}; .* must be even, such as"):
            make_memory(name, features, hidden, layers)
        hidden += 1
    torch.manual_seed(seed)
    memory = make_memory(name, features, hidden, layers, horizon=8 * (seed % 2), start_feature=0)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return memory


class Case:
    """One memory and what it is given, drawn by hypothesis."""

    def __init__(self, data: st.DataObject, *, finite: bool = True) -> None:
        draw = data.draw
        seed = draw(st.integers(0, 2**16), label="seed")
        sizes = {key: draw(size, label=key) for key, size in SIZES.items()}
        self.name = draw(NAMES, label="memory")
        self.dtype = draw(st.sampled_from([torch.float32, torch.float64]), label="dtype")
        self.memory = make(self.name, seed=seed, **sizes).to(self.dtype)
        self.kernel = draw(st.sampled_from(KERNELS), label="kernel")
        self.steps = draw(st.integers(1, 12), label="steps")
        self.batch = draw(st.integers(0, 3), label="batch")
        scale = draw(st.sampled_from([0.0, 1.0, 30.0]), label="scale of x")
        size = (self.steps, self.batch)
        resets = draw(st.sampled_from(["none given", "none", "all", "random"]), label="resets")
        rate = {"none": 0.0, "all": 1.0}.get(resets, 0.3)
        self.start = None if resets == "none given" else torch.rand(size) < rate
        self.x = scale * torch.randn(*size, self.memory.input_size, dtype=self.dtype)
        self.fresh = self.memory.initial_state(self.batch)
        self.fields = [
            torch.randn_like(s) if s.is_floating_point() else torch.randint_like(s, 1000)
            for s in tensors_of(self.fresh)
        ]
        self.gradients = [
            torch.randn(*size, self.memory.output_size, dtype=self.dtype),
            *(torch.randn_like(s) for s in floats(self.fields)),
        ]
        if not finite and self.batch:
            self.x[draw(st.integers(0, self.steps - 1)), 0] = float("nan")
        self.x = laid_out(self.x, draw(LAYOUTS, label="x"))
        self.fields = [laid_out(s, draw(LAYOUTS, label="state")) for s in self.fields]
        self.gradients = [laid_out(g, draw(LAYOUTS, label="gradient")) for g in self.gradients]
        if self.start is not None:
            self.start = laid_out(self.start, draw(LAYOUTS, label="episode_start"))
        for parameter in self.memory.parameters():
            if parameter.dim() > 1 and draw(st.booleans(), label="turned weight"):
                parameter.data = laid_out(parameter.data, "turned")

    def state(self, fields: list[Tensor]) -> MemoryState:
        return with_tensors(self.fresh, fields)

    def stepped(self, x: Tensor, fields: list[Tensor]) -> tuple[Tensor, MemoryState]:
        state, outputs = self.state(fields), []
        for t in range(self.steps):
            y, state = self.memory.step(x[t], state, None if self.start is None else self.start[t])
            outputs.append(y)
        return torch.stack(outputs), state

    def results(self, run: Any) -> list[Tensor]:
        """Outputs, end state, and the gradients of x, state and weights."""
        x = self.x.detach().requires_grad_()
        fields = [s.detach().requires_grad_(s.is_floating_point()) for s in self.fields]
        y, end = run(x, fields)
        wanted = [x, *floats(fields), *self.memory.parameters()]
        after = tensors_of(end)
        outputs = [y, *floats(after)]
        found = torch.autograd.grad(outputs, wanted, self.gradients, allow_unused=True)
        zeros = [
            torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True)
        ]
        return [y.detach(), *(s.detach() for s in after), *zeros]

    def unrolled(self, x: Tensor, fields: list[Tensor]) -> tuple[Tensor, MemoryState]:
        return self.memory.unroll(x, self.state(fields), self.start)

    def same(self, ours: list[Tensor], theirs: list[Tensor]) -> None:
        for a, b in zip(ours, theirs, strict=True):
            largest = float(b.double().nan_to_num(0.0).abs().max()) if b.numel() else 0.0
            tolerance = TOLERANCE[self.dtype]
            atol = tolerance["atol"] * max(1.0, largest)
            if "matrix" in self.name and self.dtype is torch.float32:
                # A key of a few numbers may be nearly zero, its direction uncertain: the loop
                # itself is then as far from its values in double precision.
                atol *= 30
            assert_close(a, b, rtol=tolerance["rtol"], atol=atol, equal_nan=True)


def floats(tensors: list[Tensor]) -> list[Tensor]:
    """Those that can have a gradient."""
    return [x for x in tensors if x.is_floating_point()]


def test_unroll_is_the_loop_and_repeated_step(
    examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=examples)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        case = Case(data)
        monkeypatch.setenv(VARIABLE, "loop")
        expected = case.results(case.unrolled)
        monkeypatch.setenv(VARIABLE, case.kernel)
        found = case.results(case.unrolled)
        assert found[0].shape == (case.steps, case.batch, case.memory.output_size)
        case.same(found, expected)
        case.same(case.results(case.stepped), expected)
        number = len(case.fields) + 1
        with torch.no_grad(), library.frozen_weights():
            y, end = case.stepped(case.x, case.fields)
        case.same([y, *tensors_of(end)], expected[:number])

    check()


def test_a_nan_stays_in_its_episode(examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=examples)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        case = Case(data, finite=False)
        monkeypatch.setenv(VARIABLE, case.kernel)
        bad = case.x.isnan().any(-1)
        start = torch.zeros_like(bad) if case.start is None else case.start
        episode = start.cumsum(0)
        numbers = torch.arange(case.steps + 1).view(-1, 1, 1)
        spoilt_episodes = (bad & (episode == numbers)).any(1)
        spoilt = spoilt_episodes[episode, torch.arange(case.batch)]
        found = case.results(case.unrolled)
        y, dx = found[0], found[1 + len(case.fields)]
        assert y[~spoilt].isfinite().all()
        assert dx[~spoilt].isfinite().all()
        with torch.no_grad(), library.frozen_weights():
            y, _ = case.stepped(case.x, case.fields)
        assert y[~spoilt].isfinite().all()

    check()


def test_what_does_not_fit_is_refused(examples: int) -> None:
    @settings(max_examples=examples)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        case = Case(data)
        given_start = torch.zeros(case.steps, case.batch).bool()
        names = [f"field {i}" for i in range(len(case.fields))]
        which = data.draw(st.sampled_from(["x", "episode_start", *names]))
        parts = {"x": case.x, "episode_start": given_start}
        parts |= dict(zip(names, case.fields, strict=True))
        other = torch.float32 if case.dtype is torch.float64 else torch.float64
        wrong = data.draw(
            st.sampled_from([other, torch.float16, torch.bfloat16, torch.int64, "meta", "shape"])
        )
        if wrong is parts[which].dtype:
            return  # a clock, which counts in int64
        if wrong == "shape":
            dim = data.draw(st.integers(0, parts[which].dim() - 1))
            if which in ("x", "episode_start") and dim == 0:
                dim = -1  # more steps of one of them would do for a single step
            longer = list(parts[which].shape)
            longer[dim] += 1
            parts[which] = parts[which].new_zeros(longer)
        else:
            parts[which] = parts[which].to(wrong)  # type: ignore[call-overload]
        if case.name == "none" and which == "x" and wrong not in ("meta", "shape"):
            return  # it passes on whatever it is given
        fields = [parts[name] for name in names]
        x, start = parts["x"], parts["episode_start"]
        refused = pytest.raises(MemoryInputError, match="expected")
        with refused:
            case.memory.unroll(x, case.state(fields), start)
        with torch.no_grad(), library.frozen_weights():
            for _ in range(2):
                with refused:
                    case.memory.step(x[0], case.state(fields), start[0])

    check()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in MEMORIES if name != "none"])
def test_weights_of_half_precision_are_refused(name: str, dtype: torch.dtype) -> None:
    memory = make(name, 3, 4, 1, 0).to(dtype)
    state = memory.initial_state(2)
    with pytest.raises(MemoryInputError, match=r"expected float32 or float64\. Call memory"):
        memory.step(torch.zeros(2, 3, dtype=dtype), state)
    with pytest.raises(MemoryInputError, match=r"expected float32 or float64\. Call memory"):
        memory.unroll(torch.zeros(4, 2, 3, dtype=dtype), state)


@pytest.mark.parametrize("name", list(MEMORIES))
def test_a_sequence_without_steps_is_refused(name: str) -> None:
    memory = make(name, 3, 4, 1, 0)
    with pytest.raises(MemoryInputError, match=r"x has shape \[0, 2, 3\]; .* with T >= 1"):
        memory.unroll(torch.zeros(0, 2, 3), memory.initial_state(2))
