"""Runs on what is registered nowhere: a class, a function, an environment, a vector environment."""

import dataclasses
import json
import subprocess
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from recurrent_rl.agents.policy import load_policy
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.fields import is_same_environment
from recurrent_rl.runs.evaluation import evaluate
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.trained_on import environment_of, settings_for
from recurrent_rl.runs.training import resume, train
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.sources import find_source
from tests.recurrent_rl import corridor
from tests.recurrent_rl.corridor import Corridor, Parts, make, make_many
from tests.recurrent_rl.runs import small_runs

HERE = "tests.recurrent_rl.corridor"


def config(tmp_path: Path, **changes: Any) -> TrainConfig:
    """A small run of no environment."""
    return dataclasses.replace(small_runs.config(tmp_path), **{"env_id": None} | changes)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_policy(path).agent.state_dict()


@pytest.mark.parametrize("env", [Corridor, make, make_many, f"{HERE}:make"])
def test_a_run_on_what_can_be_imported_resumes_and_is_evaluated_without_it(
    tmp_path: Path, env: Any
) -> None:
    name = env if isinstance(env, str) else f"{HERE}:{env.__name__}"
    whole = train(config(tmp_path / "a"), env=env, progress=False)
    named = train(config(tmp_path / "b", env_id=name), progress=False)
    small_runs.assert_same(weights(whole.policy_path), weights(named.policy_path))
    saved = RunFolder(whole.run_dir).load_config()
    assert saved.env_id == name
    assert load_policy(whole.policy_path).summary["env_id"] == name
    longer = resume(whole.run_dir, total_timesteps=8 * 16 * 8, progress=False)
    again = resume(named.run_dir, total_timesteps=8 * 16 * 8, env=env, progress=False)
    assert longer.timesteps == 8 * 16 * 8
    small_runs.assert_same(weights(longer.policy_path), weights(again.policy_path))
    policy = load_policy(longer.policy_path)
    assert environment_of(policy, whole.run_dir) == (name, EnvConfig())
    a, b = (evaluate(policy, one, 6, seed=0) for one in (env, name))
    np.testing.assert_array_equal(a.returns, b.returns)


def test_arguments_reach_a_class_in_training_and_evaluation(tmp_path: Path) -> None:
    settings = config(tmp_path, env=EnvConfig({"length": 5}), eval_episodes=4)
    result = train(settings, Corridor, progress=False)
    policy = load_policy(result.policy_path)
    assert policy.summary["env"]["env_kwargs"] == {"length": 5}
    assert environment_of(policy, result.run_dir) == (f"{HERE}:Corridor", settings.env)
    assert result.evaluation is not None
    # The class has the name that the policy was trained on, and so its settings.
    own = evaluate(policy, Corridor, 4, seed=0, deterministic=False)
    same = evaluate(policy, partial(Corridor, 5), 4, seed=0, deterministic=False)
    np.testing.assert_array_equal(own.lengths, same.lengths)
    short = evaluate(policy, Corridor, 4, seed=0, deterministic=False, env_config=EnvConfig())
    assert short.lengths.mean() < own.lengths.mean()


@pytest.mark.parametrize(
    "env", [lambda: make(), partial(make, 4), lambda num_envs: make_many(num_envs)]
)
def test_a_function_that_cannot_be_imported_is_given_again_to_resume(
    tmp_path: Path, env: Any
) -> None:
    result = train(config(tmp_path, eval_episodes=3), env=env, progress=False)
    assert result.evaluation is not None
    name = RunFolder(result.run_dir).load_config().env_id
    assert name in ("<lambda>", "<make>")
    assert result.run_dir.name.startswith(f"{name[1:-1]}__lstm__0__")
    with pytest.raises(UserError, match=r"recurrent_rl\.resume\('.*', env=\.\.\.\)"):
        resume(result.run_dir, total_timesteps=1024, progress=False)
    longer = resume(result.run_dir, env=env, total_timesteps=1024, progress=False)
    assert longer.timesteps == 1024
    policy = load_policy(result.policy_path)
    assert len(evaluate(policy, env, 3, num_envs=2).returns) == 3
    calls = {
        result.run_dir: r"evaluate_run\('.*', env=\.\.\.\)",
        result.policy_path: r"evaluate\(recurrent_rl\.load_policy\('.*'\), env, 1",
    }
    for source, call in calls.items():
        with pytest.raises(UserError, match=rf"trained on {name}.*recurrent_rl\.{call}"):
            environment_of(policy, source)
        assert environment_of(policy, source, f"{HERE}:make")[0] == f"{HERE}:make"


