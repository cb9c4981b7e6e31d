"""An exported step computes what its policy does, for every memory and space, in every runtime."""

import dataclasses
import importlib.util
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.export import c_files, numpy_folder
from recurrent_rl.agents.export.c import source as c_source
from recurrent_rl.agents.export.check import Arrays, Runner, checks
from recurrent_rl.agents.export.compiled import CompiledStep, serves
from recurrent_rl.agents.export.formats import FORMATS
from recurrent_rl.agents.export.graph import trace
from recurrent_rl.agents.export.listing import Listing, constants_of, to_json
from recurrent_rl.agents.export.names import FormatName
from recurrent_rl.agents.export.numpy_policy import Step
from recurrent_rl.agents.export.record import listing_of
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import ExportError, PolicyStep, observation_names
from recurrent_rl.agents.kernels.library import library
from recurrent_rl.agents.layers import ACTIVATIONS
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.agents.memory.states import LinearState, MemoryState
from recurrent_rl.agents.policy import Policy
from tests.agents.export.checking import check
from tests.own_parts import Bins, Window, WindowState

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
RUNTIMES = [
    "torch",
    pytest.param(
        "onnx", marks=pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed")
    ),
]
VECTOR = spaces.Box(-5, 5, (3,))
OBSERVATIONS: dict[str, gym.Space[Any]] = {
    "vector": VECTOR,
    "image": spaces.Box(0, 255, (9, 8, 3), np.uint8),
    "large image": spaces.Box(0, 255, (40, 36), np.uint8),
    "Discrete": spaces.Discrete(5, start=2),
    "MultiDiscrete": spaces.MultiDiscrete([3, 4], start=[1, -2]),
    "MultiBinary": spaces.MultiBinary((2, 2)),
    "nested": spaces.Dict(
        {
            "a.b": spaces.Box(-1, 1, (2, 2)),
            "a_b": spaces.Discrete(3),
            "rest": spaces.Tuple((VECTOR, spaces.MultiBinary(2))),
            "time": spaces.Box(0, np.inf, (2,), np.float64),
        }
    ),
}
ACTIONS: dict[str, gym.Space[Any]] = {
    "Discrete": spaces.Discrete(4, start=2),
    "MultiDiscrete": spaces.MultiDiscrete(
        np.array([[2, 3], [4, 2]]), start=np.array([[1, 0], [0, -1]])
    ),
    "MultiBinary": spaces.MultiBinary(3),
    "Box": spaces.Box(np.array([-2, -np.inf], np.float32), np.array([3, np.inf], np.float32)),
}
OWN_MEMORIES = tuple(f"tests.own_parts:{name}" for name in ("Window", "Counter", "Latch", "Delay"))
EVERYTHING: dict[str, Any] = {"separate_memory": True, "num_layers": 2, "previous_reward": True}


def make(
    observation: gym.Space[Any] = VECTOR,
    action: gym.Space[Any] = ACTIONS["Discrete"],
    hide_indices: tuple[int, ...] = (),
    **config: Any,
) -> ActorCritic:
    """An agent of which no weight and no statistic is what it starts as."""
    torch.manual_seed(0)
    settings = {"memory": "lstm", "hidden_size": 12, "encoder_size": 10, **config}
    agent = ActorCritic(observation, action, AgentConfig(**settings), hide_indices)
    rng = np.random.default_rng(0)
    for centre in agent.reader.buffers():  # a clock that single precision cannot tell
        centre.fill_(1.7e9)
    for moments in agent.observation_normaliser.moments:
        shift = torch.as_tensor(rng.normal(size=moments.get_buffer("mean").shape))
        moments.get_buffer("mean").copy_(shift)
        moments.get_buffer("shift").copy_(-shift)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return agent.eval()


def eager(agent: ActorCritic, batch: int | None = None) -> tuple[Signature, Runner]:
    """The step itself, not traced."""
    step = PolicyStep(agent)

    def run(inputs: Arrays) -> Arrays:
        with torch.no_grad():
            outputs = step(*(torch.as_tensor(inputs[name]) for name in step.input_names))
        return {name: x.numpy() for name, x in zip(step.output_names, outputs, strict=True)}

    return step.signature(batch), run


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_step_of_every_memory_is_the_policys(memory: str) -> None:
    agent = make(memory=memory, **EVERYTHING)
    check(agent, *eager(agent), steps=15)


