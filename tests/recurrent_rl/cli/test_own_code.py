"""What the user's own code raises is told in a sentence that says the line; status 1."""

import json
import re
from pathlib import Path

import pytest

from tests.recurrent_rl.cli.commands import TINY, ended, one_line, run

SMALL = [flag for flag in TINY if not flag.startswith("--encoder")]
MODULE = """
import multiprocessing.util, sys, time
import gymnasium as gym, numpy as np, torch
from torch import nn

class Env(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, fails=None):
        self.fails, self.steps = fails, 0
        if fails == "slow end":  # of the process
            multiprocessing.util.Finalize(None, time.sleep, args=(15,), exitpriority=0)
        if fails in ("make", "slow end"):
            {}["level"]  # fault: make

    def reset(self, *, seed=None, options=None):
        if self.fails == "reset":
            raise RuntimeError("no simulator")  # fault: reset
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.fails == "step" and self.steps > 20:
            [][5]  # fault: step
        if self.fails == "exit" and self.steps > 20:
            sys.exit()  # fault: exit
        if self.fails == "sum":
            raise Odd("a", "b")  # fault: sum
        return np.zeros(3, np.float32), 1.0, self.steps % 10 == 0, False, {}

class Second(Env):
    def __init__(self, fails):
        is_first = multiprocessing.current_process().name == "MainProcess"
        super().__init__(None if is_first else fails)

class Odd(Exception):
    def __init__(self, one, other):
        super().__init__(one)

def make(fails):
    return nothing  # fault: function

def int_of(level):
    return int(level)  # fault: value

def make_level(level):
    return Env(int_of(level))

def wrapper(env):
    raise KeyError("camera")  # fault: wrapper

class Wrapper(gym.Wrapper):
    def step(self, action):
        return self.env.step(action.lost)  # fault: wrapper's step

class Reader(nn.Module):
    def __init__(self, space):
        super().__init__()
        self.output_size = 8
        self.net = nn.Linear(5, 8)

    def forward(self, x):
        return self.net(x)  # fault: encoder's forward

class Encoder(Reader):
    def __init__(self, space):
        super().__init__(space)
        self.net = nn.Linear(space.shape[1], 8)  # fault: encoder
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module beside the reader, with the faults above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"own_code_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


def line_of(fault: str) -> int:
    """Where it stands in the module."""
    lines = MODULE.splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.endswith(f"# fault: {fault}"))


def said(error: str, fault: str, module: str) -> str:
    """The sentence that tells it."""
    return f"error: Your code raised {error} (line {line_of(fault)} of {Path.cwd() / module}.py)."


@pytest.mark.parametrize(
    ("fault", "error", "arguments"),
    [
        ("make", "KeyError: 'level'", ["--env-kwargs", '{"fails": "make"}']),
        ("reset", "RuntimeError: no simulator", ["--env-kwargs", '{"fails": "reset"}']),
        ("step", "IndexError: list index out of range", ["--env-kwargs", '{"fails": "step"}']),
        ("wrapper", "KeyError: 'camera'", ["--wrapper", "MODULE:wrapper"]),
        (
            "wrapper's step",
            "AttributeError: 'numpy.int64' object has no attribute 'lost'",
            ["--wrapper", "MODULE:Wrapper"],
        ),
        ("encoder", "IndexError: tuple index out of range", ["--encoder", "MODULE:Encoder"]),
        (
            "encoder's forward",
            "RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x3 and 5x8)",
            ["--encoder", "MODULE:Reader"],
        ),
    ],
    ids=lambda x: x if isinstance(x, str) and " " not in x else "",
)
def test_what_own_code_raises_is_told_in_a_sentence_with_its_line_and_status_1(
    fault: str, error: str, arguments: list[str], module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [argument.replace("MODULE", module) for argument in arguments]
    status, _, err = ended(["train", f"{module}:Env", *arguments, *SMALL, "-q"], capsys)
    assert status == 1
    assert err.startswith(said(error, fault, module))
    assert "Traceback" not in err
    assert "recurrent_rl/" not in err.replace(f"{module}.py", "")
    if fault in ("step", "wrapper's step", "encoder's forward"):  # a run had begun
        assert err.splitlines()[1].startswith(f"The run on {module}:Env failed in iteration ")


@pytest.mark.parametrize(("fault", "error"), [("step", "IndexError: list"), ("sum", "RuntimeErr")])
def test_an_environment_in_a_process_of_its_own_tells_the_line_too(
    fault: str, error: str, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the error itself cannot be sent to this process."""
    kwargs = json.dumps({"fails": fault})
    arguments = ["--env-kwargs", kwargs, "--vectorization", "async", *SMALL, "--num-envs=2"]
    status, _, err = ended(["train", f"{module}:Env", *arguments, "-q"], capsys)
    assert status == 1
    assert err.startswith(f"error: Your code raised {error}")
    assert f"(line {line_of(fault)} of {Path.cwd() / module}.py)." in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("fails", "fault", "who"),
    [
        ("make", "make", "Worker 1: "),
        ("slow end", "make", "Worker 1: "),
        ("step", "step", "Worker 1, whose environment 0 is the run's environment 4: "),
    ],
)
def test_what_own_code_raises_in_another_worker_is_told_with_its_line(
    fails: str, fault: str, who: str, module: str
) -> None:
    kwargs = json.dumps({"fails": fails})
    arguments = ["--env-kwargs", kwargs, "--workers=2", "--threads=1", *SMALL, "-q"]
    result = run("train", f"{module}:Second", *arguments, cwd=Path.cwd())
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {who}Your code raised ")
    assert f"(line {line_of(fault)} of {Path.cwd() / module}.py)." in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("kind", ["Env", "Second"])