def test_settings_hold_for_the_same_environment_and_not_for_one_that_is_called_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, env=EnvConfig(observation_delay=1))
    other, package = ModuleType("other"), ModuleType("package")
    exec("def make(): raise LookupError('not this one')", vars(other))
    vars(package)["make"] = make
    for module in (other, package):
        module.__spec__ = ModuleSpec(module.__name__, None)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    named, unnamed = (train(settings, env=x, progress=False) for x in (make, partial(make, 4)))
    policy = load_policy(named.policy_path)
    for source in (named.run_dir, named.policy_path):
        assert environment_of(policy, source, f"{HERE}:make")[1] == settings.env
        assert environment_of(policy, source, "other:make")[1] == EnvConfig()
        assert environment_of(policy, source, f"{HERE}:Corridor")[1] == EnvConfig()
    for env, own in (
        (make, settings.env),
        ("package:make", settings.env),
        (vars(other)["make"], EnvConfig()),
        ("other:make", EnvConfig()),
        (partial(make), EnvConfig()),
    ):
        assert settings_for(policy, find_source(env).name) == own
    policy = load_policy(unnamed.policy_path)
    assert environment_of(policy, unnamed.run_dir, f"{HERE}:make")[1] == EnvConfig()
    with pytest.raises(UserError, match=r"<make> with observation_delay=1, .* or env_config=EnvCo"):
        evaluate(policy, partial(make, 4), 2)
    assert len(evaluate(policy, partial(make, 4), 2, env_config=settings.env).returns) == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("mine:Task-v0", "Task-v0", True),
        ("mine:Task-v0", "mine.tasks:Task-v0", True),
        ("mine:space/Task-v0", "space/Task-v0", True),
        ("mine:Task", "Task", True),
        ("mine:/Task", "yours:Task", True),
        ("<Task-v0>", "Task-v0", True),
        ("mine:Task", "mine:.Task", True),
        ("mine:.Task", "Task", False),
        ("mine:Task", "yours:Task", False),
        ("space/Task-v0", "Task-v0", False),
        ("<Task>", "mine:Task", False),
        ("<lambda>", "<lambda>", False),
    ],
)
def test_an_id_is_the_same_with_any_module_and_what_a_module_defines_with_its_own(
    one: str, other: str, same: bool
) -> None:
    assert is_same_environment(one, other) == is_same_environment(other, one) == same


def test_an_interrupted_run_equals_the_whole_bit_for_bit_where_the_class_tells_its_state(
    tmp_path: Path,
) -> None:
    tmaze: Any = type(gym.make_vec("recurrent_rl/TMaze-v0", num_envs=1).unwrapped)
    whole = train(config(tmp_path / "a"), env=tmaze, progress=False)
    with pytest.raises(LookupError, match="no such dashboard"):
        train(
            config(tmp_path / "b"),
            env=tmaze,
            progress=False,
            callbacks=[small_runs.fail_at(8 * 16 * 3)],
        )
    (cut,) = (tmp_path / "b").iterdir()
    ended = resume(cut, progress=False)
    assert (ended.resumed_from, ended.notes) == (8 * 16 * 3, ())
    small_runs.assert_same(weights(whole.policy_path), weights(ended.policy_path))
    a, b = (
        evaluate(load_policy(one.policy_path), tmaze, 8, seed=0, deterministic=False)
        for one in (whole, ended)
    )
    np.testing.assert_array_equal(a.returns, b.returns)


