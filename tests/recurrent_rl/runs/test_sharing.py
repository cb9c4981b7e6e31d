"""Policies on the Hugging Face Hub: addresses, the card, what is told when the Hub refuses."""

import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import recurrent_rl
from recurrent_rl.agents import ActorCritic, AgentConfig, Policy
from recurrent_rl.agents.files import PolicyFileError
from recurrent_rl.agents.hub import Address, local_file
from recurrent_rl.agents.model_card import Result
from recurrent_rl.agents.policy import POLICY
from recurrent_rl.cli import main
from recurrent_rl.errors import UserError
from recurrent_rl.runs.evaluation import evaluate_ways
from recurrent_rl.runs.evaluation_result import WAYS, SavedEvaluation
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.sharing import _result, results_of
from recurrent_rl.signals import StopSignals
from recurrent_rl.trainer import Trainer
from tests.recurrent_rl.runs.small_runs import config

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Stands for the package huggingface_hub: repositories are folders below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[Any] = []
        self.refusal: Exception | None = None
        http = type("HTTPError", (Exception,), {})
        of_hub = type("HfHubHTTPError", (http,), {"response": SimpleNamespace(status_code=403)})
        missing = type("RepositoryNotFoundError", (of_hub,), {})
        entry = type("EntryNotFoundError", (Exception,), {})
        self.errors = SimpleNamespace(
            HTTPError=http,
            HfHubHTTPError=of_hub,
            RepositoryNotFoundError=missing,
            GatedRepoError=type("GatedRepoError", (missing,), {}),
            RevisionNotFoundError=type("RevisionNotFoundError", (of_hub,), {}),
            EntryNotFoundError=entry,
            LocalEntryNotFoundError=type("LocalEntryNotFoundError", (entry,), {}),
            LocalTokenNotFoundError=type("LocalTokenNotFoundError", (OSError,), {}),
        )

    def module(self) -> ModuleType:
        """What `import huggingface_hub` finds."""
        module = ModuleType("huggingface_hub")
        vars(module).update(
            errors=self.errors, hf_hub_download=self.download, HfApi=lambda token: self
        )
        return module

    def download(self, repo: str, file: str, revision: str | None) -> str:
        self.answer("download", repo, file, revision)
        return str(self.root / repo / file)

    def create_repo(self, repo: str, private: bool | None, exist_ok: bool) -> str:
        self.answer("repo", repo, private)
        return f"https://hub.example/{repo}"

    def create_branch(self, repo: str, branch: str, exist_ok: bool) -> None:
        self.answer("branch", repo, branch)

    def upload_folder(
        self, repo_id: str, folder_path: str, revision: str | None, commit_message: str
    ) -> None:
        self.answer("upload", repo_id, revision, commit_message)
        shutil.copytree(folder_path, self.root / repo_id)

    def answer(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub.module())
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", hub.errors)
    return hub


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of one iteration with its evaluation of 12 episodes, but for its events."""
    settings = config(tmp_path_factory.mktemp("runs"), seed=7)
    folder = RunFolder.make(settings)
    trainer = Trainer(settings)
    trainer.iterate()
    folder.save_config(trainer.config)
    policy = trainer.policy()
    policy.save(folder.policy)
    stop = StopSignals()
    trainer.close()
    env = settings.environment
    played = evaluate_ways(policy, env, settings.env, 12, 0, stop, progress=False)
    folder.save_evaluation(SavedEvaluation.of(policy, played))
    return folder


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://me/it", Address("me/it", None, "policy.safetensors")),
        ("hf://me/it.2@v1.0", Address("me/it.2", "v1.0", "policy.safetensors")),
        ("hf://me/it/a/b.safetensors", Address("me/it", None, "a/b.safetensors")),
        (f"hf://me/it@{REVISION}/b", Address("me/it", REVISION, "b")),
        ("hf://me/it@a%2Fb/c", Address("me/it", "a/b", "c")),
        ("hf://me/it@refs/pr/3/c", Address("me/it", "refs/pr/3", "c")),
    ],
)
def test_an_address_is_repository_revision_and_file(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    "text",
    ["hf://me", "hf://me/", "hf:///it", "hf://me/it@", "hf://me/it/", "hf://../it", "hf://a b/c"],
)
def test_what_is_no_address_is_answered_with_its_form(text: str) -> None:
    with pytest.raises(PolicyFileError, match="hf://OWNER/NAME@REVISION/FILE"):
        local_file(text)


def test_a_run_is_shared_with_its_results_and_loaded_elsewhere(
    hub: Hub, run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["share", str(run.path), "me/maze", "--private", "--revision", "new"])
    assert ended.value.code == 0
    assert "recurrent-rl evaluate hf://me/maze@new" in capsys.readouterr().out
    assert hub.asked == [
        ("repo", "me/maze", True),
        ("branch", "me/maze", "new"),
        ("upload", "me/maze", "new", "A policy of recurrent-rl"),
    ]
    assert {path.name for path in (hub.root / "me/maze").iterdir()} == {
        "README.md",
        "policy.safetensors",
    }
    loaded = recurrent_rl.load_policy("hf://me/maze@new")
    assert hub.asked[-1] == ("download", "me/maze", "policy.safetensors", "new")
    own = recurrent_rl.load_policy(run.path)
    for name, x in own.agent.state_dict().items():
        assert torch.equal(x, loaded.agent.state_dict()[name])

    with pytest.raises(SystemExit) as ended:  # plays and trains on from there
        main(["evaluate", "hf://me/maze", "--episodes", "4", "-q"])
    assert (ended.value.code, capsys.readouterr().out[:13]) == (0, "hf://me/maze:")
    warm = Trainer(config(tmp_path, init_from="hf://me/maze"))
    assert torch.equal(next(warm.agent.parameters()), next(own.agent.parameters()))
    warm.close()


def test_the_card_says_what_the_run_found(run: RunFolder, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    with pytest.raises(SystemExit):
        main(["share", str(run.path), "me/maze", "--folder", str(tmp_path / "look")])
    _, head, text = (tmp_path / "look" / "README.md").read_text().split("---\n", 2)
    data, saved = yaml.safe_load(head), run.load_evaluation()
    assert saved is not None
    assert data["library_name"] == "recurrent-rl"
    assert {"reinforcement-learning", "lstm", "recurrent_rl/TMaze-v0"} <= set(data["tags"])
    (listed,) = data["model-index"][0]["results"]
    (metric,) = listed["metrics"]
    assert listed["dataset"]["name"] == "recurrent_rl/TMaze-v0"
    mean, std = map(float, metric["value"].split(" +/- "))
    policy = recurrent_rl.load_policy(run.path)
    again = evaluate_ways(
        policy, "recurrent_rl/TMaze-v0", run.load_config().env, 12, 0, StopSignals(), progress=False
    )
    assert mean == pytest.approx(again["deterministic"].mean, abs=0.005)
    assert std == pytest.approx(again["deterministic"].returns.std(ddof=1), abs=0.005)
    for result in results_of(policy, run.path):
        assert f"| {result.way} | 12 | {result.mean_return:.4g} | {result.std_return:.4g} |" in text
    assert "seed 7" in text
    assert "for 128 steps" in text
    assert 'load_policy("hf://me/maze")' in text
    assert "\nrecurrent-rl train recurrent_rl/TMaze-v0 --seed 7 --total-timesteps 768 " in text


def test_an_evaluation_in_python_is_the_card_s_line(run: RunFolder, tmp_path: Path) -> None:
    policy = recurrent_rl.load_policy(run.path)
    played = recurrent_rl.Evaluation(np.array([1.0, 3.0]), np.array([5, 7]), np.array([0.0, 1.0]))
    policy.save_with_card(tmp_path, "me/maze", played)
    line = "| deterministic actions | 2 | 2 | 1.414 | 6 | 50.0% |"
    assert line in (tmp_path / "README.md").read_text()
    policy.save_with_card(tmp_path, "me/maze")
    text = (tmp_path / "README.md").read_text()
    assert "model-index" not in text
    assert "not evaluated" in text
    of_one = recurrent_rl.Evaluation(np.array([1.0]), np.array([1]), np.array([1.0]))
    policy.save_with_card(tmp_path, "me/maze", [Result.of(of_one, "mine")])
    text = (tmp_path / "README.md").read_text()
    assert '"value": "1.00"' in text
    assert "| mine | 1 | 1 | - | 1 | 100.0% |" in text
    with pytest.raises(UserError, match=r"evaluation is .* what recurrent_rl.evaluate returned"):
        policy.push_to_hub("me/maze", evaluation=0.9)  # type: ignore[arg-type]


def test_each_way_of_playing_has_its_own_number_of_episodes_and_deviation(
    run: RunFolder, tmp_path: Path
) -> None:
    """Of 200 episodes one environment's did not end: what was to follow it was not begun."""
    policy, folder = recurrent_rl.load_policy(run.path), RunFolder(tmp_path)
    returns = np.random.default_rng(0).normal(size=200)
    lengths = np.full(200, 9)
    some = recurrent_rl.Evaluation(returns[:138], lengths[:138], np.zeros(0), unfinished=3)
    whole = recurrent_rl.Evaluation(returns, lengths, np.zeros(0))
    played = {"deterministic": some, "stochastic": whole, "memory_ablation": whole}
    folder.save_evaluation(SavedEvaluation.of(policy, played))
    for result, of_way in zip(results_of(policy, tmp_path), played.values(), strict=True):
        assert result.episodes == len(of_way.returns)
        assert result.std_return == pytest.approx(of_way.returns.std(ddof=1))


