"""PPO's loss and update: the pure terms by hand, and what an update may and may not touch."""

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.memory.states import (
    LSTMState,
    MatrixState,
    MemoryState,
    NoState,
    cat_states,
)
from recurrent_rl.blocks import shuffled_chunks
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.learner import Learner
from recurrent_rl.ppo import (
    explained_variance,
    one_epoch,
    policy_gradient_loss,
    ppo_loss,
    refreshed_state,
    state_drift,
    update,
    value_loss,
)
from recurrent_rl.rollout import Rollout
from recurrent_rl.sequences import Sequences
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig

CONFIG = ResolvedConfig(
    env_id="recurrent_rl/TMaze-v0",
    num_envs=6,
    num_steps=24,
    seq_len=8,
    num_minibatches=3,
    update_epochs=2,
    eval_episodes=0,
    agent=AgentConfig(memory="lstm", hidden_size=16, encoder_size=16),
    env=EnvConfig(env_kwargs={"length": 3}),
)


def test_the_surrogate_is_clipped_only_where_that_makes_it_worse() -> None:
    ratio = torch.tensor([0.5, 0.5, 1.0, 1.5, 1.5])
    advantage = torch.tensor([1.0, -1.0, 2.0, 1.0, -1.0])
    # min(r A, clip(r, .8, 1.2) A): .5, -.8, 2, 1.2, -1.5
    assert_close(
        policy_gradient_loss(ratio, advantage, 0.2), torch.tensor([-0.5, 0.8, -2.0, -1.2, 1.5])
    )


def test_the_value_loss_is_in_standard_deviations_and_clips_its_change() -> None:
    scale = torch.tensor(2.0)
    values, returns, old = torch.tensor([5.0]), torch.tensor([9.0]), torch.tensor([1.0])
    assert_close(value_loss(values, returns, old, scale, None), torch.tensor([0.5 * 4.0]))
    # The value may move by .5 * 2 = 1, to 2: the error (9 - 2) / 2 = 3.5 is the larger one.
    assert_close(value_loss(values, returns, old, scale, 0.5), torch.tensor([0.5 * 3.5**2]))
    # Downwards too, from 9 to 8, where the error (8 - 5) / 2 = 1.5 is the larger one.
    assert_close(value_loss(values, values, torch.tensor([9.0]), scale, 0.5), torch.tensor([1.125]))


def test_explained_variance_of_a_perfect_a_constant_and_no_critic() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == pytest.approx(1.0)
    assert explained_variance(torch.full((3,), 7.0), returns) == pytest.approx(0.0)
    assert math.isnan(explained_variance(returns, torch.ones(3)))


def collected(config: TrainConfig) -> tuple[Trainer, Rollout, torch.Tensor]:
    trainer = Trainer(config)
    # An untrained critic says zero everywhere.
    torch.nn.init.normal_(trainer.agent.critic.weight, generator=torch.Generator().manual_seed(0))
    rollout = trainer.collector.collect(0)
    generator = torch.Generator().manual_seed(0)
    return trainer, rollout, torch.randn(rollout.rewards.shape, generator=generator)


@pytest.mark.parametrize(
    ("memory", "separate"),
    [
        *((name, False) for name in ("none", "gru", "lstm", "gru-rotor", "gru-matrix")),
        ("lstm", True),
    ],
)
def test_the_ratio_is_one_before_the_first_step_of_the_optimiser(
    memory: str, separate: bool
) -> None:
    agent = AgentConfig(memory, hidden_size=16, encoder_size=16, separate_memory=separate)
    trainer = Trainer(dataclasses.replace(CONFIG, agent=agent))
    for _ in range(3):
        assert trainer.iterate()["memory/first_ratio_error"] < 1e-5


