"""What MultiarmedBandit is worth to who looks ahead: players that pull the arm of highest index.

    python benchmarks/learning/bandits.py

The index of an arm is the certain payment, step by step and for ever, that is worth as much as the
arm to who discounts by gamma (Gittins 1979). It is found by dynamic programming over how often the
arm paid and did not, with the prior that the environment draws from, U(0, 1). Mean returns of 2,000
games, with their standard errors. An agent that is trained with a gamma has no reason to return
less than the player of that gamma.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from recurrent_rl.envs.bandit import MultiarmedBandit
from recurrent_rl.experiments.comparison import markdown

GAMES = 2000
LEVELS = ("MultiarmedBandit-Easy", "MultiarmedBandit-Medium", "MultiarmedBandit-Hard")
GAMMAS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
PULLS = 400
"""That an arm is looked at for; an arm that was pulled so often has its mean for an index."""
PAYMENTS = np.linspace(0.3, 1.0, 400, endpoint=False)
"""The certain payments that an arm is compared with."""


def gittins(gamma: float) -> NDArray[np.float64]:
    """The index of an arm that paid a - 1 times and did not b - 1 times, at `[a, b]`."""
    index = np.zeros((PULLS, PULLS))
    certain = PAYMENTS / (1 - gamma)
    value: NDArray[np.float64] | None = None  # [a - 1, payment] of all arms with a + b one more
    for total in range(PULLS - 1, 1, -1):
        a = np.arange(1, total)
        mean = (a / total)[:, None]
        if value is None:
            pull = np.broadcast_to(mean / (1 - gamma), (len(a), len(PAYMENTS)))
        else:
            pull = mean * (1 + gamma * value[1:]) + (1 - mean) * gamma * value[:-1]
        better = (pull >= certain).sum(axis=1)  # the arm is, than so many of the payments
        index[a, total - a] = PAYMENTS[np.maximum(better, 1) - 1]
        value = np.maximum(pull, certain)
    return index


def returns(level: str, gamma: float) -> NDArray[np.float64]:
    """The return of each game, `[GAMES]`."""
    index, rows = gittins(gamma), np.arange(GAMES)
    games = MultiarmedBandit(GAMES, **gym.spec(f"recurrent_rl/{level}-v0").kwargs)
    games.reset(seed=0)
    rng = np.random.default_rng(0)
    shape = GAMES, games.num_arms
    a, b, total = np.ones(shape, np.int64), np.ones(shape, np.int64), np.zeros(GAMES)
    for _ in range(games.max_episode_steps):
        mean, known = a / (a + b), a + b < PULLS
        worth = np.where(known, index[np.minimum(a, PULLS - 1), np.minimum(b, PULLS - 1)], mean)
        actions = (worth + 1e-4 * mean + 1e-6 * rng.random(shape)).argmax(axis=1)  # ties
        _, rewards, _, _, _ = games.step(actions)
        a[rows, actions] += rewards > 0
        b[rows, actions] += rewards < 0
        total += rewards
    return total


def main() -> None:
    lines = []
    for gamma in GAMMAS:
        played = [returns(level, gamma) for level in LEVELS]
        lines.append(
            [f"{gamma:g}", *(f"{x.mean():.3f} ± {x.std() / GAMES**0.5:.3f}" for x in played)]
        )
    print(markdown(["gamma", *LEVELS], lines))


if __name__ == "__main__":
    main()
