"""Runs with a memory, an encoder or a head of one's own: trained, resumed, shared, evaluated."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import recurrent_rl
from recurrent_rl import evaluate, load_policy, resume, train
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.named_parts import PARTS
from recurrent_rl.cli import main
from recurrent_rl.cli.info import info_command
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.runs.checkpoint import save_checkpoint
from recurrent_rl.runs.folder import CHECKPOINT, CONFIG
from recurrent_rl.runs.recorded import RecordedEpisode, side_by_side
from recurrent_rl.trainer import Trainer
from tests.own_parts import Telling, Window, as_before
from tests.recurrent_rl.runs.checkpoints import load_checkpoint
from tests.recurrent_rl.runs.small_runs import assert_same, config, weights

WINDOW, COUNTER = "tests.own_parts:Window", "tests.own_parts:Counter"
AGENTS: dict[str, dict[str, Any]] = {
    "window": {"memory": WINDOW},
    "counter": {"memory": COUNTER},
    "separate": {"memory": WINDOW, "separate_memory": True},
    "encoder": {"encoder": "tests.own_parts:Frozen"},
    "head": {"head": "tests.own_parts:Bins"},
    "encoder and head": {"encoder": "tests.own_parts:Frozen", "head": "tests.own_parts:Bins"},
    "inputs as they come": {
        "memory": COUNTER,
        "encoder": "tests.own_parts:Frozen",
        "encoder_layers": 0,
        "previous_action": False,
    },
}


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """What a test registers is unknown again afterwards."""
    with as_before():
        yield


def settings(tmp_path: Path, which: str = "window", **changes: Any) -> TrainConfig:
    env_id = "recurrent_rl/Pendulum-NoVelocity-v0" if "head" in which else "recurrent_rl/TMaze-v0"
    agent = AgentConfig(**{"hidden_size": 8, "encoder_size": 8} | AGENTS[which])
    return config(tmp_path, env_id, agent=agent, memory_interval=1, **changes)


@pytest.mark.parametrize("which", AGENTS)
def test_a_run_is_resumed_as_if_it_had_never_stopped(which: str, tmp_path: Path) -> None:
    whole = Trainer(settings(tmp_path, which))
    metrics = [whole.iterate() for _ in range(4)]
    first = Trainer(settings(tmp_path, which))
    first.iterate()
    first.iterate()
    save_checkpoint(first, tmp_path / CHECKPOINT)
    second = Trainer(settings(tmp_path, which))
    assert load_checkpoint(second, tmp_path / CHECKPOINT)
    resumed = [second.iterate() for _ in range(2)]
    assert_same(weights(whole), weights(second))
    for expected, got in zip(metrics[2:], resumed, strict=True):
        assert got == pytest.approx(expected, nan_ok=True, rel=0, abs=0)
        assert got["memory/first_ratio_error"] < 1e-5


def test_diagnostics_skip_what_a_state_cannot_give(tmp_path: Path) -> None:
    window = Trainer(settings(tmp_path)).iterate()
    assert window["memory/state_norm"] > 0
    assert window["memory/gradient_norm"] > 0
    for which in ("counter", "inputs as they come"):
        counter = Trainer(settings(tmp_path, which)).iterate()
        assert "memory/state_norm" not in counter
        assert "memory/gradient_norm" not in counter
        assert counter["memory/state_drift"] == 0


class Still(gym.Env[Any, Any]):
    """Shows one observation, and is cut after five steps."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, space: gym.Space[Any]) -> None:
        self.observation_space, self.steps = space, 0
        space.seed(3)
        self.shown = space.sample()
        if space.dtype == np.float64:
            self.shown = self.shown + 1.7e9  # a clock, which is centred

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**given)
        self.steps = 0
        return self.shown, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.shown, 1.0, False, self.steps == 5, {}


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (gym.spaces.Box(-100, 100, (3,), np.int8), torch.float32),
        (gym.spaces.Box(0, 2**31 - 1, (3,), np.int32), torch.float32),
        (gym.spaces.Box(-np.inf, np.inf, (3,), np.float64), torch.float32),
        (gym.spaces.Box(-2, 2, (3,), np.float16), torch.float32),
        (gym.spaces.Box(0, 255, (4, 4, 3), np.uint8), torch.uint8),
        (gym.spaces.Box(0, 1, (3,), np.bool_), torch.uint8),  # type: ignore[arg-type]
        (gym.spaces.MultiBinary(3), torch.uint8),
        (gym.spaces.Discrete(5, start=2), torch.int64),
    ],
    ids=lambda x: str(getattr(x, "dtype", "")),
)
def test_an_encoder_is_shown_the_same_in_training_imitation_and_play(
    tmp_path: Path, space: gym.Space[Any], dtype: torch.dtype, normalize: bool
) -> None:
    agent = AgentConfig(hidden_size=8, encoder=Telling, normalize_observations=normalize)
    settings = dataclasses.replace(config(tmp_path, None), agent=agent)
    env = Still(space)
    trainer = Trainer(settings, env=lambda: Still(space))
    Telling.seen.clear()
    trainer.collector.collect()
    policy = trainer.policy()
    state = policy.predict(env.shown)[1]
    policy.predict(env.shown, state)
    policy.actor().act(env.shown)
    policy.actor(num_envs=2).act(np.stack([env.shown] * 2))
    evaluate(policy, lambda: Still(space), 1)
    batch = side_by_side(policy.agent, [RecordedEpisode([env.shown] * 3, [0, 1, 0])], gamma=0.9)
    policy.agent.unroll(batch.components, policy.agent.initial_state(1))
    assert len(Telling.seen) > 16 + 6  # of the rollout's rows, and of all else
    first = Telling.seen[0][0]
    for x in Telling.seen:
        assert x.dtype is dtype
        assert all(torch.equal(one, first) for one in x)


