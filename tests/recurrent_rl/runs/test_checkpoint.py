"""Checkpoints: what they hold, and refused with the reason where they do not fit."""

import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import NonFiniteError, PolicyFileError
from recurrent_rl.errors import UserError
from recurrent_rl.group import Group
from recurrent_rl.runs.checkpoint import (
    _joined,
    environment_state,
    save_checkpoint,
)
from recurrent_rl.runs.checkpoint_file import VERSION, read_checkpoint, read_timesteps
from recurrent_rl.runs.folder import CHECKPOINT
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from tests.recurrent_rl.runs.checkpoints import (
    config,
    everything,
    load_checkpoint,
    rewrite,
    write_checkpoint,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_steps_are_counted_and_stored(written: Path) -> None:
    trainer = Trainer(config())
    assert load_checkpoint(trainer, written)
    assert (trainer.iteration, trainer.timesteps) == (2, 64)
    trainer.iterate()
    assert trainer.timesteps == 96
    assert (read_checkpoint(written).timesteps, read_checkpoint(written).steps_taken) == (64, 16)
    assert read_timesteps(written) == 64


def test_what_is_not_finite_is_not_written_over_a_good_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(config())
    trainer.iterate()
    save_checkpoint(trainer, path := tmp_path / CHECKPOINT)
    good = path.read_bytes()
    trainer.advantage_normaliser.var.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="advantages/var"):
        save_checkpoint(trainer, path)
    assert path.read_bytes() == good


class Apart(Group):
    """One of several workers that has none to talk to."""

    def take_over(self, tensors: Any) -> None:
        pass


def test_each_worker_takes_the_rows_of_its_environments_and_together_they_have_all(
    tmp_path: Path,
) -> None:
    settings = config(env=EnvConfig({"length": 1}))
    whole = Trainer(settings)
    for _ in range(3):
        whole.iterate()
    save_checkpoint(whole, tmp_path / CHECKPOINT)
    all_rows, all_of_env = whole.collector.next_row(), whole.env.state_dict()  # type: ignore[attr-defined]
    parts = []
    for rank in (0, 1):
        trainer = Trainer(settings, group=Apart(rank, 2))
        assert load_checkpoint(trainer, tmp_path / CHECKPOINT)
        block, collector = trainer.block, trainer.collector
        assert (block.first, block.count) == (2 * rank, 2)
        for name, x in collector.next_row().items():
            assert torch.equal(x, all_rows[name][block.rows])
        for one, other in zip(collector.state, whole.collector.state, strict=True):
            assert torch.equal(one, other[:, block.rows])
        for name, own in trainer.env.state_dict().items():  # type: ignore[attr-defined]
            np.testing.assert_array_equal(own, all_of_env[name][block.rows])
        running = whole.collector.episodes.running()
        for name, own in collector.episodes.running().items():
            np.testing.assert_array_equal(own, running[name][block.rows])
        ended = [one for one in whole.ended.episodes if one.environment // 2 == rank]
        assert 0 < len(ended) < len(whole.ended.episodes)
        assert list(collector.episodes.ended) == ended
        parts.append({f"next/{name}": x for name, x in collector.next_row().items()})
        parts[-1] |= {f"memory/{i}": x for i, x in enumerate(collector.state)}
    together = _joined(parts)
    for name, x in all_rows.items():
        assert torch.equal(together[f"next/{name}"], x)
    for i, x in enumerate(whole.collector.state):
        assert torch.equal(together[f"memory/{i}"], x)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_envs": 8}, "num_envs 4, where config.json has 8"),
        ({"seed": 1}, "seed 0, where config.json has 1"),
        ({"num_steps": 16}, "num_steps 8, where config.json has 16; seq_len 8, where .* has 16"),
        ({"seq_len": 4}, "seq_len 8, where config.json has 4"),
        (
            {"env_id": "recurrent_rl/RepeatFirst-Easy-v0"},
            "env_id recurrent_rl/TMaze-v0, where config.json has recurrent_rl/RepeatFirst-Easy-v0",
        ),
        (
            {"env": EnvConfig({"length": 6})},
            r"env.env_kwargs {}, where config.json has {'length': 6}",
        ),
        (
            {"agent": AgentConfig("gru", hidden_size=8, encoder_size=4)},
            "agent.memory lstm, where config.json has gru; agent.hidden_size 4, where .* has 8",
        ),
    ],
)
def test_other_settings_are_refused_by_name_with_both_values_and_the_fix(
    written: Path, changes: dict[str, Any], named: str
) -> None:
    trainer = Trainer(config(**changes))
    with pytest.raises(UserError, match=rf"{named}\. Put config.json back"):
        load_checkpoint(trainer, written)


