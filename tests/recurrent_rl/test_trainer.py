"""An iteration: what it may depend on, and what is left where it fails."""

import copy
import dataclasses
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch.testing import assert_close

from recurrent_rl.advantages import gae
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.devices import DeviceError
from recurrent_rl.agents.files import NonFiniteError
from recurrent_rl.agents.normalisers import SETTLED
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.envs.cartpole import CartPole
from recurrent_rl.envs.repeat_previous import RepeatPrevious
from recurrent_rl.errors import UserError
from recurrent_rl.learner import Learner
from recurrent_rl.ppo import update
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.seeding import Stream, generator, number
from recurrent_rl.sequences import Sequences
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from tests.recurrent_rl import worker_cases


class InUnits(RepeatPrevious):
    """RepeatPrevious-Easy with its rewards in another unit."""

    unit = 1.0

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)

    def _advance(self, actions: Any) -> Any:
        rewards, terminated, truncated = super()._advance(actions)
        return rewards * self.unit, terminated, truncated


class Shifting(CartPole):
    """CartPole whose observations are in another unit."""

    unit = 1.0

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)

    def _observe(self) -> Any:
        return super()._observe() * np.float32(self.unit)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gym.register("InUnits-v0", vector_entry_point=lambda **kw: InUnits(**kw))
    gym.register("Shifting-v0", vector_entry_point=lambda **kw: Shifting(**kw))
    yield
    InUnits.unit = Shifting.unit = 1.0
    for env_id in ("InUnits-v0", "Shifting-v0"):
        gym.registry.pop(env_id)


CONFIG = TrainConfig(
    "InUnits-v0",
    num_envs=4,
    num_steps=32,
    total_timesteps=10_000,
    agent=AgentConfig(hidden_size=16, encoder_size=16),
)


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([x.detach().flatten() for x in trainer.agent.parameters()])


def trained(config: TrainConfig, iterations: int = 6) -> torch.Tensor:
    trainer = Trainer(config)
    for _ in range(iterations):
        trainer.iterate()
    trainer.close()
    return weights(trainer)


@pytest.mark.parametrize("exponent", [-20, 20])
def test_learning_does_not_depend_on_the_unit_of_rewards(exponent: int) -> None:
    # Powers of two round nothing, so that what is learnt must be the same to the last bit.
    expected = trained(CONFIG)
    InUnits.unit = 2.0**exponent
    assert torch.equal(trained(CONFIG), expected)


def trained_once_known(config: TrainConfig) -> torch.Tensor:
    """With statistics from before: the first rollout sees observations as they are."""
    trainer = Trainer(config)
    rollout = trainer.collector.collect(0)
    components = {path: x[:-1] for path, x in rollout.components.items()}
    valid, start = rollout.valid[:-1], rollout.episode_start[:-1]
    trainer.agent.observation_normaliser.update(components, valid, start)
    trainer.collector.restart(1)
    trainer.iterate()
    trainer.iterate()
    return weights(trainer)


@pytest.mark.parametrize("exponent", [-20, 20])
def test_rewards_that_are_fed_back_have_no_unit_once_their_statistics_are_known(
    exponent: int,
) -> None:
    agent = dataclasses.replace(CONFIG.agent, previous_reward=True)
    config = dataclasses.replace(CONFIG, agent=agent)
    expected = trained_once_known(config)
    InUnits.unit = 2.0**exponent
    assert torch.equal(trained_once_known(config), expected)


@pytest.mark.parametrize("exponent", [-24, 24])
def test_learning_does_not_depend_on_the_unit_of_observations(exponent: int) -> None:
    config = dataclasses.replace(CONFIG, env_id="Shifting-v0")
    Shifting.unit = 1.0
    expected = trained_once_known(config)
    Shifting.unit = 2.0**exponent
    assert torch.equal(trained_once_known(config), expected)


def test_the_same_seed_is_the_same_training_and_another_is_not() -> None:
    assert torch.equal(trained(CONFIG), trained(CONFIG))
    assert not torch.equal(trained(CONFIG), trained(dataclasses.replace(CONFIG, seed=1)))