def test_one_environment_is_trained_on_alone_and_stays_open(tmp_path: Path) -> None:
    env = make()
    settings = config(tmp_path, num_envs=None, num_steps=64, eval_episodes=2)
    result = train(settings, env=env, progress=False)
    saved = RunFolder(result.run_dir).load_config()
    assert (saved.env_id, saved.num_envs) == ("<Corridor>", 1)
    assert result.evaluation is not None
    assert not env.unwrapped.closed  # type: ignore[attr-defined]
    longer = resume(result.run_dir, env=env, total_timesteps=2048, progress=False)
    assert longer.timesteps == 2048
    with pytest.raises(UserError, match="num_envs is 1, but <Corridor> is 2 environments"):
        resume(result.run_dir, env=make_many(2), total_timesteps=4096, progress=False)
    assert len(evaluate(load_policy(result.policy_path), env, 2).returns) == 2
    with pytest.raises(UserError, match="num_envs is 8, but <Corridor> is one environment"):
        train(config(tmp_path), env=env, progress=False)


def test_a_vector_environment_is_trained_on_as_it_is_and_stays_open(tmp_path: Path) -> None:
    env = gym.wrappers.vector.RecordEpisodeStatistics(make_many(4))
    settings = config(tmp_path, num_envs=None, num_steps=None, seq_len=None, eval_episodes=2)
    result = train(settings, env=env, progress=False)
    assert RunFolder(result.run_dir).load_config().num_envs == 4
    assert result.evaluation is not None
    env.reset(seed=0)
    assert resume(result.run_dir, env=env, progress=False).timesteps == result.timesteps
    with pytest.raises(UserError, match="num_envs is 8, but <Corridor> is 4 environments"):
        train(config(tmp_path), env=env, progress=False)


def test_the_environment_a_run_resumes_on_is_the_one_it_was_trained_on(tmp_path: Path) -> None:
    run = train(config(tmp_path), env=make, progress=False).run_dir
    with pytest.raises(UserError, match=r"was trained on .*:make, and env is .*:Corridor\. Leave"):
        resume(run, env=Corridor, progress=False)
    file = RunFolder(run).config
    file.write_text(file.read_text().replace(HERE, "a_module_that_is_gone"))
    with pytest.raises(UserError, match=r"Module 'a_module_that_is_gone' .* cannot be imported"):
        resume(run, progress=False)
    assert resume(run, env=make, total_timesteps=1024, progress=False).timesteps == 1024


def test_workers_share_an_environment_that_they_can_import(tmp_path: Path) -> None:
    one, two = (
        train(config(tmp_path / str(workers), workers=workers), env=make, progress=False)
        for workers in (1, 2)
    )
    a, b = weights(one.policy_path), weights(two.policy_path)
    for name, x in a.items():
        torch.testing.assert_close(x, b[name])


@pytest.mark.parametrize(
    ("env", "changes", "message"),
    [
        (lambda: make(), {}, r"cannot import <lambda>\. Move it to a module of its own"),
        (make_many(8), {"num_envs": None}, "<Corridor> is an environment of this process alone"),
    ],
)
def test_workers_are_refused_where_they_cannot_import_it(
    tmp_path: Path, env: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"workers is 2, but .*{message}"):
        train(config(tmp_path, workers=2, **changes), env=env, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_is_left_out_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(tmp_path), env=Parts)
    told = "The observation's 'mission' is left out: it is always the text 'aaaa'."
    assert capsys.readouterr().out.count(told) == 1
    train(config(tmp_path), env=Parts, progress=False)
    assert told not in capsys.readouterr().out


class Stacks(gym.Env[Any, Any]):
    """Shows four images of 5 x 5, under a key."""

    observation_space = gym.spaces.Dict({"last": gym.spaces.Box(0, 1, (4, 5, 5, 1))})
    action_space = gym.spaces.Discrete(2)
    t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t = 0
        return {"last": np.zeros((4, 5, 5, 1), np.float32)}, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return {"last": np.ones((4, 5, 5, 1), np.float32)}, 0.0, self.t == 5, False, {}


def test_what_may_be_a_stack_of_images_and_is_read_as_a_vector_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(tmp_path), env=Stacks)
    told = "The observation's 'last' of shape (4, 5, 5, 1) is read as a vector of 100 numbers"
    assert capsys.readouterr().out.count(told) == 1
    train(config(tmp_path), env=Parts)
    assert "as a vector" not in capsys.readouterr().out


