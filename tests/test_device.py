"""What a GPU computes, held to the CPU.

Skipped where there is no GPU; `bash benchmarks/gpu.sh FOLDER` runs it where there is one. The
variable `RECURRENT_RL_DEVICE` in the environment names another device: `cpu` tries the tests.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from recurrent_rl import load_policy, resume, train
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.kernels.dispatch import serving
from recurrent_rl.agents.memory.layered import LayeredMemory
from recurrent_rl.agents.memory.registry import MEMORIES, make_memory
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.process import computing
from recurrent_rl.runs.folder import POLICY
from recurrent_rl.trainer import Trainer
from recurrent_rl.vector_env.config import EnvConfig
from tests.agents.kernels.test_kernels import SIZES, case, make, outputs_and_gradients
from tests.recurrent_rl.worker_cases import CASES, config, first_iteration, replayed, work

DEVICE = os.environ.get("RECURRENT_RL_DEVICE", "cuda")

pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"
)

POLE = "recurrent_rl/NoisyPositionOnlyCartPole-Easy-v0"


def made(separate_memory: bool = False, env: EnvConfig | None = None, **agent: Any) -> TrainConfig:
    settings = AgentConfig("lstm", 8, encoder_size=8, separate_memory=separate_memory, **agent)
    return dataclasses.replace(config(env=POLE), env=env or EnvConfig(), agent=settings)


SHOWN = EnvConfig({"true_state": True})
MORE: dict[str, Callable[[], TrainConfig]] = {
    "critic keys": lambda: made(env=SHOWN, critic_keys=("state",)),
    "critic keys, two memories": lambda: made(True, SHOWN, critic_keys=("state",)),
    "layers": lambda: made(actor_layers=(6,), critic_layers=(6, 5)),
    "critic without memory": lambda: made(True, critic_memory=False, critic_layers=(6,)),
}
"""Beside `CASES`, which several workers try too."""


LAYERED = [name for name in MEMORIES if isinstance(make_memory(name, 1, 2, 1), LayeredMemory)]


def there(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, device=DEVICE)


def moved(given: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The inputs on the device, floats of this type."""
    return {
        name: x.detach()
        .to(DEVICE, dtype if x.is_floating_point() else x.dtype)
        .requires_grad_(x.requires_grad)
        for name, x in given.items()
    }


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LAYERED)
def test_every_kernel_computes_there_what_the_loop_does_here(
    name: str, size: tuple[int, ...], dtype: torch.dtype, error: float
) -> None:
    memory = make(name, size, torch.float64)
    given = case(name, size, 0.1, torch.float64)
    expected = outputs_and_gradients("loop", memory, given)
    on_device = copy.deepcopy(memory).to(DEVICE, dtype)
    assert isinstance(on_device, LayeredMemory)
    inputs = moved(given, dtype)
    for kernel in serving(on_device.cell, inputs["x"]):
        with computing():
            found = outputs_and_gradients(kernel, on_device, inputs)
        for i, (ours, right) in enumerate(zip(found, expected, strict=True)):
            distance = float((ours.cpu().double() - right.double()).norm())
            assert distance <= error * float(right.double().norm() + 1e-3), (kernel, i)


@pytest.mark.parametrize("name", CASES | MORE)
def test_an_iteration_there_is_that_of_the_cpu(name: str) -> None:
    make_config = (CASES | MORE)[name]
    here, device = first_iteration(make_config()), first_iteration(there(make_config()))
    torch.testing.assert_close(device["actions"].cpu(), here["actions"], rtol=1e-5, atol=1e-5)
    assert device["ended"] == here["ended"]
    for a, b in zip(device["gradient"], here["gradient"], strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=3e-6)
    for weight, a in device["weights"].items():
        b = here["weights"][weight]
        torch.testing.assert_close(a.cpu(), b, rtol=0, atol=1e-3 * float(b.abs().max() + 1e-6))
    for tag, value in here["scalars"].items():
        assert device["scalars"][tag] == pytest.approx(value, rel=1e-3, abs=1e-5), tag
    exact, replay = replayed(make_config()), replayed(there(make_config()))
    for weight, a in replay.items():
        torch.testing.assert_close(a.cpu(), exact[weight], rtol=0, atol=1e-9)


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_same_seed_is_the_same_training_there(memory: str) -> None:
    first, second = (first_iteration(there(config(memory))) for _ in range(2))
    for name, x in first["weights"].items():
        assert torch.equal(x, second["weights"][name]), name


@pytest.mark.parametrize("memory", ["lstm", "gru-rotor", "gru-matrix"])
def test_a_run_moves_between_the_device_and_the_cpu(tmp_path: Path, memory: str) -> None:
    settings = dataclasses.replace(
        config(memory, env="recurrent_rl/RepeatPrevious-Easy-v0"),
        log_dir=str(tmp_path),
        eval_episodes=2,
    )
    result = train(there(settings), progress=False)
    size = result.timesteps // 4
    for i, device in enumerate(("cpu", DEVICE), start=5):
        resumed = resume(result.run_dir, device=device, total_timesteps=size * i, progress=False)
        assert resumed.timesteps == size * i


def test_a_policy_acts_there_as_here(tmp_path: Path) -> None:
    settings = dataclasses.replace(
        there(config("gru-matrix", env="recurrent_rl/RepeatPrevious-Easy-v0")),
        log_dir=str(tmp_path),
        eval_episodes=2,
    )
    path = train(settings, progress=False).run_dir / POLICY
    policy = load_policy(path, device=DEVICE)
    here, device, fast = load_policy(path).actor(), policy.actor(), policy.actor(runner="fast")
    for i in range(50):
        assert here.act(i % 4, 0.5) == device.act(i % 4, 0.5) == fast.act(i % 4, 0.5)
    drawn = policy.actor(deterministic=False, seed=0, runner="fast")
    assert all(drawn.act(i % 4, 0.5) in policy.agent.action_space for i in range(50))


def test_two_workers_on_one_device_learn_what_one_would(tmp_path: Path) -> None:
    start_processes(work, args=(2, str(tmp_path), DEVICE), nprocs=2, start_method="spawn")
    found = torch.load(tmp_path / "found-2.pt", weights_only=False)
    for name, make_config in CASES.items():
        alone, exact = first_iteration(there(make_config())), replayed(there(make_config()))
        together = found[name]
        for a, b in zip(together["gradient"], alone["gradient"], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=3e-6)
        for weight, a in together["float64"].items():
            torch.testing.assert_close(a, exact[weight], rtol=0, atol=1e-9)


@pytest.mark.skipif(DEVICE == "cpu", reason="is for another device")
def test_bfloat16_is_refused_there() -> None:
    with pytest.raises(UserError, match="precision"):
        Trainer(there(config(precision="bfloat16")))
