"""Suites: planned, run side by side, stopped and resumed, and what their comparison says."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recurrent_rl.agents.actor_critic import AgentConfig
from recurrent_rl.config import EnvConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.benchmark import Job, plan, run_all
from recurrent_rl.experiments.comparison import Comparison, common_curves, method_labels, task_name
from recurrent_rl.experiments.results import Run, find_runs, load_run
from recurrent_rl.experiments.suites import SUITES, Suite, Task, find_suite
from recurrent_rl.runs.evaluation import Evaluation, Figures, SavedEvaluation
from recurrent_rl.vectorize import make_vector_env

TINY = {
    "num_envs": 8,
    "num_steps": 16,
    "update_epochs": 1,
    "agent": {"hidden_size": 8, "encoder_size": 8},
}
SUITE = Suite(
    "two quick tasks",
    (
        Task("TMaze", "recurrent_rl/TMaze-v0", 1024, EnvConfig(env_kwargs='{"length": 3}')),
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
    for task in SUITES[name].tasks:
        config = task.config()
        if "Lunar" in config.env_id:
            continue  # needs Box2D, whose import crashes where warnings are errors
        make_vector_env(config.env_id, 2, config.env).close()
    names = [task.name for task in SUITES[name].tasks]
    assert len(set(names)) == len(names)


def test_the_suite_popgym_has_24_tasks() -> None:
    assert len(SUITES["popgym"].tasks) == 24


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


def test_a_benchmark_runs_compares_and_does_nothing_twice(tmp_path: Path) -> None:
    jobs = planned(tmp_path, memories=("gru", "none"))
    outcome = run_all(jobs, workers=2)
    assert outcome.failed == {}
    assert all(job.done for job in jobs)
    written = {job.run_dir: (job.run_dir / "policy.safetensors").stat().st_mtime for job in jobs}
    assert run_all(jobs, workers=2).failed == {}
    for run_dir, then in written.items():
        assert (run_dir / "policy.safetensors").stat().st_mtime == then

    runs = [load_run(path) for path in find_runs([tmp_path])]
    assert {run.path for run in runs} == {job.run_dir for job in jobs}
    assert all(run.evaluation.episodes == 10 for run in runs)
    assert {run.evaluation.timesteps for run in runs} == {1024}
    for run in runs:
        is_none = run.config.agent.memory == "none"
        assert (run.evaluation.without_memory is None) == is_none
        assert run.evaluation.sampled is not None
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
    job.run_dir.mkdir(parents=True)
    (job.run_dir / "config.json").write_text(job.config.sized(9).to_json())
    assert planned(tmp_path, settings={})[0] == job


def test_a_folder_with_a_run_of_other_settings_is_not_taken_over(tmp_path: Path) -> None:
    (job, _) = planned(tmp_path)
    job.run_dir.mkdir(parents=True)
    (job.run_dir / "config.json").write_text(job.config.to_json())
    planned(tmp_path)
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    planned(moved)  # the same settings, by another path
    with pytest.raises(UserError, match=r"a run with other settings \(gamma\). Name these"):
        planned(moved, settings={**TINY, "gamma": 0.9})


def test_a_run_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = planned(tmp_path)
    broken = dataclasses.replace(jobs[0].config, env_id="recurrent_rl/Tmaze-v0")
    jobs[0] = dataclasses.replace(jobs[0], config=broken)
    outcome = run_all(jobs, workers=1)
    assert "Did you mean recurrent_rl/TMaze-v0" in outcome.failed[jobs[0].run_dir]
    assert "Traceback" in (jobs[0].run_dir / "log.txt").read_text()
    assert jobs[1].done


def a_run(
    env_id: str, memory: str, seed: int, mean: float, returns: list[float], **changes: Any
) -> Run:
    base = TrainConfig(f"recurrent_rl/{env_id}-v0", seed=seed, **changes)
    config = dataclasses.replace(base, agent=dataclasses.replace(base.agent, memory=memory))
    played = Evaluation(np.full(4, mean), np.full(4, 7), np.zeros(0))
    steps = 40_000 * np.arange(1, len(returns) + 1)
    evaluation = SavedEvaluation(100_000, 4, Figures.of(played))
    return Run(Path(f"{memory}{seed}"), config, evaluation, steps, np.array(returns))


def test_mmer_is_the_maximum_of_means_over_65536_steps() -> None:
    # Points at 40, 80, 120 and 160 thousand steps: in stretches 0, 1, 1 and 2.
    assert a_run("TMaze", "gru", 0, 0.0, [0.1, 0.9, 0.3, 0.5]).mmer == pytest.approx(0.6)


def test_methods_are_named_by_what_differs() -> None:
    config = TrainConfig("recurrent_rl/TMaze-v0", agent=AgentConfig("gru"))
    other = dataclasses.replace(config, seed=3, gae_lambda=1.0, env_id="recurrent_rl/Recall-v0")
    assert method_labels([config, config]) == ["gru", "gru"]
    assert method_labels([config, other]) == ["gru, gae_lambda 0.95", "gru, gae_lambda 1.0"]
    sized = [config.sized(50), other.sized(70)]  # rollouts of 150 and 140 steps
    assert method_labels(sized) == method_labels([config, other])
    longer = dataclasses.replace(config, num_steps=256).sized(50)
    assert method_labels([sized[0], longer]) == ["gru, num_steps default", "gru, num_steps 256"]
    env = EnvConfig(env_kwargs='{"length": 9}', flicker=0.1)
    assert task_name(dataclasses.replace(config, env=env)) == "TMaze, length 9, flicker 0.1"


def test_aggregates_agree_with_what_can_be_counted_by_hand() -> None:
    # Scores of TMaze are the returns; those of RepeatPrevious-Easy rise from -0.49 to 1.
    low = -0.5 + 1 / 204
    runs = []
    for seed, (gru, lstm) in enumerate([(0.2, 0.1), (0.4, 0.3), (0.6, 0.5), (0.8, 0.7)]):
        for memory, score in (("gru", gru), ("lstm", lstm)):
            runs.append(a_run("TMaze", memory, seed, score, [0.0, 1.0]))
            of_range = comparison_range("RepeatPrevious-Easy")
            value = of_range[0] + score * (of_range[1] - of_range[0])
            runs.append(a_run("RepeatPrevious-Easy", memory, seed, value, [0.0, 1.0]))
    assert low < 0
    comparison = Comparison(runs)
    means, improvements = comparison.aggregates()
    # Eight scores a method; the middle four are 0.4, 0.4, 0.6, 0.6.
    assert means["gru"].value == pytest.approx(0.5)
    assert means["lstm"].value == pytest.approx(0.4)
    assert means["gru"].low < 0.5 < means["gru"].high
    # Of 16 pairs gru is above in 10 (0.2 > 0.1; 0.4 > 0.1, 0.3; ...).
    assert improvements["gru", "lstm"].value == pytest.approx(10 / 16)
    assert improvements["lstm", "gru"].value == pytest.approx(6 / 16)


def test_tasks_without_a_known_range_are_compared_but_not_aggregated() -> None:
    tasks = ("Pendulum-NoVelocity", "NoisyPositionOnlyCartPole-Hard")
    comparison = Comparison([a_run(task, "gru", 0, 0.0, [1.0]) for task in tasks])
    assert comparison.aggregates() == ({}, {})
    assert "interquartile" not in comparison.report()


def comparison_range(env_id: str) -> tuple[float, float]:
    from recurrent_rl.experiments.comparison import score_range

    found = score_range(TrainConfig(f"recurrent_rl/{env_id}-v0"))
    assert found is not None
    return found


def test_the_interval_of_a_mean_is_students() -> None:
    runs = [a_run("TMaze", "gru", seed, mean, [1.0]) for seed, mean in enumerate((0.1, 0.2, 0.3))]
    (cell,) = Comparison(runs).cells.values()
    assert cell.shown("greedy") == f"0.200 ± {4.303 * 0.1 / 3**0.5:.3f}"
    assert cell.shown("sampled") == ""  # was not played


def test_episodes_that_did_not_end_are_told_of_and_a_way_without_any_that_did_is_a_dash() -> None:
    run = a_run("TMaze", "gru", 0, 0.5, [1.0])
    some = dataclasses.replace(run.evaluation.greedy, unfinished=3)
    none = Figures(np.nan, (-np.inf, np.inf), np.nan, None, unfinished=64)
    evaluation = dataclasses.replace(run.evaluation, greedy=some, sampled=none)
    comparison = Comparison([dataclasses.replace(run, evaluation=evaluation)])
    (cell,) = comparison.cells.values()
    assert cell.shown("greedy") == "0.500 ± 0.000 (3 unfinished)"
    assert cell.shown("sampled") == "- (64 unfinished)"
    assert "- (64 unfinished)" in comparison.report()


def test_runs_whose_module_is_not_imported_are_compared_without_it() -> None:
    run = a_run("TMaze", "gru", 0, 0.5, [1.0])
    config = dataclasses.replace(run.config, env_id="not_to_import:Nothing-v0")
    comparison = Comparison([run, dataclasses.replace(run, config=config)])
    assert comparison.tasks == ["TMaze", "not_to_import:Nothing"]
    assert comparison.scores[0] == ["TMaze"]
    assert "Nothing" in comparison.report()


def test_curves_are_read_at_steps_that_all_runs_have() -> None:
    runs = [a_run("TMaze", "gru", 0, 0.0, [0.0, 1.0, 2.0]), a_run("TMaze", "gru", 1, 0.0, [0, 2])]
    steps, curves = common_curves(runs)
    assert (steps[0], steps[-1]) == (40_000, 80_000)
    assert curves[:, -1].tolist() == [1.0, 2.0]


def test_runs_that_cannot_be_compared_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in"):
        find_runs([tmp_path])
    (tmp_path / "config.json").write_text(TrainConfig("recurrent_rl/TMaze-v0").to_json())
    with pytest.raises(UserError, match="no evaluation yet; make it: recurrent-rl evaluate"):
        load_run(tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_run(tmp_path)