def test_the_ratio_is_one_where_actions_persist_and_none_does_into_a_new_episode() -> None:
    agent = AgentConfig("gru", hidden_size=16, encoder_size=16, action_persistence=0.8)
    env = EnvConfig({"max_episode_steps": 7})
    config = dataclasses.replace(
        CONFIG, env_id="recurrent_rl/Pendulum-NoVelocity-v0", agent=agent, env=env
    )
    trainer = Trainer(config)
    for _ in range(3):
        assert trainer.iterate()["memory/first_ratio_error"] < 1e-5
    components, _, _ = trainer.collector.rollout.row(3)
    output = {}
    for start in (False, True):
        flags = torch.full((config.num_envs,), start)
        state = trainer.agent.initial_state(config.num_envs)
        output[start], _ = trainer.agent.step(components, state, flags)
    moved = output[False].distribution.mode() - output[True].distribution.mode()
    # But for what the encoder makes of it: 0.8 of the previous action, and nothing at a start.
    assert_close(moved, 0.8 * components["previous_action"], atol=0.05, rtol=0)


def relative_drift(new: MemoryState, old: MemoryState) -> float:
    moved, size = state_drift(new, old).tolist()
    return math.sqrt(moved / (size + 1e-12))


@pytest.mark.parametrize("clip_value", [None, 0.1])
def test_the_terms_of_the_loss_are_means_over_the_rows_that_count(
    clip_value: float | None,
) -> None:
    config = dataclasses.replace(
        CONFIG, vf_coef=0.7, ent_coef=0.03, clip_coef=0.1, clip_value=clip_value, num_minibatches=1
    )
    config = dataclasses.replace(config, update_epochs=1)
    trainer, rollout, advantages = collected(config)
    agent = trainer.agent
    agent.return_normaliser.std.fill_(3.0)
    rollout.valid[5, 2] = rollout.valid[17, 4] = False
    # As if the policy had moved since.
    moved = torch.randn(2, 24, 6, generator=torch.Generator().manual_seed(1))
    rollout.log_probs += 0.2 * moved[0]
    rollout.values[:-1] += 2 * moved[1]
    returns = rollout.values[:-1] + 2 * advantages
    data = rollout.sequences(advantages, returns)
    with torch.no_grad():
        output, _ = agent.unroll(data.components, data.state, data.episode_start)
        log_prob = output.distribution.log_prob(data.actions)
        entropy = output.distribution.entropy()

    def rows(x: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return x[data.valid].double().numpy()

    log_ratio = rows(log_prob - data.log_probs)
    ratio, a = np.exp(log_ratio), rows(data.advantages)
    policy = -np.minimum(ratio * a, np.clip(ratio, 0.9, 1.1) * a).mean()
    error = np.abs(rows(output.value - data.returns))
    if clip_value is not None:  # by three times 0.1, the standard deviation being 3
        old = rows(data.values)
        now = old + np.clip(rows(output.value) - old, -0.3, 0.3)
        assert (np.abs(now - rows(data.returns)) > error).any()
        error = np.maximum(error, np.abs(now - rows(data.returns)))
    value = (0.5 * (error / 3) ** 2).mean()
    total = policy + 0.7 * value - 0.03 * rows(entropy).mean()
    clipped = (np.abs(ratio - 1) > 0.1).mean()
    assert 0.2 < clipped < 0.8
    expected = {
        "loss": total,
        "policy_gradient_loss": policy,
        "value_loss": value,
        "entropy_loss": -rows(entropy).mean(),
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": clipped,
    }
    loss, end_state = ppo_loss(agent, data, config)
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-4)
    assert float(loss.ratio_error) == pytest.approx(np.abs(ratio - 1).max(), rel=1e-4)
    means = {name: float(x) / (24 * 6 - 2) for name, x in loss.sums.items()}
    assert means == pytest.approx(expected, rel=1e-4)

    # An update of one minibatch tells of this loss.
    gradient = torch.autograd.grad(loss.total, list(agent.parameters()))
    scalars = update(trainer.learner, rollout, advantages, returns, config, torch.Generator())
    counts = rollout.valid[:-1]
    assert scalars == pytest.approx(
        {
            **{f"train/{name}": x for name, x in expected.items()},
            "train/explained_variance": explained_variance(
                rollout.values[:-1][counts], returns[counts]
            ),
            "train/gradient_norm": math.sqrt(sum(float(g.square().sum()) for g in gradient)),
            "train/epochs": 1.0,
            "memory/first_ratio_error": np.abs(ratio - 1).max(),
            "memory/state_drift": relative_drift(end_state, data.end_state),
        },
        rel=1e-4,
        abs=1e-5,
    )