def test_an_evaluation_of_before_has_the_number_of_episodes_that_was_asked_for(
    run: RunFolder, tmp_path: Path
) -> None:
    fields = json.loads(run.evaluation.read_text())
    for way in WAYS:
        assert fields[way].pop("episodes") == 12
    before = RunFolder(tmp_path)
    before.evaluation.write_text(json.dumps(fields))
    saved = before.load_evaluation()
    assert saved is not None
    assert saved.stochastic is not None
    some = dataclasses.replace(saved.stochastic, ci95=(0.0, 3.182446), unfinished=8)
    one = dataclasses.replace(saved.deterministic, ci95=(-math.inf, math.inf))
    of_some, of_one = (_result("", way, saved) for way in (some, one))
    assert _result("", dataclasses.replace(some, unfinished=20), saved).episodes == 0
    assert (saved.episodes, of_some.episodes, of_one.episodes) == (12, 4, 12)
    assert of_some.std_return == pytest.approx(1.0)  # half of it is 1.59, of four episodes
    assert math.isnan(of_one.std_return)


def test_a_card_says_that_training_began_with_another_policy(tmp_path: Path) -> None:
    before = Policy(Trainer(config(tmp_path)).agent)
    before.save(tmp_path / "before.safetensors")
    begun = Trainer(config(tmp_path, init_from=str(tmp_path / "before.safetensors"))).policy()
    for policy, says_so in ((before, False), (begun, True)):
        policy.save_with_card(tmp_path / "card", "me/maze")
        card = (tmp_path / "card" / "README.md").read_text()
        assert ("Training began with another policy." in card) is says_so
        assert str(tmp_path) not in card
        assert str(tmp_path).encode() not in (tmp_path / "card" / POLICY).read_bytes()