def test_weights_environments_actions_and_minibatches_have_streams_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int | None] = []
    shuffles: list[torch.Tensor] = []

    def reset(self: InUnits, *, seed: int | None = None, options: Any = None) -> Any:
        seeds.append(seed)
        return RepeatPrevious.reset(self, seed=seed, options=options)

    def noted(*given: Any) -> dict[str, float]:
        shuffles.append(given[5].get_state())
        return update(*given)

    monkeypatch.setattr(InUnits, "reset", reset)
    monkeypatch.setattr("recurrent_rl.trainer.update", noted)
    trainer = Trainer(dataclasses.replace(CONFIG, seed=3))
    agent, space = trainer.agent, trainer.env.single_observation_space
    torch.manual_seed(number(3, Stream.WEIGHTS))
    for name, x in ActorCritic(space, agent.action_space, agent.config).state_dict().items():
        assert torch.equal(x, agent.state_dict()[name])
    for iteration in range(3):
        if iteration == 2:
            trainer.collector.restart(2)
        before = copy.deepcopy(agent)
        trainer.iterate()
        assert torch.equal(shuffles[-1], generator(3, Stream.MINIBATCHES, iteration).get_state())
        rollout = trainer.collector.rollout
        state = rollout.chunk_states[0]
        noise = before.head.noise((32, 4), generator(3, Stream.ACTIONS, iteration))
        for t in range(32):
            components, start, _ = rollout.row(t)
            output, state = before.step(components, state, start)
            assert torch.equal(output.distribution.sample(noise[t]), rollout.actions[t])
    assert seeds == [number(3, Stream.ENVIRONMENTS), number(3, Stream.ENVIRONMENTS, 2)]


def test_a_policy_that_learns_nothing_stays_whatever_it_sees() -> None:
    # The normaliser alone once drove policies that lean to one side off to that side.
    trainer = Trainer(dataclasses.replace(CONFIG, env_id="CartPole-v1", learning_rate=1e-30))
    agent, rollout = trainer.agent, trainer.collector.rollout
    for _ in range(SETTLED):
        trainer.iterate()
    components = {path: x[:-1].clone() for path, x in rollout.components.items()}
    actions, said = rollout.actions.clone(), []
    for _ in range(3):
        output, _ = agent.unroll(components, agent.initial_state(rollout.values.shape[1]))
        said.append((output.distribution.log_prob(actions), output.value))
        mean = agent.observation_normaliser.state_dict()["moments.0.mean"].clone()
        trainer.iterate()
        assert not torch.equal(agent.observation_normaliser.state_dict()["moments.0.mean"], mean)
    assert_close(said[1], said[0])
    assert_close(said[2], said[0])


def averaged(values: list[torch.Tensor]) -> torch.Tensor:
    """The exponential moving average of rate 0.05 with bias correction."""
    weights = 0.95 ** torch.arange(len(values) - 1, -1, -1, dtype=torch.float64)
    return (weights * torch.stack(values)).sum() / weights.sum()