def test_a_memory_whose_state_takes_no_gradient_is_diagnosed_without_one(tmp_path: Path) -> None:
    class Raw(Window):
        """Keeps its inputs, which come from a frozen encoder, as they are."""

        def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
            super().__init__(input_size, hidden_size, num_layers)
            self.enter.requires_grad_(False)

    recurrent_rl.register_memory("raw")(Raw)
    changes = {**AGENTS["inputs as they come"], "memory": "raw"}
    trainer = Trainer(
        dataclasses.replace(settings(tmp_path), agent=AgentConfig(hidden_size=8, **changes))
    )
    before = weights(trainer)
    scalars = trainer.iterate()
    assert scalars["memory/state_norm"] > 0
    assert "memory/gradient_norm" not in scalars
    after = weights(trainer)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert not any("enter" in name or "backbone" in name for name in moved)
    assert "head.linear.weight" in moved


@pytest.mark.parametrize(
    "which", ["window", pytest.param("encoder and head", marks=pytest.mark.slow)]
)
def test_two_workers_learn_what_one_would(which: str, tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        done = train(settings(tmp_path, which, workers=workers, seq_len=None), progress=False)
        found.append(load_policy(done.policy_path).agent.state_dict())
    for name, x in found[0].items():
        atol = 0.02 * float(x.abs().max()) + 1e-6
        torch.testing.assert_close(found[1][name], x, rtol=0, atol=atol)


TAXI = max(env_id for env_id in gym.registry if env_id.startswith("Taxi-"))  # tells masks
REFUSED = r"masks of 6 entries.* head Maskless takes none: set self.mask_size = 6 in its __init__"


def test_a_head_that_takes_no_masks_is_refused_where_there_are_some(tmp_path: Path) -> None:
    agent = AgentConfig("gru", hidden_size=8, encoder_size=8, head="tests.own_parts:Maskless")
    settings = config(tmp_path, TAXI, agent=agent)
    with pytest.raises(UserError, match=REFUSED):
        train(settings, progress=False)
    assert not list(tmp_path.iterdir())
    trainer = Trainer(dataclasses.replace(settings, env_id="FrozenLake-v1"))  # without masks
    trainer.iterate()
    policy = trainer.policy()
    with pytest.raises(UserError, match=r"masks of 4 entries"):
        policy.predict(3, action_masks=[1, 1, 1, 1])
    for actor in (policy.actor(), policy.actor(runner="fast")):
        actor.act(3)
        with pytest.raises(UserError, match=r"masks of 4 entries"):
            actor.act(3, action_masks=[1, 1, 1, 1])


def test_a_memory_that_workers_cannot_import_is_refused(tmp_path: Path) -> None:
    class Local(Window):
        pass

    recurrent_rl.register_memory("local")(Local)
    agent = AgentConfig("local", hidden_size=8, encoder_size=8)
    run = dataclasses.replace(settings(tmp_path, workers=2), agent=agent)
    with pytest.raises(UserError, match=r"defined in a function: .* or train with workers=1"):
        train(run, progress=False)
    assert train(dataclasses.replace(run, workers=1), progress=False).timesteps > 0


SCRIPT = """
import recurrent_rl, sys
from tests.own_parts import Window

@recurrent_rl.register_memory("script")
class Script(Window):
    pass

if __name__ == "__main__":
    agent = recurrent_rl.AgentConfig("script", hidden_size=8, encoder_size=8)
    run = recurrent_rl.train(recurrent_rl.TrainConfig(
        "recurrent_rl/TMaze-v0", num_envs=8, num_steps=16, total_timesteps=512, workers=2,
        eval_episodes=4, agent=agent), progress=False)
    print(len(run.evaluation.returns))
"""


@pytest.mark.slow
def test_a_script_may_define_the_memory_that_its_workers_train(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python(tmp_path, "script.py")
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr
    typed = python(tmp_path, "-c", SCRIPT)
    assert typed.returncode == 1
    assert "it is defined at a prompt: other workers cannot import it" in typed.stderr


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_run_of_before_there_were_own_encoders_is_resumed(tmp_path: Path) -> None:
    run = settings(tmp_path, total_timesteps=128)
    run = dataclasses.replace(run, agent=AgentConfig("gru", hidden_size=8, encoder_size=8))
    done = train(run, progress=False)
    path = done.run_dir / CONFIG
    fields = json.loads(path.read_text())
    for name in ("encoder", "head"):
        del fields["agent"][name]
    path.write_text(json.dumps(fields))
    assert resume(done.run_dir, total_timesteps=256, progress=False).timesteps == 256


def test_the_settings_of_a_run_are_read_without_its_parts(tmp_path: Path) -> None:
    agent = AgentConfig("nowhere:Mine", head="nowhere:Other")
    run = dataclasses.replace(settings(tmp_path), agent=agent)
    assert TrainConfig.from_json(run.to_json()).agent == run.agent
    with pytest.raises(UserError, match="Module 'nowhere' of memory 'nowhere:Mine' cannot"):
        Trainer(run)


MODULE = """
import recurrent_rl
from tests.own_parts import Window
print("imported")

class Plain(Window):
    pass

@recurrent_rl.register_memory("named")
class Named(Window):
    pass
"""
SIZES = [
    *("--hidden-size=8", "--encoder-size=8", "--num-envs=8", "--num-steps=16", "--quiet"),
    *("--eval-episodes=2", "--num-minibatches=2"),
]


def forget() -> None:
    """As in a process of its own, which knows nothing but the library's parts."""
    sys.modules.pop("mine", None)
    for parts in PARTS.values():
        parts._by_path.clear()
        for name in [name for name in parts if parts.is_own(name)]:
            del parts[name]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module `mine` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def command(*arguments: str) -> int:
    """A command in a process that knows nothing yet; its status."""
    forget()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    forget()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_line_names_memories_and_files_have_none_imported(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ["train", "recurrent_rl/TMaze-v0", "--total-timesteps=256", *SIZES]
    assert command(*task, "--memory", "mine:Plain", "--log-dir", "plain") == 0
    (run,) = (mine / "plain").iterdir()
    assert "mine-Plain" in run.name
    capsys.readouterr()

    # The run's own config.json says the same as the command line did.
    evaluate = ["evaluate", "--episodes=2", "--quiet", "--no-compare"]
    assert command(*evaluate, str(run)) == 0
    assert capsys.readouterr().out.startswith("imported\n")
    assert command("train", "--resume", str(run), "--total-timesteps=384", "--quiet") == 0
    assert capsys.readouterr().out.startswith("imported\n")

    # A file alone is not believed.
    policy = str(run / "policy.safetensors")
    assert command(*evaluate, policy) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "at the command line --import mine:Plain" in told.err
    assert command(*evaluate, policy, "--import", "mine:Plain") == 0


@pytest.mark.slow
def test_the_command_line_imports_the_module_that_registers_a_memory(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ["train", "recurrent_rl/TMaze-v0", "--total-timesteps=256", "--memory=named", *SIZES]
    assert command(*task) == 2
    assert "on the command line --import MODULE" in capsys.readouterr().err
    assert command(*task, "--import", "mine", "--workers=2") == 0
    (run,) = (mine / "runs").iterdir()
    for arguments in (
        ["evaluate", str(run), "--episodes=2", "--quiet", "--no-compare"],
        ["train", "--resume", str(run), "--total-timesteps=384", "--quiet"],
    ):
        assert command(*arguments) == 2
        assert command(*arguments, "--import", "mine") == 0
    forget()
    assert info_command([str(run), "--import", "mine"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "nowhere:Mine"], "Module 'nowhere' of memory 'nowhere:Mine' cannot"),
        (["--memory", "tests.own_parts:Mine"], "Module 'tests.own_parts' has no memory 'Mine'"),
        (["--import", "nowhere"], "Module 'nowhere' of --import cannot be imported"),
        (["--encoder", "gru"], "encoder is 'gru'; it must be one of your own"),
    ],
)
def test_a_part_that_cannot_be_found_ends_the_command(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["train", "recurrent_rl/TMaze-v0", "--total-timesteps=256", *arguments])
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
