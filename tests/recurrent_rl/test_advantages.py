"""GAE against cases worked out by hand."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from recurrent_rl.advantages import TOLERANCE, affordable_lambda, gae
from recurrent_rl.agents.moments import Moments, Total

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


def test_several_lambdas_are_each_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    rewards, values, following = torch.randn(3, 7, 3, generator=generator, dtype=torch.float64)
    ends = torch.rand(2, 7, 3, generator=generator) < 0.2
    estimate = partial(gae, rewards, values, following, ends[0], ends[1], GAMMA)
    lambdas = torch.tensor([0.0, 0.8, 1.0], dtype=torch.float64)
    together = estimate(lambdas)
    assert together.shape == (7, 3, 3)
    for i, gae_lambda in enumerate(lambdas.tolist()):
        torch.testing.assert_close(together[:, i], estimate(gae_lambda))


Estimate = Callable[[float | torch.Tensor], torch.Tensor]
STEPS, ENVS = 1000, 32


def noise(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(STEPS, ENVS, generator=generator, dtype=torch.float64)


def estimate_of(rewards: torch.Tensor, values: torch.Tensor) -> Estimate:
    none = torch.zeros(STEPS, ENVS, dtype=torch.bool)
    following = torch.cat([values[1:], torch.zeros(1, ENVS, dtype=torch.float64)])
    return partial(gae, rewards, values, following, none, none, GAMMA)


def variance(gae_lambda: float, of_rewards: float, of_values: float) -> float:
    """Of advantages where rewards and values are independent, worked out from their sum."""
    decay = GAMMA * gae_lambda
    leaked = (GAMMA * (1 - gae_lambda)) ** 2 / (1 - decay**2)
    return of_rewards / (1 - decay**2) + of_values * (1 + leaked)


EVERY = torch.ones(STEPS, ENVS, dtype=torch.bool)
NOTHING = torch.zeros(STEPS, ENVS, dtype=torch.float64)


@pytest.mark.parametrize("least", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("of_values", [0.0, 1.0])
def test_lambda_is_raised_until_its_share_of_variance_is_spent(
    least: float, of_values: float
) -> None:
    estimate = estimate_of(0.7 * noise(0), of_values * noise(1))
    gae_lambda = affordable_lambda(estimate, EVERY, least)
    assert least + 0.01 < gae_lambda < 0.99
    allowed = (1 + TOLERANCE) * variance(least, 0.49, of_values)
    assert variance(gae_lambda, 0.49, of_values) == pytest.approx(allowed, rel=0.06)


def test_errors_of_the_critic_cancel_so_that_lambda_can_be_one() -> None:
    assert affordable_lambda(estimate_of(NOTHING, noise(0)), EVERY, 0.8) == 1


def test_lambda_is_raised_less_where_errors_add_up() -> None:
    rewards = noise(0)
    by_chance = affordable_lambda(estimate_of(rewards, NOTHING), EVERY, 0.8)
    adding_up = estimate_of(rewards.cumsum(dim=0), NOTHING)
    assert 0.8 < affordable_lambda(adding_up, EVERY, 0.8) < by_chance - 0.01


def test_only_steps_that_count_decide_on_lambda() -> None:
    values, rewards = noise(0), noise(1)
    values[:, 16:] = 0
    rewards[:, :16] = 0
    estimate = estimate_of(rewards, values)
    counting = torch.arange(ENVS).lt(16).expand(STEPS, ENVS)
    assert affordable_lambda(estimate, counting, 0.8) == 1
    assert affordable_lambda(estimate, ~counting, 0.8) < 0.9


def test_workers_decide_on_lambda_by_what_all_of_them_saw() -> None:
    estimate = estimate_of(0.7 * noise(0), noise(1))
    halves = [slice(0, 16), slice(16, ENVS)]
    told: list[Moments] = []

    def of_half(half: slice, total: Total) -> float:
        def of_its_own(lambdas: torch.Tensor | float) -> torch.Tensor:
            return estimate(lambdas)[..., half]

        return affordable_lambda(of_its_own, EVERY[:, half], 0.5, total)

    def noted(moments: list[Moments]) -> list[Moments]:
        told.extend(moments)
        return moments

    alone = {of_half(half, noted) for half in halves}
    together = of_half(halves[0], lambda _: [told[0] + told[1]])
    assert together == pytest.approx(affordable_lambda(estimate, EVERY, 0.5), abs=1e-12)
    assert min(alone) < together < max(alone)


@pytest.mark.parametrize("least", [0.0, 0.9, 1.0])
def test_lambda_is_what_it_was_where_there_is_nothing_to_tell(least: float) -> None:
    values = noise(0)
    spoilt = estimate_of(values * torch.nan, values)
    assert affordable_lambda(spoilt, EVERY, least) == least
    assert affordable_lambda(spoilt, ~EVERY, least) == least
    assert affordable_lambda(estimate_of(NOTHING, NOTHING), EVERY, least) == least
    assert affordable_lambda(estimate_of(values, NOTHING), EVERY, 1.0) == 1.0
