"""Videos show the episodes that are evaluated, are whole or not there, and change nothing."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recurrent_rl import EnvConfig, evaluate, make_vector_env, record_video
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.cli import main
from recurrent_rl.cli.showing import as_text
from recurrent_rl.errors import UserError
from recurrent_rl.runs.evaluation_result import WAYS
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.training import resume, train
from recurrent_rl.runs.watching.filmed import Mode, Moment
from recurrent_rl.runs.watching.stage import Stage
from recurrent_rl.runs.watching.video_file import gif_of, video_file
from recurrent_rl.trainer import Trainer
from tests.recurrent_rl.runs.small_runs import assert_same, config, files

TMAZE = "recurrent_rl/TMaze-v0"
SHORT = EnvConfig({"length": 2})
BLUE = (0, 0, 250)
CARTPOLES = "gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv"


class Painted(gym.Env[Any, Any]):
    """Four steps; draws itself as a blue square of 10 pixels."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 4
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return self.np_random.random(2).astype(np.float32), 0.5, self.left == 0, False, {}

    def render(self) -> Any:
        return np.full((10, 10, 3), BLUE, np.uint8)


def unpainted() -> gym.Env[Any, Any]:
    """It takes no render_mode."""
    return Painted()


def policy_for(tmp_path: Path, env_id: str = TMAZE, **changes: Any) -> Policy:
    """Of random weights."""
    trainer = Trainer(config(tmp_path, env_id, **changes))
    trainer.close()
    return trainer.policy()


def painted_policy(tmp_path: Path) -> Policy:
    return policy_for(tmp_path, f"{__name__}:Painted")


def frames_of(path: Path) -> list[Any]:
    with Image.open(path) as video:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(video)]


@pytest.mark.parametrize("way", WAYS)
def test_the_episodes_filmed_are_those_evaluated(way: Any, tmp_path: Path) -> None:
    policy, path = policy_for(tmp_path), tmp_path / "new" / "video.gif"
    of_way: Any = {"deterministic": WAYS[way].deterministic, "with_memory": WAYS[way].with_memory}
    filmed = record_video(policy, TMAZE, path, 2, **of_way, seed=3, env_config=SHORT)
    played = evaluate(policy, TMAZE, 2, num_envs=1, **of_way, seed=3, env_config=SHORT)
    np.testing.assert_array_equal(filmed.returns, played.returns)
    np.testing.assert_array_equal(filmed.lengths, played.lengths)
    frames = frames_of(path)
    assert len(frames) == filmed.lengths.sum() + 2  # with the last observation of each
    assert len({frame.shape for frame in frames}) == 1
    assert [file.name for file in path.parent.iterdir()] == ["video.gif"]


def test_an_environment_is_shown_as_it_draws_itself(tmp_path: Path) -> None:
    policy, moments = painted_policy(tmp_path), list[Moment]()
    with Stage(policy, Painted) as stage:
        assert stage.renders
        assert stage.fps == 25
        stage.play(1, moments.append, seed=0)
    assert len(moments) == 5
    headings = [moment.heading for moment in moments]
    assert (headings[0], headings[-1]) == (
        "episode 1     step 0     return +0",
        "episode 1     step 4     return +2",
    )
    picture = moments[2].frame()[:400]
    assert (picture == BLUE).all(axis=2).sum() == 400 * 400  # whole pixels of a square
    with Stage(policy, Painted("rgb_array")) as given:
        assert given.renders


def test_what_does_not_draw_itself_is_a_card(tmp_path: Path) -> None:
    policy = painted_policy(tmp_path)
    for env in (unpainted, Painted()):
        moments = list[Moment]()
        with Stage(policy, env) as stage:
            assert not stage.renders
            assert stage.fps == 4
            played = stage.play(1, moments.append, seed=0)
        assert not (moments[0].frame() == BLUE).all(axis=2).any()
        assert played.returns.tolist() == [2.0]