def test_the_drift_of_the_state_is_relative_and_of_all_that_is_no_count() -> None:
    old = LSTMState(torch.tensor([[[3.0]]]), torch.tensor([[[4.0]]]))
    new = LSTMState(torch.tensor([[[3.6]]]), torch.tensor([[[4.8]]]))
    assert relative_drift(new, old) == pytest.approx(0.2)  # |(.6, .8)| / |(3, 4)|
    clock = torch.tensor([[7]])
    s = torch.tensor([[[[[2.0]]]]])
    moved = relative_drift(MatrixState(s, clock + 9), MatrixState(2 * s, clock))
    assert moved == pytest.approx(0.5)
    assert relative_drift(NoState(), NoState()) == 0


def test_rows_inserted_by_an_autoreset_have_no_weight_in_the_loss() -> None:
    trainer, rollout, advantages = collected(CONFIG)
    rollout.valid[5, 2] = rollout.valid[17, 4] = False
    data = rollout.sequences(advantages, advantages + rollout.values[:-1])
    before, _ = ppo_loss(trainer.agent, data, CONFIG)
    hole = ~data.valid
    for x in (data.log_probs, data.values, data.advantages, data.returns):
        x[hole] = 123.0
    after, _ = ppo_loss(trainer.agent, data, CONFIG)
    assert_close(before.total, after.total)
    data.returns[~hole] += 1
    changed, _ = ppo_loss(trainer.agent, data, CONFIG)
    assert changed.total != after.total


def test_a_single_row_that_counts_is_the_whole_mean() -> None:
    trainer, rollout, advantages = collected(CONFIG)
    data = rollout.sequences(advantages, advantages)
    data.valid[:] = False
    data.valid[3, 1] = True
    loss, _ = ppo_loss(trainer.agent, data, CONFIG)
    advantage = float(data.advantages[3, 1])
    assert float(loss.sums["policy_gradient_loss"]) == pytest.approx(-advantage)  # the ratio is 1


def test_no_gradient_crosses_from_one_episode_into_another() -> None:
    trainer, rollout, _ = collected(CONFIG)
    data = rollout.sequences(rollout.rewards, rollout.rewards)
    assert isinstance(data.state, LSTMState)
    before = data.state.h.clone().requires_grad_()
    output, _ = trainer.agent.unroll(
        data.components, LSTMState(before, data.state.c), data.episode_start
    )
    # From each chunk's first start of an episode on, nothing may depend on the chunk's own state.
    started = data.episode_start.cumsum(0) > 0
    assert started.any()
    (gradient,) = torch.autograd.grad(output.value[started].sum(), before, retain_graph=True)
    assert (gradient == 0).all()
    (gradient,) = torch.autograd.grad(output.value[~started].sum(), before)
    assert (gradient != 0).any()


