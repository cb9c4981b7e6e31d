"""Parts of one's own: how they are registered and named, and that no file has one imported."""

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

import recurrent_rl
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import PolicyFileError
from recurrent_rl.agents.memory.contract import Memory
from recurrent_rl.agents.memory.registry import MEMORIES, make_memory
from recurrent_rl.agents.memory.states import tensors_of
from recurrent_rl.agents.named_parts import PARTS, import_parts
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.agents.settings import SettingError
from recurrent_rl.agents.spaces import stack_observations
from recurrent_rl.agents.warm_start import begin_with
from tests.own_parts import Bins, Counter, Frozen, OfDict, Window, WindowState, as_before

BOX, TWO = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2)
WINDOW = "tests.own_parts:Window"
PIXELS = spaces.Box(0, 255, (4, 4, 3), np.uint8)


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """What a test registers is unknown again afterwards."""
    with as_before():
        yield


def forget() -> None:
    """As in a process that knows nothing but the library's parts."""
    for parts in PARTS.values():
        parts._by_path.clear()
        for name in [name for name in parts if parts.is_own(name)]:
            del parts[name]


def make(space: Any = BOX, actions: Any = TWO, **settings: Any) -> Policy:
    torch.manual_seed(0)
    config = AgentConfig(**{"hidden_size": 8, "encoder_size": 8} | settings)
    policy = Policy(ActorCritic(space, actions, config))
    with torch.no_grad():  # the heads start near zero: let actions differ
        for parameter in policy.agent.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return policy


def play(policy: Policy, deterministic: bool = False) -> np.ndarray[Any, Any]:
    """The actions of three streams over 20 steps."""
    policy.seed(0)
    policy.observation_space.seed(0)
    state, actions = None, []
    for t in range(20):
        each = [policy.observation_space.sample() for _ in range(3)]
        space = policy.observation_space
        batch = stack_observations(space, each)
        action, state = policy.predict(batch, state, np.array([t == 9] * 3), deterministic)
        actions.append(action)
    return np.stack(actions)


def test_a_registered_memory_is_known_by_its_name() -> None:
    recurrent_rl.register_memory("window")(Window)
    assert "window" in MEMORIES
    assert isinstance(make_memory("window", 3, 8, 1), Window)
    assert isinstance(make(memory="window").agent.memories()[0], Window)
    assert recurrent_rl.register_memory("window")(Window) is Window  # again: no harm


def test_a_memory_is_named_by_module_and_class() -> None:
    assert isinstance(make(memory=WINDOW).agent.memories()[0], Window)


def test_a_part_may_be_given_as_its_class() -> None:
    forget()
    assert AgentConfig(memory=Window) == AgentConfig(memory=WINDOW)
    assert isinstance(make(memory=Window).agent.memories()[0], Window)
    assert AgentConfig(memory=cast(Any, MEMORIES["gru"])).memory == "gru"
    both = AgentConfig(encoder=Frozen, head=Bins)
    assert (both.encoder, both.head) == ("tests.own_parts:Frozen", "tests.own_parts:Bins")


def test_a_class_that_no_other_process_can_import_needs_a_name() -> None:
    class Local(Window):
        pass

    with pytest.raises(SettingError, match=r"Local, which another .*register_memory\(\"my-memory"):
        AgentConfig(memory=Local)
    recurrent_rl.register_memory("local")(Local)
    assert AgentConfig(memory=Local).memory == "local"
    with pytest.raises(SettingError, match=r"encoder is an instance of .*; give the class itself"):
        AgentConfig(encoder=nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="LSTM cannot be a part of the kind memory: it is no"):
        AgentConfig(memory=nn.LSTM)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("MlpLstmPolicy", "lstm"),
        ("CnnLstmPolicy", "lstm"),
        ("MultiInputLstmPolicy", "lstm"),
        ("MlpGruPolicy", "gru"),
        ("MlpPolicy", "none"),
        ("LSTM", "lstm"),
        ("GRU", "gru"),
        ("nn.LSTM", "lstm"),
        ("torch.nn.GRUCell", "gru"),
        ("nn.RNN", "rnn"),
    ],
)
def test_a_memory_of_another_library_is_answered_with_ours(name: str, ours: str) -> None:
    with pytest.raises(SettingError, match=rf"^memory is '{name}'; here that is '{ours}'\.$"):
        AgentConfig(memory=name)


