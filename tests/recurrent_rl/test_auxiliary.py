"""Auxiliary losses: what they are of each step, what they teach, and that a run keeps them."""

import dataclasses
import math
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

import recurrent_rl
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.auxiliary import AuxiliaryLoss, NextObservation
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.ppo import descend, ppo_loss
from recurrent_rl.runs.callbacks import Callback, TrainingState
from recurrent_rl.runs.training import resume, train
from recurrent_rl.sequences import Sequences
from recurrent_rl.trainer import Trainer

SMALL = AgentConfig(hidden_size=16, encoder_size=16)
CONFIG = TrainConfig(
    "recurrent_rl/RepeatPrevious-Easy-v0",
    num_envs=4,
    num_steps=16,
    total_timesteps=4 * 16 * 6,
    threads=1,
    eval_episodes=0,
    agent=SMALL,
    aux_loss="next-observation",
)


class Squares(AuxiliaryLoss):
    """An auxiliary loss of one's own, with a layer."""

    def __init__(self, agent: ActorCritic) -> None:
        super().__init__(agent)
        self.layer = nn.Linear(agent.memories()[0].output_size, 1)

    def forward(self, agent: ActorCritic, features: Tensor, batch: Sequences) -> Tensor:
        error: Tensor = self.layer(features).squeeze(-1) - batch.returns
        return error.square()


class Wide(Squares):
    def forward(self, agent: ActorCritic, features: Tensor, batch: Sequences) -> Tensor:
        return features


class Keeps(Squares):
    def __init__(self, agent: ActorCritic) -> None:
        super().__init__(agent)
        self.agent = agent


class NoForward(AuxiliaryLoss):
    pass