@pytest.mark.parametrize(
    ("observation", "action"), list(zip(OBSERVATIONS, itertools.cycle(ACTIONS), strict=False))
)
def test_the_step_of_every_space_is_the_policys(observation: str, action: str) -> None:
    persistence = 0.5 if action == "Box" else 0.0
    agent = make(OBSERVATIONS[observation], ACTIONS[action], action_persistence=persistence)
    check(agent, *eager(agent), steps=15)


def test_an_action_of_half_precision_is_held_to_its_own_rounding() -> None:
    agent = make(action=spaces.Box(-1, 1, (2,), np.float16), memory="gru")
    signature, run = eager(agent)
    check(agent, signature, run, steps=25)

    def off(inputs: Arrays) -> Arrays:
        outputs = run(inputs)
        return outputs | {"action": outputs["action"] - np.float32(0.01)}

    with pytest.raises(ExportError, match=r"'action'.* it is off by up to 1.*e-02"):
        check(agent, signature, off, steps=25)


def test_what_is_hidden_is_not_read_and_what_is_not_fed_does_not_appear() -> None:
    agent = make(hide_indices=(1,), memory="none", previous_action=False)
    signature, run = eager(agent)
    assert [field.name for field in signature.inputs] == ["obs", "episode_start", "action_mask"]
    assert [field.name for field in signature.outputs] == ["action", "logits", "value"]
    assert signature.state == {}
    check(agent, signature, run, steps=25)


def test_a_loop_over_the_step_plays_what_predict_plays() -> None:
    """The state goes round by the signature's names; the oracle is `Policy.predict`."""
    agent = make(memory="gru-matrix")
    signature, run = eager(agent)
    policy, state, rng = Policy(agent), None, np.random.default_rng(0)
    carried = {name: np.zeros(0) for name in signature.state}
    for field in signature.inputs:
        if field.name in carried:
            shape = [2 if size is None else size for size in field.shape]
            carried[field.name] = np.zeros(shape, field.dtype)
    for step in range(30):
        obs = rng.normal(size=(2, 3)).astype(np.float32)
        start, mask = rng.random(2) < (0.1 if step else 1.0), np.ones((2, 4), bool)
        outputs = run({"obs": obs, "episode_start": start, "action_mask": mask, **carried})
        carried = {name: outputs[after] for name, after in signature.state.items()}
        action, state = policy.predict(obs, state, start, deterministic=True)
        np.testing.assert_array_equal(outputs["action"], action)


def test_names_are_what_every_runtime_takes() -> None:
    """Letters that C and others do not know among them, and two that become one."""
    space = spaces.Dict({"größe": VECTOR, "a.b": VECTOR, "a_b": VECTOR})
    names = observation_names(space)
    assert names == {"a.b": "obs_a_b", "a_b": "obs_a_b_1", "größe": "obs_gr__e"}


EMPTY = spaces.Dict(
    {
        "a": VECTOR,
        "b": spaces.Box(-1, 1, (0,)),
        "c": spaces.Box(0, 9, (2, 0), np.int64),
    }
)


def check_in_c_and_numpy(agent: ActorCritic) -> None:
    """Of a step that was recorded, which is quicker than tracing."""
    listing = listing_of(agent, batch=1)
    check(agent, listing.signature, numpy_folder.runner(numpy_folder.written(listing, agent)), 15)
    if shutil.which("cc"):
        source = c_source.written(listing, "policy", {}, [4], int8=False)
        texts = (source.header, source.source, listing.signature.to_json())
        content = dict(zip(c_files.NAMES, map(str.encode, texts), strict=True))
        check(agent, listing.signature, c_files.runner(content), 15)


def test_what_has_no_entries_is_no_input() -> None:
    agent = make(EMPTY, memory="rnn")
    assert observation_names(EMPTY) == {"a": "obs_a"}
    check(agent, *eager(agent), steps=15)
    check_in_c_and_numpy(agent)
    exact, fast = Policy(agent).actor(), Policy(agent).actor(runner="fast")
    EMPTY.seed(0)
    for _ in range(5):
        seen = EMPTY.sample()
        assert fast.act(seen) == exact.act(seen)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, None], ids=["one stream", "dynamic"])
def test_what_has_no_entries_is_no_input_of_any_export(batch: int | None) -> None:
    forms = ["torch"] + ["onnx"] * HAS_ONNX + ["c", "numpy"] * (batch == 1)
    exported(make(EMPTY, memory="rnn"), *forms, batch=batch, steps=15)