def test_a_class_of_pytorch_is_answered_with_ours() -> None:
    with pytest.raises(SettingError, match=r"subclass of recurrent_rl\.Memory; ours is 'gru'\."):
        AgentConfig(memory=nn.GRU)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"subclass of recurrent_rl\.Memory\. docs"):
        AgentConfig(memory=nn.Linear)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gru", "gru is a memory of the library's own; take another name"),
        ("a b", "The name of the memory is 'a b'; it must be a letter, then"),
        ("", "The name of the memory is ''"),
        ("tests:Window", "The name of the memory is 'tests:Window'"),
        (Window, r"The name of the memory is <class .*Window'>; .*: @register_memory\(\"my-memory"),
    ],
)
def test_a_name_that_is_none_is_refused(name: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        recurrent_rl.register_memory(name)


def test_a_second_class_of_the_same_name_is_refused() -> None:
    recurrent_rl.register_memory("window")(Window)
    with pytest.raises(
        SettingError, match=r"'window' is tests.own_parts:Window already; give tests"
    ):
        recurrent_rl.register_memory("window")(Counter)


def test_a_class_that_is_defined_anew_takes_the_old_ones_place() -> None:
    def cell() -> Any:
        @recurrent_rl.register_memory("mine")
        class Mine(Window):
            pass

        return Mine

    cell()
    again = cell()
    assert MEMORIES["mine"] is again


class NoStep(Memory):
    def initial_state(self, batch: int) -> Any:
        return ()


class NoState(Memory):
    def step(self, x: Tensor, state: Any, episode_start: Tensor | None = None) -> Any:
        return x, state


class OneSize(Window):
    def __init__(self, input_size: int) -> None:
        super().__init__(input_size, 1, 1)


class NoSize(Window):
    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        del self.output_size


class NoFeatures(nn.Module):
    def __init__(self, space: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class OtherFeatures(NoFeatures):
    output_size = 7


@pytest.mark.parametrize(
    ("kind", "part", "message"),
    [
        ("memory", nn.GRU, "GRU cannot be .* memory: it is no subclass of recurrent_rl.Memory"),
        ("memory", NoStep, "NoStep cannot be .* it defines no step"),
        ("memory", NoState, "it defines no initial_state"),
        ("memory", OneSize, r"it must be made as OneSize\(input_size, hidden_size, num_layers\)"),
        ("memory", Window(2, 2, 1), "it is no class"),
        ("encoder", Window, r"it defines no forward"),
        ("encoder", nn.Linear, r"it must be made as Linear\(space\)"),
        ("encoder", dict, "it is no subclass of torch.nn.Module"),
        ("head", nn.Linear, "it is no subclass of recurrent_rl.ActionHead"),
        ("head", recurrent_rl.ActionHead, "it defines no forward"),
    ],
)
def test_a_class_that_lacks_the_contract_is_refused(kind: str, part: Any, message: str) -> None:
    register = getattr(recurrent_rl, f"register_{kind}")
    with pytest.raises(SettingError, match=message):
        register("mine")(part)
    assert PARTS[kind].find("mine") is None


@pytest.mark.parametrize(
    ("kind", "part", "message"),
    [
        ("memory", NoSize, "The memory .*NoSize has output_size None; it must be a whole number"),
        ("encoder", NoFeatures, "The encoder .*NoFeatures has output_size None"),
    ],
)
def test_a_part_that_does_not_tell_its_size_is_refused(kind: str, part: Any, message: str) -> None:
    getattr(recurrent_rl, f"register_{kind}")("mine")(part)
    with pytest.raises(SettingError, match=message):
        make(**{kind: "mine"})


def test_features_of_another_size_than_was_said_are_refused() -> None:
    recurrent_rl.register_encoder("mine")(OtherFeatures)
    with pytest.raises(SettingError, match=r"gave torch.float32 \[3, 3\]; expected .* \[3, 7\]"):
        play(make(encoder="mine"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Window", "Module 'nowhere' of memory 'nowhere:Window' cannot be imported"),
        (
            "tests.own_parts:Windo",
            "no memory 'Windo'. Did you mean tests.own_parts:Window",
        ),
        ("tests.own_parts:Frozen", "Frozen cannot be .* memory: it is no subclass"),
    ],
)
def test_a_path_that_leads_to_no_memory_is_refused(name: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make(memory=name)


@pytest.mark.parametrize("name", ["a b:C", "module:", ":Class", "a:b:c", "windo"])
def test_what_is_neither_a_name_nor_a_path_is_refused(name: str) -> None:
    recurrent_rl.register_memory("window")(Window)
    with pytest.raises(SettingError, match=r"memory is .*; it must be one of none, .* window, or"):
        AgentConfig(memory=name)


OWN: dict[str, dict[str, Any]] = {
    "memory": {"memory": WINDOW},
    "counter": {"memory": "tests.own_parts:Counter"},
    "encoder": {"encoder": "tests.own_parts:Frozen"},
    "head": {"head": "tests.own_parts:Bins"},
    "separate": {"memory": WINDOW, "separate_memory": True, "previous_reward": False},
}


@pytest.mark.parametrize("which", OWN)
def test_a_policy_with_a_part_of_ones_own_is_saved_and_loaded(which: str, tmp_path: Path) -> None:
    settings = OWN[which]
    policy = make(actions=BOX, **settings)
    path = tmp_path / "p.safetensors"
    policy.save(path)
    assert np.array_equal(play(load_policy(path)), play(policy))
    assert np.unique(play(policy)).size > 5

    forget()
    kind, name = next(iter(settings.items()))
    module, _, part = str(name).partition(":")
    message = rf"needs the {kind} '{name}', which is not known in this process.* `from {module} "
    message += rf"import {part}` and load_policy\(path, {kind}={part}\), .* --import {name}"
    with pytest.raises(PolicyFileError, match=message):
        load_policy(path)

    given = {kind: {"Window": Window, "Counter": Counter, "Frozen": Frozen, "Bins": Bins}[part]}
    loaded = load_policy(path, **given)  # type: ignore[arg-type]
    assert np.array_equal(play(loaded), play(policy))
    assert getattr(loaded.config, kind) == name
    with pytest.raises(PolicyFileError):  # what is given is given for this call
        load_policy(path)
    import_parts([str(name)])
    assert np.array_equal(play(load_policy(path)), play(policy))


def test_a_registered_name_in_a_file_is_known_once_its_module_was_imported(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    recurrent_rl.register_memory("window")(Window)
    policy = make(memory="window")
    policy.save(path)
    forget()
    with pytest.raises(
        PolicyFileError, match=r"needs the memory 'window', .* Import the module that registers it"
    ):
        load_policy(path)
    loaded = load_policy(path, memory=Window)
    assert loaded.config.memory == "window"
    assert np.array_equal(play(loaded), play(policy))
    loaded.save(path)
    recurrent_rl.register_memory("window")(Window)
    assert np.array_equal(play(load_policy(path)), play(policy))


def test_a_class_that_was_registered_may_be_named_by_its_path(tmp_path: Path) -> None:
    make(memory=WINDOW).save(tmp_path / "p.safetensors")
    forget()
    recurrent_rl.register_memory("window")(Window)
    load_policy(tmp_path / "p.safetensors")


def test_no_file_has_a_module_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "from tests.own_parts import Window\nprint('imported')\nclass Mine(Window): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    make(memory="mine:Mine", hidden_size=4).save(tmp_path / "p.safetensors")
    monkeypatch.delitem(sys.modules, "mine")
    assert capsys.readouterr().out == "imported\n"

    root = Path(__file__).parents[2]
    load = "import recurrent_rl; recurrent_rl.load_policy('p.safetensors')"
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(root)!r})\n{load}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert "What a file names is not imported by itself" in result.stderr


class Sized(Window):
    """Makes its weights in each of the ways that torch has."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        made = (torch.empty(size=(2, 3)), torch.empty((2, 3)), torch.empty(2, 3), torch.empty(()))
        self.more = nn.ParameterList([x.zero_() for x in made])


def test_a_part_may_make_its_weights_in_any_way_but_not_too_many(tmp_path: Path) -> None:
    recurrent_rl.register_memory("sized")(Sized)
    policy = make(memory="sized")
    policy.save(tmp_path / "p.safetensors")
    assert np.array_equal(play(load_policy(tmp_path / "p.safetensors")), play(policy))


def test_a_class_given_where_the_file_has_the_librarys_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    make(memory="gru").save(path)
    with pytest.raises(
        PolicyFileError, match=r"but the agent's is the library's gru. Leave memory"
    ):
        load_policy(path, memory=Window)
    with pytest.raises(PolicyFileError, match=r"but the agent's is the library's own. Leave encod"):
        load_policy(path, encoder=Frozen)
    with pytest.raises(SettingError, match=r"Frozen cannot be .* memory"):
        load_policy(path, memory=Frozen)


def test_an_encoder_of_ones_own_sees_the_observation_as_it_is() -> None:
    policy = make(PIXELS, encoder="tests.own_parts:Frozen", encoder_layers=0)
    agent = policy.agent
    trunk: Any = agent.trunks[0]
    image = torch.randint(0, 256, (2, 5, 4, 4, 3), dtype=torch.uint8)
    own = {"": image, "previous_action": torch.zeros(2, 5, dtype=torch.int64)}
    features = trunk.encoder(own)
    assert features.shape == (2, 5, 5 + 32 + 1)
    frozen = trunk.encoder.own.module
    torch.testing.assert_close(features[..., :5], frozen(image.flatten(0, 1)).view(2, 5, 5))


def test_an_encoder_of_several_components_gets_them_by_path() -> None:
    space = spaces.Dict({"a": BOX, "b": spaces.Tuple((TWO, PIXELS))})
    policy = make(space, encoder="tests.own_parts:OfDict")
    trunk: Any = policy.agent.trunks[0]
    module = trunk.encoder.own.module
    assert isinstance(module, OfDict)
    assert module.paths == ["a", "b/0", "b/1"]
    assert module.output_size == 3 + 1 + 48
    assert len(play(policy)) == 20


def test_a_head_of_ones_own_acts_within_the_space() -> None:
    policy = make(actions=spaces.Box(-2, 4, (2, 2), np.float32), head="tests.own_parts:Bins")
    actions = play(policy)
    assert actions.shape == (20, 3, 2, 2)
    assert actions.dtype == np.float32
    np.testing.assert_allclose(np.unique(actions), np.linspace(-2, 4, 11), atol=1e-6)


def test_a_head_whose_actions_cannot_be_fed_back_is_refused() -> None:
    class OneNumber(Bins):
        def __init__(self, space: spaces.Box, input_size: int) -> None:
            super().__init__(space, input_size)
            self.action_shape = ()

    recurrent_rl.register_head("one")(OneNumber)
    with pytest.raises(SettingError, match=r"has actions of shape \[\], .* fed .* as \[3\]"):
        make(actions=BOX, head="one")
    make(actions=BOX, head="one", previous_action=False)
    with pytest.raises(SettingError, match="action_persistence is of the library's own head"):
        make(actions=BOX, head="tests.own_parts:Bins", action_persistence=0.5)


def replaced(agent: ActorCritic, path: str) -> None:
    owner, _, name = path.rpartition(".")
    at = agent.get_submodule(owner)
    if name.isdigit():
        at[int(name)] = nn.Linear(3, 3)  # type: ignore[operator]
    else:
        setattr(at, name, nn.Linear(3, 3))


@pytest.mark.parametrize(
    "path",
    [
        *("encoder", "memory", "head", "critic", "trunks", "observation_normaliser", "reader"),
        *("trunks.0", "trunks.0.encoder", "trunks.0.memory"),
        *("observation_normaliser.moments", "observation_normaliser.moments.0"),
        *("trunks.0.encoder.features", "trunks.0.encoder.layers", "trunks.0.encoder.features.0"),
        *("trunks.0.encoder.layers.0", "trunks.0.encoder.own"),
    ],
)
def test_a_module_that_is_put_in_anothers_place_is_refused(path: str) -> None:
    agent = make().agent
    before = dict(agent.named_modules())
    with pytest.raises(SettingError, match=r"cannot be replaced: .*AgentConfig\(memory=..., enco"):
        replaced(agent, path)
    assert dict(agent.named_modules()) == before


def test_an_agent_is_copied_and_moved_as_any_module() -> None:
    agent = make(memory=WINDOW).agent
    other = copy.deepcopy(agent).double()
    assert other.critic.weight.dtype is torch.float64
    assert agent.critic.weight.dtype is torch.float32
    with pytest.raises(SettingError):
        other.head = nn.Linear(2, 2)  # type: ignore[assignment]


def test_a_module_that_is_added_to_an_agent_is_refused() -> None:
    agent = make().agent
    for owner in (agent, agent.trunks):
        with pytest.raises(SettingError, match="head cannot be replaced"):
            owner.add_module("head", nn.Linear(2, 2))
    with pytest.raises(SettingError, match="cannot be replaced"):
        agent.set_submodule("trunks.0.memory", nn.Linear(2, 2))


def test_a_memory_without_a_state_to_be_kept_is_refused_when_an_agent_is_made() -> None:
    class BareTensor(Window):
        def initial_state(self, batch: int) -> Any:
            return torch.zeros(1, batch, 2)

    class BatchFirst(Window):
        def initial_state(self, batch: int) -> Any:
            return WindowState(torch.zeros(batch, 5), torch.zeros(1, batch))

    recurrent_rl.register_memory("bare")(BareTensor)
    with pytest.raises(
        SettingError, match=r"gives no state: it is a Tensor; expected a NamedTuple"
    ):
        make(memory="bare")
    recurrent_rl.register_memory("first")(BatchFirst)
    with pytest.raises(
        SettingError, match=r"its window is \[2, 5\]; expected a tensor whose axis 1"
    ):
        make(memory="first")


def test_parts_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(SettingError, match=r"parts is 'memori'; .* Did you mean memory"):
        ActorCritic(BOX, TWO, AgentConfig(WINDOW), parts={"memori": Window})
    with pytest.raises(SettingError, match="parts is 3; it must be classes by memory, encoder"):
        ActorCritic(BOX, TWO, AgentConfig(WINDOW), parts=3)  # type: ignore[arg-type]


def test_a_state_is_reset_to_what_a_memory_begins_with() -> None:
    class Warm(Window):
        def initial_state(self, batch: int) -> Any:
            return type(fresh := super().initial_state(batch))(*(x + 2 for x in fresh))

    memory = Warm(3, 4, 1)
    used = memory.step(torch.ones(2, 3), memory.initial_state(2))[1]
    fresh = memory.reset(used, torch.tensor([True, False]))
    for x, old, new in zip(
        tensors_of(fresh), tensors_of(used), tensors_of(memory.initial_state(2)), strict=True
    ):
        assert torch.equal(x[:, 0], new[:, 0])
        assert torch.equal(x[:, 1], old[:, 1])
    assert memory.reset(used, None) is used


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "Module 'nowhere' of --import cannot be imported"),
        ("math:Foo", "--import math:Foo: Module 'math' has no class 'Foo'"),
        ("nowhere:X", "--import nowhere:X: Module 'nowhere' of class 'nowhere:X' cannot be"),
        ("tests.own_parts:WindowState", "no part of an agent: as memory, it is no subclass"),
    ],
)
def test_an_import_that_is_no_part_is_refused(path: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        import_parts([path])


class Tied(nn.Module):
    """Two layers with one weight, and one of complex doubles."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        size = int(np.prod(space.shape or (1,)))
        self.a, self.b = nn.Linear(size, size), nn.Linear(size, size)
        self.b.weight = self.a.weight
        self.turn: Tensor
        self.register_buffer("turn", torch.tensor([1 + 2j], dtype=torch.complex128))
        self.output_size = size

    def forward(self, x: Tensor) -> Tensor:
        turned: Tensor = self.b(torch.tanh(self.a(x))) * self.turn
        return turned.real.float()


def test_a_part_with_tied_weights_and_complex_doubles_is_saved_and_stays_tied(
    tmp_path: Path,
) -> None:
    policy = make(encoder=f"{__name__}:Tied")
    policy.save(tmp_path / "p.safetensors")
    again = load_policy(tmp_path / "p.safetensors")
    trunk: Any = again.agent.trunks[0]
    own = trunk.encoder.own.module
    assert own.a.weight is own.b.weight
    fresh = make(encoder=f"{__name__}:Tied")
    with torch.no_grad():
        for parameter in fresh.agent.parameters():
            parameter.zero_()
    begin_with(fresh.agent, again)
    for other in (again, fresh):
        for name, x in policy.agent.state_dict().items():
            assert torch.equal(other.agent.state_dict()[name], x)