def test_settings_that_change_nothing_it_holds_may_change(written: Path) -> None:
    changes = {"learning_rate": 0.1, "gamma": 0.5, "num_minibatches": 4, "total_timesteps": 999}
    assert load_checkpoint(Trainer(config(**changes)), written)
    spelt = config(env=EnvConfig({"length": 10}, flicker=0))
    trainer = Trainer(config(env=EnvConfig({"length": 10})))
    save_checkpoint(trainer, written.with_name("spelt"))
    assert load_checkpoint(Trainer(spelt), written.with_name("spelt"))


def test_an_environment_whose_settings_or_spaces_have_changed_is_named(
    written: Path, tmp_path: Path
) -> None:
    def more_noise(fields: dict[str, Any]) -> None:
        fields["needs"]["env.observation_noise"] = 0.1

    with pytest.raises(UserError, match=r"env.observation_noise 0.1, where config.json has 0.0\."):
        load_checkpoint(Trainer(config()), rewrite(written, tmp_path / CHECKPOINT, more_noise))

    def other_space(fields: dict[str, Any]) -> None:
        fields["needs"]["action_space"] = {"type": "Discrete", "n": 9, "start": 0}

    path = rewrite(written, tmp_path / CHECKPOINT, other_space)
    trainer = Trainer(config())
    before = everything(trainer)
    with pytest.raises(
        UserError, match=r"action space Discrete\(9\), but .* is Discrete\(4\).*environment has ch"
    ):
        load_checkpoint(trainer, path)
    assert everything(trainer) == before


def test_a_checkpoint_of_the_older_format_is_refused_with_what_can_be_done(
    written: Path, tmp_path: Path
) -> None:
    path = rewrite(written, tmp_path / CHECKPOINT, version=VERSION - 1)
    with pytest.raises(PolicyFileError, match=r"older version of recurrent-rl.* Train anew"):
        load_checkpoint(Trainer(config()), path)


def test_a_truncated_checkpoint_is_refused(written: Path, tmp_path: Path) -> None:
    shutil.copy(written, tmp_path / CHECKPOINT)
    with (tmp_path / CHECKPOINT).open("r+b") as file:
        file.truncate(written.stat().st_size - 9)
    with pytest.raises(PolicyFileError, match="is truncated"):
        load_checkpoint(Trainer(config()), tmp_path / CHECKPOINT)


def test_masks_that_a_task_began_to_tell_of_are_taken_up(written: Path, tmp_path: Path) -> None:
    masks = torch.tensor([[True, False, True, False]] * 4)

    def tell(tensors: dict[str, torch.Tensor]) -> None:
        tensors["next/action_mask"] = masks

    path = rewrite(written, tmp_path / CHECKPOINT, change_tensors=tell)
    trainer = Trainer(config())
    assert load_checkpoint(trainer, path)
    assert torch.equal(trainer.collector.next_row()["action_mask"], masks)
    trainer.iterate()
    assert torch.isin(trainer.collector.rollout.actions[0], torch.tensor([0, 2])).all()


def test_masks_that_the_checkpoint_has_no_word_of_allow_all(written: Path) -> None:
    trainer = Trainer(config())
    trainer.collector.rollout.use_masks(4).fill_(False)
    assert load_checkpoint(trainer, written)
    assert trainer.collector.next_row()["action_mask"].all()


@pytest.mark.parametrize("change", [{"t": None}, {"more": torch.zeros(1)}])
def test_a_state_that_the_environments_do_not_take_leaves_them_and_the_trainer_as_they_were(
    written: Path, tmp_path: Path, change: dict[str, torch.Tensor | None]
) -> None:
    def alter(tensors: dict[str, torch.Tensor]) -> None:
        for name, x in change.items():
            if x is None:
                tensors.pop(f"env/{name}")
            else:
                tensors[f"env/{name}"] = x

    path = rewrite(written, tmp_path / CHECKPOINT, change_tensors=alter)
    trainer = Trainer(config())
    before = everything(trainer)
    with pytest.raises(UserError, match="environments do not take the state"):
        load_checkpoint(trainer, path)
    assert everything(trainer) == before


