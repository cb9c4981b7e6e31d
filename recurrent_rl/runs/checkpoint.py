"""Checkpoints: everything a run needs to resume as if it had never stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recurrent_rl.agents.files import refuse_nonfinite, save_tensors
from recurrent_rl.agents.memory.states import tensors_of, with_tensors
from recurrent_rl.agents.space_json import space_from_json, space_to_json
from recurrent_rl.config import TrainConfig
from recurrent_rl.episodes import Ended, Episode
from recurrent_rl.errors import UserError
from recurrent_rl.runs.checkpoint_file import (
    ENDED,
    KIND,
    RUNNING,
    SPACES,
    VERSION,
    Checkpoint,
    forged,
)
from recurrent_rl.runs.folder import CONFIG, RunFolder
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import NO_MATTER_OF_THE_TASK


def save(trainer: Trainer, folder: RunFolder | None, stop_reason: str | None = None) -> None:
    """Write the policy and the checkpoint of this moment; the settings too where they are gone.

    They are where the folder was moved or deleted: without them the run could not be resumed.

    Args:
        trainer: of this worker.
        folder: of the run; None in a worker that is not the first, which only tells it its part.
        stop_reason: why a callback has ended the run, if one has.
    """
    with trainer.group.awaited():
        part = _part(trainer)
    parts = trainer.group.gather(part)  # first: where writing fails, none waits for it
    if folder is None or parts is None:
        return
    if not folder.exists():
        folder.save_config(trainer.config)
    trainer.policy().save(folder.policy)
    save_checkpoint(trainer, folder.checkpoint, parts, stop_reason)


def save_checkpoint(
    trainer: Trainer,
    path: Path,
    parts: Sequence[_Part] | None = None,
    stop_reason: str | None = None,
) -> None:
    """Write the whole state of all workers' trainers to one file, by a temporary name.

    Saved are weights, normalisers, optimiser, counters, the memory's state, the observation that
    comes next, the statistics of running episodes, the settings that all this fits, why a callback
    has ended the run, what callbacks have set in the environments, as far as JSON holds it, and the
    exact state of an environment that offers `state_dict()`, as ours do. After an iteration that
    failed the environments are amid a rollout: their state is left out, and new episodes start from
    here.

    Args:
        trainer: of the first worker.
        path: of the file.
        parts: what each worker alone knows; None: there is no other.
        stop_reason: why a callback has ended the run, if one has.
    """
    parts = [_part(trainer)] if parts is None else parts
    env_states = [part.env_state for part in parts if part.env_state is not None]
    exact = len(env_states) == len(parts)
    tensors = _learnt(trainer) | _joined([part.rows for part in parts])
    tensors |= _prefixed("optimizer", _optimizer_tensors(trainer.optimizer))
    refuse_nonfinite(tensors)
    if exact:
        tensors |= _prefixed("env", _joined(env_states))
    attributes = trainer.attributes_set | trainer.env_attributes
    kept = _in_json(attributes)
    metadata = {
        "needs": requirements(trainer),
        "settings": settings_of(trainer.config),
        "total_timesteps": trainer.config.total_timesteps,
        "iteration": trainer.iteration,
        "timesteps": trainer.timesteps,
        "stop_reason": stop_reason,
        "steps_taken": trainer.collector.environments.steps,
        "env_state": exact,
        "env_attributes": kept,
        "env_attributes_lost": [name for name in attributes if name not in kept],
        "episodes": {
            **{
                name: [x for part in parts for x in part.running[name]] for name in parts[0].running
            },
            **{
                name: [getattr(one, field) for one in trainer.ended.episodes]
                for name, field in ENDED.items()
            },
            "told": sorted(trainer.ended.info_keys),
        },
    }
    save_tensors(
        path,
        {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()},
        {"state": json.dumps(metadata)},
        KIND,
        VERSION,
    )


def restore(trainer: Trainer, checkpoint: Checkpoint) -> bool:
    """Put a freshly made trainer of the same configuration into the saved state.

    Returns:
        Whether the environments too resume exactly where they were. Otherwise they were reset,
        and every environment starts a new episode with a fresh memory.

    Raises:
        UserError: the checkpoint is of other settings or spaces than the trainer's, or the
            environments do not take what was set in them; says which.
        PolicyFileError: what it holds is not what these settings make.
        In both cases what is learnt, and where the run is, is as it was. Where the environments do
        not take what was set in them, or their state, what was set until then stays set.
    """
    _check_requirements(trainer, checkpoint)
    checkpoint = _own(trainer, checkpoint)
    _check_tensors(trainer, checkpoint)
    collector, saved = trainer.collector, checkpoint.episodes
    trainer.env_attributes = dict(checkpoint.env_attributes)
    try:
        trainer.set_attributes()
    except UserError as error:
        raise type(error)(
            f"{error} A callback had set it before the run was resumed, as {checkpoint.path} says."
        ) from error
    exact = _restore_environments(trainer, checkpoint)
    for name, module in trainer.learnt.items():
        module.load_state_dict(checkpoint.group(name))
    if not exact:  # only now, since the agent says what observations are centred on
        collector.restart(checkpoint.iteration)
    _load_optimizer_tensors(trainer.optimizer, checkpoint.group("optimizer"))
    trainer.iteration, trainer.timesteps = checkpoint.iteration, checkpoint.timesteps
    collector.environments.steps = checkpoint.steps_taken
    episodes, block = collector.episodes, trainer.block
    columns = zip(*(saved[name] for name in ENDED), strict=True)
    ended = [Episode(**dict(zip(ENDED.values(), one, strict=True))) for one in columns]
    trainer.ended = Ended(ended, frozenset(saved["told"]))
    episodes.info_keys = set(saved["told"])
    episodes.ended.extend(one for one in ended if block.holds(one.environment))
    if exact:
        memory = checkpoint.group("memory")
        fields = [memory[str(i)].to(trainer.device) for i in range(len(memory))]
        collector.state = with_tensors(collector.state, fields)
        _write_next_row(trainer, checkpoint.group("next"))
        collector.environments.valid = collector.rollout.valid[-1].cpu().numpy().copy()
        for name, x in episodes.running().items():
            x[:] = saved.get(name, 0)  # a key of infos that is logged only from here on
    return exact


class _Part(NamedTuple):
    """What one worker alone knows."""

    rows: dict[str, Tensor]
    """Of its environments: the memory's state and what the agent reads next."""
    env_state: dict[str, Tensor] | None
    running: dict[str, list[Any]]
    """Of the episodes under way."""


