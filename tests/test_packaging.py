"""What is built and installed: wheel, sdist and editable install, and how they behave elsewhere."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import gymnasium as gym
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recurrent_rl.agents import ActorCritic, AgentConfig, Policy

ROOT = Path(__file__).parents[1]
# The compiled kernel is there if there is a compiler, and not missed if there is none.
KERNEL = re.compile(r"recurrent_rl/agents/kernels/_sequence\.[\w.-]+")
HAS_COMPILER = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is not None
ENV_ID = "recurrent_rl.envs:recurrent_rl/RepeatPrevious-Easy-v0"

CONSUMER = f"""
import sys

import agents
import envs
import gymnasium

assert envs.OWNER == agents.OWNER == "the project"
environment = gymnasium.make("{ENV_ID}")
assert "torch" not in sys.modules

import recurrent_rl
import recurrent_rl.agents
import recurrent_rl.envs

actor = recurrent_rl.load_policy("policy.safetensors").actor()
observation, _ = environment.reset(seed=0)
for _ in range(5):
    action = actor.act(observation)
    assert environment.action_space.contains(action), action
    observation, *_ = environment.step(action)
print(recurrent_rl.__version__)
for module in (recurrent_rl, recurrent_rl.envs, recurrent_rl.agents):
    print(module.__file__)
"""


class Build(NamedTuple):
    """What was built out of a copy of the sources."""

    wheel: Path
    sdist: Path


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that must succeed."""
    result = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def build(source: Path, output: Path, kind: Literal["wheel", "sdist"], **environment: str) -> Path:
    command = (sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", output)
    run(*command, cwd=source, **environment)
    (built,) = output.iterdir()
    return built


def sources() -> Counter[str]:
    """The files that the installed package must have, each once."""
    folders = {"recurrent_rl": ".", "envs": "recurrent_rl", "agents": "recurrent_rl"}
    modules = [
        Path(parent, path.relative_to(ROOT)).as_posix()
        for folder, parent in folders.items()
        for path in (ROOT / folder).rglob("*.py")
    ]
    return Counter([*modules, "recurrent_rl/py.typed"])


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that nothing left over in the checkout gets in."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    for name in ("recurrent_rl", "envs", "agents"):
        ignore = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    return source


@pytest.fixture(scope="session")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    return Build(
        wheel=build(source, tmp_path_factory.mktemp("wheel"), "wheel"),
        sdist=build(source, tmp_path_factory.mktemp("sdist"), "sdist"),
    )


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody else's project, with packages named envs and agents and a policy of ours."""
    folder = tmp_path_factory.mktemp("project")
    for package in ("envs", "agents"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text('OWNER = "the project"\n')
    (folder / "use.py").write_text(CONSUMER)
    environment = gym.make(ENV_ID)
    config = AgentConfig(hidden_size=8, encoder_size=8)
    agent = ActorCritic(environment.observation_space, environment.action_space, config)
    Policy(agent).save(folder / "policy.safetensors")
    return folder


@pytest.fixture(scope="session")
def unpacked_wheel(built: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(built.wheel) as wheel:
        wheel.extractall(folder)
    return folder


def test_the_wheel_holds_each_module_exactly_once(built: Build) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = Counter(name for name in wheel.namelist() if ".dist-info/" not in name)
    extra = names - sources()
    assert sources() - names == Counter()
    assert [bool(KERNEL.fullmatch(name)) for name in extra.elements()] == [True] * HAS_COMPILER


def test_without_a_compiler_the_wheel_is_built_without_the_kernel(
    source: Path, project: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "source"
    shutil.copytree(source, copy, symlinks=True, ignore=shutil.ignore_patterns("build"))
    wheel = build(copy, tmp_path / "dist", "wheel", CC="no-such-compiler")
    with zipfile.ZipFile(wheel) as archive:
        assert Counter(n for n in archive.namelist() if ".dist-info/" not in n) == sources()
        archive.extractall(tmp_path / "site-packages")
    run(sys.executable, "use.py", cwd=project, PYTHONPATH=str(tmp_path / "site-packages"))


@pytest.mark.slow
def test_the_wheel_built_from_the_sdist_holds_the_same_files(built: Build, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as sdist:
        # Like a clone on a system without links: here the mapping alone finds the packages.
        assert not [member.name for member in sdist if member.issym()]
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    wheel = build(source, tmp_path / "dist", "wheel")
    with zipfile.ZipFile(wheel) as again, zipfile.ZipFile(built.wheel) as first:
        assert sorted(again.namelist()) == sorted(first.namelist())


def test_the_wheel_declares_the_command_and_the_environments(unpacked_wheel: Path) -> None:
    (distribution,) = metadata.distributions(path=[str(unpacked_wheel)])
    points = {(point.group, point.name): point.value for point in distribution.entry_points}
    assert points == {
        ("console_scripts", "recurrent-rl"): "recurrent_rl.__main__:main",
        ("gymnasium.envs", "recurrent_rl"): "recurrent_rl.envs:register_envs",
    }


def test_a_project_with_its_own_envs_and_agents_runs_a_policy_from_the_wheel(
    unpacked_wheel: Path, project: Path
) -> None:
    output = run(sys.executable, "use.py", cwd=project, PYTHONPATH=str(unpacked_wheel))
    version, *files = output.splitlines()
    assert version == metadata.version("recurrent-rl")
    assert [Path(file).relative_to(unpacked_wheel).as_posix() for file in files] == [
        "recurrent_rl/__init__.py",
        "recurrent_rl/envs/__init__.py",
        "recurrent_rl/agents/__init__.py",
    ]


def test_a_project_with_its_own_envs_and_agents_runs_a_policy_from_the_editable_install(
    project: Path,
) -> None:
    version, *files = run(sys.executable, "use.py", cwd=project).splitlines()
    assert version == metadata.version("recurrent-rl")
    assert [Path(file).resolve() for file in files] == [
        ROOT / folder / "__init__.py" for folder in ("recurrent_rl", "envs", "agents")
    ]


def test_python_m_recurrent_rl_is_the_command(tmp_path: Path) -> None:
    assert "train" in run(sys.executable, "-m", "recurrent_rl", "--help", cwd=tmp_path)


def test_every_package_that_an_install_brings_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins)
    applying = [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate()]
    assert len(applying) == len(set(applying))

    wanted, seen = [Requirement("recurrent-rl[dev,plot]")], set()
    while wanted:
        requirement = wanted.pop()
        seen.add(canonicalize_name(requirement.name))
        for line in metadata.requires(requirement.name) or []:
            needed = Requirement(line)
            if requirement.name == "torch" and "platform_system" in line:
                continue  # CUDA's libraries, of the versions that torch names
            extras = requirement.extras or {""}
            applies = needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras
            )
            if applies and canonicalize_name(needed.name) not in seen:
                wanted.append(needed)
    assert seen - {"recurrent-rl"} - set(applying) == set()
