"""Forecast: predict the next value of a noisy seasonal series.

    y_t = amplitude * sin(2 pi t / period + phase) + noise * e_t

with an amplitude drawn uniformly from [0.5, 1], a period from [8, 24] and a phase from [0, 2 pi),
anew for each episode, and e_t standard normal. To remember: enough of the series to tell all three
through the noise, more than one season.

Observation: [y_t]. Action: [the prediction of y_{t+1}], in [-1, 1]. Reward at each of the 128
steps:

    (|y_{t+1} - y_t| - |y_{t+1} - prediction|) / 128

the error of the naive forecast "as now" minus the error made: the return is the mean gain over
that forecast, which earns 0 itself. The episode then terminates: the horizon is part of the task,
so nothing follows it.

The best memoryless policy predicts the median of y_{t+1} given y_t: about the present value, shrunk
towards zero. The ceiling is the player who knows the season and errs by the noise alone, by
noise * sqrt(2 / pi) on average; an agent has to estimate the season, so it does not quite get
there. Both are means over series, computed numerically, right to about 0.001:

| noise | memoryless | ceiling |
|---|---|---|
| 0 | 0.004 | 0.204 |
| 0.1 (default) | 0.008 | 0.149 |
| 0.5 | 0.084 | 0.198 |
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows
from recurrent_rl.envs.single import SingleEnv

STEPS = 128
SMALLEST, LARGEST = 0.5, 1.0
SHORTEST, LONGEST = 8.0, 24.0
LIMIT = 10.0


class Forecast(BatchEnv):
    """Forecast, N environments at once.

    Args:
        num_envs: number of environments.
        noise: standard deviation of the noise, from 0 to 1.
    """

    to_remember = "the season of a noisy series"
    state = ("amplitude", "period", "phase", "value", "t")

    def __init__(
        self, num_envs: int = 1, noise: float = 0.1, render_mode: str | None = None
    ) -> None:
        if not 0 <= noise <= 1:
            raise ValueError(f"noise is {noise}; it must be from 0 to 1.")
        box = gym.spaces.Box(-LIMIT, LIMIT, (1,), np.float32)
        super().__init__(
            num_envs,
            box,
            gym.spaces.Box(-1.0, 1.0, (1,), np.float32),
            STEPS,
            render_mode=render_mode,
        )
        self.noise = noise
        self.memoryless_return, self.best_return = expected_returns(noise)
        self.amplitude = np.ones(num_envs)
        self.period = np.ones(num_envs)
        self.phase = np.zeros(num_envs)
        self.value = np.zeros(num_envs)
        self.t = np.zeros(num_envs, dtype=np.int64)

    def season(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """The series without its noise at times `t` `[N]`."""
        return self.amplitude * np.sin(2 * np.pi * t / self.period + self.phase)

    def _begin(self, rows: Rows) -> None:
        draws = self.streams.uniform(rows, 3)
        self.amplitude[rows], self.period[rows], self.phase[rows] = _season_of(draws)
        self.t[rows] = 0
        self.value[rows] = self._next_values(rows)

    def unseen(self, i: int) -> dict[str, Any]:
        """The next value without its noise."""
        return {"answer": self.season(self.t + 1)[i : i + 1]}

    def _next_values(self, rows: Rows) -> NDArray[np.float64]:
        noise = self.noise * self.streams.normal(rows)[:, 0]
        return np.clip(self.season(self.t)[rows] + noise, -LIMIT, LIMIT)

    def _advance(self, actions: Any) -> tuple[Rewards, Flags, Flags]:
        self.t += 1
        following = self._next_values(self._all_rows)
        error = np.abs(following - actions[:, 0].astype(np.float64))
        rewards = (np.abs(following - self.value) - error) / STEPS
        self.value = following
        return rewards, self.t >= STEPS, np.zeros(self.num_envs, dtype=bool)

    def _observe(self) -> Any:
        return self.value[:, None].astype(np.float32)


def _season_of(draws: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Amplitude, period and phase `[n]` from uniform draws in [0, 1), `[n, 3]`."""
    amplitude = SMALLEST + (LARGEST - SMALLEST) * draws[:, 0]
    period = SHORTEST + (LONGEST - SHORTEST) * draws[:, 1]
    return amplitude, period, 2 * np.pi * draws[:, 2]


@lru_cache
def expected_returns(noise: float) -> tuple[float, float]:
    """Return of the best memoryless policy, and of a player who knows the season.

    Over many pairs (y_t, y_{t+1}); t does not matter, as the phase is uniform. The median of
    y_{t+1} given y_t, which has the least mean absolute error, is taken in 256 bins of y_t: from
    every other pair of a bin for the pairs between, as a median flatters the pairs it is taken of.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    amplitude, period, phase = _season_of(rng.random((1 << 19, 3)))
    now = amplitude * np.sin(phase) + noise * rng.standard_normal(phase.shape)
    season = amplitude * np.sin(phase + 2 * np.pi / period)
    following = season + noise * rng.standard_normal(phase.shape)
    naive = np.abs(following - now).mean()
    binned = following[np.argsort(now)].reshape(256, -1, 2)
    medians = np.median(binned, axis=1, keepdims=True)
    error = np.abs(binned - medians[:, :, ::-1]).mean()
    return float(naive - error), float(naive - noise * math.sqrt(2 / math.pi))


class ForecastEnv(SingleEnv):
    """Forecast, one environment."""

    batch_type = Forecast