def _part(trainer: Trainer) -> _Part:
    """What this worker alone knows."""
    env_state = None if trainer.mid_rollout else environment_state(trainer)
    running = {name: x.tolist() for name, x in trainer.collector.episodes.running().items()}
    return _Part(_rows(trainer), env_state, running)


def _axis(name: str) -> int:
    """The axis of a saved tensor along which the environments lie."""
    return 1 if name.startswith("memory/") else 0


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors of all environments from those of each worker's."""
    if len(parts) == 1:
        return parts[0]
    joined = {}
    for name in {name: None for part in parts for name in part}:
        like = next(part[name] for part in parts if name in part)
        # Environments that have reported no mask so far allow everything.
        whole = [
            part[name] if name in part else like.new_ones(len(part["next/valid"]), *like.shape[1:])
            for part in parts
        ]
        joined[name] = torch.cat(whole, dim=_axis(name))
    return joined


def _own(trainer: Trainer, checkpoint: Checkpoint) -> Checkpoint:
    """Of a checkpoint the rows of this worker's environments."""
    block = trainer.block
    if block.count == block.total:
        return checkpoint

    def own(name: str, x: Tensor) -> Tensor:
        axis = _axis(name)
        if not name.startswith(("memory/", "next/", "env/")) or x.shape[axis : axis + 1] != (
            block.total,
        ):
            return x
        return x.narrow(axis, block.first, block.count)

    tensors = {name: own(name, x) for name, x in checkpoint.tensors.items()}
    running = {
        name: x[block.rows] for name, x in checkpoint.episodes.items() if name.startswith(RUNNING)
    }
    return dataclasses.replace(checkpoint, tensors=tensors, episodes=checkpoint.episodes | running)


