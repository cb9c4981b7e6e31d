"""A step as plain array operations: in C, on NumPy, and in one call of the compiled kernels."""

import ctypes
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import recurrent_rl
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.export import c_files, numpy_folder
from recurrent_rl.agents.export.c import source as c_source
from recurrent_rl.agents.export.c.functions import FUNCTIONS, NAMES
from recurrent_rl.agents.export.check import Arrays, Runner
from recurrent_rl.agents.export.compiled import CompiledStep
from recurrent_rl.agents.export.graph import Program, trace
from recurrent_rl.agents.export.listing import (
    Buffer,
    Listing,
    Operation,
    constants_of,
    to_json,
    whole,
)
from recurrent_rl.agents.export.lowering import lower
from recurrent_rl.agents.export.names import FormatName
from recurrent_rl.agents.export.numpy_policy import Policy as NumpyPolicy
from recurrent_rl.agents.export.numpy_policy import Step
from recurrent_rl.agents.export.record import listing_of, record
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import ExportError, limits_of
from recurrent_rl.agents.files import PolicyFileError
from recurrent_rl.agents.kernels.library import library
from recurrent_rl.agents.memory.registry import MEMORIES
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.agents.spaces import ObservationError
from recurrent_rl.envs.tmaze import TMaze
from tests.agents.export.checking import check
from tests.agents.export.test_export import ACTIONS, EVERYTHING, OBSERVATIONS, copies, make

NEEDS_COMPILER = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
NEEDS_KERNELS = pytest.mark.skipif(library() is None, reason="the kernels were not built")
NUMBERS = np.concatenate(
    [np.linspace(-1, 1, 20001) * size for size in (1e-3, 1, 5, 100)]
    + [[0.0, 1e-40, 300.0, -300.0, 3e8]]
)
EXAMPLE = Path(__file__).parents[3] / "docs" / "example-c"


@pytest.fixture(scope="module")
def program() -> Program:
    """Of the agent with most kinds of operations; traced once, which takes longest."""
    observation = spaces.Dict(
        {"seen": OBSERVATIONS["nested"], "image": spaces.Box(0, 1, (5, 4, 3))}
    )
    agent = make(observation, ACTIONS["MultiDiscrete"], memory="gru-matrix", previous_reward=True)
    return trace(agent)


def by_c(program: Program) -> Runner:
    return c_files.runner(c_files.files(program))


def by_numpy(program: Program) -> Runner:
    return numpy_folder.runner(numpy_folder.files(program))


def by_kernels(program: Program) -> Runner:
    step = CompiledStep(lower(program))
    return lambda inputs: {name: x.copy() for name, x in step(inputs).items()}


RUNNERS = [
    pytest.param(by_c, marks=NEEDS_COMPILER),
    by_numpy,
    pytest.param(by_kernels, marks=NEEDS_KERNELS),
]


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_step_is_the_policys(program: Program, runner: Callable[[Program], Runner]) -> None:
    check(program.agent, program.signature, runner(program), steps=40)


@pytest.mark.slow
@pytest.mark.parametrize("memory", MEMORIES)
def test_a_step_of_every_memory_is_the_policys(memory: str) -> None:
    plain: dict[str, Any] = {}
    for settings in (plain, EVERYTHING):
        program = trace(make(memory=memory, activation="elu", **settings))
        for runner in (by_c, by_numpy, by_kernels):
            check(program.agent, program.signature, runner(program), steps=200)


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_a_step_of_every_space_is_the_policys(observation: str, action: str) -> None:
    persistence = 0.5 if action == "Box" else 0.0
    agent = make(OBSERVATIONS[observation], ACTIONS[action], action_persistence=persistence)
    for batch, runners in ((1, (by_c, by_numpy, by_kernels)), (3, (by_numpy, by_kernels))):
        program = trace(agent, batch=batch)
        for runner in runners:
            check(agent, program.signature, runner(program), steps=100)


@NEEDS_KERNELS
def test_a_step_is_the_same_on_every_instruction_set(program: Program) -> None:
    found = library()
    assert found is not None
    found.recurrent_limit_isa(0)
    try:
        check(program.agent, program.signature, by_kernels(program), steps=20)
    finally:
        found.recurrent_limit_isa(2)


