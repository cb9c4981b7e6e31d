"""GAE against cases worked out by hand."""

import pytest
import torch

from recurrent_rl.advantages import gae

GAMMA, LAMBDA = 0.9, 0.8


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def flags(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool).unsqueeze(1)


def advantages(
    rewards: torch.Tensor,
    values: torch.Tensor,
    next_values: torch.Tensor,
    terminated: torch.Tensor,
    truncated: torch.Tensor,
) -> list[float]:
    result = gae(rewards, values, next_values, terminated, truncated, GAMMA, LAMBDA)
    return [float(x) for x in result[:, 0]]


def test_an_episode_under_way_bootstraps_from_what_follows_the_last_row() -> None:
    # delta_1 = 2 + .9 * 7 - 5 = 3.3; delta_0 = 1 + .9 * 5 - 4 = 1.5; A_0 = 1.5 + .72 * 3.3
    got = advantages(column(1, 2), column(4, 5), column(5, 7), flags(0, 0), flags(0, 0))
    assert got == pytest.approx([1.5 + 0.72 * 3.3, 3.3])


def test_nothing_comes_after_a_termination() -> None:
    # The next row belongs to another episode: its value 5 and its advantage play no part.
    got = advantages(column(1, 2), column(4, 5), column(5, 7), flags(1, 0), flags(0, 0))
    assert got == pytest.approx([1 - 4, 3.3])


def test_a_truncation_bootstraps_from_the_final_observation_and_stops_the_sum() -> None:
    # V(final_obs) = 10: delta_0 = 1 + .9 * 10 - 4 = 6
    got = advantages(column(1, 2), column(4, 5), column(10, 7), flags(0, 0), flags(1, 0))
    assert got == pytest.approx([6.0, 3.3])


def test_termination_and_truncation_in_one_rollout() -> None:
    got = advantages(
        column(1, 1, 1, 1),
        column(2, 3, 4, 5),
        column(3, 9, 5, 6),
        flags(0, 0, 1, 0),
        flags(0, 1, 0, 0),
    )
    a3 = 1 + 0.9 * 6 - 5
    a2 = 1.0 - 4
    a1 = 1 + 0.9 * 9 - 3
    a0 = 1 + 0.9 * 3 - 2 + 0.72 * a1
    assert got == pytest.approx([a0, a1, a2, a3])


def test_a_step_that_both_terminates_and_truncates_is_a_termination() -> None:
    got = advantages(column(1), column(4), column(10), flags(1), flags(1))
    assert got == pytest.approx([-3.0])


def test_lambda_one_is_monte_carlo_and_lambda_zero_one_step_td() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values, next_values = (
        torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    next_values[:-1] = values[1:]
    none = torch.zeros(6, 3, dtype=torch.bool)
    monte_carlo = gae(rewards, values, next_values, none, none, GAMMA, 1.0)
    target = next_values[-1]
    for t in reversed(range(6)):
        target = rewards[t] + GAMMA * target
        torch.testing.assert_close(monte_carlo[t], target - values[t])
    one_step = gae(rewards, values, next_values, none, none, GAMMA, 0.0)
    torch.testing.assert_close(one_step, rewards + GAMMA * next_values - values)


def test_columns_do_not_touch_each_other() -> None:
    generator = torch.Generator().manual_seed(1)
    rewards, values, next_values = (torch.randn(20, 5, generator=generator) for _ in range(3))
    terminated = torch.rand(20, 5, generator=generator) < 0.2
    truncated = torch.rand(20, 5, generator=generator) < 0.2
    whole = gae(rewards, values, next_values, terminated, truncated, GAMMA, LAMBDA)
    for b in range(5):
        c = slice(b, b + 1)
        alone = gae(
            rewards[:, c],
            values[:, c],
            next_values[:, c],
            terminated[:, c],
            truncated[:, c],
            GAMMA,
            LAMBDA,
        )
        torch.testing.assert_close(whole[:, c], alone)


def test_unlike_shapes_are_refused() -> None:
    x = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"one shape \[T, B\]"):
        gae(x, x, x[:3], x.bool(), x.bool(), GAMMA, LAMBDA)
    cube = torch.zeros(4, 2, 1)
    with pytest.raises(ValueError, match=r"one shape \[T, B\]"):
        gae(cube, cube, cube, cube.bool(), cube.bool(), GAMMA, LAMBDA)
