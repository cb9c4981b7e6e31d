"""Trackers: what they are sent, under which name, and what a missing one is told."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recurrent_rl.errors import UserError
from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.trackers import TRACKERS
from recurrent_rl.runs.training import resume, train
from tests.recurrent_rl.runs.small_runs import config

BATCH = 8 * 16


class Service:
    """Stands for each of the packages: keeps what it is sent, by what it knows the run by."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.points: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.ends = 0

    def begin(self, run: str, name: str, settings: dict[str, Any]) -> None:
        self.names[run] = name
        self.settings.setdefault(run, settings)
        self.points.setdefault(run, [])

    def finish(self) -> None:
        self.ends += 1

    def wandb(self) -> Any:
        def init(**given: Any) -> Any:
            assert given["resume"] == "allow"
            assert len(given["id"]) <= 64
            self.begin(given["id"], given["name"], given["config"])

            def log(scalars: dict[str, float]) -> None:
                rest = {tag: x for tag, x in scalars.items() if tag != "timesteps"}
                self.points[given["id"]].append((int(scalars["timesteps"]), rest))

            return SimpleNamespace(log=log, define_metric=lambda *_, **__: None, finish=self.finish)

        return SimpleNamespace(init=init, Settings=lambda **_: None)

    def trackio(self) -> Any:
        def init(project: str, name: str, config: dict[str, Any], resume: str) -> Any:
            assert (project, resume) == ("recurrent-rl", "allow")
            self.begin(name, name, config)
            log = lambda scalars, step: self.points[name].append((step, scalars))  # noqa: E731
            return SimpleNamespace(log=log, finish=self.finish)

        return SimpleNamespace(init=init)

    def mlflow(self) -> Any:
        service = self

        class Client:
            def get_experiment_by_name(self, name: str) -> Any:
                assert name == "recurrent-rl"
                return SimpleNamespace(experiment_id="1") if service.points else None

            def create_experiment(self, name: str) -> str:
                return "1"

            def search_runs(self, numbers: list[str], query: str) -> list[Any]:
                if query.count("'") != 2:
                    raise LookupError("Invalid clause(s) in filter string")
                runs = [run for run in service.points if f"'{run}'" in query]
                return [SimpleNamespace(info=SimpleNamespace(run_id=run)) for run in runs]

            def create_run(self, number: str, tags: dict[str, str], run_name: str) -> Any:
                (run,) = tags.values()
                service.begin(run, run_name, {})
                return SimpleNamespace(info=SimpleNamespace(run_id=run))

            def update_run(self, run_id: str, status: str) -> None:
                assert status == "RUNNING"

            def log_param(self, run_id: str, key: str, value: Any) -> None:
                self.check(key)
                service.settings[run_id][key] = value

            def check(self, key: str) -> None:
                if not re.fullmatch(r"[/\w.\- :]*", key) or posixpath.normpath(key) != key:
                    raise LookupError(f"Invalid name: {key!r}")

            def log_batch(self, run_id: str, metrics: list[Any]) -> None:
                steps = {metric.step for metric in metrics}
                for metric in metrics:
                    self.check(metric.key)
                scalars = {metric.key: metric.value for metric in metrics}
                service.points[run_id].append((*steps, scalars))

            def set_terminated(self, run_id: str) -> None:
                service.finish()

        def metric(key: str, value: float, timestamp: int, step: int) -> Any:
            return SimpleNamespace(key=key, value=value, step=step)

        return SimpleNamespace(
            MlflowClient=Client,
            entities=SimpleNamespace(Metric=metric),
            exceptions=SimpleNamespace(MlflowException=LookupError),
        )


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_is_sent_every_figure_also_of_a_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, name, getattr(service, name)())
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)

    def mine(state: TrainingState) -> None:
        state.log({"mine/steps": float(state.timesteps), "mine/nothing": float("nan")})
        if state.timesteps == 3 * BATCH:
            state.stop("enough")

    settings = config(tmp_path, track=name, eval_episodes=4)
    cut = train(settings, progress=False, callbacks=[mine])
    resume(cut.run_dir, progress=False)
    ((run, points),) = service.points.items()
    assert service.names[run].startswith(cut.run_dir.name)
    assert service.names[run] == cut.run_dir.name or name == "trackio"  # which knows names alone
    assert service.settings[run]["agent.memory"] == "lstm"
    losses = [step for step, scalars in points if "train/loss" in scalars]
    assert losses == [BATCH * i for i in range(1, 7)]
    assert [step for step, scalars in points if scalars.keys() == {"mine/steps"}] == losses[:3]
    evaluated = [step for step, scalars in points if "eval/mean_reward" in scalars]
    assert evaluated == [3 * BATCH, 6 * BATCH]
    assert service.ends == 4  # each training and each evaluation