def noting_updates(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of each update from here on, and the observations' mean meanwhile."""
    seen: list[Any] = []

    def noted(learner: Learner, *rest: Any) -> dict[str, float]:
        mean = learner.agent.observation_normaliser.state_dict()["moments.0.mean"].clone()
        seen.append((learner, *rest, mean))
        return update(learner, *rest)

    monkeypatch.setattr("recurrent_rl.trainer.update", noted)
    return seen


def advantages_of(trainer: Trainer, gamma: float, gae_lambda: float) -> torch.Tensor:
    rollout = trainer.collector.rollout
    ends = rollout.terminated, rollout.truncated
    values = rollout.values[:-1], rollout.next_values
    return gae(rollout.rewards, *values, *ends, gamma, gae_lambda)


def test_an_iteration_learns_from_the_rows_that_count_and_then_takes_in_what_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    updates = noting_updates(monkeypatch)
    config = worker_cases.config(env="DrawnNext-v0", schedules={"gae_lambda": [0.9, 0.1]})
    trainer = Trainer(config)
    of_advantages, means, squares, rows = [], [], [], [torch.zeros(1, 3, dtype=torch.float64)]
    for iteration in range(3):
        trainer.iterate()
        rollout = trainer.collector.rollout
        advantages = advantages_of(trainer, config.gamma, 0.9 - 0.2 * iteration)
        _, _, scaled, returns, *_, mean = updates[-1]
        valid = rollout.valid[:-1]
        assert 0.6 < valid.float().mean() < 0.95
        assert_close(returns, advantages + rollout.values[:-1])
        counting = advantages[valid].double()
        of_advantages.append(counting.var(correction=0))
        std = torch.maximum(of_advantages[-1], averaged(of_advantages)).sqrt()
        assert_close(scaled, ((advantages - counting.mean()) / std).float())
        means.append(returns[valid].double().mean())
        squares.append(returns[valid].double().square().mean())
        normaliser = trainer.agent.return_normaliser
        assert_close(normaliser.mean, averaged(means).float())
        var = averaged(squares) - averaged(means).square()
        assert_close(normaliser.std, var.sqrt().float())
        assert_close(mean, torch.cat(rows).mean(0))  # that of the rollouts before
        rows = [*(rows if len(means) > 1 else []), rollout.components[""][:-1][valid].double()]
    assert of_advantages[-1] < averaged(of_advantages)  # so that these were not their own
    after = trainer.agent.observation_normaliser.state_dict()["moments.0.mean"]
    assert_close(after, torch.cat(rows).mean(0))


def test_statistics_are_of_the_rows_that_count_and_are_shown() -> None:
    config = worker_cases.config(
        env="DrawnHidden-v0", critic_keys=("hidden",), previous_reward=True
    )
    trainer = Trainer(config)
    trainer.iterate()
    rollout, agent = trainer.collector.rollout, trainer.agent
    valid, start = rollout.valid[:-1], rollout.episode_start[:-1]
    assert not valid.all()
    shown = {"previous_reward": valid & ~start, "shown": valid, "hidden": valid}
    assert agent.privileged is not None
    for normaliser in (agent.observation_normaliser, agent.privileged.normaliser):
        for path, moments in zip(normaliser.paths, normaliser.moments, strict=True):
            rows = rollout.components[path][:-1][shown.pop(path, valid)].double()
            assert_close(moments.mean, rows.mean(0), msg=path)
            assert_close(moments.var, rows.var(0, correction=0), msg=path)
    assert not shown


def test_a_critic_that_has_not_learnt_yet_is_not_held_to_the_zeros_that_it_said() -> None:
    # What it says moves to the mean of the first returns before it learns from them.
    weights_of = []
    for clip in (None, 0.02):
        trainer = Trainer(worker_cases.config(clip_value=clip, learning_rate=0.01))
        for _ in range(2):
            trainer.iterate()
            weights_of.append(weights(trainer))
    assert torch.equal(weights_of[0], weights_of[2])
    assert not torch.equal(weights_of[1], weights_of[3])


def test_nothing_is_scaled_where_the_settings_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = noting_updates(monkeypatch)
    config = worker_cases.config(normalize_advantages=False)
    agent = dataclasses.replace(config.agent, normalize_returns=False, normalize_observations=False)
    trainer = Trainer(dataclasses.replace(config, agent=agent))
    trainer.iterate()
    assert torch.equal(updates[0][2], advantages_of(trainer, config.gamma, config.gae_lambda))
    assert float(trainer.agent.return_normaliser.std) == 1
    assert float(trainer.agent.return_normaliser.mean) == 0
    assert not trainer.agent.observation_normaliser.state_dict()["moments.0.count"]


def test_every_iteration_has_the_settings_that_are_scheduled_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    updates = noting_updates(monkeypatch)
    diagnosed: list[ResolvedConfig] = []

    def diagnostics(
        agent: ActorCritic, data: Sequences, config: ResolvedConfig
    ) -> dict[str, float]:
        diagnosed.append(config)
        return {}

    monkeypatch.setattr("recurrent_rl.trainer.memory_diagnostics", diagnostics)
    # A schedule of its own counts, not the flag that lets a setting fall to zero.
    schedules = {"gamma": [0.9, 0.5], "gae_lambda": [0.8, 0.4], "ent_coef": [0.1, 0.3]}
    schedules |= {"clip_coef": [0.4, 0.1, 0.2], "aux_coef": [1.0, 0.0]}
    config = worker_cases.config(
        learning_rate=0.01, ent_coef=0.1, schedules=schedules, memory_interval=1
    )
    trainer = Trainer(dataclasses.replace(config, normalize_advantages=False))
    for i, scalars in enumerate(trainer):
        learner, _, advantages, _, settings, *_ = updates[i]
        (group,) = learner.optimizer.param_groups
        assert group["lr"] == scalars["train/learning_rate"] == pytest.approx(0.01 * (1 - i / 4))
        assert settings.ent_coef == scalars["train/ent_coef"] == pytest.approx(0.1 + 0.05 * i)
        assert settings.clip_coef == pytest.approx((0.4, 0.25, 0.1, 0.15)[i])
        assert diagnosed[i].clip_coef == settings.clip_coef
        assert settings.aux_coef == pytest.approx(1 - 0.25 * i)
        assert_close(advantages, advantages_of(trainer, 0.9 - 0.1 * i, 0.8 - 0.1 * i))
    assert len(updates) == 4
    assert trainer.timesteps == 4 * 8 * 12


@contextmanager
def of_type(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "surroundings",
    [
        *(torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)),
        *(torch.device("meta"), of_type(torch.float64), of_type(torch.bfloat16)),
    ],
    ids=["no_grad", "inference_mode", "autocast", "device", "float64", "bfloat16"],
)
def test_training_and_acting_are_the_same_whatever_pytorch_does_around_them(
    surroundings: Any,
) -> None:
    def played() -> tuple[torch.Tensor, list[Any]]:
        config = dataclasses.replace(CONFIG, agent=AgentConfig("lstm", hidden_size=8))
        trainer = Trainer(config)
        trainer.iterate()
        policy = trainer.policy()
        observation = policy.observation_space.sample() * 0
        actions: list[Any] = []
        for actor in (
            policy.actor(deterministic=False, seed=0),
            policy.actor(deterministic=False, seed=0, runner="fast"),
        ):
            actions += [actor.act(observation) for _ in range(3)]
        evaluate(policy, config.environment, 2, num_envs=2, max_steps=3)
        state: Any = policy.predict(observation)[1].memory
        return torch.cat([weights(trainer), *(x.flatten() for x in state)]), actions

    expected = played()
    with surroundings:
        found = played()
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1]