def test_a_card_has_escapes_for_what_no_text_file_can_hold(tmp_path: Path) -> None:
    policy = Policy(Trainer(config(tmp_path)).agent, {"env_id": "Half\ud800", "timesteps": 3})
    policy.save_with_card(tmp_path, "me/maze")
    assert "on Half\\ud800" in (tmp_path / "README.md").read_text()


def test_results_of_other_steps_are_not_the_policy_s(run: RunFolder) -> None:
    policy = recurrent_rl.load_policy(run.path)
    assert len(results_of(policy, run.policy)) == 3
    assert results_of(Policy(policy.agent, {"timesteps": 1}), run.path) == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("RepositoryNotFoundError", "There is no repository me/it .* hf auth login"),
        ("GatedRepoError", "ask for it at https://huggingface.co/me/it"),
        ("RevisionNotFoundError", "no branch, tag or commit 'v1'"),
        ("EntryNotFoundError", "holds no policy.safetensors"),
        ("LocalEntryNotFoundError", "HF_HUB_OFFLINE"),
        ("HTTPError", r"cannot be downloaded \(the line\)"),
    ],
)
def test_a_file_that_cannot_be_had_is_told_with_the_fix(hub: Hub, error: str, told: str) -> None:
    hub.refusal = getattr(hub.errors, error)("the line\nand more")
    with pytest.raises(PolicyFileError, match=told):
        recurrent_rl.load_policy("hf://me/it@v1")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("LocalTokenNotFoundError", "log in first: hf auth login"),
        ("HfHubHTTPError", r"cannot be uploaded to \(the line\)\. Log in .* may write to me/it"),
    ],
)
def test_an_upload_that_is_refused_is_told_with_the_fix(
    hub: Hub, run: RunFolder, error: str, told: str
) -> None:
    hub.refusal = getattr(hub.errors, error)("the line")
    with pytest.raises(UserError, match=told):
        recurrent_rl.load_policy(run.path).push_to_hub("me/it")
    with pytest.raises(UserError, match="write OWNER/NAME"):
        recurrent_rl.load_policy(run.path).push_to_hub("it")


def test_a_missing_package_is_told(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    calls: list[tuple[Callable[[], Any], type[UserError]]] = [
        (lambda: recurrent_rl.load_policy("hf://me/it"), PolicyFileError),
        (lambda: recurrent_rl.load_policy(run.path).push_to_hub("me/it"), UserError),
    ]
    for call, kind in calls:
        with pytest.raises(kind, match=r"pip install 'recurrent-rl\[hub\]'"):
            call()


def test_the_library_itself_finds_what_was_downloaded_and_says_when_it_is_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is laid out by hand, as the Hub's own client does it."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="the extra hub is missing")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--me--it"
    file = repository / "snapshots" / REVISION / "policy.safetensors"
    spaces = recurrent_rl.make_vector_env("recurrent_rl/TMaze-v0", 1)
    agent = ActorCritic(
        spaces.single_observation_space,
        spaces.single_action_space,
        AgentConfig("gru", hidden_size=4, encoder_size=4),
    )
    Policy(agent, {"seed": 3}).save(file)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    for address in ("hf://me/it", f"hf://me/it@{REVISION}/policy.safetensors"):
        assert recurrent_rl.load_policy(address).summary == {"seed": 3}
    for address in ("hf://me/other", "hf://me/it@v2", "hf://me/it/other.safetensors"):
        with pytest.raises(PolicyFileError, match="HF_HUB_OFFLINE"):
            recurrent_rl.load_policy(address)
    with pytest.raises(UserError, match="me/it cannot be uploaded to"):
        recurrent_rl.load_policy(file).push_to_hub("me/it")