def test_no_two_inputs_have_one_name() -> None:
    space = spaces.Dict(dict.fromkeys(("a b", "a b 2", "a-b"), VECTOR))
    names = observation_names(space)
    assert names == {"a b": "obs_a_b", "a b 2": "obs_a_b_2", "a-b": "obs_a_b_3"}
    agent = make(space, memory="rnn")
    check(agent, *eager(agent), steps=15)


class Awkward(NamedTuple):
    """A state whose parts are called as other things of a step, or as a word of C."""

    value: Tensor
    mean: Tensor
    episode_start: Tensor
    previous_action: Tensor
    double: Tensor
    obs_x: Tensor


class Called(Memory):
    """Keeps its input in all of its state, times 1, 2, ..."""

    state_type = Awkward

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, input_size)

    def initial_state(self, batch: int) -> MemoryState:
        return Awkward(*torch.zeros(len(Awkward._fields), 1, batch, self.input_size))

    def step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        state = self.reset(state, episode_start)
        seen = sum((i + 1) * part[0] for i, part in enumerate(state)) * 0.1 + x
        return seen, Awkward(*(x[None] * (i + 1) for i in range(len(Awkward._fields))))


@pytest.mark.parametrize("previous_action", [False, True])
def test_a_state_may_have_the_names_of_other_things(previous_action: bool) -> None:
    agent = make(
        spaces.Dict({"x_in": VECTOR}), memory=f"{__name__}:Called", previous_action=previous_action
    )
    signature, run = eager(agent)
    names = [field.name for field in (*signature.inputs, *signature.outputs)]
    assert len({*names}) == len(names) == 2 * 6 + 6 + 2 * previous_action
    check(agent, signature, run, steps=15)
    check_in_c_and_numpy(agent)


@pytest.mark.parametrize("batch", [None, 3])
def test_a_signature_is_read_as_it_was_written(batch: int | None) -> None:
    signature = PolicyStep(make(memory="rnn")).signature(batch)
    assert Signature.from_json(signature.to_json()) == signature


def off_by(name: str, much: float) -> Callable[[Arrays, Arrays], None]:
    def spoil(inputs: Arrays, outputs: Arrays) -> None:
        outputs[name] = outputs[name] + np.asarray(much, outputs[name].dtype)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (off_by("value", 1e-4), "'value'"),
        (off_by("c_out", 1e-4), "'c_out'"),
        (off_by("action", 1), "'action'"),
        (off_by("previous_action_out", 1), "'previous_action_out'"),
        (off_by("logits", np.nan), "not finite|has a chance"),
        (lambda inputs, outputs: outputs.pop("h_out"), "'h_out'.*missing"),
        (lambda inputs, outputs: outputs.update(action=outputs["action"] + 0.0), "float64"),
    ],
)
def test_a_check_refuses_what_differs(spoil: Callable[[Arrays, Arrays], None], named: str) -> None:
    agent = make()
    signature, run = eager(agent)

    def spoilt(inputs: Arrays) -> Arrays:
        outputs = run(inputs)
        spoil(inputs, outputs)
        return outputs

    with pytest.raises(ExportError, match=named):
        check(agent, signature, spoilt, steps=25)


def test_checks_side_by_side_find_what_each_finds_alone() -> None:
    agent = make(memory="gru", previous_reward=True)
    signature, run = eager(agent)

    def spoilt(inputs: Arrays) -> Arrays:
        outputs = run(inputs)
        inputs["obs"][:] = 0  # its own, which no other export sees
        off_by("value", 1e-4)(inputs, outputs)
        return outputs

    refused, found = checks(agent, signature, [spoilt, run], steps=15)
    assert isinstance(refused, ExportError)
    assert "'value'" in str(refused)
    assert found == check(agent, signature, run, steps=15)


@pytest.mark.parametrize("name", ["episode_start", "h_in", "previous_action_in", "action_mask"])
def test_a_check_finds_an_input_that_is_ignored(name: str) -> None:
    agent = make()
    signature, run = eager(agent)
    with pytest.raises(ExportError):
        check(
            agent,
            signature,
            lambda inputs: run(inputs | {name: np.zeros_like(inputs[name])}),
            steps=25,
        )


def test_what_a_user_may_ask_for_is_what_there_is() -> None:
    assert get_args(FormatName) == tuple(FORMATS)