@NEEDS_KERNELS
@pytest.mark.parametrize("isa", [0, 2])
def test_the_functions_of_the_kernels_are_exact_to_a_few_roundings(isa: int) -> None:
    """The oracle is torch in double precision, also of what is infinite, tiny or no number."""
    row = np.concatenate([NUMBERS, [np.inf, -np.inf, np.nan]]).astype(np.float32)
    x = whole(Buffer("x", "float32", row.size), row.shape)
    y = {kind: whole(Buffer(kind, "float32", row.size), row.shape) for kind in NAMES}
    operations = tuple(Operation(kind, out, (x,)) for kind, out in y.items())
    listing = Listing(Signature((), (), {}, 1), {"x": x}, y, operations)
    found = library()
    assert found is not None
    found.recurrent_limit_isa(isa)
    try:
        outputs = CompiledStep(listing)({"x": row})
    finally:
        found.recurrent_limit_isa(2)
    for kind, got in outputs.items():
        right = getattr(torch, kind)(torch.as_tensor(row).double()).float().numpy()
        np.testing.assert_allclose(got, right, rtol=4e-7, atol=1e-7, err_msg=kind)


def test_a_format_without_torch_needs_a_number_of_streams(tmp_path: Path) -> None:
    policy = Policy(make())
    streams: dict[FormatName, tuple[Any, ...]] = {"c": ("dynamic", 2), "numpy": ("dynamic",)}
    for to, refused in streams.items():
        for batch in refused:
            with pytest.raises(ExportError, match=r"batch=1 \(--batch 1\)"):
                policy.export(tmp_path / "x", to, batch)
    assert not list(tmp_path.iterdir())


def test_an_export_over_a_policy_is_refused_with_what_names_another_place(tmp_path: Path) -> None:
    policy, path = Policy(make()), tmp_path / "policy.safetensors"
    policy.save(path)
    with pytest.raises(
        ExportError, match=r"another place for the export: path=\.\.\. \(--out PATH\)"
    ):
        policy.export(path, "torch")


# ----------------------------------------------------------------------------------------- in C