def _in_json(attributes: dict[str, Any]) -> dict[str, Any]:
    """Those values that JSON gives back as they are; NumPy's numbers as Python's."""
    kept = {}
    for name, value in attributes.items():
        value = value.item() if isinstance(value, np.generic) else value
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            again = json.loads(json.dumps(value))
            if _alike(again, value):
                kept[name] = again
    return kept


def _alike(again: Any, value: Any) -> bool:
    """Whether JSON gave back this value, of the same type; NumPy's numbers as Python's."""
    value = value.item() if isinstance(value, np.generic) else value
    if type(again) is not type(value):
        return False
    if isinstance(again, list):
        return len(again) == len(value) and all(map(_alike, again, value))
    if isinstance(again, dict):
        return again.keys() == value.keys() and all(
            _alike(x, value[key]) for key, x in again.items()
        )
    return bool(again == value)


def requirements(trainer: Trainer) -> dict[str, Any]:
    """The settings without which a checkpoint of this trainer makes no sense, as JSON values."""
    config, agent = trainer.config, trainer.agent
    env = dataclasses.asdict(config.env)
    for name in NO_MATTER_OF_THE_TASK:
        del env[name]
    needs = {
        "env_id": config.environment.rpartition(":")[2],
        **{f"env.{name}": value for name, value in env.items()},
        "seed": config.seed,
        "num_envs": config.num_envs,
        "num_steps": config.num_steps,
        "seq_len": config.chunk_length,
        "aux_loss": config.aux_loss,
        **{f"agent.{name}": value for name, value in dataclasses.asdict(config.agent).items()},
        "observation_space": space_to_json(agent.observation_space),
        "action_space": space_to_json(agent.action_space),
    }
    as_json: dict[str, Any] = json.loads(json.dumps(needs))  # tuples become lists
    return as_json


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The settings as requested, by flat names, as JSON values."""
    as_json: dict[str, Any] = json.loads(json.dumps(config.as_requested().flat()))
    return as_json


def _check_requirements(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Refuse a trainer of other settings; a setting that the checkpoint is too old for passes."""
    own = requirements(trainer)
    different = [
        name for name, value in checkpoint.needs.items() if name not in own or own[name] != value
    ]
    if settings := [name for name in different if name not in SPACES]:
        told = "; ".join(
            f"{name} {_show(checkpoint.needs[name])}, where {CONFIG} has {_show(own.get(name))}"
            for name in settings
        )
        raise UserError(
            f"The checkpoint {checkpoint.path} is of a run with {told}. Put {CONFIG} back as it "
            "was to resume the run; for other settings train anew."
        )
    for name in different:
        raise UserError(
            f"The checkpoint {checkpoint.path} is of the {name.replace('_', ' ')} "
            f"{_space(checkpoint.needs[name])}, but the environment's is {_space(own[name])}. The "
            "environment has changed: bring back the one that the run was trained on, or train "
            "anew."
        )


def _space(fields: Any) -> str:
    try:
        return str(space_from_json(fields))
    except Exception:  # as forged as can be
        return _show(fields)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 200


def _show(value: Any) -> str:
    return value if isinstance(value, str) and len(value) < 200 else _short.repr(value)


