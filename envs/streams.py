"""Random numbers for many environments at once, each from a stream of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
BLOCK = 512


class _Blocks:
    """Draws of one distribution: a row an environment, filled block by block, read by a cursor."""

    def __init__(self, count: int, draw: Draw) -> None:
        self.draw = draw
        # Zeros: what is not drawn yet goes into files too.
        self.values: NDArray[np.float64] = np.zeros((count, BLOCK))
        self.cursor = np.full(count, BLOCK)

    def take(
        self, generators: Sequence[np.random.Generator], rows: NDArray[np.intp], size: int
    ) -> NDArray[np.float64]:
        """The next `size` draws of each environment in `rows`, `[len(rows), size]`."""
        if size > BLOCK:
            return np.stack([self.draw(generators[row], size) for row in rows])
        begin = self.cursor[rows]
        short = begin > BLOCK - size
        if np.count_nonzero(short):
            for row in rows[short]:  # only where a block is used up: rare by its length
                self.values[row] = self.draw(generators[row], BLOCK)
            begin[short] = 0
        self.cursor[rows] = begin + size
        # By flat position: several times as fast as by row and column.
        first = (rows * BLOCK + begin)[:, None]
        drawn: NDArray[np.float64] = self.values.take(
            first if size == 1 else first + np.arange(size)
        )
        return drawn


class Streams:
    """One NumPy generator per environment, read for all environments at once.

    What an environment draws depends on its own seed and on what it drew before, never on how many
    environments there are or what they do. Draws come in blocks, so that a step costs a few array
    operations, not a loop over environments.

    Args:
        seeds: one for each environment.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        self._uniform = _Blocks(len(seeds), np.random.Generator.random)
        self._normal = _Blocks(len(seeds), np.random.Generator.standard_normal)

    def uniform(self, rows: NDArray[np.intp], size: int = 1) -> NDArray[np.float64]:
        """Uniform draws in [0, 1), `[len(rows), size]`."""
        return self._uniform.take(self.generators, rows, size)

    def normal(self, rows: NDArray[np.intp], size: int = 1) -> NDArray[np.float64]:
        """Standard normal draws, `[len(rows), size]`."""
        return self._normal.take(self.generators, rows, size)

    def integers(self, rows: NDArray[np.intp], high: int, size: int = 1) -> NDArray[np.int64]:
        """Integers in 0..high - 1, `[len(rows), size]`; `high` far below 2^53."""
        return (self.uniform(rows, size) * high).astype(np.int64)

    def shuffled(self, rows: NDArray[np.intp], cards: NDArray[np.int64]) -> NDArray[np.int64]:
        """A shuffle of `cards` for each environment in `rows`, `[len(rows), len(cards)]`."""
        return cards[np.argsort(self.uniform(rows, len(cards)), axis=1)]

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Everything needed to continue drawing, as arrays."""
        return {
            "generators": np.stack([_words(generator) for generator in self.generators]),
            "uniform": self._uniform.values.copy(),
            "uniform_cursor": self._uniform.cursor.copy(),
            "normal": self._normal.values.copy(),
            "normal_cursor": self._normal.cursor.copy(),
        }

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue where `state_dict` was taken."""
        for generator, words in zip(self.generators, state["generators"], strict=True):
            _set_words(generator, words)
        for name, blocks in (("uniform", self._uniform), ("normal", self._normal)):
            blocks.values[:] = state[name]
            blocks.cursor[:] = state[f"{name}_cursor"]


def _words(generator: np.random.Generator) -> NDArray[np.int64]:
    """A generator's state as 64-bit words."""
    state: Any = generator.bit_generator.state
    low = (1 << 64) - 1
    numbers = [state["state"]["state"], state["state"]["inc"]]
    words = [word for number in numbers for word in (number >> 64, number & low)]
    words += [state["has_uint32"], state["uinteger"]]
    return np.array(words, dtype=np.uint64).view(np.int64)


def _set_words(generator: np.random.Generator, words: NDArray[np.int64]) -> None:
    w = [int(word) for word in words.view(np.uint64)]
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": w[0] << 64 | w[1], "inc": w[2] << 64 | w[3]},
        "has_uint32": w[4],
        "uinteger": w[5],
    }
