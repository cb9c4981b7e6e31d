"""Parts of one's own go to every format that has their operations, and are refused by name else."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.export.graph import trace
from recurrent_rl.agents.export.names import FormatName
from recurrent_rl.agents.export.own_parts import blaming_parts, naming_parts
from recurrent_rl.agents.export.record import record
from recurrent_rl.agents.export.step import ExportError
from recurrent_rl.agents.policy import Policy
from tests.agents.export.test_export import HAS_ONNX, exported
from tests.own_parts import as_before

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "your-parts.md"
FILES = re.compile(r"^```python file=(\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CAMERA = spaces.Box(0, 255, (32, 32, 3), np.uint8)
VECTOR = spaces.Box(-5, 5, (3,))
FOUR = spaces.Discrete(4)
EVERY = ["torch", "c", "numpy"] + ["onnx"] * HAS_ONNX
NEEDS_ONNX = pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed")


class Pooled(nn.Module):
    """Layers as networks that were trained elsewhere have them."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            *(nn.BatchNorm2d(8), nn.LeakyReLU(), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)),
            *(
                nn.Hardtanh(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.LayerNorm(8),
                nn.Softmax(-1),
            ),
        ).eval()
        self.output_size = 8

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.movedim(-1, 1) / 255)  # type: ignore[no-any-return]


class Sorted(nn.Module):
    """One that computes what only PyTorch and ONNX have."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.output_size = 3

    def forward(self, x: Tensor) -> Tensor:
        return x.sort(-1).values


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The files of the page can be imported."""
    names = []
    for name, text in FILES.findall(PAGE.read_text()):
        (tmp_path / name).write_text(text)
        names.append(name.removesuffix(".py"))
    monkeypatch.syspath_prepend(tmp_path)
    with as_before():
        yield
    for name in names:
        sys.modules.pop(name, None)


def agent(
    observation: gym.Space[Any] = VECTOR, action: gym.Space[Any] = FOUR, **own: Any
) -> ActorCritic:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"hidden_size": 16, **own}
    config = AgentConfig(**settings)
    return ActorCritic(observation, action, config).eval()


@pytest.mark.slow
def test_a_memory_of_the_docs_goes_to_every_format(documented: None) -> None:
    exported(agent(memory="transformer:Transformer"), *EVERY, steps=100)  # past its window of 64


@pytest.mark.slow
def test_an_encoder_and_a_head_of_the_docs_go_to_every_format(documented: None) -> None:
    exported(agent(CAMERA, encoder="backbone:Backbone"), *EVERY, steps=20)
    exported(agent(action=spaces.Box(-2, 2, (2, 2)), head="bins:Bins"), *EVERY, steps=20)


TYPES = [
    spaces.Box(-100, 100, (3,), np.int8),
    spaces.Box(-(2**40), 2**40, (3,), np.int64),
    spaces.Box(-np.inf, np.inf, (3,), np.float64),
    spaces.Box(0, 1, (3,), np.bool_),  # type: ignore[arg-type]
    spaces.MultiBinary(3),
]


def telling(space: gym.Space[Any]) -> ActorCritic:
    """Of bits it computes in bytes, where 8 * 0 - 1 is 255."""
    found = agent(space, encoder="tests.own_parts:Telling", normalize_observations=False)
    for centre in found.reader.buffers():
        centre.fill_(1.7e9)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("space", TYPES, ids=str)
def test_an_export_shows_an_encoder_the_types_of_training(space: gym.Space[Any]) -> None:
    exported(telling(space), *EVERY, steps=20)


@pytest.mark.parametrize("space", TYPES[-3::2], ids=str)
def test_a_fast_actor_shows_an_encoder_the_types_of_training(space: gym.Space[Any]) -> None:
    policy = Policy(telling(space))
    fast, slow = policy.actor(runner="fast"), policy.actor()
    seen = [space.sample() for _ in range(30)]
    assert [fast.act(x) for x in seen] == [slow.act(x) for x in seen]


@pytest.mark.slow
def test_layers_trained_elsewhere_go_to_every_format() -> None:
    exported(agent(CAMERA, encoder=f"{__name__}:Pooled"), *EVERY, steps=20)


@pytest.mark.slow
def test_what_a_format_lacks_is_refused_with_the_name_of_the_part(tmp_path: Path) -> None:
    policy = Policy(agent(encoder=f"{__name__}:Sorted"))
    forms: tuple[FormatName, ...] = ("c", "numpy")
    for to in forms:
        with pytest.raises(ExportError, match=r"aten\.sort.*your encoder '.*:Sorted'"):
            policy.export(tmp_path / to, to)
    with pytest.raises(ExportError, match=r"runner='fast' .*policy\.actor\(\) can.*aten\.sort"):
        policy.actor(runner="fast")
    with pytest.raises(ExportError, match=r"your encoder '.*:Frozen'.*x\.shape\[0\]"):
        trace(agent(encoder="tests.own_parts:Frozen"), batch=None)
    assert list(tmp_path.iterdir()) == []


LEFT = """
import multiprocessing, os, threading
from gymnasium import spaces
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy

own = AgentConfig(encoder="tests.own_parts:Frozen", hidden_size=4)
policy = Policy(ActorCritic(spaces.Box(-5, 5, (3,)), spaces.Discrete(4), own))
before = dict(os.environ)
{trace}
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
assert multiprocessing.get_start_method(allow_none=True) is None
assert dict(os.environ) == before, os.environ.keys() - before.keys()
"""


@pytest.mark.parametrize(
    "trace",
    [
        'policy.actor(runner="fast")',
        pytest.param('policy.export("p.pt2", "torch")', marks=pytest.mark.slow),
        pytest.param('policy.export("p.onnx")', marks=[pytest.mark.slow, NEEDS_ONNX]),
    ],
)
def test_tracing_leaves_no_thread_start_method_or_variable(trace: str, tmp_path: Path) -> None:
    """The progress bar that torch makes and does not show would fix how processes start."""
    program = f"import sys; sys.path.append({str(ROOT)!r})\n" + LEFT.format(trace=trace)
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


def test_a_number_less_an_array_is_recorded() -> None:
    class Step(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return 1 - x, x.new_full((2,), 3.0) + x

    x = torch.tensor([0.25, 4.0])
    found = record(Step(), (x,))(x)
    assert [one.tolist() for one in found] == [[0.75, -3.0], [3.25, 7.0]]


def test_an_error_names_the_parts_of_ones_own_and_its_cause() -> None:
    mine, ours = agent(encoder="tests.own_parts:Frozen"), agent()
    named = "your encoder 'tests.own_parts:Frozen'"
    for one, said in ((mine, f"No. The policy has {named}."), (ours, "No.")):
        with pytest.raises(ExportError) as caught, naming_parts(one):
            raise ExportError("No.")
        assert str(caught.value) == said
    deep = ValueError("deep. For more information see there\nand more")
    with pytest.raises(ExportError) as caught, blaming_parts(mine, "It fails", "Do that."):
        raise RuntimeError("around") from deep
    assert str(caught.value) == f"It fails, with {named}: deep. Do that."
    with pytest.raises(UserError, match=r"^told$"), blaming_parts(mine, "It fails", "Do that."):
        raise UserError("told")
    with pytest.raises(RuntimeError, match=r"^ours$"), blaming_parts(ours, "It fails", "Do that."):
        raise RuntimeError("ours")