def compiled(source: Path, flags: tuple[str, ...], out: Path, compiler: str = "cc") -> None:
    command = [compiler, *c_files.STRICT, *flags, "-o", str(out), str(source), "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True)


def written(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / "policy.c"


@NEEDS_COMPILER
def test_the_functions_of_c_are_exact_to_a_few_roundings(tmp_path: Path) -> None:
    """The oracle is torch in double precision, also of what is infinite, tiny or no number."""
    kinds = [
        f"void of_{one}(float *x, int n) {{ while (n--) x[n] = {one}(x[n]); }}\n"
        for one in NAMES.values()
    ]
    header = "#include <math.h>\n#include <stdint.h>\n#include <string.h>\n"
    helpers = [
        text
        for name, text in FUNCTIONS.items()
        if not name.startswith(("least", "greatest", "mod"))
    ]
    (tmp_path / "functions.c").write_text(header + "".join(helpers + kinds))
    compiled(
        tmp_path / "functions.c", ("-O1", "-shared", "-fPIC", "-Wno-unused"), tmp_path / "f.so"
    )
    library = ctypes.CDLL(str(tmp_path / "f.so"))
    x = np.concatenate([NUMBERS, [np.inf, -np.inf, np.nan]]).astype(np.float32)
    for kind, name in NAMES.items():
        found = x.copy()
        getattr(library, f"of_{name}")(found.ctypes.data_as(ctypes.c_void_p), len(found))
        right = getattr(torch, kind)(torch.as_tensor(x).double()).float().numpy()
        np.testing.assert_allclose(found, right, rtol=4e-7, atol=1e-7, err_msg=kind)


STATUSES = """
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "policy.h"
int main(void) {
    policy_state s, before;
    float obs[3] = {1, 2, 3};
    uint8_t mask[4] = {1, 1, 1, 1}, none[4] = {0};
    int64_t action[1] = {-7};
    memset(&s, 0, sizeof s);
    policy_reset(&s);
    printf("%d", policy_step(&s, obs, mask, action));
    before = s;
    obs[1] = NAN;
    printf(" %d", policy_step(&s, obs, mask, action));
    obs[1] = 2;
    printf(" %d", policy_step(&s, obs, none, action));
    printf(" %d", memcmp(&s, &before, sizeof s));
    printf(" %d\\n", policy_step(&s, obs, mask, action));
    return action[0] < 2 || action[0] > 5;
}
"""


@NEEDS_COMPILER
@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("flags", [(), ("-m32",), ("-O1", "-g", "-fsanitize=address,undefined")])
def test_c_refuses_bad_input_and_keeps_its_state(
    compiler: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler}")
    source = written(c_files.files(trace(make(memory="matrix"))), tmp_path)
    (tmp_path / "main.c").write_text(STATUSES)
    probe = subprocess.run(
        [compiler, *flags, "-x", "c", "-", "-o", str(tmp_path / "probe")],
        input="#include <stdint.h>\nint main(void) { return 0; }",
        text=True,
        capture_output=True,
    )
    if probe.returncode:
        pytest.skip(f"{compiler} has no libraries for {' '.join(flags)} here")
    compiled(source, (*flags, str(tmp_path / "main.c")), tmp_path / "main", compiler)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0 1 3 0 0\n"


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("space", "wrong"),
    [
        (OBSERVATIONS["Discrete"], [[1], [7]]),
        (OBSERVATIONS["MultiDiscrete"], [[0, 0], [4, 0], [1, -3], [1, 2]]),
        (OBSERVATIONS["MultiBinary"], [[0, 1, 1, 2], [0, -1, 1, 1], [0.5, 0, 0, 0]]),
    ],
)
def test_c_refuses_what_its_space_does_not_hold(space: gym.Space[Any], wrong: list[Any]) -> None:
    listing = listing_of(make(space, memory="none"), batch=1)
    source = c_source.written(listing, "policy", limits_of(space), [4], int8=False)
    texts = (source.header, source.source, listing.signature.to_json())
    run = c_files.runner(dict(zip(c_files.NAMES, map(str.encode, texts), strict=True)))
    given = {
        field.name: np.zeros([int(n or 1) for n in field.shape], field.dtype)
        for field in listing.signature.inputs
    }
    given["action_mask"][:] = True
    for value, refused in [*((one, True) for one in wrong), (space.sample(), False)]:
        given["obs"] = np.asarray(value, given["obs"].dtype).reshape(given["obs"].shape)
        if refused:
            with pytest.raises(ExportError, match="status 2"):
                run(given)
        else:
            run(given)


@NEEDS_COMPILER
def test_weights_of_8_bits_give_nearly_the_same(program: Program) -> None:
    short = c_files.runner(c_files.short_files(program))
    exact = by_numpy(program)
    sizes = [
        sum(map(len, files(program).values())) for files in (c_files.short_files, c_files.files)
    ]
    assert sizes[0] < 0.75 * sizes[1]
    worst: list[float] = []

    def compared(inputs: Arrays) -> Arrays:
        right = exact(inputs)
        worst.append(float(np.abs(short(inputs)["value"] - right["value"]).max()))
        return right

    check(program.agent, program.signature, compared, steps=20)
    assert 1e-6 < max(worst) < 0.5


@NEEDS_COMPILER
@pytest.mark.slow
def test_a_policy_of_8_bits_keeps_its_return(tmp_path: Path) -> None:
    """The T-maze has but two episodes, and a return of 1 only for whoever remembers."""
    policy = learnt_maze(tmp_path)
    program = trace(policy.agent)
    for files in (c_files.files, c_files.short_files):
        assert returns_of(c_files.runner(files(program)), program) == [1.0, 1.0]


def returns_of(run: Runner, program: Program) -> list[float]:
    """Those of the two episodes of a maze of four steps."""
    found = []
    for sign in (0, 1):
        env, seen, total = TMaze(length=4), sign, 0.0
        env.reset(seed=0)
        env.goal[:] = sign
        given = {
            field.name: np.zeros([int(n or 1) for n in field.shape], field.dtype)
            for field in program.signature.inputs
        }
        given["action_mask"][:] = True
        given["episode_start"][:] = True
        for _ in range(env.max_episode_steps):
            given["obs"][:] = seen
            outputs = run(given)
            given |= {name: outputs[after] for name, after in program.signature.state.items()}
            given["episode_start"] = np.zeros(1, bool)
            observations, rewards, terminated, _, _ = env.step(outputs["action"])
            seen, total = int(observations[0]), total + float(rewards[0])
            if terminated[0]:
                break
        found.append(total)
    return found


def learnt_maze(folder: Path) -> Policy:
    """An LSTM that has learnt a maze of four steps."""
    config = recurrent_rl.TrainConfig(
        "recurrent_rl/TMaze-v0",
        env=recurrent_rl.EnvConfig(env_kwargs={"length": 4}),
        agent=AgentConfig(memory="lstm", hidden_size=32),
        total_timesteps=50_000,
        eval_episodes=0,
        log_dir=str(folder),
    )
    return load_policy(recurrent_rl.train(config).policy_path)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++")
def test_the_source_also_compiles_as_cpp_and_its_stack_is_as_stated(tmp_path: Path) -> None:
    images = spaces.Box(0, 255, (12, 12, 3), np.uint8)
    source = written(c_files.files(trace(make(images, memory="gru-matrix"))), tmp_path)
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fstack-usage"]
    command = ["g++", "-x", "c++", *flags, "-c", str(source), "-o", str(tmp_path / "policy.o")]
    subprocess.run(command, check=True)
    stated = re.search(r"about ([\d,]+) bytes", (tmp_path / "policy.h").read_text())
    taken = re.search(r"policy_step.*\t(\d+)\t", (tmp_path / "policy.su").read_text())
    assert stated
    assert taken
    assert int(stated[1].replace(",", "")) == pytest.approx(int(taken[1]), rel=0.1, abs=500)


class Pole:
    """The physics of docs/example-c, and its random starts."""

    def __init__(self) -> None:
        self.seed = 1

    def start(self) -> float:
        self.seed = (self.seed * 1664525 + 1013904223) % 2**32
        return self.seed / 2**32 * 0.1 - 0.05

    def episodes(self, policy: Policy, steps: int = 1000) -> list[int]:
        """How long each episode lasts, the last one cut off."""
        actor, lasted, standing, found = policy.actor(), 0, False, []
        for step in range(steps):
            if not standing:
                if step:
                    found.append(lasted)
                x, v, angle, spin = (self.start() for _ in range(4))
                lasted = 0
                actor.reset()
            force = 10.0 if actor.act(np.array([x, angle], np.float32)) == 1 else -10.0
            c, s = math.cos(angle), math.sin(angle)
            common = (force + 0.05 * spin * spin * s) / 1.1
            spin_up = (9.8 * s - c * common) / (0.5 * (4.0 / 3.0 - 0.1 * c * c / 1.1))
            speed_up = common - 0.05 * spin_up * c / 1.1
            x, v = x + 0.02 * v, v + 0.02 * speed_up
            angle, spin = angle + 0.02 * spin, spin + 0.02 * spin_up
            standing = abs(x) <= 2.4 and abs(angle) <= 12 * 2 * math.pi / 360
            lasted += 1
        return [*found, lasted]


@NEEDS_COMPILER
@pytest.mark.slow
def test_the_example_in_c_plays_as_the_policy_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    space = spaces.Box(-5, 5, (2,))
    agent = ActorCritic(space, spaces.Discrete(2), AgentConfig("lstm", hidden_size=16))
    with torch.no_grad():
        agent.head.linear.weight.mul_(100)
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project)
    policy = Policy(agent)
    policy.export(project / "policy", "c")
    subprocess.run(["make", "-s"], cwd=project, check=True, env=os.environ)
    played = subprocess.run(["./play"], cwd=project, check=True, capture_output=True, text=True)
    episodes = [int(line.split()[3]) for line in played.stdout.splitlines()]
    assert episodes == Pole().episodes(policy)
    assert len(set(episodes)) > 3


