"""What TensorBoard is told, and that what it is told of the memory is true."""

import dataclasses
import errno
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.files import FileWriteError
from recurrent_rl.config import TrainConfig
from recurrent_rl.diagnostics import memory_diagnostics
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.monitor import Monitor
from recurrent_rl.runs.overview import OVERVIEW, with_overview
from recurrent_rl.runs.training import resume, train
from recurrent_rl.sequences import Sequences
from recurrent_rl.trainer import Trainer


def config(tmp_path: Path, memory: str = "lstm", **changes: Any) -> TrainConfig:
    agent = AgentConfig(memory, hidden_size=16, encoder_size=16)
    base = TrainConfig(
        "recurrent_rl/TMaze-v0",
        log_dir=str(tmp_path),
        num_envs=8,
        num_steps=32,
        total_timesteps=8 * 32 * 4,
        memory_interval=2,
        agent=agent,
    )
    return dataclasses.replace(base, **changes)


def events(run_dir: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run_dir))
    accumulator.Reload()
    return accumulator


def test_a_run_writes_the_tags_that_dashboards_know(tmp_path: Path) -> None:
    found = events(train(config(tmp_path), progress=False).run_dir)
    tags = set(found.Tags()["scalars"])
    assert {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "rollout/success_rate",
        "time/fps",
        "train/approx_kl",
        "train/clip_fraction",
        "train/ent_coef",
        "train/entropy_loss",
        "train/explained_variance",
        "train/learning_rate",
        "train/policy_gradient_loss",
        "train/value_loss",
        "memory/state_norm",
        "memory/cell_norm",
        "memory/forget_gate_low",
        "memory/forget_gate_high",
        "memory/gradient_norm",
        "memory/gradient_norm_lag_002",
        "memory/first_ratio_error",
        "memory/state_drift",
    } <= tags
    rates = [event.value for event in found.Scalars("train/learning_rate")]
    assert rates == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])
    assert [event.step for event in found.Scalars("time/fps")] == [256, 512, 768, 1024]
    assert [event.step for event in found.Scalars("memory/state_norm")] == [256, 768]


def test_hyperparameters_are_there_as_text_and_for_the_hparams_tab(tmp_path: Path) -> None:
    found = events(train(config(tmp_path), progress=False).run_dir)
    assert "hyperparameters/text_summary" in found.Tags()["tensors"]
    text = found.Tensors("hyperparameters/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "|agent.memory|lstm|" in text
    plugin = found.PluginTagToContent("hparams")
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(plugin)
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"])
    shown = start.session_start_info.hparams
    assert len(shown) == 12
    assert shown["agent.memory"].string_value == "lstm"
    assert shown["agent.hidden_size"].number_value == 16
    experiment = HParamsPluginData.FromString(plugin["_hparams_/experiment"]).experiment
    assert {info.name for info in experiment.hparam_infos} == set(shown)
    # The final return is shown from the run's own curve, in this folder.
    assert experiment.metric_infos[0].name.tag == "eval/mean_reward"
    assert "eval/mean_reward" in found.Tags()["scalars"]


def test_the_tab_of_custom_scalars_shows_how_the_run_is_doing_written_once(tmp_path: Path) -> None:
    run_dir = train(config(tmp_path), progress=False).run_dir
    resume(run_dir, total_timesteps=8 * 32 * 5, progress=False)
    found = events(run_dir)
    (written,) = found.Tensors("custom_scalars__config__")
    page = Layout.FromString(written.tensor_proto.string_val[0])
    (category,) = page.category
    charts = {chart.title: [*chart.multiline.tag] for chart in category.chart}
    assert charts == {title: [tag] for title, tag in OVERVIEW.items()}
    assert set(OVERVIEW.values()) <= set(found.Tags()["scalars"])


def test_the_bare_address_of_tensorboard_leads_to_one_that_pins_these_curves() -> None:
    answered: list[tuple[str, dict[str, str]]] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        answered.append((status, dict(headers)))

    page = with_overview(lambda request, start_response: [b"the page"])
    assert [*page({"PATH_INFO": "/", "QUERY_STRING": ""}, start_response)] == []
    ((status, headers),) = answered
    assert status == "302 Found"
    # Relative, for a TensorBoard behind a proxy; without #, for the tab that was asked for.
    assert urlsplit(headers["Location"])._replace(query="") == ("", "", "", "", "")
    query = urlsplit(headers["Location"]).query
    (cards,) = parse_qs(query)["pinnedCards"]
    assert [card["tag"] for card in json.loads(cards)] == list(OVERVIEW.values())
    assert {card["plugin"] for card in json.loads(cards)} == {"scalars"}
    for request in ({"QUERY_STRING": query}, {"PATH_INFO": "/data/runs"}):
        asked = {"PATH_INFO": "/", "QUERY_STRING": ""} | request
        assert [*page(asked, start_response)] == [b"the page"]


def test_a_resumed_run_continues_in_the_same_curves(tmp_path: Path) -> None:
    run_dir = train(config(tmp_path), progress=False).run_dir
    resume(run_dir, total_timesteps=8 * 32 * 6, progress=False)
    steps = [event.step for event in events(run_dir).Scalars("time/fps")]
    assert steps == [256, 512, 768, 1024, 1280, 1536]


def test_what_is_written_within_one_second_is_read_in_order_and_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1.7e9)
    settings = config(tmp_path)
    for step in range(1, 13):
        with Monitor(RunFolder(tmp_path), settings, step) as monitor:
            monitor.log({"x": float(step)}, step)
    monitor.writer.add_scalar("x", 13.0, 13)  # of who keeps the writer of a run that is over
    monitor.writer.close()
    assert [event.value for event in events(tmp_path).Scalars("x")] == list(range(1, 14))