def test_refreshed_states_are_the_stored_ones_until_the_weights_change() -> None:
    # An episode spans several chunks.
    env = EnvConfig(env_kwargs={"length": 15})
    trainer, rollout, advantages = collected(dataclasses.replace(CONFIG, env=env))
    stored = rollout.sequences(advantages, advantages).state
    same = refreshed_state(trainer.agent, rollout)
    for a, b in zip(stored, same, strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert relative_drift(same, stored) < 1e-5
    with torch.no_grad():
        for parameter in trainer.agent.parameters():
            parameter.add_(0.05)
    moved = refreshed_state(trainer.agent, rollout)
    assert relative_drift(moved, stored) > 1e-2
    # The others are those of one pass over the whole rollout.
    state, passed = rollout.chunk_states[0], []
    for t in range(CONFIG.num_steps):
        if t % 8 == 0:
            passed.append(state)
        components, episode_start, mask = rollout.row(t)
        with torch.no_grad():
            _, state = trainer.agent.step(components, state, episode_start, mask)
    for a, b in zip(moved, cat_states(passed), strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-6)
    # What came before the rollout is gone: its first chunks keep the state they were stored with.
    for a, b in zip(stored, moved, strict=True):
        assert torch.equal(a[:, : CONFIG.num_envs], b[:, : CONFIG.num_envs])


def test_every_epoch_but_the_first_starts_from_states_that_its_weights_make(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = dataclasses.replace(CONFIG, update_epochs=4, learning_rate=0.01)
    drift: dict[bool, list[float]] = {False: [], True: []}
    for refresh, found in drift.items():
        given = dataclasses.replace(config, refresh_state=refresh)
        trainer, rollout, advantages = collected(given)

        def noted(learner: Learner, data: Sequences, *rest: Any) -> Any:
            found.append(relative_drift(refreshed_state(learner.agent, rollout), data.state))  # noqa: B023
            return one_epoch(learner, data, *rest)

        monkeypatch.setattr("recurrent_rl.ppo.one_epoch", noted)
        update(
            *(trainer.learner, rollout, advantages, advantages),
            *(given, torch.Generator()),
        )
    assert drift[True] == pytest.approx([0.0] * 4, abs=1e-5)
    assert drift[False][0] == pytest.approx(0.0, abs=1e-5)
    assert min(drift[False][1:]) > 1e-3


@torch.no_grad()
def states_apart(agent: ActorCritic, before: ActorCritic, batch: Sequences) -> float:
    """How far two agents' states are apart after chunks that they step through from one state."""
    ends = []
    for one in (agent, before):
        state = batch.state
        for t, start in enumerate(batch.episode_start):
            _, state = one.step({path: x[t] for path, x in batch.components.items()}, state, start)
        ends.append(np.concatenate([x.flatten().double() for x in state]))
    return float(np.linalg.norm(ends[0] - ends[1]) / np.linalg.norm(ends[1]))


def test_an_update_is_steps_of_adam_along_clipped_gradients_of_shuffled_minibatches() -> None:
    config = dataclasses.replace(CONFIG, max_grad_norm=0.4, learning_rate=0.01)
    trainer, rollout, advantages = collected(config)
    returns = rollout.values[:-1] + advantages
    agent, untrained = copy.deepcopy(trainer.agent), copy.deepcopy(trainer.agent)
    scalars = update(
        *(trainer.learner, rollout, advantages, returns),
        *(config, torch.Generator().manual_seed(5)),
    )
    # The same by hand: Kingma & Ba (2015), algorithm 1.
    generator, data = torch.Generator().manual_seed(5), rollout.sequences(advantages, returns)
    weights = list(agent.parameters())
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    norms = []
    for _ in range(2):
        for chunks in shuffled_chunks(config, generator):
            batch = data.select(chunks)
            loss, _ = ppo_loss(agent, batch, config)
            gradient = torch.autograd.grad(loss.total, weights)
            norm = torch.stack([g.square().sum() for g in gradient]).sum().sqrt()
            norms.append(float(norm))
            last = batch, copy.deepcopy(agent)
            for w, m, v, g in zip(weights, first, second, gradient, strict=True):
                g = g * min(1.0, 0.4 / norms[-1])
                m.lerp_(g, 0.1)
                v.lerp_(g.square(), 0.001)
                mean, var = m / (1 - 0.9 ** len(norms)), v / (1 - 0.999 ** len(norms))
                with torch.no_grad():
                    w.sub_(0.01 * mean / (var.sqrt() + config.adam_eps))
    assert len(norms) == 6
    assert min(norms) < 0.4 < max(norms)  # one is not clipped
    for one, other in zip(trainer.agent.parameters(), weights, strict=True):
        assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert scalars["train/gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-3)
    assert scalars["memory/state_drift"] == pytest.approx(
        states_apart(last[1], untrained, last[0]), rel=1e-2
    )


def test_a_gradient_that_overflows_is_refused() -> None:
    trainer, rollout, advantages = collected(CONFIG)
    with pytest.raises(UserError, match="gradient's norm became inf"):
        update(
            *(trainer.learner, rollout, 1e36 * advantages, advantages),
            *(CONFIG, torch.Generator()),
        )


@pytest.mark.parametrize(
    ("environments", "chunk", "minibatches"),
    [(6, 8, 3), (8, 24, 4), (6, 12, 4), (5, 8, 3), (16, 24, 2)],
)
def test_a_minibatch_has_its_share_of_each_block_of_environments(
    environments: int, chunk: int, minibatches: int
) -> None:
    config = dataclasses.replace(
        CONFIG, num_envs=environments, seq_len=chunk, num_minibatches=minibatches
    )
    times = 24 // chunk
    orders = [shuffled_chunks(config, torch.Generator().manual_seed(i)) for i in range(3)]
    block = next(
        n
        for n in range(1, environments + 1)
        if environments % n == 0 and n * times % minibatches == 0
    )
    mixed = []
    for order in orders:
        assert sorted(order.flatten().tolist()) == list(range(environments * times))
        for chunks in order:
            from_block = (chunks % environments) // block
            assert torch.bincount(from_block).tolist() == [block * times // minibatches] * (
                environments // block
            )
            # Which of its block's chunks is drawn says nothing of those of other blocks.
            place = (chunks // environments) * block + chunks % environments % block
            mixed.append(
                len({tuple(place[from_block == b].sort()[0].tolist()) for b in from_block})
            )
    assert max(mixed) > 1 or block == environments
    assert not torch.equal(orders[0], orders[1])


def test_a_minibatch_of_inserted_rows_alone_moves_nothing() -> None:
    trainer, rollout, advantages = collected(CONFIG)
    trainer.iterate()  # so that the optimiser has a momentum that it could continue with
    before = [x.clone() for x in trainer.agent.parameters()]
    rollout.valid[:] = False
    scalars = update(
        trainer.learner,
        rollout,
        advantages,
        advantages,
        CONFIG,
        torch.Generator(),
    )
    assert scalars == {}
    for old, new in zip(before, trainer.agent.parameters(), strict=True):
        assert torch.equal(old, new)
    loss, _ = ppo_loss(trainer.agent, rollout.sequences(advantages, advantages), CONFIG)
    assert all(float(x.detach()) == 0 for x in (loss.total, loss.ratio_error, *loss.sums.values()))


def test_what_is_logged_is_averaged_over_rows_not_over_minibatches() -> None:
    config = dataclasses.replace(CONFIG, update_epochs=2, learning_rate=1e-12)
    trainer, rollout, advantages = collected(config)
    rollout.valid[:16, 2:] = False  # so that minibatches count from 8 rows to 32
    returns = rollout.values[:-1] + advantages
    counts = rollout.valid[:-1]
    scalars = update(trainer.learner, rollout, advantages, returns, config, torch.Generator())
    assert scalars["train/policy_gradient_loss"] == pytest.approx(
        -float(advantages[counts].mean()), rel=1e-4
    )
    std = float(trainer.agent.return_normaliser.std)
    squares = (advantages[counts] / std).square()
    assert scalars["train/value_loss"] == pytest.approx(0.5 * float(squares.mean()), rel=1e-4)


def test_explained_variance_does_not_depend_on_the_unit() -> None:
    generator = torch.Generator().manual_seed(0)
    returns = 100 + torch.randn(500, generator=generator)
    values = returns + 0.1 * torch.randn(500, generator=generator)
    for unit in (1e-6, 1.0, 1e6):
        assert explained_variance(unit * values, unit * returns) == pytest.approx(0.99, abs=0.002)


def test_a_target_kl_ends_the_epochs_with_the_first_whose_mean_exceeds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[float] = []

    def noted(*given: Any) -> Any:
        steps, sums = one_epoch(*given)
        seen.append(float(sums["approx_kl"]) / (24 * 6))
        return steps, sums

    monkeypatch.setattr("recurrent_rl.ppo.one_epoch", noted)
    config = dataclasses.replace(CONFIG, update_epochs=8, learning_rate=0.003, target_kl=None)
    assert Trainer(config).iterate()["train/epochs"] == 8
    free = seen[:]
    epochs = next(i for i in range(3, 8) if free[i] > max(free[:i])) + 1
    target = 0.9 * free[epochs - 1] + 0.1 * max(free[: epochs - 1])
    seen.clear()
    scalars = Trainer(dataclasses.replace(config, target_kl=target)).iterate()
    assert scalars["train/epochs"] == epochs
    # That of the last pass is logged, as Stable-Baselines3 does: it is what ended them.
    assert scalars["train/approx_kl"] == pytest.approx(seen[-1])
    assert scalars["train/approx_kl"] > target
