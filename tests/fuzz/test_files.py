"""Files from anywhere: whatever they hold, they load as they were saved or are refused by name.

A few dozen examples of each in every run, a thousand with `pytest -m slow`.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import PolicyFileError, load_tensors, save_tensors
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.agents.policy_file import KIND, VERSION
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.runs.checkpoint import save
from recurrent_rl.runs.checkpoint_file import KIND as CHECKPOINT_KIND
from recurrent_rl.runs.checkpoint_file import VERSION as CHECKPOINT_VERSION
from recurrent_rl.runs.evaluation_result import EvaluationSummary, SavedEvaluation
from recurrent_rl.runs.folder import CHECKPOINT, CONFIG, EVALUATION, POLICY, RunFolder
from recurrent_rl.trainer import Trainer
from tests.recurrent_rl.runs.checkpoints import load_checkpoint

EXAMPLES = pytest.mark.parametrize(
    "examples", [40, pytest.param(1000, marks=pytest.mark.slow)], ids=["few", "many"]
)
RUN = TrainConfig(
    "recurrent_rl/CartPole-NoVelocity-v0",
    num_envs=2,
    num_steps=4,
    num_minibatches=1,
    update_epochs=1,
    total_timesteps=80,
    agent=AgentConfig("gru", hidden_size=4, encoder_size=4, num_layers=2),
)
FIGURES = EvaluationSummary(1.5, (1.0, 2.0), 20.0, 0.5, episodes=10)


def searched(examples: int) -> Callable[[Any], Any]:
    """Hypothesis with this many examples, the same ones in every run."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=quiet,
    )


@contextlib.contextmanager
def refusal(name: str | Path, *errors: type[Exception]) -> Iterator[None]:
    """What is inside may be refused by one of these errors, which names the file."""
    try:
        yield
    except errors as error:
        if str(name) not in str(error):
            raise


@pytest.fixture(scope="module")
def trainer() -> Iterator[Trainer]:
    trainer = Trainer(RUN)
    trainer.iterate()
    yield trainer
    trainer.close()


@pytest.fixture(scope="module")
def run_dir(trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.save_config(trainer.config)
    save(trainer, folder)
    folder.save_evaluation(SavedEvaluation(64, 10, FIGURES, memory_ablation=FIGURES))
    return folder.path


def told(policy: Policy) -> str:
    """All that a policy is, as text."""
    weights = {name: x.tolist() for name, x in policy.agent.state_dict().items()}
    spaces = policy.observation_space, policy.action_space
    return repr((weights, spaces, policy.config, policy.summary))


def read(path: Path) -> str:
    """What a run's file says, as text: of each kind of file by its own reader."""
    if path.name == POLICY:
        return told(load_policy(path))
    if path.name == CHECKPOINT:
        tensors, text = load_tensors(path, CHECKPOINT_KIND, CHECKPOINT_VERSION)
        return repr((sorted((name, x.tolist()) for name, x in tensors.items()), text))
    if path.name == CONFIG:
        return repr(RunFolder(path.parent).load_config())
    return repr(RunFolder(path.parent).load_evaluation())


# --------------------------------------------------------------------------- bytes gone wrong


DAMAGE = st.tuples(
    st.sampled_from(["random", "cut", "longer", "changed", "changed"]),
    st.lists(st.integers(0, 2**20), min_size=1, max_size=4),
    st.binary(min_size=1, max_size=300),
)


def damaged(data: bytes, damage: tuple[str, list[int], bytes]) -> bytes:
    """Random bytes, the file cut short or lengthened, or some of its bytes changed."""
    way, numbers, content = damage
    places = [number % len(data) for number in numbers]
    if way == "random":
        return content
    if way == "cut":
        return data[: places[0]]
    if way == "longer":
        return data[: places[0]] + content + data[places[0] :]
    changed = bytearray(data)
    for place, byte in zip(places, content, strict=False):
        changed[place] = byte
    return bytes(changed)


@EXAMPLES
@pytest.mark.parametrize("name", [POLICY, CHECKPOINT])
def test_a_damaged_file_of_tensors_is_refused_or_loads_as_it_was(
    name: str, examples: int, run_dir: Path, tmp_path: Path
) -> None:
    path, expected = tmp_path / name, read(run_dir / name)
    whole = (run_dir / name).read_bytes()

    @searched(examples)
    @given(DAMAGE)
    def check(damage: tuple[str, list[int], bytes]) -> None:
        path.write_bytes(damaged(whole, damage))
        with refusal(path, PolicyFileError):
            assert read(path) == expected

    check()


@EXAMPLES
@pytest.mark.parametrize("name", [CONFIG, EVALUATION])
def test_a_damaged_file_of_text_is_refused_or_read(
    name: str, examples: int, run_dir: Path, tmp_path: Path
) -> None:
    path, whole = tmp_path / name, (run_dir / name).read_bytes()

    @searched(examples)
    @given(DAMAGE)
    def check(damage: tuple[str, list[int], bytes]) -> None:
        path.write_bytes(damaged(whole, damage))
        with refusal(name, UserError):
            read(path)  # no digest: another digit is another setting

    check()


# ------------------------------------------------------------------------- forged on purpose

ODD = [0, -1, 1.5, 10**9, 2**31, 2**62, 2**63, 10**30, 1e308, float("inf"), float("nan")]
WORDS = ["", "Box", "Dict", "Tuple", "MultiDiscrete", "inf", "nan", "float32", "lstm", "none", "é"]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.sampled_from(ODD)
    | st.sampled_from(WORDS)
    | st.text(max_size=5)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "shape", "spaces", "n", "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@st.composite
def forged_json(draw: st.DrawFn, value: Any) -> Any:
    """The value with something in it replaced, left out or added."""
    if isinstance(value, (dict, list)) and value and draw(st.integers(0, 5)):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw(st.sampled_from(keys))
        changed = value.copy()
        way = draw(st.sampled_from(["deeper", "deeper", "deeper", "without", "more"]))
        if way == "without":
            del changed[key]
        elif way == "deeper":
            changed[key] = draw(forged_json(changed[key]))
        elif isinstance(changed, dict):
            changed[draw(st.text(max_size=5))] = draw(values)
        else:
            changed.append(draw(values))
        return changed
    return draw(values)


@st.composite
def forged_text(draw: st.DrawFn, text: str) -> str:
    """JSON text with something in it changed; or nested deep, or no JSON."""
    depth = draw(st.sampled_from([0] * 12 + [100, 5000]))
    if depth:
        return "[" * depth + "]" * depth
    return (
        draw(st.text(max_size=5))
        if not draw(st.integers(0, 15))
        else json.dumps(draw(forged_json(json.loads(text))))
    )


WAYS = [
    "without",
    "more",
    "float64",
    "int64",
    "bool",
    "complex64",
    "flat",
    "short",
    "wide",
    "empty",
]
WAYS += ["nan", "inf"]


def forged_tensors(
    tensors: dict[str, torch.Tensor], name: str, way: str
) -> dict[str, torch.Tensor]:
    """The tensors with one left out, added, or of another type, shape or content."""
    changed = dict(tensors)
    x = changed.pop(name)
    flat = x.reshape(-1)
    if way == "more":
        return changed | {name: x, f"{name}2": x.clone()}
    if way in ("nan", "inf"):
        return changed | {name: torch.full_like(x, float(way)) if x.is_floating_point() else x}
    if way in ("flat", "short", "wide", "empty"):
        shapes = {"flat": flat, "short": flat[:-1], "wide": x[None], "empty": x.new_zeros(0, 3)}
        return changed | {name: shapes[way].clone()}
    return changed if way == "without" else changed | {name: x.to(getattr(torch, way))}


@EXAMPLES
def test_a_forged_policy_with_the_right_digest_is_refused_or_acts(
    examples: int, run_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / POLICY
    tensors, text = load_tensors(run_dir / POLICY, KIND, VERSION)
    names = sorted(text.keys() - {"kind", "format_version", "library_version"})
    expected = {name: (x.dtype, x.shape) for name, x in tensors.items()}

    @searched(examples)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        changed = dict(text)
        for name in data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True)):
            changed[name] = data.draw(forged_text(text[name]))
        weights = tensors
        if data.draw(st.booleans()):
            which, way = (
                data.draw(st.sampled_from(sorted(tensors))),
                data.draw(st.sampled_from(WAYS)),
            )
            weights = forged_tensors(tensors, which, way)
        save_tensors(path, weights, changed, KIND, VERSION)
        with refusal(path, PolicyFileError):
            policy = load_policy(path)
            assert all(torch.isfinite(x).all() for x in policy.agent.state_dict().values())
            assert {name: (x.dtype, x.shape) for name, x in weights.items()} == expected
            observation = policy.observation_space.sample()
            reward = 0.0 if policy.config.previous_reward else None
            action, _ = policy.predict(observation, deterministic=True, reward=reward)
            assert policy.action_space.contains(action)

    check()


