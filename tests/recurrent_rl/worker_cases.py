"""What one worker of several does in the tests of workers, and the environments they step."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor
from torch.distributed import FileStore  # type: ignore[attr-defined]

from recurrent_rl import ppo
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.config import TrainConfig
from recurrent_rl.group import ALONE, Group, joined
from recurrent_rl.learner import Learner
from recurrent_rl.rollout import Rollout
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig


class Drawn(gym.Env[Any, Any]):
    """Everything is drawn: what is seen, rewards, masks, and when and how an episode ends."""

    def __init__(self, discrete: bool = True, masks: bool = False, hidden: bool = False) -> None:
        box = spaces.Box(-9, 9, (3,), np.float32)
        self.observation_space = spaces.Dict({"shown": box, "hidden": box}) if hidden else box
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (2,), np.float32)
        self.masks, self.hidden = masks, hidden

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        draw = self.np_random
        mask = np.append(draw.random(2) < 0.5, True)
        info = {"action_mask": mask} if self.masks else {}
        seen = draw.normal(2.0, 3.0, 3).clip(-9, 9).astype(np.float32)
        return ({"shown": seen, "hidden": seen[::-1]} if self.hidden else seen), info

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._seen()

    def step(self, action: Any) -> Any:
        reward = float(self.np_random.normal()) + float(np.sum(action))
        ends = self.np_random.random(2) < (0.15, 0.1)
        seen, info = self._seen()
        info["is_success"] = bool(ends[0])
        info["seen"] = float((seen["shown"] if self.hidden else seen)[0])
        return seen, reward, bool(ends[0]), bool(ends[1]), info


def several(num_envs: int, mode: AutoresetMode, **arguments: Any) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Drawn(**arguments)] * num_envs, autoreset_mode=mode)


NEXT, SAME = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP
ENTRIES: dict[str, Any] = {
    "Drawn-v0": lambda num_envs, **_: several(num_envs, SAME),
    "DrawnNext-v0": lambda num_envs, **_: several(num_envs, NEXT),
    "DrawnMasks-v0": lambda num_envs, **_: several(num_envs, NEXT, masks=True),
    "DrawnHidden-v0": lambda num_envs, **_: several(num_envs, NEXT, hidden=True),
    "DrawnBox-v0": lambda num_envs, **_: several(num_envs, SAME, discrete=False),
}
for name, entry in ENTRIES.items():
    if name not in gym.registry:
        gym.register(name, vector_entry_point=entry)


def config(memory: str = "gru", env: str = "Drawn-v0", **changes: Any) -> TrainConfig:
    names = ("separate_memory", "hidden_size", "critic_keys", "previous_reward")
    agent = {name: changes.pop(name) for name in names if name in changes}
    settings: dict[str, Any] = {
        "num_envs": 8,
        "num_steps": 12,
        "total_timesteps": 8 * 12 * 4,
        "num_minibatches": 2,
        "update_epochs": 2,
        "target_kl": None,
        "threads": 1,
        "memory_interval": None,
        "device": "cpu",
        "env": EnvConfig(info_metrics=("seen",)),
        "agent": AgentConfig(memory, hidden_size=8, encoder_size=8, **agent),
    }
    return TrainConfig(env, **settings | changes)


CASES: dict[str, Callable[[], TrainConfig]] = {
    **{f"memory {name}": (lambda name=name: config(name)) for name in MEMORIES},  # type: ignore[misc]
    "continuous actions": lambda: config(env="DrawnBox-v0"),
    "next step": lambda: config(env="DrawnNext-v0"),
    "masks": lambda: config(env="DrawnMasks-v0"),
    "two memories": lambda: config("gru-rotor", separate_memory=True),
    "a critic that sees more": lambda: config(env="DrawnHidden-v0", critic_keys=("hidden",)),
    "short chunks": lambda: config("lstm", seq_len=4, num_minibatches=3, refresh_state=True),
    "uneven": lambda: config(num_envs=10),
    "auxiliary loss": lambda: config(aux_loss="next-observation", env="DrawnNext-v0"),
}


def first_iteration(config: TrainConfig, group: Group = ALONE) -> dict[str, Any]:
    """The first minibatch's gradient, and what one iteration makes of weights and figures."""
    gradients: list[list[Tensor]] = []
    trainer = Trainer(config, group=group)
    add_up = group.add_up

    def noted(tensors: Any) -> None:
        tensors = list(tensors)
        add_up(tensors)
        if len(tensors) > 2 and tensors[0].dtype == torch.float32 and not gradients:
            gradients.append([x.clone() for x in tensors])

    group.add_up = noted  # type: ignore[method-assign]
    try:
        scalars = trainer.iterate()
    finally:
        group.add_up = add_up  # type: ignore[method-assign]
        trainer.close()
    rollout = trainer.collector.rollout
    return {
        "gradient": gradients[0],
        "weights": trainer.agent.state_dict(),
        "scalars": scalars,
        "actions": rollout.actions.clone(),
        "ended": trainer.ended,
    }


