"""Suites: planned, run side by side, stopped and resumed, and compared."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recurrent_rl.errors import UserError
from recurrent_rl.experiments.benchmark import _Worker, plan, run_all
from recurrent_rl.experiments.comparison import Comparison
from recurrent_rl.experiments.job import Job
from recurrent_rl.experiments.results import learning_curve, load_evaluated_run
from recurrent_rl.experiments.suites import SUITES, Suite, Task, find_suite
from recurrent_rl.resolve import choose_sizes
from recurrent_rl.runs.folder import RunFolder, RunState
from recurrent_rl.runs.training import resume
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.vectorize import make_vector_env
from tests.recurrent_rl.runs.small_runs import held_by_another

TINY = {
    "num_envs": 8,
    "num_steps": 16,
    "update_epochs": 1,
    "agent": {"hidden_size": 8, "encoder_size": 8},
}
SUITE = Suite(
    "two quick tasks",
    (
        Task("TMaze", "recurrent_rl/TMaze-v0", 1024, EnvConfig(env_kwargs={"length": 3})),
        Task("RepeatPrevious", "recurrent_rl/RepeatPrevious-Easy-v0", 1024),
    ),
)


def planned(out: Path, **changes: Any) -> list[Job]:
    settings = {
        "memories": ("gru",), "seeds": 1, "episodes": 10, "settings": TINY, **changes
    }  # fmt: skip
    return plan(SUITE, out, **settings)


@pytest.mark.parametrize("name", SUITES)
def test_every_task_of_every_suite_can_be_made(name: str) -> None:
    if needed := {"bodies": "mujoco", "images": "minigrid"}.get(name):
        pytest.importorskip(needed)
    for task in SUITES[name].tasks:
        config = task.config()
        if "Lunar" in config.environment:
            continue  # needs Box2D, whose import crashes where warnings are errors
        make_vector_env(config.environment, 2, config.env).close()
    names = [task.name for task in SUITES[name].tasks]
    assert len(set(names)) == len(names)


def test_the_suite_popgym_has_27_tasks() -> None:
    assert len(SUITES["popgym"].tasks) == 27


def test_a_suite_or_task_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"no suite 'popgim'. There are memory: .*; popgym: "):
        find_suite("popgim")
    with pytest.raises(UserError, match=r"no task 'Maze'. It has TMaze; RepeatPrevious."):
        SUITE.only(["Maze"])
    assert [task.name for task in SUITE.only(["TM"]).tasks] == ["TMaze"]


def test_a_plan_has_every_task_memory_and_seed_and_seeds_come_outermost(tmp_path: Path) -> None:
    jobs = planned(tmp_path, memories=("gru", "lstm"), seeds=2, name="small")
    assert [job.run_dir.name for job in jobs[:5]] == [
        "TMaze__small-gru__0",
        "TMaze__small-lstm__0",
        "RepeatPrevious__small-gru__0",
        "RepeatPrevious__small-lstm__0",
        "TMaze__small-gru__1",
    ]
    assert len({job.run_dir for job in jobs}) == 8
    first, other = jobs[0].config, jobs[3].config
    assert (first.num_envs, first.agent.hidden_size, first.gamma) == (8, 8, 0.99)
    assert (other.agent.memory, other.agent.hidden_size, other.eval_episodes) == ("lstm", 8, 10)


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be used: gamme is no .*Did you mean gamma"):
        planned(tmp_path, settings={"gamme": 1})
    with pytest.raises(UserError, match=r"gamma is 2\.0; it must be between 0 and 1"):
        planned(tmp_path, settings={"gamma": 2})
    for ending in ({"stop_at_return": 0.5}, {"patience": 100}):
        with pytest.raises(UserError, match="are compared after all their steps: leave them out"):
            planned(tmp_path, settings={**TINY, "eval_interval": 128, **ending})


def test_a_benchmark_runs_compares_and_does_nothing_twice(tmp_path: Path) -> None:
    jobs = planned(tmp_path, memories=("gru", "none"))
    outcome = run_all(jobs, workers=2)
    assert outcome.failed == {}
    assert all(job.done for job in jobs)
    written = {job.run_dir: (job.run_dir / "policy.safetensors").stat().st_mtime for job in jobs}
    assert run_all(jobs, workers=2).failed == {}
    for run_dir, then in written.items():
        assert (run_dir / "policy.safetensors").stat().st_mtime == then

    runs = [load_evaluated_run(folder.path) for folder in RunFolder.find([tmp_path])]
    assert {run.path for run in runs} == {job.run_dir for job in jobs}
    assert all(run.evaluation.episodes == 10 for run in runs)
    assert {run.evaluation.timesteps for run in runs} == {1024}
    for run in runs:
        is_none = run.config.agent.memory == "none"
        assert (run.evaluation.memory_ablation is None) == is_none
        assert run.evaluation.stochastic is not None
    comparison = Comparison(runs)
    assert comparison.methods == ["gru", "none"]
    assert sorted(comparison.tasks) == ["RepeatPrevious-Easy", "TMaze, length 3"]
    for path in comparison.save(tmp_path / "out"):
        assert path.stat().st_size > 0
    report = (tmp_path / "out" / "results.md").read_text()
    for expected in ("TMaze, length 3", "interquartile mean", "P(better than gru)"):
        assert expected in report


def test_a_run_is_taken_up_again_whose_rollouts_were_left_to_the_default(tmp_path: Path) -> None:
    (job, _) = planned(tmp_path, settings={})
    job.folder.save_config(choose_sizes(job.config, 9))
    assert planned(tmp_path, settings={})[0] == job


def test_a_folder_with_a_run_of_other_settings_is_not_taken_over(tmp_path: Path) -> None:
    (job, _) = planned(tmp_path)
    job.folder.save_config(job.config)
    planned(tmp_path)
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    planned(moved)  # the same settings, by another path
    with pytest.raises(UserError, match=r"a run with other settings \(gamma\). Name these"):
        planned(moved, settings={**TINY, "gamma": 0.9})
    planned(moved, settings={**TINY, "log_interval": 2, "env": {"vectorization": "sync"}})
    with pytest.raises(UserError, match=r"env_kwargs.length, env.env_kwargs.device"):
        planned(moved, settings={**TINY, "env": {"env_kwargs": {"device": 1}}})


def test_a_run_that_was_stopped_in_its_final_comparison_is_evaluated_in_the_other_ways(
    tmp_path: Path,
) -> None:
    job, _ = planned(tmp_path, settings={**TINY, "eval_interval": 512})
    job.folder.begin(job.config)
    resume(job.run_dir, progress=False)  # its last evaluation in training is of all steps
    assert (job.state, job.done) == (RunState.EVALUATED, False)
    assert run_all([job], workers=1, progress=False).failed == {}
    assert job.done
    assert load_evaluated_run(job.run_dir).evaluation.stochastic is not None


def test_a_run_that_fails_is_told_and_the_others_continue(tmp_path: Path) -> None:
    jobs = planned(tmp_path)
    broken = dataclasses.replace(jobs[0].config, env_id="recurrent_rl/Tmaze-v0")
    jobs[0] = dataclasses.replace(jobs[0], config=broken)
    outcome = run_all(jobs, workers=1)
    assert "Did you mean recurrent_rl/TMaze-v0" in outcome.failed[jobs[0].run_dir]
    assert "Traceback" in (jobs[0].run_dir / "log.txt").read_text()
    assert jobs[1].done


@pytest.mark.slow
def test_two_benchmarks_of_one_folder_share_its_runs_and_end_with_the_same_table(
    tmp_path: Path,
) -> None:
    command = [
        *(sys.executable, "-m", "recurrent_rl", "benchmark", "memory", "--out", str(tmp_path)),
        *("--tasks", "TMaze", "RepeatPrevious", "--memories", "gru", "--seeds", "1"),
        *("--jobs", "1", "--total-timesteps", "1024", "--episodes", "10"),
        *("--settings", json.dumps(TINY)),
    ]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    for benchmark in both:
        output, _ = benchmark.communicate(timeout=300)
        assert benchmark.returncode == 0, output
        assert f"Results:   {tmp_path}/results.md\n" in output
        table = output.split("With stochastic actions")[0]
        assert "TMaze, length 50" in table
        assert "RepeatPrevious-Easy" in table
    folders = RunFolder.find([tmp_path])
    assert len(folders) == 2
    for folder in folders:
        assert folder.state() is RunState.EVALUATED
        steps, _ = learning_curve(folder.path, "time/fps")
        assert steps.tolist() == list(range(128, 1025, 128))  # each once
        assert folder.log.read_text().count("Training: 1,024 of 1,024") == 1


@pytest.mark.slow
def test_a_run_that_is_held_elsewhere_is_waited_for_and_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recurrent_rl.experiments.benchmark.ELSEWHERE_SECONDS", 0.1)
    jobs = planned(tmp_path)
    jobs[0].folder.save_config(jobs[0].config)
    with held_by_another(jobs[0].run_dir, jobs[1].folder.evaluation):
        assert run_all(jobs, workers=1, progress=False).failed == {}
    assert all(job.done for job in jobs)
    written = [job.folder.evaluation.stat().st_mtime for job in jobs]
    assert written[0] > written[1]  # although it comes first


def test_a_worker_that_finds_its_run_held_elsewhere_has_not_failed(tmp_path: Path) -> None:
    job, _ = planned(tmp_path)
    job.run_dir.mkdir()
    with held_by_another(job.run_dir):
        worker = _Worker(job)
        assert worker.failure() is None
        assert worker.held_elsewhere
    assert not job.folder.exists()  # whose settings the other writes