@EXAMPLES
def test_a_forged_checkpoint_with_the_right_digest_is_refused_or_taken(
    examples: int, run_dir: Path, trainer: Trainer, tmp_path: Path
) -> None:
    path = tmp_path / CHECKPOINT
    tensors, text = load_tensors(run_dir / CHECKPOINT, CHECKPOINT_KIND, CHECKPOINT_VERSION)

    @searched(examples)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        changed = dict(text)
        if data.draw(st.booleans()):
            changed["state"] = data.draw(forged_text(text["state"]))
        weights = tensors
        if data.draw(st.booleans()):
            which, way = (
                data.draw(st.sampled_from(sorted(tensors))),
                data.draw(st.sampled_from(WAYS)),
            )
            weights = forged_tensors(tensors, which, way)
        save_tensors(path, weights, changed, CHECKPOINT_KIND, CHECKPOINT_VERSION)
        with refusal(path, PolicyFileError, UserError):
            load_checkpoint(trainer, path)

    check()


@EXAMPLES
@pytest.mark.parametrize("name", [CONFIG, EVALUATION])
def test_a_forged_file_of_text_is_refused_or_read(
    name: str, examples: int, run_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / name

    @searched(examples)
    @given(forged_text((run_dir / name).read_text()))
    def check(text: str) -> None:
        path.write_text(text, encoding="utf-8")
        with refusal(name, UserError):
            folder = RunFolder(tmp_path)
            found = folder.load_config() if name == CONFIG else folder.load_evaluation()
            assert found is not None
            json.dumps(dataclasses.asdict(found))

    check()


@EXAMPLES
def test_a_forged_header_of_tensors_is_refused_or_loads_as_it_was(
    examples: int, run_dir: Path, tmp_path: Path
) -> None:
    path, whole = tmp_path / POLICY, (run_dir / POLICY).read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    expected = read(run_dir / POLICY)

    @searched(examples)
    @given(forged_text(whole[8:end].decode()))
    def check(header: str) -> None:
        encoded = header.encode("utf-8", "surrogatepass")
        path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + whole[end:])
        with refusal(path, PolicyFileError):
            assert read(path) == expected

    check()
