"""Running statistics against NumPy's, and a rescaled critic that says what it said before."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.testing import assert_close

from recurrent_rl.agents.moments import Moments
from recurrent_rl.agents.normalisers import (
    SETTLED,
    AdvantageNormaliser,
    ObservationNormaliser,
    Rescaling,
    ReturnNormaliser,
    RunningMoments,
)
from recurrent_rl.agents.preprocessing import scaling_of
from recurrent_rl.agents.spaces import component_spaces

SPACE = spaces.Dict(
    {
        "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
        "n": spaces.Discrete(3),
        "v": spaces.Box(-np.inf, np.inf, (2,)),
    }
)


def normaliser_of(space: gym.Space[Any]) -> ObservationNormaliser:
    components = component_spaces(space)
    return ObservationNormaliser(
        components, {path: scaling_of(components[path]) for path in components}
    )


def update(running: RunningMoments, x: torch.Tensor) -> Rescaling | None:
    """Take in data `[n, *shape]`, all of which counts."""
    moments = Moments.of(x)
    return running.update(moments, moments.number)


def test_moments_add_up_whatever_the_groups() -> None:
    x = 1e3 + torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = Moments.of(x)
    parts = Moments.of(x[:7]) + Moments.of(x[7:7]) + Moments.of(x[7:])
    for a, b in zip(whole, parts, strict=True):
        assert_close(a, b, rtol=1e-14, atol=0)
    assert_close(whole.number, torch.tensor(60.0, dtype=torch.float64))
    assert_close(whole.mean, x.mean(0))
    assert_close(whole.var, x.var(0, correction=0), rtol=1e-8, atol=0)


def test_no_variance_is_negative() -> None:
    values = torch.rand(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (Moments.of(values.expand(7, 100)).var >= 0).all()


@pytest.mark.parametrize("size", [1e-9, 1e-7, 1e-5, 1.0, 1e6, 1e30])
def test_observations_of_any_size_are_brought_to_unit_variance(size: float) -> None:
    moments = RunningMoments((2,))
    x = size * torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    update(moments, x)
    assert_close(moments(x).std(0, correction=0), torch.ones(2), rtol=1e-3, atol=0)


def test_what_does_not_vary_is_scaled_up_by_no_more_than_rounding_allows() -> None:
    moments = RunningMoments((3,))
    update(moments, torch.tensor([[0.0, 5.0, 1e7]]).expand(100, 3))
    again = moments(torch.tensor([[0.0, 5.0, 1e7], [1e-15, 5.0 + 5e-7, 1e7 + 1]]))
    assert torch.equal(again[0], torch.zeros(3))
    assert again.abs().max() < 1


def test_what_never_changes_becomes_zero_whatever_it_is() -> None:
    values = 10 ** torch.linspace(-11, 30, 400) * torch.tensor([1.0, -1.0]).repeat(200)
    values = torch.cat([values, torch.tensor([0.7, 9.81, -123.456])])
    moments = RunningMoments(values.shape)
    for count in (50, 7, 300):
        update(moments, values.expand(count, -1))
        assert torch.equal(moments(values), torch.zeros_like(values))


def test_statistics_are_those_of_all_valid_data() -> None:
    normaliser = normaliser_of(SPACE)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for scale in (1.0, 5.0, 0.1):
        v = scale * torch.randn(7, 4, 2, generator=generator) + 1000 * scale
        valid = torch.rand(7, 4, generator=generator) < 0.7
        normaliser.update({"v": v}, valid)
        seen.append(v[valid].double().numpy())
    data = np.concatenate(seen)
    x = torch.tensor([[3.0, -2.0], [1000.0, 2000.0]])
    expected = (x.double().numpy() - data.mean(0)) / data.std(0)
    components = {"v": x, "n": torch.tensor([1, 2]), "image": torch.zeros(2, 4, 4, 3)}
    scaled = normaliser(components)
    assert_close(scaled["v"], torch.as_tensor(expected).float(), rtol=1e-4, atol=1e-4)
    assert scaled["v"].dtype == torch.float32
    assert scaled["n"] is components["n"]
    assert scaled["image"] is components["image"]


def test_what_an_episode_does_not_show_at_its_start_does_not_count_there() -> None:
    x = {name: 1.0 + torch.arange(8.0).reshape(4, 2, 1) for name in ("always", "later")}
    component = spaces.Box(-np.inf, np.inf, (1,))
    normaliser = ObservationNormaliser(
        dict.fromkeys(x, component), dict.fromkeys(x, scaling_of(component)), silenced=("later",)
    )
    valid, start = torch.ones(4, 2, dtype=torch.bool), torch.zeros(4, 2, dtype=torch.bool)
    valid[0, 0] = False  # 1
    start[0, 0] = start[2, 1] = True  # the same, and 6
    normaliser.update(x, valid, start)
    moments = dict(normaliser._moments)
    assert float(moments["always"].mean) == pytest.approx(np.mean([2, 3, 4, 5, 6, 7, 8]))
    assert float(moments["later"].mean) == pytest.approx(np.mean([2, 3, 4, 5, 7, 8]))


def test_an_update_tells_how_to_get_back_what_data_was_normalised_to() -> None:
    moments = RunningMoments((2,))
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(SETTLED - 1):  # so long the statistics are a first guess
        assert update(moments, x) is None
    before = moments(x)
    assert update(moments, x[:0]) is None
    rescaling = update(moments, 2 * x + torch.tensor([2.0, -300.0]))
    assert rescaling is not None
    after = moments(x)
    assert (after[:, 0] - before[:, 0]).abs().max() > 0.1
    back = after * rescaling.factor + rescaling.summand
    assert_close(back[:, 0], before[:, 0])
    # The other's deviation has grown a hundredfold: nothing was known of it.
    assert torch.equal(back[:, 1], after[:, 1])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("path", ["v", "image"])
def test_statistics_that_have_settled_stay_so_however_many_rows_count(
    path: str, workers: int
) -> None:
    image = spaces.Box(-np.inf, np.inf, (4, 4, 3))
    normaliser = normaliser_of(spaces.Dict({"v": SPACE["v"], "image": image}))
    x = torch.randn(20, 5, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    components = {"v": x[..., 0, 0, :2], "image": x}
    settled = []
    for counted in [50] * 12 + [100] * 3 + [50, 100, 40, 0, 100, 1, 100]:
        valid = (torch.arange(100) < counted).view(20, 5)
        rescalings = normaliser.update(
            components, valid, total=lambda seen: [sum([x] * (workers - 1), x) for x in seen]
        )
        if counted:
            settled.append(path in rescalings)
    # With as many rows as ten whole rollouts have.
    assert settled == [False] * 16 + [True] * 5


def test_it_is_the_identity_until_it_has_seen_data_and_clips_far_values() -> None:
    normaliser = normaliser_of(SPACE)
    x = torch.tensor([[0.5, -3.0]])
    assert_close(normaliser({"v": x})["v"], x)
    normaliser.update({"v": torch.randn(100, 1, 2)}, torch.zeros(100, 1, dtype=torch.bool))
    assert_close(normaliser({"v": x})["v"], x)
    assert normaliser({"v": 1e6 * x})["v"].tolist() == [[10.0, -10.0]]


def test_statistics_are_part_of_the_saved_state() -> None:
    first, second = (normaliser_of(SPACE) for _ in range(2))
    first.update({"v": 3 + torch.randn(50, 2, 2)}, torch.ones(50, 2, dtype=torch.bool))
    second.load_state_dict(first.state_dict())
    x = torch.randn(5, 2)
    assert torch.equal(first({"v": x})["v"], second({"v": x})["v"])


def test_statistics_of_what_has_a_gradient_have_none() -> None:
    x = torch.randn(50, 2, requires_grad=True)
    running, returns, advantages = RunningMoments((2,)), ReturnNormaliser(), AdvantageNormaliser()
    update(running, x)
    returns.update(Moments.of(x.flatten()), nn.Linear(8, 1))
    assert not advantages(x, Moments.of(x.flatten())).requires_grad
    for module in (running, returns, advantages):
        assert not any(buffer.requires_grad for buffer in module.buffers())


def test_an_update_of_the_return_statistics_moves_no_value() -> None:
    torch.manual_seed(0)
    normaliser, critic = ReturnNormaliser(), nn.Linear(8, 1)
    features = torch.randn(32, 8)
    normaliser.update(Moments.of(torch.randn(500)), critic)
    for scale in (1.0, 300.0, 0.01, 50.0):
        before = normaliser.denormalise(critic(features))
        normaliser.update(Moments.of(scale * torch.randn(500) + 3 * scale), critic)
        after = normaliser.denormalise(critic(features))
        assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_in_double_precision_an_update_moves_no_value_at_all() -> None:
    torch.manual_seed(0)
    normaliser, critic = ReturnNormaliser().double(), nn.Linear(8, 1).double()
    features = torch.randn(32, 8, dtype=torch.float64)
    normaliser.update(Moments.of(torch.randn(500)), critic)
    for scale in (1.0, 300.0, 0.01, 50.0):
        before = normaliser.denormalise(critic(features))
        normaliser.update(Moments.of(scale * torch.randn(500) + 3 * scale), critic)
        assert_close(normaliser.denormalise(critic(features)), before, rtol=1e-9, atol=1e-9)


def test_values_are_in_units_of_return_before_the_first_update() -> None:
    value = torch.tensor([-2.0, 0.5])
    assert torch.equal(ReturnNormaliser().denormalise(value), value)


@pytest.mark.parametrize("mean", [1.0, 50.0, -1e6])
def test_an_untrained_critic_says_the_mean_from_the_first_update_on(mean: float) -> None:
    normaliser, critic = ReturnNormaliser(), nn.Linear(4, 1)
    nn.init.zeros_(critic.weight)
    nn.init.zeros_(critic.bias)
    normaliser.update(Moments.of(torch.full((30,), mean)), critic)
    value = normaliser.denormalise(critic(torch.randn(9, 4))).detach()
    assert_close(value, torch.full((9, 1), mean))


def test_the_first_update_takes_over_and_later_ones_adapt() -> None:
    normaliser, critic = ReturnNormaliser(), nn.Linear(2, 1)
    data = 40 + 7 * torch.randn(5000, generator=torch.Generator().manual_seed(0))
    normaliser.update(Moments.of(data), critic)
    assert_close(normaliser.mean, data.mean(), rtol=1e-4, atol=0)
    assert_close(normaliser.std, data.std(correction=0), rtol=1e-3, atol=0)
    for _ in range(200):
        normaliser.update(Moments.of(data / 10), critic)
    assert_close(normaliser.mean, data.mean() / 10, rtol=1e-2, atol=0)


def test_returns_that_do_not_vary_do_not_blow_up() -> None:
    normaliser, critic = ReturnNormaliser(), nn.Linear(2, 1)
    for value in (0.0, 5.0, 5.0):
        normaliser.update(Moments.of(torch.full((10,), value)), critic)
        assert float(normaliser.std) > 0
    assert torch.isfinite(critic.weight).all()
    alike = ReturnNormaliser()
    alike.update(Moments.of(torch.full((10,), -5.0)), critic)
    assert float(alike.std) == pytest.approx(0.05)


def test_the_pixels_of_an_image_share_their_statistics() -> None:
    normaliser = normaliser_of(spaces.Box(-np.inf, np.inf, (4, 4, 3)))
    x = torch.randn(50, 2, 4, 4, 3) * torch.arange(1.0, 4.0) + 7
    normaliser.update({"": x}, torch.ones(50, 2, dtype=torch.bool))
    expected = (x - x.mean()) / x.std(correction=0)
    assert_close(normaliser({"": x})[""], expected, rtol=1e-4, atol=1e-4)


def test_advantages_are_scaled_to_zero_mean_and_unit_variance() -> None:
    torch.manual_seed(0)
    normaliser = AdvantageNormaliser()
    valid = torch.rand(20, 8) < 0.8
    for scale in (1.0, 3.0, 50.0):  # more than ever before: their own deviation counts
        advantages = torch.where(valid, 5 + scale * torch.randn(20, 8), 1e6)
        scaled = normaliser(advantages, Moments.of(advantages[valid]))[valid]
        assert_close(scaled.mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
        assert_close(scaled.std(correction=0), torch.tensor(1.0))


def test_advantages_smaller_than_before_are_divided_by_their_running_deviation() -> None:
    normaliser = AdvantageNormaliser()
    one = torch.tensor([[-1.0, 1.0]])
    assert_close(normaliser(3 * one, Moments.of(3 * one.flatten())), one)
    # The variances 9 and 1 weigh 0.95 and 1.
    var = (0.95 * 9 + 1) / 1.95
    assert_close(normaliser(one, Moments.of(one.flatten())), one / var**0.5)


def test_advantages_without_reward_are_not_blown_up() -> None:
    torch.manual_seed(0)
    normaliser = AdvantageNormaliser()
    spread = []
    for rollout in range(40):  # every eighth has rewards, a hundred times the critic's errors
        scale = 1.0 if rollout % 8 == 0 else 0.01
        advantages = scale * torch.randn(20, 8)
        spread.append(float(normaliser(advantages, Moments.of(advantages.flatten())).std()))
    assert all(x == pytest.approx(1.0, abs=0.01) for x in spread[::8])
    assert max(x for i, x in enumerate(spread) if i % 8) < 0.06
    # Where rewards no longer come, their trace fades, and errors count again in time.
    for _ in range(300):
        advantages = 0.01 * torch.randn(20, 8)
        last = normaliser(advantages, Moments.of(advantages.flatten())).std()
    assert float(last) > 0.9
    # What a checkpoint holds is all there is.
    restored = AdvantageNormaliser()
    restored.load_state_dict(normaliser.state_dict())
    x = torch.randn(20, 8)
    moments = Moments.of(x.flatten())
    assert torch.equal(restored(x, moments), normaliser(x, moments))


def test_advantages_that_do_not_vary_become_zero() -> None:
    advantages = torch.full((4, 2), 3.0)
    scaled = AdvantageNormaliser()(advantages, Moments.of(advantages.flatten()))
    assert torch.equal(scaled, torch.zeros(4, 2))


@pytest.mark.parametrize("unit", [2.0**-30, 2.0**-20, 2.0**20, 2.0**40])
def test_returns_and_advantages_are_scaled_alike_in_any_unit(unit: float) -> None:
    data = [torch.randn(200, generator=torch.Generator().manual_seed(i)) + i for i in range(4)]
    outputs = []
    for factor in (1.0, unit):
        critic, returns, advantages = nn.Linear(2, 1), ReturnNormaliser(), AdvantageNormaliser()
        nn.init.zeros_(critic.weight)
        nn.init.zeros_(critic.bias)
        scaled = []
        for x in data:
            returns.update(Moments.of(factor * x), critic)
            scaled.append(
                (
                    (factor * x - returns.mean) / returns.std,
                    advantages.forward(factor * x, Moments.of(factor * x)),
                )
            )
        outputs.append(scaled)
    for one, other in zip(*outputs, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)


def test_no_data_changes_nothing() -> None:
    none = Moments.of(torch.empty(0))
    critic, returns, advantages = nn.Linear(2, 1), ReturnNormaliser(), AdvantageNormaliser()
    returns.update(none, critic)
    assert float(returns.weight) == 0
    x = torch.randn(3, 2)
    assert advantages.forward(x, none) is x
    assert float(advantages.weight) == 0