def _check_tensors(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Refuse tensors of other names, shapes or types than a trainer of these settings has."""
    saved = {name: x for name, x in checkpoint.tensors.items() if not name.startswith("env/")}
    expected = _learnt(trainer) | _rows(trainer)
    parameters = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    step = torch.zeros((), dtype=torch.float32)
    for i, parameter in enumerate(parameters):
        slots = {"step": step, "exp_avg": parameter, "exp_avg_sq": parameter}
        expected |= _prefixed(f"optimizer/{i}", slots if f"optimizer/{i}/step" in saved else {})
    # A task may begin to tell of masks at any step.
    expected.pop("next/action_mask", None)
    if "next/action_mask" in saved and (size := trainer.agent.head.mask_size) is not None:
        mask = torch.zeros(trainer.block.count, size, dtype=torch.bool)
        expected["next/action_mask"] = mask
    for name in sorted(expected.keys() | saved.keys()):
        if name not in expected or name not in saved:
            lacks = "holds" if name in saved else "lacks"
            raise forged(checkpoint.path, f"it {lacks} {reprlib.repr(name)}")
        x, own = saved[name], expected[name]
        if x.shape != own.shape or x.dtype != own.dtype:
            raise forged(
                checkpoint.path,
                f"{name} is {x.dtype} {list(x.shape)}, not {own.dtype} {list(own.shape)}",
            )


def _restore_environments(trainer: Trainer, checkpoint: Checkpoint) -> bool:
    """Bring the environments to where they were if that can be; tells whether they are there."""
    before = environment_state(trainer)
    if not checkpoint.env_state or before is None:
        return False
    env: Any = trainer.env
    try:
        env.load_state_dict({name: x.numpy() for name, x in checkpoint.group("env").items()})
    except Exception as error:  # whatever an environment makes of a state that is none of its own
        with contextlib.suppress(Exception):
            env.load_state_dict({name: x.numpy() for name, x in before.items()})
        raise UserError(
            f"The environments do not take the state that {checkpoint.path} holds of them: {error} "
            "Bring back the version of the environment that the run was trained on, or train anew."
        ) from error
    return True


def environment_state(trainer: Trainer) -> dict[str, Tensor] | None:
    """The exact state of the environments, or None where they cannot tell it."""
    env: Any = trainer.env
    # A wrapper may hold a state of its own that the environment below does not know of.
    if env.unwrapped is not env or not hasattr(env, "load_state_dict"):
        return None
    try:
        state = {name: torch.as_tensor(np.array(x)) for name, x in env.state_dict().items()}
    except (TypeError, AttributeError):  # a state of another kind than arrays by name
        return None
    # Of several workers: only what has a row for each environment can be put together.
    rows = {x.shape[:1] == (env.num_envs,) for x in state.values()}
    return state if trainer.group.alone or rows == {True} else None


def _write_next_row(trainer: Trainer, saved: dict[str, Tensor]) -> None:
    """Write what the agent will read first."""
    if (mask := saved.get("action_mask")) is not None:
        trainer.collector.rollout.use_masks(mask.shape[1])
    for name, x in trainer.collector.next_row().items():
        if name in saved:
            x.copy_(saved[name])
        else:  # masks that the checkpoint has no word of: all is allowed
            x.fill_(True)


def _learnt(trainer: Trainer) -> dict[str, Tensor]:
    """What every worker holds alike."""
    tensors: dict[str, Tensor] = {}
    for name, module in trainer.learnt.items():
        tensors |= _prefixed(name, module.state_dict())
    return tensors


def _rows(trainer: Trainer) -> dict[str, Tensor]:
    """What this worker holds of its environments."""
    return _prefixed("memory", dict(enumerate(tensors_of(trainer.collector.state)))) | _prefixed(
        "next", trainer.collector.next_row()
    )


def _prefixed(group: str, tensors: dict[Any, Tensor]) -> dict[str, Tensor]:
    return {f"{group}/{name}": x for name, x in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}/{name}": x for i, slots in state.items() for name, x in slots.items()}


def _load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, x in tensors.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = x
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
