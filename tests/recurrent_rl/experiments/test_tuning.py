"""A search for settings: what it tries, what it keeps, and that nothing that ends it loses any."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import recurrent_rl
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.blocks import most_workers
from recurrent_rl.cli import main
from recurrent_rl.cli.tune import _verdict
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.experiments.tuning import search, trials
from recurrent_rl.experiments.tuning.figure import draw_tuning
from recurrent_rl.experiments.tuning.files import TuneFiles, leaders
from recurrent_rl.experiments.tuning.fresh_runs import train_fresh
from recurrent_rl.experiments.tuning.search import Confirmation, TuneResult, tune
from recurrent_rl.experiments.tuning.space import SIZES, SPACE, USUAL, Choice, Space
from recurrent_rl.experiments.tuning.study import TuningStudy
from recurrent_rl.resolve import resolved
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.training import TrainResult
from recurrent_rl.signals import StopSignals
from tests.recurrent_rl.runs.small_runs import config as small

pytest.importorskip("optuna", reason="the extra tune is not installed")
pytest.importorskip("matplotlib", reason="the extra plot is not installed")

POINTS = 40
SEARCHED = ("learning_rate", "gamma", "memory")


def base(tmp_path: Path, **changes: Any) -> TrainConfig:
    return small(
        tmp_path, **{"total_timesteps": 40_000, "num_steps": 64, "seq_len": None} | changes
    )


def level(config: TrainConfig) -> float:
    """How well settings learn in the tests: best with a learning rate of 3e-3 and a GRU."""
    return 3 - abs(math.log10(config.learning_rate / 3e-3)) + (config.agent.memory == "gru")


class Learner:
    """Stands for training: learning curves that rise in a straight line to `level`, at once.

    Args:
        until: called with each run's settings before its last point; may raise, or stop the run.
    """

    def __init__(self, until: Callable[[TrainConfig, StopSignals], None] | None = None) -> None:
        self.until = until
        self.lengths: dict[str, int] = {}

    def __call__(
        self, run_dir: Path, *, callbacks: list[Any], stop: StopSignals, **_: Any
    ) -> TrainResult:
        config = RunFolder(run_dir).load_config()
        reasons: list[str] = []
        total = config.total_timesteps
        for point in range(1, POINTS + 1):
            if point == POINTS and self.until:
                self.until(config, stop)
            mean = level(config) * point / POINTS
            state = SimpleNamespace(
                timesteps=point * total // POINTS,
                metrics={"rollout/ep_rew_mean": mean} if point > 2 else {},
                config=config,
                stop=reasons.append,
            )
            for callback in callbacks:
                callback.on_iteration(state)
            self.lengths[str(run_dir)] = point
            if reasons or stop:
                break
        (run_dir / "policy.safetensors").touch()
        reason = reasons[0] if reasons else None
        return TrainResult(run_dir, run_dir / "x", total, 1.0, stop.received, stop_reason=reason)


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> Learner:
    one = Learner()
    monkeypatch.setattr(trials, "resume", one)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # which takes longer than all else here
    monkeypatch.setattr(search, "draw_tuning", lambda path, *_: path.touch())
    return one


def searched(config: TrainConfig, **changes: Any) -> TuneResult:
    options: dict[str, Any] = {"search": SEARCHED, "trials": 20, "confirm_seeds": 0, "finalists": 1}
    return tune(config, **options | {"progress": False} | changes)


def settings_of(found: TuneResult) -> list[dict[str, Any]]:
    return [one.settings for one in found.trials]


def test_no_trial_evaluates_or_ends_early(tmp_path: Path, learner: Learner) -> None:
    seen: list[TrainConfig] = []
    learner.until = lambda config, _: seen.append(config)
    needs_evaluations = {"video_interval": 1, "stop_at_return": 0.5, "patience": 100}
    given = base(tmp_path, eval_episodes=2, eval_interval=64, save_interval=64, **needs_evaluations)
    searched(given, trials=2)
    assert seen
    for config in seen:
        assert config.eval_episodes == 0
        for name in ("eval_interval", "save_interval", *needs_evaluations):
            assert getattr(config, name) is None, name


def test_the_best_settings_are_found_beside_the_given_ones_and_train_as_a_file(
    tmp_path: Path, learner: Learner
) -> None:
    given = base(tmp_path, workers=2)
    found = searched(given, prune=False)
    first, best = found.trials[0], found.best
    assert best is not None
    assert first.is_given
    assert first.settings == {"learning_rate": 1e-3, "gamma": 0.99, "memory": "lstm"}
    # The points of the last quarter are the last ten of forty, from 31/40 to 40/40 of the level.
    assert first.score == pytest.approx(level(given) * np.mean(range(31, 41)) / 40)
    assert best.settings["memory"] == "gru"
    assert 1.5e-3 < best.settings["learning_rate"] < 6e-3
    read = TrainConfig.from_json(found.files.best.read_text())
    assert read == found.config
    assert read == dataclasses.replace(
        given,
        learning_rate=best.settings["learning_rate"],
        gamma=best.settings["gamma"],
        agent=dataclasses.replace(given.agent, memory="gru"),
    )
    draw_tuning(found.files.figure, found.trials, found.importances)
    assert found.files.figure.stat().st_size > 5_000
    assert min(found.importances, key=lambda name: found.importances[name]) == "gamma"
    assert sum(found.importances.values()) == pytest.approx(1)
    kept = [path.name for path in found.files.trials.iterdir()]
    assert kept == [f"{best.number:04d}"]


def test_of_the_leading_trials_the_best_is_the_one_that_does_best_with_other_seeds(
    tmp_path: Path, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All settings have a luck in the search that outweighs what they are worth."""
    calls: list[tuple[list[int], str]] = []

    def worth(config: TrainConfig) -> float:
        return -abs(config.gamma - 0.9)

    def fresh(
        settings: dict[str, TrainConfig], seeds: list[int], folder: Path, *_: Any, **__: Any
    ) -> dict[str, Any]:
        calls.append((list(seeds), folder.name))
        return {name: np.full(len(seeds), worth(one)) for name, one in settings.items()}

    monkeypatch.setattr(search, "train_fresh", fresh)
    given = base(tmp_path, seed=2)
    found = searched(given, finalists=4, confirm_seeds=2, prune=False)
    by_score = sorted(found.trials, key=lambda one: -(one.score or 0))[:4]
    finalists = {one.trial.number for one in found.finalists}
    assert finalists == {0} | {one.number for one in by_score} != {one.number for one in by_score}
    assert found.config is not None
    assert worth(found.config) == max(one.returns.mean() for one in found.finalists)
    assert found.best == found.finalists[0].trial != by_score[0]
    assert TrainConfig.from_json(found.files.best.read_text()) == found.config
    assert calls == [([502, 503, 504], "finals"), ([1002, 1003], "confirmation")]
    kept = {int(path.name) for path in found.files.trials.iterdir()}
    assert kept == {one.number for one in by_score}