def test_an_environment_that_calls_exit_loses_nothing_and_gives_status_1(
    kind: str, module: str
) -> None:
    kwargs = json.dumps({"fails": "exit"})
    arguments = ["--env-kwargs", kwargs, "--workers=2", "--threads=1", *SMALL, "-q"]
    result = run("train", f"{module}:{kind}", *arguments, cwd=Path.cwd())
    assert result.returncode == 1, result.stderr
    assert "called exit() after step 20 " in result.stderr
    assert f"(line {line_of('exit')} of {Path.cwd() / module}.py)." in result.stderr
    assert "Its 1 whole iteration (128 steps) is saved" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_of_several_calls_shows_them(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path.cwd() / f"{module}_calls.py").write_text(f"import {module}\n\n{module}.make(0)\n")
    status, _, err = ended(["train", f"{module}_calls:Env"], capsys)
    assert status == 1
    first, *calls = err.splitlines()
    assert first == said("NameError: name 'nothing' is not defined", "function", module)
    assert [re.sub(r"\^|~", "", line).strip() for line in calls if line.strip(" ^~")] == [
        f'File "{Path.cwd() / module}_calls.py", line 3, in <module>',
        f"{module}.make(0)",
        f'File "{Path.cwd() / module}.py", line {line_of("function")}, in make',
        "return nothing  # fault: function",
    ]


def test_a_module_with_a_syntax_error_is_told_with_its_line(
    tmp_path: Path, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"{module}_typo.py").write_text("x = 1\ndef f(:\n")
    status, _, err = ended(["train", f"{module}_typo:Env"], capsys)
    assert status == 1
    assert f"SyntaxError: invalid syntax (line 2 of {tmp_path / module}_typo.py)." in err


def test_a_module_that_imports_what_is_missing_is_told_by_that_line(
    tmp_path: Path, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"{module}_lacks.py").write_text("import os\nimport not_there\n")
    _, _, err = ended(["train", "CartPole-v1", "--import", f"{module}_lacks"], capsys)
    assert "(No module named 'not_there'). Mend that import " in one_line(err)
    assert f"(line 2 of {tmp_path / module}_lacks.py), or install what it needs." in one_line(err)


def test_arguments_that_an_environment_refuses_are_told_with_the_line(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--env-kwargs", '{"level": "x"}']
    _, _, err = ended(["train", f"{module}:make_level", *arguments], capsys)
    assert "could not be made with env_kwargs {'level': 'x'}: invalid literal" in one_line(err)
    assert f"(line {line_of('value')} of {Path.cwd() / module}.py)" in one_line(err)