def test_what_the_policy_does_not_see_is_not_shown(tmp_path: Path) -> None:
    env = EnvConfig(hide_indices=(1,))
    policy = policy_for(tmp_path, f"{__name__}:unpainted", env=env)
    moments = list[Moment]()
    with Stage(policy, unpainted, env, "ansi") as stage:
        stage.play(1, moments.append, seed=0)
    assert re.search(r"observation  \+0\.\d\d\n", moments[-1].view)  # one number of two


def test_a_window_that_shows_itself_is_not_drawn_again(tmp_path: Path) -> None:
    class Windowed(Painted):
        metadata = {"render_modes": ["human"]}  # noqa: RUF012

        def render(self) -> Any:
            raise AssertionError

    with Stage(painted_policy(tmp_path), Windowed, None, "human") as stage:
        assert stage.renders
        stage.play(1, lambda moment: None, seed=0)


def test_a_picture_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    class Blank(Painted):
        def render(self) -> Any:
            return None

    policy = painted_policy(tmp_path)
    with pytest.raises(UserError, match=r"Blank.* rendered None in mode rgb_array; expected a pic"):
        record_video(policy, Blank, tmp_path / "x.gif")
    assert not (tmp_path / "x.gif").exists()


def test_a_package_that_drawing_needs_is_named(tmp_path: Path) -> None:
    class Undrawn(Painted):
        def render(self) -> Any:
            raise gym.error.DependencyNotInstalled("run `pip install brushes`")

    with pytest.raises(UserError, match=r"Undrawn.* cannot be drawn: run `pip install brushes`"):
        record_video(painted_policy(tmp_path), Undrawn, tmp_path / "x.gif")


def test_environments_that_step_together_are_refused(tmp_path: Path) -> None:
    env = make_vector_env(TMAZE, 2)
    with pytest.raises(UserError, match=r"steps its environments together.* one environment\."):
        record_video(policy_for(tmp_path), env, tmp_path / "x.gif")
    assert not (tmp_path / "x.gif").exists()


def test_a_gif_holds_its_frames_to_the_pixel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [np.full((30, 41, 3), 255, np.uint8) for _ in range(5)]
    for frame in frames[1:4]:  # the third equals the second but for one pixel, the last is white
        frame[5:9, 7:20] = rng.integers(256, size=3)
    frames[3] = frames[2].copy()
    frames[3][29, 40] = (1, 2, 3)
    frames.append(frames[-1].copy())
    larger = np.pad(frames[-1], ((0, 5), (0, 0), (0, 0)))  # is cut to the size of the first
    path = tmp_path / "x.gif"
    path.write_bytes(gif_of([*frames, larger], fps=10))
    with Image.open(path) as video:
        assert (video.info["duration"], video.info["loop"]) == (100, 0)
    for shown, frame in zip(frames_of(path), [*frames, frames[-1]], strict=True):
        np.testing.assert_array_equal(shown, frame)


def test_a_video_that_is_not_whole_is_not_there(tmp_path: Path) -> None:
    policy, path = policy_for(tmp_path), tmp_path / "videos" / "x.gif"
    path.parent.mkdir()
    path.write_text("before")
    calls = iter([False] * 4 + [True] * 9)
    record_video(policy, TMAZE, path, 9, seed=0, should_stop=lambda: next(calls))
    with pytest.raises(ZeroDivisionError):
        record_video(policy, TMAZE, path, 9, should_stop=lambda: bool(1 / 0))
    assert [file.name for file in path.parent.iterdir()] == ["x.gif"]
    assert path.read_text() == "before"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("x.avi", r"x\.avi; let it end in \.gif or \.mp4"),
        ("x", r"let it end in \.gif or \.mp4"),
        ("folder.gif", "which is a folder"),
        ("file/x.gif", r"x\.gif cannot be written: .* See that .*file is a folder"),
        ("x.mp4", r"needs imageio-ffmpeg.*: pip install 'recurrent-rl\[video\]', or .* \.gif"),
    ],
)
def test_a_video_that_cannot_be_is_refused_before_anything_is_played(
    name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "file").touch()
    policy = policy_for(tmp_path)
    with pytest.raises(UserError, match=what):
        record_video(policy, TMAZE, tmp_path / name, on_episode=lambda _: pytest.fail("played"))


