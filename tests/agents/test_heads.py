"""Distributions against torch.distributions, and the way from action tensors to environments."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, distributions
from torch.testing import assert_close

from recurrent_rl.agents.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
)
from recurrent_rl.agents.heads import make_head
from recurrent_rl.agents.spaces import UnsupportedSpaceError


def randn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def assert_agree(
    ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], wanted: list[Tensor]
) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b)
        of_a = torch.autograd.grad(a.sum(), wanted, retain_graph=True, allow_unused=True)
        of_b = torch.autograd.grad(b.sum(), wanted, retain_graph=True, allow_unused=True)
        for x, y in zip(of_a, of_b, strict=True):
            assert (x is None) == (y is None)
            if x is not None and y is not None:
                assert_close(x, y)


def test_the_categorical_is_torchs() -> None:
    logits = randn(6, 3, 5)
    action = torch.arange(18).reshape(6, 3) % 5
    ours, theirs = Categorical(logits), distributions.Categorical(logits=logits)
    assert_agree(
        (ours.log_prob(action), ours.entropy()),
        (theirs.log_prob(action), theirs.entropy()),
        [logits],
    )
    assert torch.equal(ours.mode(), logits.argmax(-1))


def test_the_multicategorical_is_independent_categoricals() -> None:
    logits = randn(4, 9)
    sizes = [2, 3, 4]
    action = torch.tensor([[0, 1, 2], [1, 2, 3], [0, 0, 0], [1, 1, 1]])
    ours = MultiCategorical(logits, sizes)
    theirs = [distributions.Categorical(logits=part) for part in logits.split(sizes, -1)]
    log_prob = sum(d.log_prob(action[:, i]) for i, d in enumerate(theirs))
    entropy = sum(d.entropy() for d in theirs)
    assert isinstance(log_prob, Tensor)
    assert isinstance(entropy, Tensor)
    assert_agree((ours.log_prob(action), ours.entropy()), (log_prob, entropy), [logits])


def test_the_bernoulli_is_torchs() -> None:
    logits = randn(4, 6)
    action = (torch.arange(24).reshape(4, 6) % 3 == 0).double()
    ours = Bernoulli(logits)
    theirs = distributions.Independent(distributions.Bernoulli(logits=logits), 1)
    assert_agree(
        (ours.log_prob(action), ours.entropy()),
        (theirs.log_prob(action), theirs.entropy()),
        [logits],
    )


def test_the_gaussian_is_torchs() -> None:
    mean, log_std = randn(4, 3), torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64)
    log_std.requires_grad_()
    action = randn(4, 3).detach() + 0.3
    ours = DiagonalGaussian(mean, log_std)
    theirs = distributions.Independent(distributions.Normal(mean, log_std.exp()), 1)
    assert_agree(
        (ours.log_prob(action), ours.entropy()),
        (theirs.log_prob(action), theirs.entropy()),
        [mean, log_std],
    )


def test_the_deterministic_action_is_the_most_probable_one() -> None:
    def highest(d: Any, actions: list[Tensor]) -> Tensor:
        return torch.stack([d.log_prob(x.expand(7, -1)) for x in actions]).amax(0)

    logits = randn(7, 9)
    pairs = [torch.tensor([i, j, k]) for i in range(2) for j in range(3) for k in range(4)]
    several = MultiCategorical(logits, [2, 3, 4])
    assert_close(several.log_prob(several.mode()), highest(several, pairs))
    bits = Bernoulli(logits[:, :3])
    every = [torch.tensor([n & 1, n >> 1 & 1, n >> 2], dtype=logits.dtype) for n in range(8)]
    assert_close(bits.log_prob(bits.mode()), highest(bits, every))
    assert torch.equal(DiagonalGaussian(logits, logits).mode(), logits)


def test_samples_have_the_distributions_frequencies() -> None:
    generator = torch.Generator().manual_seed(0)
    count = 20_000
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    clocks = noise_of(spaces.Discrete(4), count, generator)
    drawn = Categorical(logits.expand(count, 4)).sample(clocks)
    expected = torch.softmax(logits, 0) * count
    chi_square = ((torch.bincount(drawn, minlength=4) - expected).square() / expected).sum()
    assert chi_square < 16.3  # the 99.9 % quantile with 3 degrees of freedom
    both = MultiCategorical(logits.expand(count, 4), [2, 2]).sample(
        noise_of(spaces.MultiDiscrete([2, 2]), count, generator)
    )
    pairs = torch.bincount(2 * both[:, 0] + both[:, 1], minlength=4)
    first, second = torch.softmax(logits[:2], 0), torch.softmax(logits[2:], 0)
    expected = torch.outer(first, second).flatten() * count
    assert ((pairs - expected).square() / expected).sum() < 16.3
    uniform = noise_of(spaces.MultiBinary(4), count, generator)
    bits = Bernoulli(logits.expand(count, 4)).sample(uniform)
    assert_close(bits.mean(0), torch.sigmoid(logits), atol=0.015, rtol=0)
    normal = DiagonalGaussian(logits.expand(count, 4), torch.tensor([0.0, -1.0, 0.5, 0.0]))
    sample = normal.sample(noise_of(spaces.Box(-1, 1, (4,)), count, generator))
    assert_close(sample.mean(0), logits, atol=0.05, rtol=0)
    assert_close(sample.std(0), normal.log_std.exp(), atol=0.05, rtol=0)


def noise_of(space: gym.Space[Any], count: int, generator: torch.Generator) -> Tensor:
    return make_head(space, 3).noise((count,), generator)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Box(-1, 1, (2,)),
    ],
    ids=str,
)
def test_environments_draw_the_same_actions_however_they_are_grouped(space: gym.Space[Any]) -> None:
    torch.manual_seed(0)
    head, features = make_head(space, 6), torch.randn(7, 8, 6)
    noise = head.noise((7, 8), torch.Generator().manual_seed(3))
    again = head.noise((7, 8), torch.Generator().manual_seed(3))
    together = head(features).sample(noise)
    for group in (slice(0, 3), slice(3, 8)):
        alone = torch.stack([head(features[t, group]).sample(again[t, group]) for t in range(7)])
        # But for rounding: the product of fewer rows can take another way.
        assert_close(alone, together[:, group], rtol=1e-5, atol=1e-6)


def test_a_masked_action_is_never_taken_and_has_no_part_in_entropy_or_gradient() -> None:
    logits = randn(1000, 4)
    mask = torch.tensor([True, False, True, False]).expand(1000, 4)
    masked = Categorical(logits, mask)
    drawn = masked.sample(noise_of(spaces.Discrete(4), 1000, torch.Generator().manual_seed(0)))
    assert set(drawn.tolist()) == {0, 2}
    assert (masked.log_probs.exp()[:, [1, 3]] == 0).all()
    allowed = distributions.Categorical(logits=logits[:, [0, 2]])
    assert_close(masked.entropy(), allowed.entropy())
    (gradient,) = torch.autograd.grad(
        (masked.entropy() + masked.log_prob(drawn)).sum(), logits, retain_graph=True
    )
    assert torch.isfinite(gradient).all()
    assert (gradient[:, [1, 3]] == 0).all()


def test_a_mask_of_several_components_is_split_among_them() -> None:
    head = make_head(spaces.MultiDiscrete([2, 3]), 4)
    assert head.mask_size == 5
    features = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([False, True, True, False, True]).expand(500, 5)
    noise = head.noise((500,), torch.Generator().manual_seed(0))
    drawn = head(features, mask).sample(noise)
    assert set(drawn[:, 0].tolist()) == {1}
    assert set(drawn[:, 1].tolist()) == {0, 2}


def test_a_row_that_allows_nothing_is_uniform_and_disturbs_no_other() -> None:
    logits = randn(2, 3)
    mask = torch.tensor([[False, False, False], [True, True, True]])
    masked = Categorical(logits, mask)
    assert_close(masked.log_probs[0].exp(), torch.full((3,), 1 / 3, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(masked.entropy().sum(), logits)
    assert (gradient[0] == 0).all()
    assert_close(gradient[1], torch.autograd.grad(Categorical(logits).entropy()[1], logits)[0][1])


@pytest.mark.parametrize(("log_std", "expected"), [(-40.0, -5.0), (0.3, 0.3), (40.0, 2.0)])
def test_the_standard_deviation_stays_within_its_range(log_std: float, expected: float) -> None:
    head = make_head(spaces.Box(-1, 1, (2,)), 4)
    with torch.no_grad():
        head.get_parameter("log_std").fill_(log_std)
    each = expected + 0.5 * math.log(2 * math.pi * math.e)
    assert float(head(torch.zeros(4)).entropy().detach()) == pytest.approx(2 * each)


@pytest.mark.parametrize(
    ("log_std", "wish", "moves"),
    [
        (-6.0, 0.0, True),
        (-6.0, -9.0, False),
        (3.0, 0.0, True),
        (3.0, 9.0, False),
        (-5.0, -9.0, True),
        (2.0, 9.0, True),
        (0.0, 1.0, True),
    ],
)
def test_a_standard_deviation_outside_its_range_comes_back_and_goes_no_further(
    log_std: float, wish: float, moves: bool
) -> None:
    head = make_head(spaces.Box(-1, 1, (2,)), 4)
    parameter = head.get_parameter("log_std")
    with torch.no_grad():
        parameter.copy_(torch.tensor([log_std, 0.0]))
    distribution = head(torch.zeros(4))
    assert isinstance(distribution, DiagonalGaussian)
    (distribution.log_std - torch.tensor([wish, 1.0])).square().sum().backward()
    assert parameter.grad is not None
    assert float(parameter.grad[1]) == -2.0  # within the range as ever
    step = -float(parameter.grad[0])
    assert (step * (wish - log_std) > 0) if moves else step == 0


SPACES: list[gym.Space[Any]] = [
    spaces.Discrete(5),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 2]])),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    spaces.Box(-2, 3, (2,)),
    spaces.Box(-1, 1, (2, 2), np.float64),
    spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32)),
    spaces.Box(-0.1, 0.1, ()),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_action_drawn_is_one_of_the_space(space: gym.Space[Any]) -> None:
    torch.manual_seed(0)
    head = make_head(space, 6)
    with torch.no_grad():
        distribution = head(100 * torch.randn(64, 6))
    for action in (distribution.sample(head.noise((64,), torch.Generator())), distribution.mode()):
        assert action.shape == (64, *head.action_shape)
        assert action.dtype == head.action_dtype
        assert distribution.log_prob(action).shape == (64,)
        for one in head.to_env(action):
            assert space.contains(np.asarray(one) if isinstance(space, spaces.Box) else one)
    assert distribution.entropy().shape == (64,)


def test_a_bounded_box_is_spanned_and_clipped_and_an_unbounded_entry_left_alone() -> None:
    space = spaces.Box(np.array([-2, -np.inf], np.float32), np.array([6, np.inf], np.float32))
    head = make_head(space, 2)
    raw = torch.tensor([[0.0, 7.0], [1.0, -7.0], [-1.0, 0.0], [5.0, 0.5]])
    assert head.to_env(raw).tolist() == [[2, 7], [6, -7], [-2, 0], [6, 0.5]]


@pytest.mark.parametrize(
    ("low", "high", "dtype", "drawn"),
    [
        (100.0, np.inf, np.float32, [100.0, 100.0, 102.0]),
        (-np.inf, -50.0, np.float64, [-52.0, -50.0, -50.0]),
        (-3.0, np.inf, np.float32, [-2.0, 0.0, 2.0]),
        (0.0, np.finfo(np.float32).max, np.float32, [0.0, 0.0, 2.0]),
        (np.finfo(np.float32).min, np.finfo(np.float32).max, np.float32, [-2.0, 0.0, 2.0]),
        (np.finfo(np.float64).min, np.finfo(np.float64).max, np.float64, [-2.0, 0.0, 2.0]),
        (-1e6, 1e6, np.float32, [-1e6, 0.0, 1e6]),
    ],
)
def test_a_first_action_is_near_zero_or_the_bound_nearest_to_it(
    low: float, high: float, dtype: Any, drawn: list[float]
) -> None:
    head = make_head(spaces.Box(low, high, (1,), dtype), 4)
    raw = torch.tensor([[-2.0], [0.0], [2.0]])
    assert head.to_env(raw).flatten().tolist() == drawn
    assert head.to_env_tensor(raw).flatten().tolist() == drawn
    inside = np.array([[x] for x in drawn], dtype)
    np.testing.assert_allclose(head.to_env(head.from_env(inside)), inside)


def test_actions_that_persist_begin_as_autoregressive_noise_of_unit_variance() -> None:
    torch.manual_seed(0)
    head = make_head(spaces.Box(-1, 1, (2,)), 3, persistence=0.9)
    action, taken = torch.zeros(500, 2), []
    noise = head.noise((300, 500), torch.Generator().manual_seed(0))
    for t in range(300):
        action = head(torch.zeros(500, 3), previous=action).sample(noise[t]).detach()
        taken.append(action)
    settled = torch.stack(taken[100:])
    assert_close(settled.std(), torch.tensor(1.0), atol=0.03, rtol=0)
    assert_close((settled[1:] * settled[:-1]).mean(), torch.tensor(0.9), atol=0.05, rtol=0)


def test_an_entry_without_two_bounds_is_the_gaussians_own_clipped_where_there_is_one() -> None:
    low, high = np.array([0, -np.inf], np.float32), np.array([np.inf, 5], np.float32)
    head = make_head(spaces.Box(low, high), 4)
    acted = head.to_env(torch.tensor([[-3.0, 7.0], [2.0, 2.0]]))
    assert acted.tolist() == [[0.0, 5.0], [2.0, 2.0]]


def test_bounds_that_leave_one_value_leave_it_there_and_back() -> None:
    head = make_head(spaces.Box(np.array([1, -3], np.float32), np.array([1, 1], np.float32)), 4)
    acted = head.to_env(torch.tensor([[0.4, 0.5], [-9.0, -9.0]]))
    assert acted.tolist() == [[1.0, 0.0], [1.0, -3.0]]
    assert head.from_env(acted).tolist() == [[0.0, 0.5], [0.0, -1.0]]


def test_only_continuous_actions_persist() -> None:
    with pytest.raises(UnsupportedSpaceError, match="action_persistence is for continuous actions"):
        make_head(spaces.Discrete(3), 4, persistence=0.5)


def test_a_first_policy_is_nearly_uniform() -> None:
    torch.manual_seed(0)
    head = make_head(spaces.Discrete(4), 64)
    probabilities = torch.exp(
        torch.stack([head(torch.randn(64)).log_prob(torch.tensor(a)) for a in range(4)])
    )
    assert_close(probabilities.detach(), torch.full((4,), 0.25), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "space", [spaces.Text(5), spaces.Box(0, 9, (2,), np.int64), spaces.Dict({})], ids=str
)
def test_other_action_spaces_are_refused_by_name(space: gym.Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"action space .* is not supported"):
        make_head(space, 4)