def test_training_leaves_the_random_numbers_of_its_caller_alone() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    trained(CONFIG, 2)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert before[2] == np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002


def test_an_update_that_leaves_the_numbers_is_undone_and_told_with_its_iteration() -> None:
    trainer = Trainer(CONFIG)
    trainer.iterate()
    before, moments = weights(trainer), trainer.agent.return_normaliser.std.clone()
    var = trainer.advantage_normaliser.var.clone()
    slots = [x.clone() for state in trainer.optimizer.state.values() for x in state.values()]
    trainer.config = dataclasses.replace(trainer.config, learning_rate=1e30)
    with pytest.raises(
        UserError, match=r"In iteration 2: The .* became (nan|inf|-inf)\. Try a lower learning_rate"
    ):
        trainer.iterate()
    assert trainer.iteration == 1
    assert torch.equal(weights(trainer), before)
    assert torch.equal(trainer.agent.return_normaliser.std, moments)
    assert torch.equal(trainer.advantage_normaliser.var, var)
    again = [x for state in trainer.optimizer.state.values() for x in state.values()]
    assert all(torch.equal(a, b) for a, b in zip(slots, again, strict=True))
    trainer.config = dataclasses.replace(trainer.config, learning_rate=CONFIG.learning_rate)
    trainer.iterate()  # continues as if nothing had been


def test_an_exception_in_the_first_update_leaves_the_optimiser_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = Trainer(CONFIG)
    before = weights(trainer)
    monkeypatch.setattr("recurrent_rl.trainer.update", fail_after_a_step)
    with pytest.raises(RuntimeError, match="broken"):
        trainer.iterate()
    assert torch.equal(weights(trainer), before)
    assert not trainer.optimizer.state
    assert trainer.iteration == 0


