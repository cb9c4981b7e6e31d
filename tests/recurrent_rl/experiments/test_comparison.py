"""Comparisons: what is one method, what their table and aggregates say, and common curves."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.config import TrainConfig
from recurrent_rl.experiments.comparison import Comparison, method_labels, score_range, task_name
from recurrent_rl.experiments.curves import common_curves
from recurrent_rl.experiments.results import EvaluatedRun
from recurrent_rl.resolve import choose_sizes
from recurrent_rl.runs.evaluation_result import Evaluation, EvaluationSummary, SavedEvaluation
from recurrent_rl.vector_env.config import EnvConfig


def a_run(
    env_id: str, memory: str, seed: int, mean: float, returns: list[float], **changes: Any
) -> EvaluatedRun:
    base = TrainConfig(f"recurrent_rl/{env_id}-v0", seed=seed, **changes)
    config = dataclasses.replace(base, agent=dataclasses.replace(base.agent, memory=memory))
    played = Evaluation(np.full(4, mean), np.full(4, 7), np.zeros(0))
    steps = 40_000 * np.arange(1, len(returns) + 1)
    evaluation = SavedEvaluation(100_000, 4, EvaluationSummary.of(played))
    return EvaluatedRun(Path(f"{memory}{seed}"), config, evaluation, steps, np.array(returns))


def test_mmer_is_the_maximum_of_means_over_65536_steps() -> None:
    # Points at 40, 80, 120 and 160 thousand steps: in stretches 0, 1, 1 and 2.
    assert a_run("TMaze", "gru", 0, 0.0, [0.1, 0.9, 0.3, 0.5]).mmer == pytest.approx(0.6)


def test_mmer_counts_a_point_at_the_end_of_a_stretch_to_it() -> None:
    run = a_run("TMaze", "gru", 0, 0.0, [0.1, 0.5, 0.3, 0.9])
    steps = np.array([32_768, 65_536, 98_304, 131_072])
    assert dataclasses.replace(run, steps=steps).mmer == pytest.approx(0.6)


@pytest.mark.parametrize(("last", "expected"), [(131_073, 0.5), (163_840, 0.9), (196_608, 0.9)])
def test_mmer_leaves_out_a_last_stretch_of_few_steps(last: int, expected: float) -> None:
    run = a_run("TMaze", "gru", 0, 0.0, [0.0, 1.0, 0.2, 0.4, 0.9])
    steps = np.array([60_000, 65_536, 65_537, 131_072, last])
    assert dataclasses.replace(run, steps=steps).mmer == pytest.approx(expected)
    first = dataclasses.replace(run, steps=np.array([9]), returns=np.array([0.7]))
    assert first.mmer == pytest.approx(0.7)


def test_methods_are_named_by_what_differs() -> None:
    config = TrainConfig("recurrent_rl/TMaze-v0", agent=AgentConfig("gru"))
    other = dataclasses.replace(config, seed=3, gae_lambda=1.0, env_id="recurrent_rl/Recall-v0")
    assert method_labels([config, config]) == ["gru", "gru"]
    assert method_labels([config, other]) == ["gru, gae_lambda 0.9", "gru, gae_lambda 1.0"]
    told = dataclasses.replace(
        config, workers=2, save_interval=9, worker_timeout=9.0, eval_interval=9, track="wandb"
    )
    assert method_labels([config, told]) == ["gru", "gru"]
    sized = [choose_sizes(config, 50), choose_sizes(other, 70)]  # rollouts of 150 and 140 steps
    assert method_labels(sized) == method_labels([config, other])
    longer = choose_sizes(dataclasses.replace(config, num_steps=256), 50)
    assert method_labels([sized[0], longer]) == ["gru, num_steps default", "gru, num_steps 256"]
    chunked = choose_sizes(dataclasses.replace(config, seq_len=64), 50)
    assert method_labels([sized[0], chunked]) == ["gru, seq_len default", "gru, seq_len 64"]
    env = EnvConfig(env_kwargs={"length": 9}, flicker=0.1)
    assert task_name(dataclasses.replace(config, env=env)) == "TMaze, length 9, flicker 0.1"
    logged = dataclasses.replace(env, vectorization="async", info_metrics=("speed",))
    assert task_name(dataclasses.replace(config, env=logged)) == "TMaze, length 9, flicker 0.1"


def test_what_is_left_to_the_default_tells_no_methods_apart_and_what_is_requested_does() -> None:
    config = TrainConfig("recurrent_rl/TMaze-v0", agent=AgentConfig("gru"))
    long, short = choose_sizes(config, 64), choose_sizes(config, 1000)
    assert long.num_minibatches != short.num_minibatches
    assert method_labels([long, short, config]) == ["gru"] * 3
    asked = choose_sizes(dataclasses.replace(config, num_minibatches=long.num_minibatches), 64)
    assert method_labels([long, asked]) == [
        "gru, num_minibatches default",
        f"gru, num_minibatches {long.num_minibatches}",
    ]


def test_runs_of_fewer_steps_than_others_of_their_task_are_a_method_of_their_own() -> None:
    runs = [
        a_run("TMaze", "gru", 0, 0.1, [1.0], total_timesteps=4000),
        a_run("TMaze", "lstm", 0, 0.1, [1.0], total_timesteps=4000),
        a_run("TMaze", "gru", 0, 0.9, [1.0], total_timesteps=8000),
        a_run("Recall", "gru", 0, 0.5, [1.0], total_timesteps=4000),
    ]
    comparison = Comparison(runs)
    assert comparison.methods == [
        "gru, total_timesteps 4000",
        "lstm, total_timesteps 4000",
        "gru",
    ]
    assert comparison.cells["TMaze", "gru"].runs == (runs[2],)
    assert comparison.cells["Recall", "gru"].runs == (runs[3],)
    assert comparison.left_out == {}


def test_a_seed_of_a_method_counts_once_with_the_most_steps_and_then_episodes() -> None:
    runs = []
    for name, steps, episodes in (("few", 9, 4), ("fine", 9, 8), ("early", 5, 99), ("same", 9, 8)):
        run = a_run("TMaze", "gru", 3, 0.5, [1.0])
        evaluation = dataclasses.replace(run.evaluation, timesteps=steps, episodes=episodes)
        runs.append(dataclasses.replace(run, path=Path(name), evaluation=evaluation))
    other = a_run("TMaze", "gru", 4, 0.5, [1.0])
    comparison = Comparison([*runs, other])
    (cell,) = comparison.cells.values()
    assert cell.runs == (runs[1], other)
    fine = Path("fine")
    assert comparison.left_out == {Path("few"): fine, Path("early"): fine, Path("same"): fine}


def test_a_run_in_which_no_episode_ended_has_an_evaluation_and_no_maximum(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    whole, without = (a_run("TMaze", "gru", seed, 0.5, [1.0]) for seed in (0, 1))
    nothing: dict[str, Any] = {"steps": np.zeros(0, dtype=np.int64), "returns": np.zeros(0)}
    without = dataclasses.replace(without, **nothing)
    for runs in ([without], [whole, without]):
        comparison = Comparison(runs)
        (cell,) = comparison.cells.values()
        assert cell.shown("deterministic").startswith("0.500 ± 0.0")
        assert cell.shown_mmer() == "-"
        for path in comparison.save(tmp_path):
            assert path.stat().st_size > 0


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
    found = score_range(TrainConfig(f"recurrent_rl/{env_id}-v0"))
    assert found is not None
    return found


def test_the_interval_of_a_mean_is_students() -> None:
    runs = [a_run("TMaze", "gru", seed, mean, [1.0]) for seed, mean in enumerate((0.1, 0.2, 0.3))]
    (cell,) = Comparison(runs).cells.values()
    assert cell.shown("deterministic") == f"0.200 ± {4.303 * 0.1 / 3**0.5:.3f}"
    assert cell.shown("stochastic") == ""  # was not played


def test_episodes_that_did_not_end_are_told_of_and_a_way_without_any_that_did_is_a_dash() -> None:
    run = a_run("TMaze", "gru", 0, 0.5, [1.0])
    some = dataclasses.replace(run.evaluation.deterministic, unfinished=3)
    none = EvaluationSummary(np.nan, (-np.inf, np.inf), np.nan, None, unfinished=64)
    evaluation = dataclasses.replace(run.evaluation, deterministic=some, stochastic=none)
    comparison = Comparison([dataclasses.replace(run, evaluation=evaluation)])
    (cell,) = comparison.cells.values()
    assert cell.shown("deterministic") == "0.500 ± 0.000 (3 unfinished)"
    assert cell.shown("stochastic") == "- (64 unfinished)"
    assert "- (64 unfinished)" in comparison.report()


def test_runs_whose_module_is_not_imported_are_compared_without_it() -> None:
    run = a_run("TMaze", "gru", 0, 0.5, [1.0])
    config = dataclasses.replace(run.config, env_id="not_to_import:Nothing-v0")
    comparison = Comparison([run, dataclasses.replace(run, config=config)])
    assert comparison.tasks == ["TMaze", "not_to_import:Nothing"]
    assert comparison.scores[0] == ["TMaze"]
    assert "Nothing" in comparison.report()


@pytest.mark.parametrize(
    ("one", "other"),
    [("sim/Arm-v1", "real/Arm-v1"), ("arms:Arm", "arms:Arm-v0"), ("a:x/Arm-v1", "b:x/Arm-v1")],
)
def test_environments_of_one_short_name_are_two_tasks(one: str, other: str) -> None:
    runs = [a_run("TMaze", "gru", 0, 0.5, [1.0])]
    for env_id in (one, other):
        run = a_run("TMaze", "gru", 0, 0.5, [1.0])
        runs.append(dataclasses.replace(run, config=dataclasses.replace(run.config, env_id=env_id)))
    again = dataclasses.replace(runs[1], config=dataclasses.replace(runs[1].config, seed=1))
    comparison = Comparison([*runs, again])
    assert comparison.tasks == ["TMaze", one, other]
    assert [len(comparison.cells[task, "gru"].runs) for task in comparison.tasks] == [1, 2, 1]


def test_hidden_indices_in_a_row_are_told_by_the_first_and_the_last() -> None:
    hidden = (1, 3, 4, 13, 14, 15, 16)
    config = TrainConfig("Ant-v5", env=EnvConfig(hide_indices=hidden))
    assert task_name(config) == "Ant-v5, hide_indices (1, 3, 4, 13-16)"


def test_curves_are_read_at_steps_that_all_runs_have() -> None:
    runs = [a_run("TMaze", "gru", 0, 0.0, [0.0, 1.0, 2.0]), a_run("TMaze", "gru", 1, 0.0, [0, 2])]
    steps, curves = common_curves(runs)
    assert (steps[0], steps[-1]) == (40_000, 80_000)
    assert curves[:, -1].tolist() == [1.0, 2.0]