def test_a_full_disk_is_told_where_a_figure_is_logged_and_not_again_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = Monitor(RunFolder(tmp_path), config(tmp_path))

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", no_room)
    with pytest.raises(FileWriteError, match=r"events.*No space left on device. Make room"):
        monitor.log({"x": 1.0}, 1)
    monitor.close()


def test_what_is_written_after_the_clock_was_set_back_is_read_in_order(tmp_path: Path) -> None:
    folder, settings = RunFolder(tmp_path), config(tmp_path)
    for step in range(1, 5):
        with Monitor(folder, settings, step) as monitor:
            monitor.log({"x": float(step)}, step)
        if step == 2:  # as if the clock had been ahead by two hours so far
            for path in folder.events():
                head, second, rest = re.split(r"(?<=tfevents\.)(\d+)", path.name)
                path.rename(path.with_name(f"{head}{int(second) + 7200}{rest}"))
    assert [event.value for event in events(tmp_path).Scalars("x")] == [1, 2, 3, 4]


def chunks(trainer: Trainer) -> Sequences:
    rollout = trainer.collector.collect(0)
    advantages = torch.randn(rollout.rewards.shape, generator=torch.Generator().manual_seed(0))
    return rollout.sequences(advantages, advantages + rollout.values[:-1])


def looked(trainer: Trainer) -> dict[str, float]:
    return memory_diagnostics(trainer.agent, chunks(trainer), trainer.config)


@pytest.mark.parametrize(
    ("memory", "gates"),
    [
        ("none", None),
        ("rnn", []),
        ("gru", ["reset", "update"]),
        ("lstm-peephole", ["input", "forget", "output"]),
    ],
)
def test_each_memory_shows_what_it_has(
    tmp_path: Path, memory: str, gates: list[str] | None
) -> None:
    scalars = looked(Trainer(config(tmp_path, memory)))
    if gates is None:
        assert scalars == {}
        return
    shown = {tag.split("/")[1].split("_gate_")[0] for tag in scalars if "_gate_" in tag}
    assert shown == set(gates)
    assert scalars["memory/state_norm"] > 0


def test_a_memory_with_heads_shows_what_they_read(tmp_path: Path) -> None:
    scalars = looked(Trainer(config(tmp_path, "gru-matrix")))
    shown = {tag: value for tag, value in scalars.items() if "_read_" in tag}
    heads = ("relative", "mirrored", "content_1", "content_2")
    assert set(shown) == {f"memory/{h}_read_{what}" for h in heads for what in ("steps", "share")}
    assert sum(shown[f"memory/{head}_read_share"] for head in heads) == pytest.approx(1)
    assert all(1 <= shown[f"memory/{head}_read_steps"] <= 32 for head in heads)


def test_diagnostics_change_nothing(tmp_path: Path) -> None:
    often, never = (Trainer(config(tmp_path, memory_interval=interval)) for interval in (1, None))
    for _ in range(2):
        often.iterate()
        never.iterate()
    for a, b in zip(often.agent.parameters(), never.agent.parameters(), strict=True):
        assert torch.equal(a, b)