# ------------------------------------------------------------------------------------- on NumPy


@pytest.mark.slow
def test_a_numpy_policy_plays_without_torch_as_the_policy_does(tmp_path: Path) -> None:
    agent = make(memory="gru-rotor", previous_reward=True)
    policy = Policy(agent)
    policy.export(tmp_path / "robot", "numpy")
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(30, 3)).astype(np.float32)
    np.save(tmp_path / "observations.npy", observations)
    (tmp_path / "robot" / "main.py").write_text(
        "import sys\n"
        "import numpy as np\n"
        "from policy import Policy\n"
        "policy = Policy()\n"
        "for t, observation in enumerate(np.load(sys.argv[1])):\n"
        "    if t == 12:\n"
        "        policy.reset()\n"
        "    print(policy.act(observation, 0.5 * t, [True, t % 3 > 0, True, True]))\n"
        "assert 'torch' not in sys.modules and 'recurrent_rl' not in sys.modules\n"
    )
    command = [sys.executable, "main.py", str(tmp_path / "observations.npy")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path / "robot", capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    actor, expected = policy.actor(), []
    for t, observation in enumerate(observations):
        if t == 12:
            actor.reset()
        mask = [True, t % 3 > 0, True, True]
        expected.append(int(actor.act(observation, 0.5 * t, mask)))
    assert list(map(int, done.stdout.split())) == expected
    assert len(set(expected)) > 1


# ---------------------------------------------------------------------------------- acting fast


def both(agent: ActorCritic, **options: Any) -> tuple[Any, Any]:
    policy = Policy(agent)
    return policy.actor(**options), policy.actor(runner="fast", **options)


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_fast_actor_plays_as_the_exact_one(action: str, deterministic: bool) -> None:
    observation = OBSERVATIONS["nested"]
    agent = make(observation, ACTIONS[action], memory="gru-rotor", previous_reward=True)
    observation.seed(0)
    exact, fast = both(agent, deterministic=deterministic, seed=3)
    for t in range(40):
        if t % 11 == 0:
            exact.reset()
            fast.reset()
        seen = observation.sample()
        right, got = exact.act(seen, reward=0.1 * t), fast.act(seen, reward=0.1 * t)
        assert np.asarray(got).dtype == np.asarray(right).dtype
        np.testing.assert_allclose(got, right, atol=1e-5)


@pytest.mark.parametrize("deterministic", [True, False])
def test_actors_of_several_streams_play_each_as_alone(deterministic: bool) -> None:
    """Six streams: four fill a tile of the kernels' product, two go row by row."""
    streams, rng = 6, np.random.default_rng(0)
    settings: dict[str, Any] = {"memory": "gru-rotor", "previous_reward": True}
    policy = Policy(make(OBSERVATIONS["nested"], ACTIONS["Discrete"], **settings))
    together = [
        policy.actor(deterministic, seed=3, runner=runner, num_envs=streams)
        for runner in ("exact", "fast")
    ]
    alone = [policy.actor() for _ in range(streams)]
    space = gym.vector.utils.batch_space(OBSERVATIONS["nested"], streams)
    space.seed(0)
    for _ in range(20):
        starts, seen, rewards = rng.random(streams) < 0.2, space.sample(), rng.normal(size=streams)
        masks = rng.random((streams, 4)) < 0.7
        masks[:, 1] = True
        for actor in (*together, *(one for one, start in zip(alone, starts, strict=True) if start)):
            actor.reset(starts) if actor in together else actor.reset()
        found = [actor.act(seen, rewards, masks) for actor in together]
        np.testing.assert_array_equal(found[1], found[0])
        if deterministic:
            each = gym.vector.utils.iterate(space, seen)
            right = [a.act(*x) for a, *x in zip(alone, each, rewards, masks, strict=True)]
            np.testing.assert_array_equal(found[0], right)
    for actor in together:
        with pytest.raises(ObservationError, match="of 3 streams, and the actor plays 6"):
            actor.act(gym.vector.utils.batch_space(OBSERVATIONS["nested"], 3).sample(), 0.0)
        with pytest.raises(ObservationError, match="one for each of 6 streams"):
            actor.act(seen, [0.0, 1.0])


def same_list(agent: ActorCritic, traced: Program) -> None:
    found, right = listing_of(agent, traced.signature.batch or 1), lower(traced)
    assert [one.kind for one in found.operations] == [one.kind for one in right.operations]
    check(agent, found.signature, CompiledStep(found), steps=40)


@pytest.mark.parametrize("observation", ["Discrete", "MultiDiscrete"])
def test_indices_of_several_streams_are_each_a_row_of_its_own(observation: str) -> None:
    """As one at the place of the index, where all other numbers are zero."""
    agent = make(OBSERVATIONS[observation], memory="none", one_hot=True)
    listing = listing_of(agent, batch=3)
    step = Step(to_json(listing), constants_of(listing))
    check(agent, listing.signature, lambda inputs: copies(step(inputs)), steps=20)


def test_numbers_that_are_not_hidden_are_each_read_from_their_place() -> None:
    agent = make(hide_indices=(1,), memory="none")
    listing = listing_of(agent, batch=1)
    step = Step(to_json(listing), constants_of(listing))
    check(agent, listing.signature, lambda inputs: copies(step(inputs)), steps=20)


@NEEDS_KERNELS
def test_a_recorded_step_is_the_traced_one(program: Program) -> None:
    same_list(program.agent, program)


@pytest.mark.slow
@NEEDS_KERNELS
@pytest.mark.parametrize("memory", MEMORIES)
def test_a_recorded_step_of_every_memory_is_the_traced_one(memory: str) -> None:
    for activation in ("silu", "relu"):
        agent = make(memory=memory, activation=activation)
        same_list(agent, trace(agent, batch=5))


def test_a_recorder_sees_numbers_read_and_written() -> None:
    class Step(torch.nn.Module):
        def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.function(x + 0),)

    x = torch.arange(6.0)
    halves = Step(lambda x: torch.cat([half.mul_(2).add_(1) for half in x.chunk(2)]))
    assert torch.equal(record(halves, (x,))(x + 1)[0], (x + 1) * 2 + 1)
    for function in (lambda x: x * float(x[0]), lambda x: x[1:].mul_(2).sum() + x):
        with pytest.raises(ExportError, match="cannot be listed"):
            record(Step(function), (x,))


