"""The best policy of a run, by one flag of every command that plays, exports or shares one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import recurrent_rl
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.export import formats
from recurrent_rl.agents.policy import Policy
from recurrent_rl.cli import main
from recurrent_rl.runs.folder import RunFolder
from tests.recurrent_rl.cli.test_quiet import TINY


def output_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit, match=str(status)):
        main([*arguments])
    captured = capsys.readouterr()
    return captured.err if status else captured.out


def test_a_command_takes_the_best_policy_of_a_run_and_says_which_one_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    output_of(capsys, "train", "recurrent_rl/TMaze-v0", *TINY, "-q", "--eval-episodes=2")
    (path,) = Path("runs").iterdir()
    run = RunFolder(path)
    few = ("--episodes=2", "--no-compare")
    assert "Best:" not in output_of(capsys, "evaluate", str(path), *few)
    told = output_of(capsys, "evaluate", str(path), "--best", *few, status=2)
    assert "holds no best_policy.safetensors" in told
    assert "--eval-interval" in told

    last = recurrent_rl.load_policy(path)
    torch.nn.init.constant_(last.agent.critic.bias, 7.0)  # by which an export is told
    Policy(last.agent, last.summary | {"timesteps": 7, "eval/mean_reward": 0.5}).save(
        run.best_policy
    )
    saved = run.evaluation.read_text()
    shown = output_of(capsys, "evaluate", str(path), *few)
    assert f"Policy:    {run.policy}, after 256 steps" in shown
    assert f"Best:      recurrent-rl evaluate {path} --best" in shown
    shown = output_of(capsys, "evaluate", str(path), "--best", *few)
    assert f"Policy:    {run.best_policy}, after 7 steps" in shown
    assert "Best:" not in shown
    assert run.evaluation.read_text() == saved  # which is of the last policy

    def export(agent: ActorCritic, paths: dict[str, Path], *_: Any) -> Any:
        after = f"after {agent.critic.bias.item():.0f}"
        return {
            to: SimpleNamespace(path=f"{file} {after}", check=None) for to, file in paths.items()
        }

    monkeypatch.setattr(formats, "export_each", export)
    shown = output_of(capsys, "export", str(path), "--best", "--to=torch", "-q")
    assert f"{path / 'best_policy.pt2'} after 7" in shown
    shown = output_of(capsys, "share", str(path), "me/it", "--best", "--private", "--folder=it")
    assert f"Share:     recurrent-rl share {path} me/it --best --private\n" in shown
    assert recurrent_rl.load_policy("it").summary["timesteps"] == 7
    assert "had a mean return of 0.5." in Path("it/README.md").read_text()
    told = output_of(capsys, "evaluate", str(run.policy), "--best", *few, status=2)
    assert "Name the run's folder" in told