def exported(agent: ActorCritic, *forms: Any, batch: int | None = 1, steps: int = 100) -> None:
    """Exports that pass their check, of one trace, which takes longest."""
    program = trace(agent, batch=batch)
    for to in forms:
        check(agent, program.signature, FORMATS[to].runner(FORMATS[to].files(program)), steps)


@pytest.mark.slow
def test_an_export_passes_its_check() -> None:
    exported(make(memory="rotor"), "torch", steps=30)


@pytest.mark.slow
@pytest.mark.parametrize("to", RUNTIMES)
@pytest.mark.parametrize("batch", [1, None], ids=["one stream", "dynamic"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_an_export_of_every_memory_passes_its_check(
    memory: str, batch: int | None, to: str
) -> None:
    exported(make(memory=memory, **(EVERYTHING if batch is None else {})), to, batch=batch)


@pytest.mark.slow
@pytest.mark.parametrize("to", RUNTIMES)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_an_export_of_every_space_passes_its_check(observation: str, action: str, to: str) -> None:
    persistence = 0.5 if action == "Box" else 0.0
    agent = make(OBSERVATIONS[observation], ACTIONS[action], action_persistence=persistence)
    exported(agent, to, batch=None)


def random_agent(seed: int) -> ActorCritic:
    """One of any memory and any spaces, with any of the settings that change its step."""
    rng = np.random.default_rng(seed)

    def one_of(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    action, observation = one_of(*ACTIONS), one_of(*OBSERVATIONS)
    separate, several = one_of(False, True), observation == "nested"
    hidden = one_of((), ("a.b",), ("a_b", "time")) if several else ()
    agent = make(
        OBSERVATIONS[observation],
        ACTIONS[action],
        hide_indices=one_of((), (1,)) if observation == "vector" else (),
        memory=one_of(*MEMORIES, *OWN_MEMORIES),
        num_layers=one_of(1, 2, 3),
        separate_memory=separate,
        critic_memory=not separate or one_of(False, True),
        critic_keys=hidden,
        actor_keys=one_of((), ("rest",)) if hidden else (),
        previous_action=action == "Box" or one_of(False, True),
        previous_reward=one_of(False, True),
        action_persistence=one_of(0.0, 0.5) if action == "Box" else 0.0,
        normalize_observations=one_of(False, True),
        encoder=None if several else one_of(None, None, "tests.own_parts:Frozen"),
        encoder_layers=one_of(0, 1, 2),
        actor_layers=one_of((), (7,)),
        critic_layers=one_of((), (6, 5)),
        layers_activation=one_of(*ACTIVATIONS),
        activation=one_of(*ACTIVATIONS),
        one_hot=one_of(False, True),
    )
    return Policy(agent).agent  # what a saved policy has, without what its critic alone sees


def by_numpy(listing: Listing) -> Step:
    return Step(to_json(listing), constants_of(listing))


def copies(arrays: Arrays) -> Arrays:
    return {name: x.copy() for name, x in arrays.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(16))
def test_any_agent_passes_its_check_in_every_format(seed: int) -> None:
    agent = random_agent(seed)
    forms = ["torch", "numpy"] + ["onnx"] * HAS_ONNX + ["c"] * bool(shutil.which("cc"))
    exported(agent, *forms, steps=40)
    listing = listing_of(agent, batch=3)
    step = CompiledStep(listing) if serves(listing) and library() else by_numpy(listing)
    check(agent, listing.signature, lambda inputs: copies(step(inputs)), steps=40)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed")
def test_a_name_on_the_way_is_none_of_an_output() -> None:
    """A matrix memory computes a mean, and a continuous action has one."""
    exported(make(action=ACTIONS["Box"], memory="matrix"), "onnx", steps=30)


class Quarter(Memory):
    """A memory of one's own that turns by a quarter, in complex numbers."""

    state_type = LinearState

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, input_size)
        self.scale = torch.nn.Parameter(torch.tensor(0.5))

    def initial_state(self, batch: int) -> MemoryState:
        return LinearState(torch.zeros(1, batch, self.input_size, dtype=self.scale.dtype))

    def step(
        self, x: Tensor, state: MemoryState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        (h,) = self.reset(state, episode_start)
        z = self.turned(torch.complex(h[0] * self.scale, x)) * torch.polar(self.scale, self.scale)
        y = torch.view_as_real(z).sum(-1)
        return y, LinearState(y.unsqueeze(0))

    def turned(self, z: Tensor) -> Tensor:
        return z * 1j


class Root(Quarter):
    """One whose complex numbers an export does not know how to compute."""

    def turned(self, z: Tensor) -> Tensor:
        return z.sqrt()


class Deciding(Window):
    """One that does something else by what it sees."""

    def step(
        self, x: Tensor, state: WindowState, episode_start: Tensor | None = None
    ) -> tuple[Tensor, WindowState]:
        return super().step(-x if x.sum() > 0 else x, state, episode_start)


def of_ones_own(**parts: type[torch.nn.Module]) -> ActorCritic:
    """An agent with these parts."""
    names = {kind: f"{part.__module__}:{part.__qualname__}" for kind, part in parts.items()}
    config: dict[str, Any] = {"hidden_size": 12, **names}
    action = VECTOR if "head" in parts else ACTIONS["Discrete"]
    return ActorCritic(VECTOR, action, AgentConfig(**config), parts=parts)


@pytest.mark.slow
@pytest.mark.parametrize("to", RUNTIMES)
@pytest.mark.parametrize("memory", [Window, Quarter])
def test_a_memory_of_ones_own_is_exported_where_its_step_traces(
    memory: type[Memory], to: str
) -> None:
    exported(of_ones_own(memory=memory), to)


@pytest.mark.slow
@pytest.mark.parametrize("memory", [Root, Deciding])
def test_a_memory_of_ones_own_that_cannot_be_traced_is_refused_by_name(
    memory: type[Memory],
) -> None:
    with pytest.raises(ExportError, match=f"{memory.__name__}|aten.sqrt"):
        trace(of_ones_own(memory=memory))


def test_a_head_without_tensors_for_the_environment_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="Bins has no to_env_tensor"):
        trace(of_ones_own(head=Bins))


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"pip install 'recurrent-rl\[onnx\]'"):
        FORMATS["onnx"].files(None)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_failed_check_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def off(content: Any) -> Runner:
        def run(inputs: Arrays) -> Arrays:
            outputs = runner(content)(inputs)
            return {**outputs, "value": outputs["value"] + 1}

        return run

    runner = FORMATS["torch"].runner
    monkeypatch.setitem(FORMATS, "torch", dataclasses.replace(FORMATS["torch"], runner=off))
    with pytest.raises(ExportError, match=r"'value'.*Nothing was written"):
        Policy(make()).export(tmp_path / "policy.pt2", "torch")
    assert list(tmp_path.iterdir()) == []


ALONE = """
import json, sys, torch
extra = {"signature.json": ""}
step = torch.export.load(sys.argv[1], extra_files=extra).module()
inputs = json.loads(extra["signature.json"])["inputs"]
zeros = [torch.zeros(field["shape"], dtype=getattr(torch, field["dtype"])) for field in inputs]
print([list(x.shape) for x in step(*zeros)])
assert "recurrent_rl" not in sys.modules and "gymnasium" not in sys.modules
"""


@pytest.mark.slow
def test_a_program_of_torch_needs_torch_alone(tmp_path: Path) -> None:
    found = Policy(make(memory="gru-rotor")).export(tmp_path, "torch")
    assert found.path == tmp_path / "policy.pt2"
    assert found.size == found.path.stat().st_size
    command = [sys.executable, "-c", ALONE, str(found.path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == str([list(field.shape) for field in found.signature.outputs])


@pytest.mark.slow
@pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed")
def test_an_onnx_model_says_itself_what_it_takes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In it, and not on the screen."""
    import onnxruntime

    onnx = pytest.importorskip("onnx")
    found = Policy(make()).export(tmp_path / "new" / "lstm.onnx", batch="dynamic", value=False)
    assert capfd.readouterr() == ("", "")
    model = onnx.load(found.path)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
    meanings = [field.meaning for field in (*found.signature.inputs, *found.signature.outputs)]
    assert [x.doc_string for x in (*model.graph.input, *model.graph.output)] == meanings
    session = onnxruntime.InferenceSession(str(found.path))
    text = session.get_modelmeta().custom_metadata_map["signature"]
    assert Signature.from_json(text) == found.signature
    names = [one.name for one in session.get_inputs()]
    assert names == ["obs", "episode_start", "action_mask", "previous_action_in", "h_in", "c_in"]
    assert session.get_inputs()[-1].shape == [1, "batch", 12]
    assert [one.name for one in session.get_outputs()][-2:] == ["h_out", "c_out"]
    assert "value" not in [one.name for one in session.get_outputs()]
