"""Checkpoints with the right digest and the wrong content: refused, and nothing is changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recurrent_rl.agents.files import PolicyFileError, load_tensors, save_tensors
from recurrent_rl.errors import UserError
from recurrent_rl.runs.checkpoint_file import KIND, VERSION, read_checkpoint, read_timesteps
from recurrent_rl.runs.folder import CHECKPOINT
from recurrent_rl.trainer import Trainer
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


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda fields, name=name: fields.pop(name)
            for name in ("needs", "total_timesteps", "iteration", "timesteps", "steps_taken")
        ),
        *(lambda fields, name=name: fields.pop(name) for name in ("env_state", "episodes")),
        lambda fields: fields.update(needs=[1]),
        lambda fields: fields.update(iteration="2"),
        lambda fields: fields.update(iteration=-1),
        lambda fields: fields.update(timesteps=1.5),
        lambda fields: fields.update(timesteps=10**400),
        lambda fields: fields.update(timesteps=2**53),
        lambda fields: fields.update(total_timesteps=0),
        lambda fields: fields.update(env_state=1),
        lambda fields: fields.update(env_attributes=3),
        lambda fields: fields.update(env_attributes_lost=[3]),
        lambda fields: fields.update(episodes=nested(500)),
        lambda fields: fields["needs"].pop("num_envs"),
        lambda fields: fields["episodes"].pop("running_return"),
        lambda fields: fields["episodes"].update(running_return=[0.0]),
        lambda fields: fields["episodes"].update(returns=["a"]),
        lambda fields: fields["episodes"].update(returns={}),
        lambda fields: fields["episodes"].update(told=1),
        lambda fields: fields["episodes"].update(told=[1]),
        *(
            lambda fields, name=name: fields["episodes"].pop(name)
            for name in ("told", "steps", "environments", "infos")
        ),
        lambda fields: fields["episodes"].update(infos=[1]),
        *(
            lambda fields, info=info: fields["episodes"].update(
                returns=[0.0],
                lengths=[1],
                successes=[True],
                steps=[1],
                environments=[0],
                infos=[{"speed": info}],
            )
            for info in (["a", None], [True, 1.0], [1.0, True])
        ),
        lambda fields: fields["episodes"].update({"running_sum/speed": [0.0]}),
        lambda fields: fields["episodes"].update(lengths=[1.5]),
        *(
            lambda fields, changed=changed: fields["episodes"].update(
                {
                    **{"returns": [0.0], "lengths": [1], "successes": [True]},
                    **{"steps": [1], "environments": [0], "infos": [{}]},
                    **changed,
                }
            )
            for changed in ({"lengths": [10**400]}, {"lengths": [-1]}, {"steps": [2**53]})
        ),
        lambda fields: fields["episodes"].update(running_length=[2**70] * 4),
        lambda fields: fields["episodes"].update(returns=[10**400]),
    ],
)
def test_forged_metadata_is_refused_and_the_trainer_is_as_it_was(
    written: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    path = rewrite(written, tmp_path / CHECKPOINT, change)
    trainer = Trainer(config())
    before = everything(trainer)
    with pytest.raises(PolicyFileError, match=r"no checkpoint that this version .* Train anew"):
        load_checkpoint(trainer, path)
    assert everything(trainer) == before


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "null", "3", '{"needs": {}}'])
def test_metadata_that_is_no_json_object_is_refused(
    written: Path, tmp_path: Path, text: str
) -> None:
    tensors, _ = load_tensors(written, KIND, VERSION)
    save_tensors(tmp_path / CHECKPOINT, tensors, {"state": text}, KIND, VERSION)
    with pytest.raises(PolicyFileError, match="no checkpoint that this version"):
        read_checkpoint(tmp_path / CHECKPOINT)
    save_tensors(tmp_path / CHECKPOINT, tensors, {}, KIND, VERSION)
    with pytest.raises(PolicyFileError, match="no checkpoint that this version"):
        read_checkpoint(tmp_path / CHECKPOINT)


@pytest.mark.parametrize("timesteps", [-1, 1.5, None, True])
def test_steps_that_are_no_count_are_not_told(
    written: Path, tmp_path: Path, timesteps: Any
) -> None:
    path = rewrite(
        written, tmp_path / CHECKPOINT, lambda fields: fields.update(timesteps=timesteps)
    )
    with pytest.raises(PolicyFileError, match=f"timesteps: {timesteps} is no count"):
        read_timesteps(path)


def test_needs_of_any_depth_and_length_are_told_in_brief(written: Path, tmp_path: Path) -> None:
    for value in (nested(500), "x" * 100_000, {"a": nested(500)}):

        def deep(fields: dict[str, Any], value: Any = value) -> None:
            fields["needs"]["env.env_kwargs"] = value
            fields["needs"]["of a newer version"] = value

        path = rewrite(written, tmp_path / CHECKPOINT, deep)
        with pytest.raises(UserError, match=r"of a newer version .* config.json has None") as told:
            load_checkpoint(Trainer(config()), path)
        assert len(str(told.value)) < 2000


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("memory/1"),
        lambda tensors: tensors.pop(next(n for n in tensors if n.startswith("agent/"))),
        lambda tensors: tensors.pop("optimizer/0/exp_avg"),
        lambda tensors: tensors.pop("optimizer/0/step"),
        lambda tensors: tensors.update({"optimizer/x/step": torch.zeros(())}),
        lambda tensors: tensors.update({"optimizer/0/exp_avg": torch.zeros(1)}),
        lambda tensors: tensors.update({"agent/more": torch.zeros(1)}),
        lambda tensors: tensors.update({"memory/0": torch.zeros(1, 4, 5)}),
        lambda tensors: tensors.update({"memory/0": torch.zeros(1, 4, 4, dtype=torch.float64)}),
        lambda tensors: tensors.update({"next/valid": torch.zeros(3, dtype=torch.bool)}),
        lambda tensors: tensors.update({"next/action_mask": torch.ones(4, 9, dtype=torch.bool)}),
    ],
)
def test_tensors_that_do_not_fit_are_refused_and_the_trainer_is_as_it_was(
    written: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any]
) -> None:
    path = rewrite(written, tmp_path / CHECKPOINT, change_tensors=change)
    trainer = Trainer(config())
    before = everything(trainer)
    with pytest.raises(PolicyFileError, match="no checkpoint that this version"):
        load_checkpoint(trainer, path)
    assert everything(trainer) == before
    assert load_checkpoint(trainer, written)
    assert everything(trainer) != before
