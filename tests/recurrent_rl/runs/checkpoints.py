"""A small run's checkpoint: written, changed, and what a trainer holds that it may change."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import load_tensors, save_tensors
from recurrent_rl.config import TrainConfig
from recurrent_rl.runs.checkpoint import restore, save_checkpoint
from recurrent_rl.runs.checkpoint_file import KIND, VERSION, read_checkpoint
from recurrent_rl.runs.folder import CHECKPOINT
from recurrent_rl.trainer import Trainer


def config(**changes: Any) -> TrainConfig:
    return dataclasses.replace(
        TrainConfig(
            "recurrent_rl/TMaze-v0",
            num_envs=4,
            num_steps=8,
            total_timesteps=4 * 8 * 4,
            num_minibatches=2,
            update_epochs=1,
            agent=AgentConfig("lstm", hidden_size=4, encoder_size=4),
        ),
        **changes,
    )


def load_checkpoint(trainer: Trainer, path: Path) -> bool:
    """Whether the environments too are where they were."""
    return restore(trainer, read_checkpoint(path))


def write_checkpoint(folder: Path) -> Path:
    """The checkpoint of a run of two iterations, in this folder."""
    trainer = Trainer(config())
    trainer.iterate()
    trainer.iterate()
    save_checkpoint(trainer, folder / CHECKPOINT)
    return folder / CHECKPOINT


def everything(trainer: Trainer) -> str:
    """All that a checkpoint may change, as text."""
    collector = trainer.collector
    state = {
        "agent": trainer.agent.state_dict(),
        "advantages": trainer.advantage_normaliser.state_dict(),
        "optimizer": [
            (i, sorted(slots.items()))
            for i, slots in sorted(trainer.optimizer.state_dict()["state"].items())
        ],
        "memory": collector.state,
        "next": collector.next_row(),
        "episodes": collector.episodes,
        "counts": (trainer.iteration, trainer.timesteps, collector.environments.steps),
        "env": trainer.env.state_dict(),  # type: ignore[attr-defined]
    }
    torch.set_printoptions(threshold=10**9, precision=9)
    try:
        return repr(state)
    finally:
        torch.set_printoptions(profile="default")


def rewrite(
    source: Path,
    target: Path,
    change: Callable[[dict[str, Any]], Any] = lambda _: None,
    change_tensors: Callable[[dict[str, torch.Tensor]], Any] = lambda _: None,
    version: int = VERSION,
) -> Path:
    """The checkpoint with other metadata or tensors, and a digest that fits."""
    tensors, text = load_tensors(source, KIND, VERSION)
    fields = json.loads(text["state"])
    change(fields)
    change_tensors(tensors)
    save_tensors(target, tensors, {"state": json.dumps(fields)}, KIND, version)
    return target