class Seen(gym.Env[Any, Any]):
    """What is seen next follows from what is seen now and the action, and is of each kind."""

    observation_space = spaces.Dict(
        place=spaces.Box(-10, 10, (2,), np.float32),
        value=spaces.Discrete(5, start=3),
        pair=spaces.MultiDiscrete([2, 3]),
        bits=spaces.MultiBinary(3),
        camera=spaces.Box(0, 255, (8, 8, 3), np.uint8),
    )

    def __init__(self, actions: spaces.Space[Any] | None = None) -> None:
        self.action_space = actions or spaces.Discrete(2)

    def _seen(self) -> dict[str, Any]:
        t = self.t
        return {
            "place": np.array([t % 4, -(t % 3)], np.float32),
            "value": np.int64(3 + t % 5),
            "pair": np.array([t % 2, t % 3]),
            "bits": np.array([t % 2, 0, 1], np.int8),
            "camera": np.full((8, 8, 3), t, np.uint8),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._seen(), 0.0, self.t == 7, False, {}


class Numbers(Seen):
    """Without its camera, which takes long."""

    observation_space = spaces.Dict(
        {path: Seen.observation_space[path] for path in ("place", "value")}
    )

    def _seen(self) -> dict[str, Any]:
        return {
            path: x for path, x in super()._seen().items() if path in self.observation_space.spaces
        }


def batch_of(trainer: Trainer) -> Sequences:
    rollout = trainer.collector.collect(0)
    zeros = torch.zeros_like(rollout.rewards)
    return rollout.sequences(zeros, zeros)


def features_of(agent: ActorCritic, batch: Sequences) -> Tensor:
    output, _ = agent.unroll(batch.components, batch.state, batch.episode_start)
    return output.features


def test_the_loss_is_the_error_about_what_the_same_episode_shows_next() -> None:
    config = dataclasses.replace(CONFIG, env_id=None, num_envs=2)
    with closing(Trainer(config, env=Seen)) as trainer:
        agent, batch = trainer.agent, batch_of(trainer)
        assert isinstance(trainer.learner.auxiliary, NextObservation)
        auxiliary = trainer.learner.auxiliary
        features = features_of(agent, batch)
        found = auxiliary(agent, features, batch)
        given = torch.cat([features, nn.functional.one_hot(batch.actions, 2)], dim=-1)
        told = auxiliary.layers(given).detach().numpy().astype(np.float64)
    x = {path: part.numpy() for path, part in batch.components.items()}
    sizes = {"place": 2, "value": 5, "pair": 5, "bits": 3}
    order = [path for path in agent.reader.component_spaces if path in sizes]
    ends = np.cumsum([sizes[path] for path in order])
    place = {path: slice(end - sizes[path], end) for path, end in zip(order, ends, strict=True)}
    expected = np.zeros((16, 2))
    for t in range(15):
        for c in range(2):
            if batch.episode_start[t + 1, c]:
                continue
            y = {path: told[t, c][part] for path, part in place.items()}
            error = ((y["bits"] - x["bits"][t + 1, c]) ** 2).sum()
            logs = [y["pair"][:2], y["pair"][2:]]
            values = x["pair"][t + 1, c]
            unit = (math.log(2) + math.log(3)) / 2
            for logits, value in zip(logs, values, strict=True):
                error -= (logits[value] - np.log(np.exp(logits).sum())) / unit
            error += ((y["place"] - x["place"][t + 1, c]) ** 2).sum()  # not normalised yet
            logits, value = y["value"], x["value"][t + 1, c]
            error -= (logits[value] - np.log(np.exp(logits).sum())) / math.log(5)
            expected[t, c] = error / (3 + 2 + 2 + 1)
    assert batch.episode_start[1:].any()
    assert (expected > 0).sum() > 20
    assert_close(found.detach().double().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_numbers_are_foretold_as_the_encoder_is_shown_them() -> None:
    config = dataclasses.replace(CONFIG, env_id="CartPole-v1")
    with closing(Trainer(config)) as trainer:
        trainer.iterate()
        agent, batch = trainer.agent, batch_of(trainer)
        assert isinstance(trainer.learner.auxiliary, NextObservation)
        for parameter in trainer.learner.auxiliary.layers[-1].parameters():
            nn.init.zeros_(parameter)
        found = trainer.learner.auxiliary(agent, features_of(agent, batch), batch)
    normalised = agent.observation_normaliser.forward(batch.components)[""]
    expected = normalised[1:].square().mean(-1).masked_fill(batch.episode_start[1:], 0.0)
    assert_close(found[:-1], expected)
    assert not found[-1].any()


@pytest.mark.parametrize(
    "actions",
    [
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(2),
        spaces.Box(-1, 1, (2, 2), np.float32),
    ],
    ids=str,
)
@pytest.mark.parametrize("previous_action", [True, False])
def test_it_is_told_actions_of_every_space(
    actions: spaces.Space[Any], previous_action: bool
) -> None:
    agent = dataclasses.replace(SMALL, previous_action=previous_action)
    config = dataclasses.replace(CONFIG, env_id=None, agent=agent)
    with closing(Trainer(config, env=lambda: Seen(actions))) as trainer:
        assert math.isfinite(trainer.iterate()["train/aux_loss"])


def test_gradients_reach_encoder_and_memory_and_none_comes_from_another_episode() -> None:
    with closing(Trainer(dataclasses.replace(CONFIG, env_id=None), env=Seen)) as trainer:
        agent, batch = trainer.agent, batch_of(trainer)
        assert trainer.learner.auxiliary is not None
        trainer.learner.auxiliary(agent, features_of(agent, batch), batch).sum().backward()
        for part in ("trunks.0.encoder.", "trunks.0.memory."):
            parameters = [p for name, p in agent.named_parameters() if name.startswith(part)]
            assert any(p.grad is not None and p.grad.any() for p in parameters)
        x = batch.components["place"].clone().requires_grad_()
        batch = batch._replace(components=batch.components | {"place": x})
        losses = trainer.learner.auxiliary(agent, features_of(agent, batch), batch)
    first = int(batch.episode_start[1:, 0].nonzero()[0]) + 1  # where the second episode begins
    losses[first:, 0].sum().backward()
    assert x.grad is not None
    assert x.grad[first:, 0].any()
    assert not x.grad[:first].any()


def test_it_adds_its_mean_over_the_steps_taken_times_its_weight() -> None:
    with closing(Trainer(CONFIG)) as trainer:
        agent, batch = trainer.agent, batch_of(trainer)
        auxiliary = trainer.learner.auxiliary
        assert auxiliary is not None
        valid = torch.rand(batch.valid.shape, generator=torch.Generator().manual_seed(0)) < 0.7
        batch = batch._replace(valid=valid)
        losses = auxiliary(agent, features_of(agent, batch), batch)
        config = dataclasses.replace(CONFIG, aux_coef=0.3)
        plain, _ = ppo_loss(agent, batch, config)
        both, _ = ppo_loss(agent, batch, config, auxiliary=auxiliary)
    assert_close(both.sums.pop("aux_loss"), losses[valid].double().sum().detach())
    assert_close(both.total, plain.total + 0.3 * losses[valid].mean())
    del both.sums["loss"], plain.sums["loss"]
    assert both.sums == plain.sums


def test_with_no_weight_the_agent_learns_what_it_learns_without() -> None:
    agents = []
    for changes in ({"aux_loss": None}, {"aux_coef": 0.0}):
        with closing(Trainer(dataclasses.replace(CONFIG, **changes))) as trainer:
            scalars = [trainer.iterate() for _ in range(2)][-1]
            assert ("train/aux_loss" in scalars) == ("aux_coef" in changes)
            agents.append(trainer.agent.state_dict())
    for name, x in agents[0].items():
        assert torch.equal(x, agents[1][name]), name


def test_what_can_be_known_is_learnt_to_be_foretold() -> None:
    config = dataclasses.replace(
        CONFIG, env_id=None, num_envs=8, num_steps=32, total_timesteps=8 * 32 * 30
    )
    with closing(Trainer(config, env=Numbers)) as trainer:
        told = [scalars["train/aux_loss"] for scalars in trainer]
    assert told[0] > 0.5
    assert told[-1] < 0.1


class Stop(Callback):
    def on_iteration(self, state: TrainingState) -> None:
        if state.trainer.iteration == 3:
            state.stop("for the test")


@pytest.mark.parametrize("aux_loss", ["next-observation", Squares])
def test_a_resumed_run_learns_what_an_unbroken_one_does(tmp_path: Path, aux_loss: Any) -> None:
    config = dataclasses.replace(CONFIG, aux_loss=aux_loss, log_dir=str(tmp_path))
    whole = train(config, progress=False)
    halted = train(dataclasses.replace(config, seed=0), callbacks=[Stop()], progress=False)
    resumed = resume(halted.run_dir, progress=False)
    assert resumed.timesteps == whole.timesteps
    checkpoints = [run.run_dir / "checkpoint.safetensors" for run in (whole, resumed)]
    first, second = (load_file(path) for path in checkpoints)
    assert any(name.startswith("auxiliary/") for name in first)
    for name, x in first.items():
        assert torch.equal(x, second[name]), name


def test_the_policy_is_saved_without_it(tmp_path: Path) -> None:
    run = train(dataclasses.replace(CONFIG, log_dir=str(tmp_path)), progress=False)
    plain = train(dataclasses.replace(CONFIG, aux_loss=None, log_dir=str(tmp_path)), progress=False)
    of_both = [
        recurrent_rl.load_policy(one.run_dir).agent.state_dict().keys() for one in (run, plain)
    ]
    assert of_both[0] == of_both[1]


def test_one_of_ones_own_is_named_by_its_path_or_as_it_is_registered() -> None:
    by_class = dataclasses.replace(CONFIG, aux_loss=Squares)
    assert by_class.aux_loss == f"{Squares.__module__}:Squares"
    assert TrainConfig.from_json(by_class.to_json()) == by_class
    with closing(Trainer(by_class)) as trainer:
        assert isinstance(trainer.learner.auxiliary, Squares)
        layer = trainer.learner.auxiliary.layer.weight.clone()
        trainer.iterate()
        assert not torch.equal(layer, trainer.learner.auxiliary.layer.weight)
    recurrent_rl.register_aux_loss("squares")(Squares)
    assert dataclasses.replace(CONFIG, aux_loss="squares").aux_loss == "squares"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (nn.Linear, "no subclass of recurrent_rl.AuxiliaryLoss"),
        (NoForward, "defines no forward"),
    ],
)
def test_what_is_no_auxiliary_loss_is_refused(part: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        dataclasses.replace(CONFIG, aux_loss=part)


def test_wrong_shapes_parts_of_the_agent_and_images_alone_are_refused() -> None:
    with (
        closing(Trainer(dataclasses.replace(CONFIG, aux_loss=Wide))) as trainer,
        pytest.raises(SettingError, match=r"one for each step: \[L, C\] = \[16, 1\]"),
    ):
        trainer.iterate()
    with pytest.raises(SettingError, match="forward is given the agent"):
        Trainer(dataclasses.replace(CONFIG, aux_loss=Keeps))
    camera = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    agent = ActorCritic(camera, spaces.Discrete(2), SMALL)
    with pytest.raises(SettingError, match="images alone"):
        NextObservation(agent)


def test_a_loss_of_one_value_and_nothing_to_guess_is_zero() -> None:
    agent = ActorCritic(spaces.Discrete(1), spaces.Discrete(2), SMALL)
    auxiliary = NextObservation(agent)
    (_, target), *_ = auxiliary._targets
    assert not target.error(torch.randn(3, 4, 1), torch.zeros(3, 4, dtype=torch.int64)).any()


class Sometimes(Squares):
    """Uses its layer in one worker and not in the other, and knows nothing of inserted rows."""

    def forward(self, agent: ActorCritic, features: Tensor, batch: Sequences) -> Tensor:
        losses = features.sum(-1)
        if batch.valid.sum() % 2:
            losses = losses + super().forward(agent, features, batch)
        return losses.masked_fill(~batch.valid, torch.nan)


def test_what_an_inserted_row_costs_does_not_count() -> None:
    with closing(Trainer(CONFIG)) as trainer:
        agent, batch = trainer.agent, batch_of(trainer)
        valid = batch.valid.clone()
        valid[3] = False
        loss, _ = ppo_loss(agent, batch._replace(valid=valid), CONFIG, auxiliary=Sometimes(agent))
    assert math.isfinite(float(loss.total.detach()))


def test_a_layer_that_was_not_used_has_a_gradient_of_zeros_and_stays() -> None:
    unused, used = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([unused, used], lr=0.1)
    descend(optimizer, used.sum(), 1.0)
    assert unused.grad is not None  # each worker adds as many numbers as the others
    assert not unused.grad.any()
    assert torch.equal(unused, torch.ones(2))
    assert (used < 1).all()


def test_sequences_of_one_step_have_nothing_to_foretell() -> None:
    with pytest.raises(UserError, match="raise seq_len"):
        Trainer(dataclasses.replace(CONFIG, seq_len=1))