def test_given_settings_that_win_the_finals_are_the_best_whatever_their_score(
    tmp_path: Path, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twenty scores the highest is seldom theirs, also where no settings are better."""
    given = base(tmp_path, seed=2)

    def fresh(settings: dict[str, TrainConfig], seeds: list[int], *_: Any, **__: Any) -> Any:
        worth = {name: float(one.gamma == given.gamma) for name, one in settings.items()}
        return {name: np.full(len(seeds), one) for name, one in worth.items()}

    monkeypatch.setattr(search, "train_fresh", fresh)
    found = searched(given, finalists=3, confirm_seeds=2, prune=False)
    assert found.best == found.trials[0] == found.finalists[0].trial
    assert found.best not in leaders(found.trials, 3)
    assert found.confirmation is None  # there is nothing to compare them with
    assert found.config == resolved(given).as_chosen()
    assert TrainConfig.from_json(found.files.best.read_text()) == found.config


def test_a_finalist_whose_episodes_do_not_end_is_the_last(
    tmp_path: Path, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh(settings: dict[str, TrainConfig], seeds: list[int], *_: Any, **__: Any) -> Any:
        worth = [np.nan, 1.0, 2.0, np.nan, 3.0]
        return {
            name: np.array([worth[i % 5], *[1.0] * (len(seeds) - 1)])
            for i, name in enumerate(settings)
        }

    monkeypatch.setattr(search, "train_fresh", fresh)
    found = searched(base(tmp_path), finalists=5, prune=False)
    means = [one.returns.mean() for one in found.finalists]
    known = [mean for mean in means if not np.isnan(mean)]
    assert means[: len(known)] == sorted(known, reverse=True)
    assert 3 <= len(known) < len(means)
    assert found.best == found.finalists[0].trial


def test_trials_that_lie_below_the_others_end_early_but_not_before_they_had_time(
    tmp_path: Path, learner: Learner
) -> None:
    pruned = searched(base(tmp_path))
    lengths = {int(Path(path).parts[-2]): n for path, n in learner.lengths.items()}
    states = {one.number: one.state for one in pruned.trials}
    assert 3 <= list(states.values()).count("pruned") <= 15
    assert {states[number] for number in range(5)} == {"complete"}
    for number, state in states.items():
        assert (lengths[number] == POINTS) == (state == "complete")
        assert lengths[number] >= POINTS * 8 // 20
    whole = searched(base(tmp_path / "whole"), prune=False)
    assert {one.state for one in whole.trials} == {"complete"}


def test_a_search_that_a_signal_stopped_goes_on_as_if_nothing_had_been(
    tmp_path: Path, learner: Learner
) -> None:
    whole = searched(base(tmp_path / "whole"), trials=16)
    assert len({str(one) for one in settings_of(whole)}) == 16
    stop, runs = StopSignals(), itertools.count(1)

    def stop_in_run(config: TrainConfig, stop: StopSignals) -> None:
        if next(runs) in (4, 13):
            stop.received = signal.SIGTERM

    learner.until = stop_in_run
    cut = searched(base(tmp_path / "cut"), trials=16, stop=stop)
    assert cut.stopped_by == signal.SIGTERM
    assert len(cut.trials) == 3
    again = searched(base(tmp_path / "cut"), trials=16, stop=StopSignals())
    assert again.stopped_by == signal.SIGTERM
    last = searched(base(tmp_path / "cut"), trials=16)
    assert settings_of(last) == settings_of(whole)
    assert [one.score for one in last.trials] == [one.score for one in whole.trials]
    more = searched(base(tmp_path / "cut"), trials=17)
    assert settings_of(more)[:16] == settings_of(whole)
    other = searched(base(tmp_path / "other", seed=1), trials=3)
    assert settings_of(other)[1:] != settings_of(whole)[1:3]


def test_ctrl_c_ends_a_search_in_python_by_a_word_on_how_to_go_on(
    tmp_path: Path, learner: Learner
) -> None:
    learner.until = lambda *_: signal.raise_signal(signal.SIGINT)
    with pytest.raises(
        KeyboardInterrupt, match="what has ended is kept, and the same call goes on"
    ):
        searched(base(tmp_path), trials=2)


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ((TuningStudy, "take"), signal.SIGINT),
        ((TuningStudy, "importances"), signal.SIGTERM),
        *(
            pytest.param(place, number, marks=pytest.mark.slow)
            for number in (signal.SIGINT, signal.SIGTERM)
            for place in (
                *((TuningStudy, name) for name in ("__enter__", "complete", "records")),
                *((TuningStudy, name) for name in ("config_of", "__exit__")),
                *((trials.Tuner, name) for name in ("_tidy", "_show", "_train")),
                *((search, name) for name in ("resolved", "draw_tuning")),
            )
        ),
    ],
)
def test_a_signal_between_two_trials_ends_the_command_in_a_sentence_that_says_how_to_go_on(
    tmp_path: Path,
    learner: Learner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: tuple[Any, str],
    number: signal.Signals,
) -> None:
    usual, calls = getattr(*place), itertools.count(1)

    def interrupted(*values: Any, **named: Any) -> Any:
        if next(calls) == (2 if place[1] in ("take", "complete", "records", "_tidy") else 1):
            signal.raise_signal(number)
        return usual(*values, **named)

    monkeypatch.setattr(*place, interrupted)
    command = ["tune", "recurrent_rl/TMaze-v0", "--trials=4", "--finalists=1", "--confirm-seeds=0"]
    command += ["--total-timesteps=40000", "-q", f"--log-dir={tmp_path}", "--search", "gamma"]
    with pytest.raises(SystemExit, match=str(128 + number)):
        main(command)
    told = capsys.readouterr().out
    assert told.count(f"stopped early; go on: recurrent-rl {shlex.join(command)}\n") == 1
    with pytest.raises(SystemExit, match="0"):
        main(command)
    assert ": 4 trials" in capsys.readouterr().out


def test_a_trial_whose_process_is_gone_is_tried_again_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    space = Space.around(resolved(base(tmp_path)), SEARCHED)
    files = TuneFiles.of(tmp_path / "study.journal")
    with TuningStudy(files, space, 1, True) as here:
        other = TuningStudy(files, space, 1, True).__enter__()
        first, second = here.take(3), other.take(3)
        third = other.take(3)
        assert first is not None
        assert second is not None
        assert third is not None
        assert here.take(3) is None  # as many as there are to be are under way
        other._alive.release()  # as the operating system does, however a process ends
        again = [here.take(3), here.take(3)]
        assert [one.params for one in again if one] == [second.params, third.params]
        assert here.take(3) is None
        states = [one.state for one in here.records()]
        assert states == ["running"] * 3


def test_a_trial_that_fails_is_kept_with_its_reason_and_all_of_them_are_an_error(
    tmp_path: Path, learner: Learner
) -> None:
    def fail(config: TrainConfig, stop: StopSignals) -> None:
        if config.agent.memory != "gru" or tmp_path / "all" in Path(config.log_dir).parents:
            raise FloatingPointError(f"{config.agent.memory} is not finite")

    learner.until = fail
    found = searched(base(tmp_path), trials=12, prune=False)
    by_memory = {(one.settings["memory"], one.state): one.reason for one in found.trials}
    assert by_memory["gru", "complete"] is None
    reason = by_memory["lstm", "failed"]
    assert reason is not None
    raised = "Your code raised FloatingPointError: lstm is not finite"
    assert re.fullmatch(rf"{raised} \(line \d+ of {re.escape(__file__)}\)\.", reason)
    assert len(found.trials) == 12
    with pytest.raises(UserError, match=r"All 3 trials have failed, the last one so: \w.* finite"):
        searched(base(tmp_path / "all"), trials=3)


def test_a_storage_of_something_else_is_refused_with_the_fix(
    tmp_path: Path, learner: Learner
) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    searched(base(tmp_path), trials=1)
    fix = "Give the same ones to go on with it, or take another file with storage"
    with pytest.raises(UserError, match=rf"settings \(gamma, agent\.memory, .*size\)\. {fix}"):
        searched(base(tmp_path, gamma=0.9, agent=AgentConfig("gru")), trials=2)
    for name, changes in (
        ("search", {"search": ("gamma",)}),
        ("seeds_per_trial", {"seeds_per_trial": 2}),
    ):
        with pytest.raises(UserError, match=rf"other settings \({name}\)"):
            searched(base(tmp_path), trials=2, **changes)
    searched(base(tmp_path, device="cpu", threads=2, checkpoint_interval=9.0), trials=1)

    text, theirs = tmp_path / "notes.txt", tmp_path / "theirs.journal"
    text.write_text("to do\n")
    backend = JournalFileBackend(str(theirs))
    optuna.create_study(storage=optuna.storages.JournalStorage(backend), study_name="mine")
    damaged = tmp_path / "damaged.journal"
    lines = (tmp_path / "tune-recurrent_rl-TMaze-v0.journal").read_text()
    damaged.write_text(lines.replace("\n", "\n{cut", 1))
    for storage, message in (
        (text, "is no study"),
        (theirs, "holds the study 'mine'"),
        (tmp_path / "study", "whose name has an ending, such as study.journal"),
        (damaged, "is damaged"),
    ):
        with pytest.raises(UserError, match=message):
            searched(base(tmp_path), storage=storage)
    assert text.read_text() == "to do\n"


def test_a_new_search_takes_no_runs_of_an_earlier_one_for_its_own(
    tmp_path: Path, learner: Learner
) -> None:
    found = searched(base(tmp_path), trials=2)
    assert searched(base(tmp_path), trials=3).files == found.files
    found.files.storage.unlink()
    message = r"tune-recurrent_rl-TMaze-v0 holds the runs of an earlier search, whose file .* gone"
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            searched(base(tmp_path, gamma=0.9), trials=2)
    found.files.folder.rename(tmp_path / "earlier")
    assert len(searched(base(tmp_path, gamma=0.9), trials=2).trials) == 2


def test_each_file_of_a_study_has_a_folder_of_its_own(tmp_path: Path) -> None:
    names = ("study.journal", "study.v1", "study.v2", "study.v1.journal")
    folders = [TuneFiles.of(tmp_path / name).folder for name in names]
    assert [one.name for one in folders] == ["study", "study.v1.d", "study.v2.d", "study.v1"]


def test_a_fresh_run_of_other_settings_is_not_counted(tmp_path: Path) -> None:
    settings = {"given": small(tmp_path)}
    RunFolder(tmp_path / "given__seed-7").begin(small(tmp_path, seed=7, gamma=0.5))
    with pytest.raises(UserError, match=r"seed-7 holds a run with other settings \(gamma\)\. Move"):
        train_fresh(settings, [7], tmp_path, "Deciding", None, StopSignals(), False)


BASES: list[dict[str, Any]] = [
    {},
    {"num_envs": 6, "num_steps": 100, "num_minibatches": 3, "total_timesteps": 1_000_000},
    {"num_envs": 16, "num_steps": 96, "seq_len": 32, "total_timesteps": 300_000},
    {"num_envs": 8, "workers": 4, "num_minibatches": 1, "total_timesteps": 300_000},
    {"num_envs": 64, "num_steps": 512, "total_timesteps": 50_000},
    {
        "gamma": 1.0,
        "gae_lambda": 0.9999,
        "ent_coef": 0.0,
        "target_kl": None,
        "learning_rate": 0.1,
        "update_epochs": 1,
    },
]


@pytest.mark.parametrize("changes", BASES)
@pytest.mark.parametrize("names", [USUAL, tuple(SPACE)])
def test_every_combination_of_the_space_is_a_run_and_the_given_settings_are_in_it(
    tmp_path: Path, changes: dict[str, Any], names: tuple[str, ...]
) -> None:
    given = resolved(base(tmp_path, **changes))
    try:
        space = Space.around(given, names)
    except UserError:  # of these names one has no second value
        space = Space.around(given)
    assert space.config(space.encoded()) == given.as_chosen()
    dimensions = {name: one for name, one in space.dimensions.items() if name in SIZES}
    assert all(isinstance(one, Choice) and len(one.values) > 1 for one in dimensions.values())
    drawn = space.encoded()
    for values in itertools.product(*(one.values for one in dimensions.values())):  # type: ignore[union-attr]
        one = resolved(space.config(drawn | dict(zip(dimensions, values, strict=True))))
        assert isinstance(one, ResolvedConfig)  # which it is only where its sizes fit each other
        assert most_workers(one) >= given.workers
        assert one.num_iterations >= min(20, given.num_iterations)
    ends = drawn | {
        name: one.low for name, one in space.dimensions.items() if not isinstance(one, Choice)
    }
    low = space.config(ends)
    assert (low.gamma, low.gae_lambda, low.ent_coef) == (1.0, 1.0, 0.0)
    assert SPACE["vf_coef"].around(0.0).distribution()


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (("learning_rat",), {}, r"Did you mean learning_rate\?"),
        (
            ("gamma", "encoder_size"),
            {},
            r"^encoder_size cannot be searched. These can: learning_rate, .*, separate_memory\. "
            r"Set encoder_size to a fixed value, and leave it out of search\.$",
        ),
        (("gamma", "gamma"), {}, "names a setting twice"),
        (("gamma",), {"schedules": {"gamma": [0.9, 0.99]}}, "gamma cannot be searched: schedules"),
        (("memory",), {"init_from": "a.safetensors"}, "memory cannot be searched: the agent's"),
        ((), {"workers": 99}, "workers is 99; the 8 environments make 4 groups"),
        (("num_envs",), {"total_timesteps": 6_000}, "num_envs cannot be searched: no other value"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(
    tmp_path: Path, names: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        searched(base(tmp_path, **changes), search=names)
    assert not list(tmp_path.iterdir())


def test_environments_that_were_given_are_searched_on_as_they_are(
    tmp_path: Path, learner: Learner
) -> None:
    env = recurrent_rl.make_vector_env("recurrent_rl/TMaze-v0", 8)
    given = base(tmp_path, env_id=None, num_envs=None)
    with pytest.raises(UserError, match="num_envs cannot be searched: the environments were given"):
        searched(given, env=env, search=("num_envs",))
    found = searched(given, env=env, search=(), trials=2)
    env.close()
    assert "num_envs" not in found.trials[1].settings
    assert found.config is not None
    assert found.config.num_envs == 8


def test_a_search_under_torchrun_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    with pytest.raises(UserError, match="Start it without torchrun"):
        searched(base(tmp_path))


def test_a_missing_optuna_is_told_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    message = r"A search for settings needs optuna.*: pip install 'recurrent-rl\[tune\]'"
    with pytest.raises(UserError, match=message):
        searched(base(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_page_has_the_space_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tuning.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| ", page, re.MULTILINE)
    assert rows == [(name, one.text()) for name, one in SPACE.items()]


@pytest.mark.parametrize(
    ("given", "best", "verdict"),
    [
        ([1.0, 2.0, 3.0], [2.0, 3.1, 4.0], "better than as given, difference 1.033 ± 0.14"),
        ([1.0, 2.0, 3.0], [0.0, 1.0, 2.1], "worse than as given, difference -0.9667 ± 0.14"),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 2.0], "no clear difference .* difference 0.3333 ± 3.8"),
        ([1.0], [2.0], "a difference of 1 with one seed, which is no evidence"),
        ([1.0, 2.0], [3.0, np.nan], "not compared: of a run no episode ended within .*"),
    ],
)
def test_what_fresh_seeds_say_is_told_with_its_interval(
    given: list[float], best: list[float], verdict: str
) -> None:
    seeds = tuple(range(1000, 1000 + len(given)))
    assert re.fullmatch(verdict, _verdict(Confirmation(seeds, np.array(given), np.array(best))))


TINY = (
    *("recurrent_rl/TMaze-v0", "--total-timesteps=2000", "--hidden-size=8", "--encoder-size=8"),
    *("--threads=1", "--eval-episodes=5", "--trials=8", "--confirm-seeds=2"),
    *("--storage=study.journal", "--search", "learning_rate", "update_epochs", "num_steps"),
)


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "recurrent_rl", "tune", *TINY, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(folder: Path, *states: str) -> None:
    """Wait until the trials of the study there are so far."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if [one.state for one in records(folder)[: len(states)]] == [*states]:
            return
        time.sleep(0.1)
    raise AssertionError(f"{records(folder)} after 120 s")


def records(folder: Path) -> list[Any]:
    """The trials as Optuna itself reads them, those given back left out."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    if not storage.get_all_studies():
        return []
    (study,) = storage.get_all_studies()
    trials = optuna.load_study(study_name=study.study_name, storage=storage).get_trials()
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running", "FAIL": "failed"}
    return [
        SimpleNamespace(state=words[one.state.name], params=one.params)
        for one in trials
        if one.state.name in words and "again" not in one.user_attrs
    ]


def await_running(folder: Path, process: subprocess.Popen[str], trials: int) -> None:
    """Wait until so many trials of a search run at once."""
    while [one.state for one in records(folder)].count("running") < trials:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_processes_share_a_study_and_one_that_is_killed_loses_no_trial(tmp_path: Path) -> None:
    count = 30  # more than one process does before the next has started
    first = started(tmp_path, f"--trials={count}")
    wait_for(tmp_path, "complete")
    second = started(tmp_path, f"--trials={count}", "-q")
    wait_for(tmp_path, "complete", "complete")
    await_running(tmp_path, second, 2)
    second.kill()
    second.communicate()
    third = started(tmp_path, f"--trials={count}", "--quiet")
    shown, errors = first.communicate(timeout=300)
    line, errors_of_third = third.communicate(timeout=300)
    assert (first.returncode, third.returncode) == (0, 0), errors + errors_of_third
    found = records(tmp_path)
    assert len(found) == count
    assert {one.state for one in found} <= {"complete", "pruned"}
    assert len({json.dumps(one.params) for one in found}) == count
    assert f"{count} trials" in shown
    assert "recurrent-rl train --config study/best.json" in shown
    assert re.search(
        rf"study.journal: {count} trials.*, best -?[\d.]+ in trial \d+: study/best.json", line
    )
    if "Fresh seeds" in shown:  # and not the given settings the best
        runs = {path.name for path in (tmp_path / "study" / "confirmation").iterdir()}
        assert len(runs) == 4
        assert {"given__seed-1000", "given__seed-1001"} < runs
    command = ["train", "--config", str(tmp_path / "study" / "best.json")]
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--total-timesteps=256", "-q", f"--log-dir={tmp_path / 'runs'}"])


@pytest.mark.slow
def test_ctrl_c_ends_a_search_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    process = started(tmp_path)
    wait_for(tmp_path, "complete", "running")
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Stopped early; what has ended is kept, what was under way comes next." in shown
    assert f"Go on:     recurrent-rl tune {' '.join(TINY)}" in shown
    assert {one.state for one in records(tmp_path)} <= {"complete", "pruned"}
    again = started(tmp_path, "--trials=4", "--workers=2", "--finalists=1")
    shown, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert len(records(tmp_path)) == 4
    assert "With fresh seeds: " in shown or "No settings did better" in shown


def helpers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a search has started, without those of multiprocessing's own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if int(parent) == process.pid and b"spawn_main" in command:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_one_command_has_several_processes_that_a_signal_ends_and_that_outlive_one_of_them(
    tmp_path: Path,
) -> None:
    process = started(tmp_path, "--processes=3", "--trials=100")
    await_running(tmp_path, process, 3)
    helpers = helpers_of(process)
    assert len(helpers) == 2
    process.send_signal(signal.SIGTERM)  # to the first alone
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Stopped early" in shown
    assert not any(Path(f"/proc/{one}").exists() for one in helpers)
    assert {one.state for one in records(tmp_path)} <= {"complete", "pruned"}

    trials = len(records(tmp_path)) + 20  # more than one process does before the next has started
    few = ("--finalists=1", "--confirm-seeds=0", f"--trials={trials}")
    again = started(tmp_path, "--processes=2", *few)
    await_running(tmp_path, again, 2)
    (helper,) = helpers_of(again)
    os.kill(helper, signal.SIGKILL)
    shown, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    told = "A process of the search has ended: it was killed or crashed, with exit status -9"
    assert (shown + errors).count(told) == 1
    found = records(tmp_path)
    assert len(found) == trials
    assert {one.state for one in found} <= {"complete", "pruned"}


def test_an_environment_of_this_process_alone_is_not_searched_on_by_several(tmp_path: Path) -> None:
    env = recurrent_rl.make_vector_env("recurrent_rl/TMaze-v0", 4)
    with pytest.raises(UserError, match=r"processes is 2, but .* environment of this process"):
        tune(base(tmp_path, env_id=None), env=env, processes=2, progress=False)