def test_wrappers_are_of_the_run_and_a_policy_file_imports_none(tmp_path: Path) -> None:
    env = EnvConfig(observe=("sign",), wrappers=(f"{HERE}:twice_as_bright", "frame-stack:2"))
    result = train(config(tmp_path, env=env, eval_episodes=2), env=Parts, progress=False)
    assert result.evaluation is not None
    policy = load_policy(result.policy_path)
    assert policy.observation_space.shape == (2, 1)
    assert RunFolder(result.run_dir).load_config().env == env
    assert resume(result.run_dir, total_timesteps=1024, progress=False).timesteps == 1024
    assert environment_of(policy, result.run_dir)[1] == env
    with pytest.raises(UserError, match=r"the wrapper '.*:twice_as_bright'\. What a file names"):
        evaluate(policy, Parts, 2)
    assert len(evaluate(policy, Parts, 2, env_config=env).returns) == 2


def test_a_run_of_a_version_without_wrappers_resumes(tmp_path: Path) -> None:
    run = train(small_runs.config(tmp_path), progress=False).run_dir
    file = RunFolder(run).config
    fields = json.loads(file.read_text())
    del fields["env"]["wrappers"], fields["env"]["observe"]
    file.write_text(json.dumps(fields))
    assert resume(run, total_timesteps=1024, progress=False).timesteps == 1024


def test_a_run_that_fails_says_how_it_is_resumed(tmp_path: Path) -> None:
    class Failing(Corridor):
        def step(self, action: Any) -> Any:
            raise LookupError("no such wall")

    with pytest.raises(LookupError) as failed:
        train(config(tmp_path), env=Failing, progress=False)
    if sys.version_info >= (3, 11):
        assert "recurrent_rl.resume('" in failed.value.__notes__[0]
        assert "env=...)" in failed.value.__notes__[0]


def test_evaluations_amid_training_on_a_given_environment_are_refused(tmp_path: Path) -> None:
    settings = dataclasses.replace(config(tmp_path), eval_interval=128, eval_episodes=2)
    with pytest.raises(UserError, match="eval_interval needs environments of its own, and <Corr"):
        train(settings, env=Corridor(), progress=False)
    assert not list(tmp_path.iterdir())


def test_an_evaluation_in_other_spaces_is_refused(tmp_path: Path) -> None:
    policy = load_policy(train(config(tmp_path), env=make, progress=False).policy_path)
    with pytest.raises(UserError, match="was trained for the observation space"):
        evaluate(policy, "CartPole-v1", 2)
    with pytest.raises(UserError, match="flicker cannot be"):
        evaluate(policy, make_many(2), 2, env_config=EnvConfig(flicker=0.5))


@pytest.mark.slow  # the page on your own environment does it too
def test_a_module_in_the_working_directory_is_found_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(Path(corridor.__file__).read_text())
    small = ["--num-envs=8", "--num-steps=16", "--memory=gru", "--hidden-size=8", "-q"]
    command = [sys.executable, "-m", "recurrent_rl"]

    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    steps = ["--total-timesteps=256", "--eval-episodes=2", "--workers=2"]
    run("train", "mine:make", "--env-kwargs", '{"length": 2}', *small, *steps)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mine-make__gru__0__")
    run("train", "--resume", str(folder), "--total-timesteps=512", "-q")
    assert "of 3 episodes" in run("evaluate", str(folder), "--episodes=3", "-q")
    policy = str(RunFolder(folder).policy)
    told = run("evaluate", policy, "--episodes=3", "-q", status=2)
    assert f"recurrent-rl evaluate {policy} --env-id mine:make" in told
    run("evaluate", policy, "--episodes=3", "-q", "--env-id", "mine:make")
    wrapped = ["--wrapper", "mine:twice_as_bright", "--wrapper", "frame-stack:2"]
    run("train", "mine:Parts", "--observe", "sign", *wrapped, *small, *steps[:2])
    assert "Did you mean mine:make" in run("train", "mine:mak", *small, status=2)
    assert "env_id is missing" in run("train", *small, status=2)
