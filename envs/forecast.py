"""Forecast: predict the next value of a noisy seasonal series.

    y_t = sin(2 pi t / period + phase) + noise * e_t,   e_t standard normal

with a period drawn uniformly from [8, 24] and a phase from [0, 2 pi), anew for each episode. To
remember: enough of the series to tell its period and phase through the noise, more than one season.

Observation: [y_t]. Action: [the prediction of y_{t+1}], in [-1, 1]. Reward at each of the 128
steps:

    (|y_{t+1} - y_t| - |y_{t+1} - prediction|) / 128

the error of the naive forecast "as now" minus the error made. Repeating the present value earns 0;
the episode then terminates: a forecast's horizon is part of the task, so nothing follows it.

A memoryless policy can only shrink the present value towards zero; `memoryless_return` is that of
the best constant factor. `best_return` is that of a player who knows period and phase: no agent
can, so it is a ceiling that is not quite reached. Both are integrals over period, phase and noise,
computed numerically.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from recurrent_rl.envs.batch import BatchEnv, Flags, Rewards, Rows, SingleEnv

STEPS = 128
SHORTEST, LONGEST = 8.0, 24.0
LIMIT = 10.0


class Forecast(BatchEnv):
    """N copies of Forecast.

    Args:
        num_envs: copies.
        noise: standard deviation of the noise; the season's amplitude is 1.
    """

    state = ("period", "phase", "value", "t")

    def __init__(self, num_envs: int = 1, noise: float = 0.1) -> None:
        if not 0 <= noise <= 1:
            raise ValueError(f"noise is {noise}; it must be from 0 to 1.")
        box = gym.spaces.Box(-LIMIT, LIMIT, (1,), np.float32)
        super().__init__(num_envs, box, gym.spaces.Box(-1.0, 1.0, (1,), np.float32), STEPS)
        self.noise = noise
        self.memoryless_return, self.best_return = expected_returns(noise)
        self.period = np.ones(num_envs)
        self.phase = np.zeros(num_envs)
        self.value = np.zeros(num_envs)
        self.t = np.zeros(num_envs, dtype=np.int64)

    def season(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """The series without its noise at times `t` `[N]`."""
        return np.sin(2 * np.pi * t / self.period + self.phase)

    def _begin(self, rows: Rows) -> None:
        draws = self.streams.uniform(rows, 2)
        self.period[rows] = SHORTEST + (LONGEST - SHORTEST) * draws[:, 0]
        self.phase[rows] = 2 * np.pi * draws[:, 1]
        self.t[rows] = 0
        self.value[rows] = self._next_values(rows)

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


def mean_abs_normal(mean: NDArray[np.float64], std: float) -> NDArray[np.float64]:
    """E|X| of X ~ N(mean, std^2): std sqrt(2/pi) exp(-m^2 / 2 std^2) + m erf(m / std sqrt 2)."""
    if std == 0:
        return np.abs(mean)
    erf = np.vectorize(math.erf)
    ratio = mean / std
    return np.asarray(
        std * math.sqrt(2 / math.pi) * np.exp(-(ratio**2) / 2) + mean * erf(ratio / math.sqrt(2))
    )


def expected_returns(noise: float) -> tuple[float, float]:
    """Return of the best constant shrinkage, and of a player who knows the season."""
    periods = SHORTEST + (LONGEST - SHORTEST) * (np.arange(32) + 0.5) / 32
    phases = 2 * np.pi * (np.arange(48) + 0.5) / 48
    now = np.sin(phases)[None, :]
    then = np.sin(phases[None, :] + 2 * np.pi / periods[:, None])

    def error(factor: float) -> float:
        # prediction factor * y_t: the error is normal with both noises in it.
        std = noise * math.sqrt(1 + factor**2)
        return float(mean_abs_normal(then - factor * now, std).mean())

    naive = error(1.0)
    shrunk = min(error(factor) for factor in np.linspace(0.7, 1.0, 31))
    return naive - shrunk, naive - noise * math.sqrt(2 / math.pi)


class ForecastEnv(SingleEnv):
    """One copy of Forecast."""

    batch_type = Forecast