def test_an_mp4_holds_its_frames(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra `video` is not installed")
    path = tmp_path / "x.mp4"
    with video_file(path, 10, lambda: True) as video:
        for shade in range(0, 200, 10):
            video.add(np.full((31, 41, 3), shade, np.uint8))  # of odd sides
    assert ffmpeg.count_frames_and_secs(str(path)) == (20, 2.0)
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_is_filmed_at_some_evaluations_and_learns_the_same(tmp_path: Path) -> None:
    batch = 8 * 16
    settings: dict[str, Any] = {"eval_interval": batch, "eval_episodes": 2, "env": SHORT}
    plain = train(config(tmp_path / "plain", **settings), progress=False)
    filmed = train(config(tmp_path / "filmed", **settings, video_interval=4), progress=False)
    ours, theirs = (load_policy(run.policy_path).agent.state_dict() for run in (filmed, plain))
    assert_same(ours, theirs)
    events = EventAccumulator(str(filmed.run_dir), size_guidance={"images": 0}).Reload()
    films = events.Images("eval/episode")
    assert [film.step for film in films] == [4 * batch, 6 * batch]  # the last ends the run
    assert films[0].encoded_image_string[:6] == b"GIF89a"
    assert films[0].width == 640


def test_a_run_that_cannot_be_filmed_is_not_resumed_either(tmp_path: Path) -> None:
    done = train(config(tmp_path, "recurrent_rl.envs:TMaze"), progress=False)
    folder = RunFolder(done.run_dir)
    changes: dict[str, Any] = {"eval_interval": 128, "eval_episodes": 2, "video_interval": 1}
    folder.save_config(dataclasses.replace(folder.load_config(), **changes))
    before = files(done.run_dir)
    with pytest.raises(UserError, match=r"video_interval .* steps its environments together"):
        resume(done.run_dir, total_timesteps=8 * 16 * 7, progress=False)
    assert files(done.run_dir) == before


def test_filming_needs_evaluations_and_single_environments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="video_interval needs evaluations during training"):
        train(config(tmp_path, video_interval=2), progress=False)
    settings: dict[str, Any] = {"eval_interval": 128, "eval_episodes": 2, "video_interval": 1}
    together = config(tmp_path, "recurrent_rl.envs:TMaze", **settings)
    with pytest.raises(UserError, match="steps its environments together"):
        train(together, progress=False)
    gym.register("Together-v0", vector_entry_point=CARTPOLES)
    try:
        with pytest.raises(UserError, match=r"video_interval .* Together-v0 steps its env"):
            train(dataclasses.replace(together, env_id="Together-v0"), progress=False)
    finally:
        gym.registry.pop("Together-v0")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_films_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(train(config(tmp_path, env=SHORT), progress=False).run_dir)
    video = tmp_path / "x.gif"
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", run, "--video", str(video), "--episodes=2", "--fps=50", "--max-steps=99"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Policy", "episode 1", "episode 2", "Video"]
    assert lines[-1].endswith(str(video))
    assert len(frames_of(video)) > 2
    for arguments, what in (
        (["--video=a.gif", "--watch"], "give one of them"),
        (["--fps=4"], "--fps is of episodes that are shown"),
        (["--way=stochastic"], "--way is of episodes that are shown"),
        (["--watch"], "in the terminal, and the output is none"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["evaluate", run, *arguments])
        assert what in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_a_moment_shows_what_the_memory_held(mode: Mode, tmp_path: Path) -> None:
    moments = list[Moment]()
    with Stage(policy_for(tmp_path), TMAZE, EnvConfig({"length": 2}), mode) as stage:
        stage.play(1, moments.append, seed=0, max_steps=2)
    assert moments[0].is_card
    if mode == "rgb_array":
        assert moments[-1].frame().shape[1:] == (640, 3)
        return
    text = "".join(str(part) for part in as_text(moments[-1]).renderables)
    assert "to remember  one sign, along a corridor" in text
    assert "episode 1" in text
    for label in ("observation", "action", "answer", "reward", "memory h", "memory c"):
        assert f"{label:15}▀" in text
