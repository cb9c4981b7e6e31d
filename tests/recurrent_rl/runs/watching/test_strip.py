"""The last steps on one axis of time: what the memory's tensors become, and what stands where."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from recurrent_rl.agents.memory.registry import make_memory
from recurrent_rl.agents.memory.states import LSTMState, NoState
from recurrent_rl.envs.drawing import WIDTH, Part, colours
from recurrent_rl.runs.watching.strip import COLUMNS, MEMORY_ROWS, Strip, activities


class ClockState(NamedTuple):
    """A memory of one's own without a number that could be drawn."""

    clock: Tensor
    empty: Tensor


def kind(value: int) -> list[Part]:
    return [Part("", np.array(value), 4)]


def state(value: float) -> LSTMState:
    return LSTMState(torch.full((1, 1, 3), value), torch.full((1, 1, 3), -value))


def played(steps: int) -> Strip:
    strip = Strip(kind(0), kind(0), has_answer=True)
    for step in range(steps):
        answer = kind(step % 4) if step > 2 else [Part("answer", np.zeros(0))]
        strip.read(kind(step % 4), answer, state(float(step)), starts=step % 10 == 0)
        strip.act(kind(1), 0.5)
    return strip


def bands(strip: Strip) -> dict[str, Any]:
    return {band.label: band.cells for band in strip.bands()}


@pytest.mark.parametrize(
    "name", ["rnn", "gru", "lstm", "rotor", "matrix", "gru-rotor", "gru-matrix"]
)
def test_every_memory_has_rows(name: str) -> None:
    memory = make_memory(name, 3, 64, 2)
    _, after = memory.step(torch.randn(2, 3), memory.initial_state(2), None)
    found = activities(after)
    assert found
    assert sum(len(rows) for rows in found.values()) <= MEMORY_ROWS
    assert all(np.isfinite(rows).all() for rows in found.values())
    assert any((rows != 0).any() for rows in found.values())


def test_neighbours_share_the_row_of_the_one_farthest_from_zero() -> None:
    h = torch.tensor([[[0.1, -0.9, 0.3, 0.2, 0.5]]])
    found = activities(LSTMState(h, h.to(torch.complex64) * 1j), rows=6)
    np.testing.assert_allclose(found["h"], [-0.9, 0.3, 0.5], atol=1e-6)
    np.testing.assert_allclose(found["c"], [0.9, 0.3, 0.5], atol=1e-6)  # lengths


def test_what_cannot_be_drawn_of_a_state_is_left_out() -> None:
    nothing = ClockState(torch.ones(1, 1, dtype=torch.int64), torch.zeros(1, 1, 0))
    for one in (NoState(), nothing):
        assert activities(one) == {}
        strip = Strip(kind(0), kind(0), has_answer=False)
        strip.read(kind(1), [], one, starts=True)
        assert list(bands(strip)) == ["observation", "action", "reward"]
        assert strip.draw("episode 1").shape[1:] == (WIDTH, 3)


def test_each_value_stands_in_the_column_of_its_step() -> None:
    found = bands(played(5))
    assert list(found) == ["observation", "action", "answer", "reward", "memory h", "memory c"]
    kinds, empty = colours(Part("", np.arange(4), 4)).tolist(), [238] * 3
    seen = found["observation"][0].tolist()
    assert seen[:6] == [*kinds, kinds[0], empty]
    assert found["answer"][0].tolist()[:6] == [empty, empty, empty, kinds[3], kinds[0], empty]
    assert found["action"][0].tolist()[:6] == [*[kinds[1]] * 5, empty]
    assert found["memory h"].shape == (3, COLUMNS, 3)
    assert (found["memory h"][:, 4] == [200, 80, 0]).all()  # the greatest so far
    assert (found["memory c"][:, 4] == [0, 90, 160]).all()


def test_the_older_half_goes_where_there_is_no_room() -> None:
    whole, more = played(COLUMNS), played(COLUMNS + 1)
    kept = COLUMNS // 2
    assert len(more.starts) == kept + 1
    assert more.starts[:kept] == whole.starts[kept:]
    for label in ("observation", "action", "reward"):
        np.testing.assert_array_equal(
            bands(more)[label][:, :kept], bands(whole)[label][:, kept:], strict=True
        )
    assert whole.draw("").shape == more.draw("").shape


def test_numbers_of_different_units_have_a_scale_each() -> None:
    numbers = [Part("", np.zeros(2))]
    strip = Strip(numbers, numbers, has_answer=False)
    strip.read([Part("", np.array([0.01, -100.0]))], [], NoState(), starts=True)
    assert bands(strip)["observation"][:, 0].tolist() == [[200, 80, 0], [0, 90, 160]]


def test_an_observation_of_many_numbers_has_no_rows() -> None:
    strip = Strip([Part("", np.zeros((8, 8), np.uint8))], kind(0), has_answer=False)
    assert "observation" not in bands(strip)


def test_parts_beside_an_image_have_rows_under_their_names() -> None:
    def seen(value: float) -> list[Part]:
        image, text = np.zeros((8, 8), np.uint8), np.array("abc")
        own = [("camera", image), ("note", text), ("arm", np.full(12, value)), ("far", np.ones(9))]
        return [Part(name, x) for name, x in own] + [Part("gear", np.array(1), 3)]

    strip = Strip(seen(0.0), kind(0), has_answer=False)
    strip.read(seen(2.0), [], NoState(), starts=True)
    found = bands(strip)
    assert {
        name: len(cells) for name, cells in found.items() if name not in ("action", "reward")
    } == {"arm": 12, "gear": 1}  # there is no room for the other nine
    assert found["arm"][0, 0].tolist() == [200, 80, 0]
    assert found["gear"][0, 0].tolist() == colours(Part("", np.array([1]), 3))[0].tolist()