class Stated(VectorEnv[Any, Any, Any]):
    """A vector environment of somebody else's, with a state of its own kind."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    state: Any = {"t": np.zeros(2)}  # noqa: RUF012

    def __init__(self, num_envs: int, **_: Any) -> None:
        self.num_envs = num_envs
        self.single_observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.single_action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros((self.num_envs, 2), np.float32), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        no = np.zeros(self.num_envs, dtype=bool)
        return self.reset()[0], np.zeros(self.num_envs), no, no, {}

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        raise RuntimeError("not mine")


def test_environments_that_fail_amid_taking_a_state_get_their_own_back(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(config())
    before = everything(trainer)
    env: Any = trainer.env
    load, calls = env.load_state_dict, []

    def fail_the_first_time(state: Any) -> None:
        load(state)
        calls.append(state)
        if len(calls) == 1:
            raise RuntimeError("half done")

    monkeypatch.setattr(env, "load_state_dict", fail_the_first_time)
    with pytest.raises(UserError, match="half done"):
        load_checkpoint(trainer, written)
    assert everything(trainer) == before


class HandsOn(VectorWrapper[Any, Any, Any, Any, Any]):
    """A wrapper that has all attributes of what it wraps."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)


def test_the_state_below_a_wrapper_is_not_the_whole_state() -> None:
    trainer = Trainer(config())
    assert environment_state(trainer) is not None
    trainer.env = HandsOn(trainer.env)
    assert hasattr(trainer.env, "load_state_dict")
    assert environment_state(trainer) is None


@pytest.mark.parametrize("state", [{"t": {"inner": 3}}, [1, 2], {"t": np.zeros(2)}])
def test_a_state_of_another_kind_starts_new_episodes_and_one_that_is_not_taken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Any
) -> None:
    monkeypatch.setattr(Stated, "state", state)
    gym.register("Stated-v0", vector_entry_point=lambda **kwargs: Stated(**kwargs))
    try:
        settings = config(env_id="Stated-v0")
        trainer = Trainer(settings)
        trainer.iterate()
        save_checkpoint(trainer, tmp_path / CHECKPOINT)
        if isinstance(state, dict) and isinstance(state["t"], np.ndarray):
            with pytest.raises(UserError, match=r"environments do not take .*: not mine"):
                load_checkpoint(Trainer(settings), tmp_path / CHECKPOINT)
        else:
            assert not load_checkpoint(Trainer(settings), tmp_path / CHECKPOINT)
    finally:
        gym.registry.pop("Stated-v0")


def test_a_checkpoint_of_another_device_is_loaded(written: Path, tmp_path: Path) -> None:
    """Nothing in it depends on the device: random numbers come from the seed, on the CPU."""
    groups = {name.partition("/")[0] for name in read_checkpoint(written).tensors}
    assert groups == {"agent", "advantages", "optimizer", "memory", "next", "env"}
    trainer = Trainer(config())
    assert load_checkpoint(trainer, written)
    state = trainer.optimizer.state_dict()["state"]
    assert {x.device.type for slots in state.values() for x in slots.values()} == {"cpu"}
    assert {float(slots["step"]) for slots in state.values()} == {4.0}
    trainer.iterate()


def test_environments_of_a_worker_that_told_of_no_mask_allow_all() -> None:
    def part(count: int, mask: bool) -> dict[str, torch.Tensor]:
        rows = {
            "memory/0": torch.zeros(1, count, 3),
            "next/valid": torch.ones(count, dtype=torch.bool),
        }
        return rows | (
            {"next/action_mask": torch.zeros(count, 2, dtype=torch.bool)} if mask else {}
        )

    whole = _joined([part(2, True), part(3, False)])
    assert whole["memory/0"].shape == (1, 5, 3)
    assert whole["next/action_mask"].tolist() == [[False] * 2] * 2 + [[True] * 2] * 3