def replayed(config: TrainConfig, group: Group = ALONE) -> dict[str, Tensor]:
    """The weights after an update in float64 from the steps that one worker collects on the CPU."""
    device = torch.device(config.device)
    whole = Trainer(dataclasses.replace(config, device="cpu"))
    collected = whole.collector.collect(0)
    agent = whole.agent.double().to(device)
    config = whole.config
    mine = Trainer(config, group=group) if not group.alone else whole
    rows = mine.block.rows
    rollout = Rollout(agent, config.num_steps, mine.block.count, config.chunk_length)
    if collected.action_mask is not None:
        rollout.use_masks(collected.action_mask.shape[2])
    for name, x in vars(collected).items():
        if isinstance(x, Tensor):
            setattr(rollout, name, _double(x)[:, rows].to(device))
    rollout.components = {
        path: _double(x)[:, rows].to(device) for path, x in collected.components.items()
    }
    rollout.chunk_states = [_cut(state, rows, device) for state in collected.chunk_states]
    generator = torch.Generator().manual_seed(1)
    shape = (2, *collected.rewards.shape)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    advantages, returns = drawn.to(device)
    auxiliary = (
        None if whole.learner.auxiliary is None else whole.learner.auxiliary.double().to(device)
    )
    of_auxiliary = [] if auxiliary is None else auxiliary.parameters()
    optimizer = torch.optim.Adam([*agent.parameters(), *of_auxiliary], lr=1e-3)
    with patch.object(Tensor, "float", Tensor.double):  # encoders bring all to their own type
        ppo.update(
            Learner(agent, auxiliary, optimizer, group, mine.block),
            rollout,
            advantages[:, rows],
            returns[:, rows],
            config,
            torch.Generator().manual_seed(2),
        )
    whole.close()
    mine.close()
    return copy.deepcopy(agent.state_dict())


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def _cut(state: Any, rows: slice, device: torch.device) -> Any:
    if isinstance(state, Tensor):
        kept = state[:, rows].to(device)
        return kept.to(torch.complex128) if kept.is_complex() else _double(kept)
    return type(state)(*(_cut(part, rows, device) for part in state))


def work(rank: int, size: int, folder: str, device: str = "cpu") -> None:
    """Do all cases as one of several workers; the first keeps what came of them."""
    torch.set_num_threads(1)
    meeting = FileStore(str(Path(folder) / f"meeting-{size}"), size)
    found = {}
    with joined(meeting, rank, size, torch.device(device), 60.0) as group:
        for name, make in CASES.items():
            given = dataclasses.replace(make(), device=device)
            found[name] = first_iteration(given, group) | {"float64": replayed(given, group)}
            found[name]["actions"] = group.exchange(found[name]["actions"])
    if rank == 0:
        torch.save(found, Path(folder) / f"found-{size}.pt")
