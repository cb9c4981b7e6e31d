"""Machines whose disks are their own: the newest state of a run reaches all, and each keeps it."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.multiprocessing.spawn import start_processes

from recurrent_rl import AgentConfig, TrainConfig, load_policy, train
from recurrent_rl.errors import UserError
from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.runs.folder import RunFolder

ITERATION = 8 * 13
"""Steps of an iteration."""
ENDS_AT = 2 * ITERATION
"""Steps after which the first machine fails, before the others have a copy of its last."""


def config(log_dir: str) -> TrainConfig:
    return TrainConfig(
        "recurrent_rl/RepeatPrevious-Easy-v0",
        num_envs=8,
        num_steps=13,
        num_minibatches=2,
        total_timesteps=2 * ENDS_AT,
        eval_episodes=0,
        checkpoint_interval=0,
        device="cpu",
        log_dir=Path(log_dir),
        worker_timeout=60,
        agent=AgentConfig(hidden_size=8, encoder_size=8),
    )


def of_torchrun(rank: int, port: int, restarts: int) -> dict[str, str]:
    """What torchrun tells the only worker of a machine."""
    return {
        "TORCHELASTIC_RUN_ID": "it",
        "TORCHELASTIC_RESTART_COUNT": str(restarts),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def fail(state: TrainingState) -> None:
    if state.timesteps == ENDS_AT:
        raise ZeroDivisionError


def machine(index: int, root: str, ports: list[int]) -> None:
    """One of two machines, each with a folder of its own as its disk."""
    disk = Path(root) / str(index)
    disk.mkdir()
    os.chdir(disk)
    other = 1 - index

    def start(log_dir: str, rank: int, restarts: int = 0, **options: Any) -> int:
        with patch.dict(os.environ, of_torchrun(rank, ports.pop(), restarts)):
            resumed_from: int = train(config(log_dir), progress=False, **options).resumed_from
            return resumed_from

    start("undisturbed", index)
    for lost in (0, 1):  # the machine whose disk is lost
        name = f"lost-{lost}"
        try:
            start(name, index, callbacks=[fail])
        except (ZeroDivisionError, UserError):
            pass
        else:
            raise AssertionError("it did not end early")
        if index == lost:
            shutil.rmtree(name)
        resumed_from = start(name, other, restarts=1)
        if other == 0:  # it is the first now, and knows
            assert resumed_from == (ENDS_AT if lost == 1 else ENDS_AT - ITERATION)


@pytest.mark.slow  # eleven seconds
def test_a_run_goes_on_whichever_of_two_disks_is_lost_and_ends_with_the_same_weights(
    tmp_path: Path,
) -> None:
    """The other machine is the first after the restart, with nothing on its disk or with a copy."""
    free = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    ports = [one.getsockname()[1] for one in free]
    for one in free:
        one.close()
    start_processes(machine, args=(str(tmp_path), ports), nprocs=2, start_method="spawn")
    (whole,) = tmp_path.glob("0/undisturbed/*")
    weights = load_policy(whole).agent.state_dict()
    for lost in (0, 1):
        here, there = (tmp_path.glob(f"{index}/lost-{lost}/*") for index in (0, 1))
        runs = [RunFolder(path) for path in (*here, *there)]
        assert [run.state().value for run in runs] == ["finished", "finished"]
        for run in runs:
            for name, x in load_policy(run.policy).agent.state_dict().items():
                assert torch.equal(x, weights[name]), name
