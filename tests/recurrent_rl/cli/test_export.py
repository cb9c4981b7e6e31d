"""`recurrent-rl export`: the file beside its policy, and what was found, in words."""

from pathlib import Path

import pytest
from gymnasium import spaces

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy
from recurrent_rl.cli import main


@pytest.mark.slow
def test_a_policy_is_exported_beside_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = ActorCritic(
        spaces.Discrete(3), spaces.Discrete(2), AgentConfig("lstm", hidden_size=8, encoder_size=8)
    )
    Policy(agent).save(tmp_path / "maze.safetensors")
    arguments = ["export", str(tmp_path / "maze.safetensors"), "--to", "torch", "--batch=dynamic"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--no-value"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    file = tmp_path / "maze.pt2"
    assert said.startswith(f"{file}, {file.stat().st_size:,} bytes: 1,000 steps checked")
    assert "h_in                   float32 [1, batch, 8]" in said
    assert "h_out to h_in" in said
    assert "  value" not in said
    assert said.rstrip().endswith(f"step = torch.export.load('{file}').module()")

    both = [*arguments[:2], "--to", "torch", "numpy", "--out", str(tmp_path / "all"), "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main(both)
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    places = {place.name for place in (tmp_path / "all").iterdir()}
    assert places == {"policy.pt2", "policy_numpy"}


def test_what_cannot_be_exported_is_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        ([str(tmp_path / "none.safetensors")], "There is no file"),
        (["x", "--batch", "0"], "batch is 0"),
        (["x", "--to", "pickle"], "onnx"),
        (["x", "--to"], "to is empty"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["export", *arguments])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
