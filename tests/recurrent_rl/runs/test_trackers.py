"""Trackers: what they are sent, under which name, and what a missing one is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recurrent_rl.errors import UserError
from recurrent_rl.runs.callbacks import TrainingState
from recurrent_rl.runs.trackers import TRACKERS
from recurrent_rl.runs.training import resume, train
from tests.recurrent_rl.runs.small_runs import config

BATCH = 8 * 16


class Service:
    """Stands for each of the packages: keeps what it is sent, by the name of the run."""

    def __init__(self) -> None:
        self.settings: dict[str, dict[str, Any]] = {}
        self.points: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.ends = 0

    def begin(self, name: str, settings: dict[str, Any]) -> None:
        self.settings.setdefault(name, settings)
        self.points.setdefault(name, [])

    def finish(self) -> None:
        self.ends += 1

    def wandb(self) -> Any:
        def init(**given: Any) -> Any:
            assert (given["resume"], given["id"]) == ("allow", given["name"][-64:])
            self.begin(given["name"], given["config"])

            def log(scalars: dict[str, float]) -> None:
                rest = {tag: x for tag, x in scalars.items() if tag != "timesteps"}
                self.points[given["name"]].append((int(scalars["timesteps"]), rest))

            return SimpleNamespace(log=log, define_metric=lambda *_, **__: None, finish=self.finish)

        return SimpleNamespace(init=init, Settings=lambda **_: None)

    def trackio(self) -> Any:
        def init(project: str, name: str, config: dict[str, Any], resume: str) -> Any:
            assert (project, resume) == ("recurrent-rl", "allow")
            self.begin(name, config)
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
                names = [name for name in service.points if f"'{name}'" in query]
                return [SimpleNamespace(info=SimpleNamespace(run_id=name)) for name in names]

            def create_run(self, number: str, tags: dict[str, str], run_name: str) -> Any:
                assert tags == {"recurrent_rl.run": run_name}
                service.begin(run_name, {})
                return SimpleNamespace(info=SimpleNamespace(run_id=run_name))

            def update_run(self, run_id: str, status: str) -> None:
                assert status == "RUNNING"

            def log_param(self, run_id: str, key: str, value: Any) -> None:
                service.settings[run_id][key] = value

            def log_batch(self, run_id: str, metrics: list[Any]) -> None:
                steps = {metric.step for metric in metrics}
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
    assert run == cut.run_dir.name
    assert service.settings[run]["agent.memory"] == "lstm"
    losses = [step for step, scalars in points if "train/loss" in scalars]
    assert losses == [BATCH * i for i in range(1, 7)]
    assert [step for step, scalars in points if scalars.keys() == {"mine/steps"}] == losses[:3]
    evaluated = [step for step, scalars in points if "eval/mean_reward" in scalars]
    assert evaluated == [3 * BATCH, 6 * BATCH]
    assert service.ends == 4  # each training and each evaluation


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
        TRACKERS["mlflow"](tmp_path, {})


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