@pytest.mark.slow
def test_acting_fast_does_not_load_torchs_compiler(tmp_path: Path) -> None:
    Policy(make(memory="lstm")).save(tmp_path / "policy.safetensors")
    program = (
        "import sys, recurrent_rl\n"
        "actor = recurrent_rl.load_policy('policy.safetensors').actor(runner='fast')\n"
        "actor.act([0.0, 0.1, 0.2])\n"
        "assert 'torch._dynamo' not in sys.modules and 'sympy' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_fast_actor_refuses_what_the_exact_one_does_and_goes_on() -> None:
    exact, fast = both(make(memory="lstm", normalize_observations=False))
    rng = np.random.default_rng(0)
    good = rng.normal(size=(6, 3)).astype(np.float32)
    bad: list[tuple[Any, Any]] = [
        (np.array([1, np.nan, 1], np.float32), None),
        (np.array([1, 1e300, 1]), None),
        (np.ones(4, np.float32), None),
        ("text", None),
        (good[0], [False] * 4),
        (good[0], [True] * 5),
    ]
    for t, (seen, mask) in enumerate(bad):
        here = good[t % len(good)]
        assert fast.act(here) == exact.act(here)
        errors = []
        for actor in (exact, fast):
            with pytest.raises(UserError) as caught:
                actor.act(seen, action_masks=mask)
            errors.append((type(caught.value), str(caught.value)))
        assert errors[0] == errors[1]
    assert fast.act(good[0].astype(np.float64)) == exact.act(good[0].astype(np.float64))


@pytest.mark.slow
def test_a_fast_actor_without_kernels_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recurrent_rl.agents.fast_actor.library", lambda: None)
    exact, fast = both(make(memory="gru"))
    assert fast.runner == "numpy"
    for seen in np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32):
        assert fast.act(seen) == exact.act(seen)