def fail_after_a_step(learner: Learner, *_: Any) -> None:
    for parameter in learner.agent.parameters():
        parameter.grad = torch.ones_like(parameter)
    learner.optimizer.step()
    raise RuntimeError("broken")


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Any) -> None:
    trainer = Trainer(CONFIG)
    trainer.policy().save(tmp_path / "p.safetensors")
    good = (tmp_path / "p.safetensors").read_bytes()
    with torch.no_grad():
        trainer.agent.critic.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"critic\.weight holds NaN"):
        trainer.policy().save(tmp_path / "p.safetensors")
    assert (tmp_path / "p.safetensors").read_bytes() == good


def test_hidden_entries_are_hidden_by_the_policy_itself() -> None:
    env = EnvConfig(hide_indices=(1, 3))
    config = dataclasses.replace(CONFIG, env_id="CartPole-v1", env=env)
    trainer = Trainer(config)
    trainer.iterate()
    policy = trainer.policy()
    assert policy.observation_space == gym.make("CartPole-v1").observation_space
    one, _ = policy.predict(np.array([0.1, 9.0, 0.2, -9.0], np.float32), deterministic=True)
    assert one in (0, 1)


@pytest.mark.parametrize("many", [False, True])
def test_an_evaluation_amid_a_training_on_the_same_environment_is_not_learnt_from(
    many: bool,
) -> None:
    def make() -> gym.Env[Any, Any]:
        return gym.make("CartPole-v1")

    env = SyncVectorEnv(2 * [make], autoreset_mode=AutoresetMode.SAME_STEP) if many else make()
    config = TrainConfig(total_timesteps=10_000, num_steps=16, num_minibatches=1)
    trainer = Trainer(config, env=env)
    trainer.iterate()
    evaluate(trainer.policy(), make, 2, max_steps=5)
    trainer.iterate()
    evaluate(trainer.policy(), env, 2, max_steps=5)
    with pytest.raises(UserError, match=r"reset by others after step 32.* of its own"):
        trainer.iterate()
    trainer.collector.restart(2)
    trainer.iterate()


def test_a_trainer_takes_an_environment_as_train_does_and_closes_it_at_the_end_of_a_context() -> (
    None
):
    closed = []

    class Closes(gym.Wrapper[Any, Any, Any, Any]):
        def close(self) -> None:
            closed.append(self)

    config = TrainConfig(num_envs=2, num_steps=8, num_minibatches=1, total_timesteps=2_048)
    with Trainer(config, lambda: Closes(gym.make("CartPole-v1"))) as trainer:
        trainer.iterate()
        assert not closed
        assert repr(trainer) == "<Trainer: gru-rotor on <lambda>, 16 of 2,048 steps>"
    assert len(closed) == 2
    with pytest.raises(UserError, match=r"no environment.*beside the settings, as env"):
        Trainer(config)


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_a_run_that_has_all_its_steps_goes_on_no_more(schedule: Any) -> None:
    changes = {"lr_schedule": schedule, "ent_schedule": schedule}
    trainer = Trainer(dataclasses.replace(CONFIG, total_timesteps=2 * 4 * 32, **changes))
    assert len(list(trainer)) == 2
    with pytest.raises(UserError, match=r"^The run has all its 256 steps\. Raise total_timesteps"):
        trainer.iterate()
    assert not trainer.mid_rollout


def test_a_trainer_of_ones_own_refuses_to_leave_workers_out() -> None:
    config = TrainConfig("recurrent_rl/Recall-v0", num_envs=4, num_steps=8, workers=2)
    with pytest.raises(UserError, match=r"workers is 2.*recurrent_rl\.train"):
        Trainer(config)


def test_a_device_that_is_not_there_is_an_error_with_a_name_of_its_own() -> None:
    with pytest.raises(DeviceError, match=r"'cuda:99' cannot be used \(.*\); try cpu"):
        Trainer(TrainConfig("CartPole-v1", device="cuda:99"))
