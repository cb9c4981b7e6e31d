"""check_memory finds each fault that is planted in one."""

from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.states import NoState
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.testing import CHECKS, check_memory
from recurrent_rl.testing.case import Case
from tests.own_parts import Counter, Window, WindowState


@pytest.mark.parametrize("memory", [Window, Counter])
def test_memories_of_ones_own_keep_the_contract(memory: type[Memory]) -> None:
    check_memory(memory)


class Sum(Memory):
    """Right: a leaky sum of inputs. The faults below change one thing each."""

    state_type: ClassVar[type[Any]] = WindowState

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size)
        self.enter = nn.Linear(input_size, hidden_size)

    def initial_state(self, batch: int) -> Any:
        weight = self.enter.weight
        clock = weight.new_zeros(1, batch, dtype=torch.int64)
        return WindowState(weight.new_zeros(1, batch, self.output_size), clock)

    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        h, clock = self.reset(state, episode_start)
        h = 0.9 * h + torch.tanh(self.enter(x))
        return h[0], WindowState(h, clock + 1)


class NoNamedTuple(Sum):
    state_type = tuple

    def initial_state(self, batch: int) -> Any:
        return tuple(super().initial_state(batch))


class BatchFirst(Sum):
    def initial_state(self, batch: int) -> Any:
        return WindowState(torch.zeros(batch, 1, 8), torch.zeros(batch, 1).long())


class Infinite(Sum):
    def initial_state(self, batch: int) -> Any:
        state = super().initial_state(batch)
        return state._replace(window=state.window - torch.inf)


class OtherType(Sum):
    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        y, state = super().step(x, state, episode_start)
        return y, state._replace(clock=state.clock.int())


class Growing(Sum):
    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        h, clock = self.reset(state, episode_start)
        y, new = super().step(x, WindowState(h[-1:], clock), None)
        return y, new._replace(window=torch.cat([h, new.window]))


class OnTheCPU(Sum):
    def initial_state(self, batch: int) -> Any:
        dtype = self.enter.weight.dtype
        zeros = torch.zeros(1, batch, self.output_size, dtype=dtype, device="cpu")
        return WindowState(zeros, torch.zeros(1, batch, dtype=torch.int64, device="cpu"))


class WrongSize(Sum):
    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        y, state = super().step(x, state, episode_start)
        return y[:, 1:], state