def test_a_fast_actor_refuses_what_it_cannot_compute() -> None:
    agent = make(memory="none", activation="relu", normalize_observations=False)
    for parameter in agent.parameters():
        parameter.detach().abs_().mul_(10)
    for actor in both(agent):
        with pytest.raises(ObservationError, match="too large for this policy"):
            actor.act(np.full(3, 3e38, np.float32))


def test_a_fast_actor_says_what_is_missing() -> None:
    fast = both(make(memory="none", previous_reward=True))[1]
    fast.act(np.ones(3, np.float32))
    with pytest.raises(ObservationError, match="reward="):
        fast.act(np.ones(3, np.float32))
    with pytest.raises(ObservationError, match="finite"):
        fast.act(np.ones(3, np.float32), reward=math.inf)
    for no_number in ("much", "3"):
        with pytest.raises(ObservationError, match="must be a number"):
            fast.act(np.ones(3, np.float32), reward=no_number)


def test_the_numbers_of_c_are_those_of_python() -> None:
    from recurrent_rl.agents.export.c.text import literal

    for x in (0.1, -1e-30, 3.4e38, 1.0, -0.0, 123456789.0):
        single = np.float32(x)
        text = literal(float(single), "float32").strip("()").rstrip("f")
        assert ctypes.c_float(float(text)).value == single
        assert float(literal(x, "float64").strip("()")) == x
    assert literal(-math.inf, "float32") == "(-INFINITY)"
    assert literal(-0.5, "float32") == "(-0.5f)"
    assert literal(-(2**63), "int64") == "(-9223372036854775807 - 1)"