@pytest.mark.parametrize("name", TRACKERS)
def test_runs_whose_folders_have_the_same_name_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, name, getattr(service, name)())
    for benchmark in ("first", "second"):
        run_dir = tmp_path / benchmark / "TMaze__lstm__0"
        RunFolder(run_dir).save_config(config(tmp_path, track=name, total_timesteps=BATCH))
        resume(run_dir, progress=False)
    assert len(service.points) == 2
    for points in service.points.values():
        assert [step for step, _ in points] == [BATCH]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_run_of_before_there_were_ids_goes_on_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, name, getattr(service, name)())
    settings = config(tmp_path, name="it's", total_timesteps=BATCH)
    run_dir = train(settings, progress=False).run_dir
    RunFolder(run_dir).save_config(replace(settings, track=name, total_timesteps=2 * BATCH))
    resume(run_dir, progress=False)
    known = run_dir.name.replace("'", "_") if name == "mlflow" else run_dir.name
    assert list(service.points) == [known[-64:]]


def test_mlflow_takes_names_with_any_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, "mlflow", service.mlflow())

    def mine(state: TrainingState) -> None:
        state.log({"mine/reward (ctrl)": 1.0, "//mine/../x%": 2.0, "größe: 5 m": 3.0})

    settings = config(tmp_path, track="mlflow", name="it's", total_timesteps=BATCH)
    train(settings, progress=False, callbacks=[mine])
    ((run, points),) = service.points.items()
    assert "it's" in service.names[run]
    assert points[-1] == (BATCH, {"mine/reward _ctrl_": 1, "mine/x_": 2, "größe: 5 m": 3})


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_told_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UserError, match=rf"track='{name}' needs .*: pip install 'recurrent-rl\[{name}\]'"
    ):
        train(config(tmp_path, track=name), progress=False)
    assert not list(tmp_path.iterdir())


def test_what_mlflow_refuses_is_told_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> Any:
        raise LookupError("there is no store.")

    stand_in = Service().mlflow()
    stand_in.MlflowClient = refused
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    told = r"MLflow refuses to begin: there is no store\. .* MLFLOW_ALLOW_FILE_STORE=true"
    with pytest.raises(UserError, match=told):
        TRACKERS["mlflow"](tmp_path, "it", {})


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"track is 'wand'.* Did you mean wandb\?"):
        config(tmp_path, track="wand")


@pytest.mark.slow
def test_of_several_workers_the_first_sends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in is a module on the path, so that each worker's process would find it."""
    sent = tmp_path / "sent"
    (tmp_path / "trackio.py").write_text(
        "import os\n"
        "def init(*_, **__):\n"
        "    return Run()\n"
        "class Run:\n"
        "    def log(self, scalars, step):\n"
        f"        with open({str(sent)!r}, 'a') as file:\n"
        "            print(os.getpid(), step, file=file)\n"
        "    def finish(self):\n"
        "        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        train(config(tmp_path / "runs", track="trackio", workers=2), progress=False)
    finally:
        sys.modules.pop("trackio", None)
    senders, steps = zip(*map(str.split, sent.read_text().splitlines()), strict=True)
    assert set(senders) == {str(os.getpid())}
    assert len(set(steps)) == len(steps) >= 2