def test_gates_that_are_shut_or_open_are_counted_as_such(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path))
    layer = trainer.agent.memories()[0]
    bias = layer.get_parameter("torch_layer.bias_ih_l0")
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_hh_l0"):
            layer.get_parameter(f"torch_layer.{name}").zero_()
        shut, almost, all_but, wide = torch.tensor([0.04, 0.06, 0.94, 0.96]).logit()
        bias[:8], bias[8:16] = shut, almost  # input
        bias[16:24], bias[24:32] = all_but, wide  # forget
        bias[48:] = 0.0  # output
    scalars = looked(trainer)
    gates = {tag: x for tag, x in scalars.items() if "_gate_" in tag}
    assert gates == {
        **{"memory/input_gate_low": 0.5, "memory/input_gate_high": 0.0},
        **{"memory/forget_gate_low": 0.0, "memory/forget_gate_high": 0.5},
        **{"memory/output_gate_low": 0.0, "memory/output_gate_high": 0.0},
    }


def test_norms_and_gradients_are_those_of_stepping_through_the_chunks(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, env_id="recurrent_rl/CartPole-NoVelocity-v0", vf_coef=0.7))
    agent = trainer.agent
    torch.nn.init.normal_(agent.critic.weight, generator=torch.Generator().manual_seed(0))
    data = chunks(trainer)
    scalars = memory_diagnostics(agent, data, trainer.config)
    state, before, norms = data.state, [], []
    for t in range(32):
        before.append(state)
        components = {path: x[t] for path, x in data.components.items()}
        output, state = agent.step(components, state, data.episode_start[t])
        norms.append([x.detach().norm(dim=-1).mean() for x in state])
    h, c = torch.tensor(norms).mean(0).tolist()
    assert scalars["memory/state_norm"] == pytest.approx(h, rel=0.1)
    assert scalars["memory/cell_norm"] == pytest.approx(c, rel=0.1)
    # The loss of the last step; the policy is as it was, so that no ratio is clipped.
    log_prob = output.distribution.log_prob(data.actions[-1])
    loss = 0.35 * (output.value - data.returns[-1]).square() - data.advantages[-1] * log_prob
    found = {}
    for lag in (1, 2, 4, 8, 16):
        gradient = torch.autograd.grad(loss.sum(), before[32 - lag], retain_graph=True)
        found[lag] = torch.cat(gradient).square().sum((0, 2)).sqrt()
    numbers = []
    for lag, norm in found.items():
        reached = ~data.episode_start[32 - lag :].any(0)
        numbers.append(int(reached.sum()))
        tag = f"memory/gradient_norm_lag_{lag:03d}"
        if lag == 1:
            assert scalars["memory/gradient_norm"] == pytest.approx(float(norm[reached].mean()))
        elif reached.any():
            share = float(norm[reached].mean() / found[1][reached].mean())
            assert scalars[tag] == pytest.approx(share, rel=1e-3)
        else:
            assert tag not in scalars
    # Not every environment's episode reaches back as far as that of another.
    assert any(0 < n < 8 for n in numbers)


def test_no_gradient_is_told_of_a_step_that_only_resets(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path))
    data = chunks(trainer)
    alone = memory_diagnostics(trainer.agent, data.select(torch.arange(1, 8)), trainer.config)
    data.valid[-1, 0] = False
    scalars = memory_diagnostics(trainer.agent, data, trainer.config)
    gradients = {tag for tag in alone if "gradient" in tag}
    assert len(gradients) > 1
    for tag in gradients:
        assert scalars[tag] == pytest.approx(alone[tag], rel=1e-5)
    data.valid[-1] = False
    assert not gradients & memory_diagnostics(trainer.agent, data, trainer.config).keys()


def test_the_gradient_reaches_back_as_far_as_the_memory_holds(tmp_path: Path) -> None:
    # A unit whose only way from step to step is a factor of 0.5: the gradient halves each step.
    trainer = Trainer(config(tmp_path, "rnn"))
    trainer.collector.collect(0)
    layer = trainer.agent.memories()[0]
    with torch.no_grad():
        layer.get_parameter("torch_layer.weight_hh_l0").copy_(0.5 * torch.eye(16))
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            layer.get_parameter(f"torch_layer.{name}").zero_()
    trainer.collector.restart(1)
    scalars = looked(trainer)
    assert scalars["memory/gradient_norm"] > 0
    assert scalars["memory/gradient_norm_lag_002"] == pytest.approx(0.5, rel=0.3)
    assert scalars["memory/gradient_norm_lag_004"] == pytest.approx(0.125, rel=0.4)