@NEEDS_KERNELS
def test_a_fast_actor_takes_a_single_number_and_tensors_with_a_gradient() -> None:
    exact, fast = both(make(spaces.Box(0, 1, ()), ACTIONS["Discrete"], memory="gru"))
    for seen in (
        np.float32(0.3),
        np.array(0.9, np.float32),
        0.2,
        torch.tensor(0.4).requires_grad_(),
    ):
        assert fast.act(seen) == exact.act(seen)
    with pytest.raises(ObservationError, match="differ in shape"):
        fast.act([[0.0], [0.0, 1.0]])


def on_numpy(agent: ActorCritic, batch: int = 1) -> NumpyPolicy:
    return numpy_folder.policy(numpy_folder.written(listing_of(agent, batch), agent))


def test_an_exported_policy_is_reset_by_flags_or_an_index() -> None:
    agent = make(OBSERVATIONS["nested"], ACTIONS["Discrete"], memory="gru")
    exported = on_numpy(agent, batch=2)
    exported._first[:] = False
    exported.reset(np.array([False, True]))
    assert exported._first.tolist() == [False, True]
    exported.reset(0)
    assert exported._first.all()
    with pytest.raises(ValueError, match="give True or False for each, or an index"):
        exported.reset(np.array([0, 1]))


@pytest.mark.parametrize("of", ["", "policy.safetensors"])
def test_an_export_to_numpy_is_no_policy_file_and_says_what_loads_it(
    tmp_path: Path, of: str
) -> None:
    agent = make(memory="gru")
    for name, data in numpy_folder.written(listing_of(agent, 1), agent).items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(PolicyFileError, match=r"an export to NumPy.* `from policy import Policy`"):
        load_policy(tmp_path / of)


class Seen(NamedTuple):
    """A state whose field is called as observations are."""

    obs_mean: torch.Tensor


class Mean(recurrent_rl.Memory):
    """A memory of one's own: a running mean of what it is fed."""

    state_type = Seen

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(input_size, input_size)

    def initial_state(self, batch: int) -> Seen:
        return Seen(torch.zeros(1, batch, self.input_size))

    def step(self, x: torch.Tensor, state: Any, episode_start: Any = None) -> Any:
        (mean,) = self.reset(state, episode_start)
        mean = 0.9 * mean + 0.1 * x
        return mean[0], Seen(mean)


def test_a_field_of_a_state_is_not_taken_for_a_part_of_the_observation() -> None:
    space = spaces.Box(-1, 1, (2,))
    agent = ActorCritic(space, spaces.Discrete(3), AgentConfig(memory=Mean))
    exported, actor = on_numpy(agent.eval()), Policy(agent).actor()
    seen = np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype(np.float32)
    assert [int(exported.act(x)) for x in seen] == [int(actor.act(x)) for x in seen]


def test_an_exported_policy_goes_on_from_a_state_that_it_is_given() -> None:
    agent = make(memory="gru-matrix", previous_reward=True)
    first, again, fresh, told = (on_numpy(agent) for _ in range(4))
    rng = np.random.default_rng(0)
    for seen in rng.normal(size=(5, 3)):
        first.act(seen, reward=1.0)
    state = {before: first.output(after) for before, after in first.signature["state"].items()}
    seen = rng.normal(size=3)
    with pytest.raises(ValueError, match="needs the previous_reward"):
        again.act(seen, **state)
    first.act(seen, reward=2.0)
    again.act(seen, reward=2.0, **state)
    fresh.act(seen, previous_action_in=[1])  # of an action alone nothing has begun
    told.act(seen, episode_start=[1], **state)
    after = [*first.signature["state"].values(), "logits"]
    for name in after:
        np.testing.assert_array_equal(again.output(name), first.output(name))
        np.testing.assert_array_equal(told.output(name), fresh.output(name))
    assert not np.allclose(first.output("logits"), fresh.output("logits"))
    with pytest.raises(ValueError, match="episode_start is"):
        told.act(seen, reward=2.0, episode_start=[2], **state)
    first.act(seen, reward=2.0, episode_start=[True])  # also amid an episode
    np.testing.assert_array_equal(first.output("logits"), fresh.output("logits"))