class WithUnroll(Sum):
    """A right `unroll` of its own, which the faults below spoil."""

    def unroll(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        return self._unroll(x, state, episode_start)


class NoResetInUnroll(WithUnroll):
    def unroll(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        return self._unroll(x, state, None)


class StateOfOneStepBefore(WithUnroll):
    def unroll(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        end: Any
        y, end = super().unroll(x, state, episode_start)
        return y, end._replace(clock=end.clock - 1)


class Truncating(WithUnroll):
    """Right in its values; the gradient ends at half of the sequence."""

    def unroll(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        half = len(x) // 2
        starts = (
            (None, None) if episode_start is None else episode_start.split([half, len(x) - half])
        )
        first, state = super().unroll(x[:half], state, starts[0])
        state = WindowState(*(field.detach() for field in state))
        second, state = super().unroll(x[half:], state, starts[1])
        return torch.cat([first, second]), state


class Detached(Sum):
    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        y, state = super().step(x, state, episode_start)
        return y.detach(), WindowState(*(field.detach() for field in state))


class Leaking(Sum):
    """Resets to a hundredth, not to nothing."""

    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        if episode_start is not None:
            kept = torch.where(episode_start[:, None], 0.01, 1.0).to(x.dtype)
            state = state._replace(window=state.window * kept)
        return super().step(x, state, None)


class ResetsAfter(Sum):
    """The state is reset after the input was read, not before."""

    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        y, state = super().step(x, state, None)
        return y, self.reset(state, episode_start)


class Foreseeing(WithUnroll):
    def unroll(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        y, state = super().unroll(x, state, episode_start)
        return y + 0.1 * y.flip(0).mean(0), state

    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        return super().step(x, state, episode_start)


class LeakingGradient(Sum):
    """Resets in value alone: a gradient passes."""

    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        h = state.window
        fresh: Any = self.reset(state, episode_start)
        return super().step(x, fresh._replace(window=fresh.window + h - h.detach()), None)


class BatchNormed(Sum):
    """Streams that know of each other: what they have in common is taken away."""

    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        return super().step(x - x.mean(0), state, episode_start)


class GradientOfOthers(Sum):
    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        mean = x.mean(0)
        return super().step(x + mean - mean.detach(), state, episode_start)


class WritingOver(Sum):
    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        y, new = super().step(x, state, episode_start)
        state.clock.add_(1)
        return y, new


class Remembering(Sum):
    """Keeps something in the module."""

    seen = 0.0

    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        y, state = super().step(x, state, episode_start)
        self.seen += 1.0
        return y + 0.01 * self.seen, state


class Counting(Sum):
    """Keeps something in a buffer, which changes no output."""

    steps: Tensor

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.register_buffer("steps", torch.zeros(()))

    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        self.steps += 1
        return super().step(x, state, episode_start)


class Random(Sum):
    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        return super().step(x + torch.randn_like(x), state, episode_start)


class OwnSeed(Sum):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        generator = torch.Generator()
        generator.seed()
        with torch.no_grad():
            self.enter.weight.normal_(generator=generator)


class Unregistered(Sum):
    """Has a weight that is neither a parameter nor a buffer."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.factor = float(torch.rand(()))

    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        return super().step(x * self.factor, state, episode_start)


class Unsaved(Sum):
    """Has a text to save, and a file holds tensors alone."""

    def get_extra_state(self) -> str:
        return "a text"

    def set_extra_state(self, state: Any) -> None:
        pass


class Tied(Sum):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.other = nn.Linear(sizes[0], sizes[1])
        self.other.weight = self.enter.weight


class Single(Sum):
    """Computes in float32 whatever the weights are."""

    def initial_state(self, batch: int) -> Any:
        state = super().initial_state(batch)
        return state._replace(window=state.window.float().to(state.window.dtype).double())


class DifferentInSingle(Sum):
    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        return super().step(x if x.dtype == torch.float64 else 2 * x, state, episode_start)


FAULTS: list[tuple[str, Any, str]] = [
    ("states", NoNamedTuple, "no state: it is a tuple; expected a NamedTuple of tensors"),
    ("states", BatchFirst, r"its window is \[5, 1, 8\]; expected a tensor whose axis 1 is"),
    ("states", Infinite, "state.window of .* holds NaN or infinity"),
    ("states", OtherType, r"state.clock after step is torch.int32 .* expected torch.int64"),
    ("states", Growing, r"state.window after step is .* \[2, 5, 8\]; expected .* \[1, 5, 8\]"),
    ("states", OnTheCPU, "initial_state must make its tensors where the weights are"),
    ("outputs", WrongSize, r"step gives torch.float64 \[4, 7\]; expected torch.float64 \[4, 8\]"),
    ("values of unroll", NoResetInUnroll, r"unroll's outputs are not .* \(random resets\)"),
    ("values of unroll", StateOfOneStepBefore, "unroll's state is not .*, state.clock: 15 at"),
    ("gradients of unroll", Truncating, r"unroll's gradient of the input is not that of repeated"),
    ("gradients of unroll", Detached, "no gradient reaches the input"),
    ("no leak of values", Leaking, "depends on what was before its start"),
    ("no leak of values", ResetsAfter, "depends on what was before its start"),
    ("no leak of values", Foreseeing, "unroll: an output depends on inputs that come later"),
    ("no leak of gradients", LeakingGradient, "a gradient of .* passes a reset, to the input"),
    ("independent streams", BatchNormed, "a stream depends on the others of its batch"),
    ("independent streams", GradientOfOthers, "a gradient of .* passes from one stream"),
    ("nothing kept", WritingOver, "writes over its argument state.clock: .* expected"),
    ("nothing kept", Remembering, "gives another result the second time, from the same state"),
    ("nothing kept", Counting, "step and unroll change steps in the module"),
    ("nothing kept", Random, "gives another result the second time"),
    ("seed", OwnSeed, "with the same seed enter.weight starts differently"),
    ("files", Unregistered, "after saving and loading it computes something else"),
    ("types", Single, "state.window of initial_state is torch.float64 when the weights are"),
    ("types", DifferentInSingle, "in torch.float32 it computes something else than in"),
]


def test_the_memory_without_a_fault_passes() -> None:
    check_memory(Sum)
    check_memory(WithUnroll)
    check_memory(Tied)


def test_what_no_file_holds_is_named() -> None:
    with pytest.raises(
        AssertionError, match=r"its weights and state cannot be saved .*extra_state"
    ):
        CHECKS["files"](Case(Unsaved, 1))


def test_each_check_finds_a_fault() -> None:
    assert {check for check, _, _ in FAULTS} == set(CHECKS)


@pytest.mark.parametrize(("check", "memory", "message"), FAULTS)
def test_a_fault_is_found_and_named(check: str, memory: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=f"{memory.__name__} of 1 layers: .*{message}"):
        CHECKS[check](Case(memory, 1))
    with pytest.raises(AssertionError):  # by whichever check comes first
        check_memory(memory)


class OfTwoSizes(Sum):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, 1)


class NoMemoryAtAll:
    pass


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (OfTwoSizes, r"OfTwoSizes: it must be made as OfTwoSizes\(input_size, hidden_size, num_l"),
        (NoMemoryAtAll, r"NoMemoryAtAll: it is no subclass of recurrent_rl\.Memory\.$"),
        (nn.GRU, r"GRU: it is no subclass of recurrent_rl\.Memory; ours is 'gru'\.$"),
    ],
)
def test_a_class_that_cannot_be_a_memory_is_told_why(memory: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_memory(memory)


def test_what_is_no_memory_is_refused() -> None:
    def make(*sizes: int) -> Any:
        return nn.GRU(*sizes)

    with pytest.raises(
        AssertionError, match=r"make of 1 layers: it must be a recurrent_rl\.Memory"
    ):
        check_memory(make)
    with pytest.raises(SettingError, match="make is 'gru'; it must be a class of a memory"):
        check_memory("gru")  # type: ignore[arg-type]


def test_checking_leaves_the_callers_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check_memory(Sum)
    assert torch.equal(torch.rand(2), expected)


def test_a_memory_of_one_type_alone_claims_it() -> None:
    class Only32(Sum):
        dtypes = (torch.float32,)

        def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
            assert x.dtype is torch.float32
            return super().step(x, state, episode_start)

    check_memory(Only32)


def test_a_state_may_hold_states() -> None:
    class Both(NamedTuple):
        inner: WindowState
        nothing: NoState

    class Nested(Sum):
        state_type = Both

        def initial_state(self, batch: int) -> Any:
            return Both(super().initial_state(batch), NoState())

        def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
            h, clock = self.reset(state, episode_start)[0]
            h = 0.9 * h + torch.tanh(self.enter(x))
            return h[0], Both(WindowState(h, clock + 1), NoState())

    check_memory(Nested)