def test_an_exported_policy_is_told_which_streams_begin() -> None:
    agent = make(memory="gru", previous_reward=True)
    policy, alone = on_numpy(agent, batch=2), on_numpy(agent)
    seen = np.random.default_rng(0).normal(size=(4, 2, 3))
    for t in range(4):
        policy.act(seen[t], reward=[0.5, 0.5], episode_start=[t == 0, t in (0, 2)])
        if t == 2:
            alone.reset()
        alone.act(seen[t, 1], reward=0.5)
        np.testing.assert_allclose(policy.output("logits")[1:], alone.output("logits"), atol=1e-6)


BYTES = spaces.Box(0, 255, (9, 8), np.uint8)
WRONG: list[tuple[gym.Space[Any], Any, str]] = [
    (OBSERVATIONS["Discrete"], 7, "obs is 7; expected whole numbers from .2. to .6."),
    (OBSERVATIONS["Discrete"], 1, "obs is 1;"),
    (OBSERVATIONS["Discrete"], 3.5, "obs is of type float64; expected int64"),
    (OBSERVATIONS["Discrete"], "3", "obs is of type <U1"),
    (OBSERVATIONS["Discrete"], None, "obs is of type object"),
    (OBSERVATIONS["MultiDiscrete"], [4, -2], "obs is .4, -2.; expected"),
    (OBSERVATIONS["MultiDiscrete"], [1, 2], "obs is .1, 2.; expected"),
    (OBSERVATIONS["MultiBinary"], [[0, 1], [1, 2]], "obs is"),
    (OBSERVATIONS["MultiBinary"], [[0, 1], [0.5, 1]], "obs is"),
    (BYTES, np.full((9, 8), 300), "obs is of type int64; expected uint8"),
    (BYTES, np.full((9, 8), 0.5), "obs is of type float64; expected uint8"),
    (OBSERVATIONS["vector"], [1.0, 1e300, 0.0], "obs holds NaN, infinity or a number beyond"),
    (OBSERVATIONS["vector"], [1.0, np.nan, 0.0], "obs holds NaN, infinity or a number beyond"),
]


@pytest.mark.parametrize(("space", "value", "message"), WRONG)
def test_an_exported_policy_refuses_what_its_space_does_not_hold(
    space: gym.Space[Any], value: Any, message: str
) -> None:
    """As the policy does, whose predict refuses each."""
    agent, right = make(space, memory="gru"), space.sample()
    with pytest.raises(ObservationError):
        Policy(agent).predict(value, deterministic=True)
    exported, undisturbed = on_numpy(agent), on_numpy(agent)
    for _ in range(2):
        assert exported.act(right) == undisturbed.act(right)
        with pytest.raises(ValueError, match=message):
            exported.act(value)
    np.testing.assert_array_equal(exported.output("h_out"), undisturbed.output("h_out"))


def test_an_exported_policy_refuses_a_mask_that_is_neither_true_nor_false() -> None:
    exported, seen = on_numpy(make()), np.zeros(3, np.float32)
    for mask in ([0.3, 0, 1, 1], [2, 0, 1, 1], [np.nan, 0, 1, 1]):
        with pytest.raises(ValueError, match=r"action_mask (is|holds)"):
            exported.act(seen, action_mask=mask)


def test_an_exported_policy_tells_whole_numbers_beyond_2_to_the_63_apart() -> None:
    agent = make(spaces.Box(0, 2**64 - 1, (2,), np.uint64), ACTIONS["Box"], memory="gru")
    agent.reader.get_buffer("centre_0").fill_(2.0**63 + 2**20)
    exported, actor = on_numpy(agent), Policy(agent).actor()
    for i in range(4):
        seen = np.array([2**63 + 2**20 + i, 2**63 + 2**20 - i], np.uint64)
        np.testing.assert_allclose(exported.act(seen), actor.act(seen), atol=1e-5)


def test_an_exported_policy_refuses_a_mask_that_allows_nothing() -> None:
    agent = make(action=spaces.MultiDiscrete([2, 3]))
    exported, seen = on_numpy(agent), np.zeros(3, np.float32)
    for mask in ([0, 0, 1, 1, 1], [1, 1, 0, 0, 0]):
        with pytest.raises(ValueError, match="allows nothing"):
            exported.act(seen, action_mask=mask)
    assert exported.act(seen, action_mask=[0, 1, 0, 0, 1.0]).tolist() == [1, 2]
    several = on_numpy(agent, batch=2)
    with pytest.raises(ValueError, match="allows nothing"):
        several.act(np.zeros((2, 3), np.float32), action_mask=[[1] * 5, [0, 1, 0, 0, 0]])
