"""A video of episodes: what the policy sees and does, and what its memory holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated

from recurrent_rl.agents.arguments import PATH, argument, check_is
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.settings import between
from recurrent_rl.runs.evaluation_result import Evaluation
from recurrent_rl.runs.watching.stage import Stage
from recurrent_rl.runs.watching.video_file import check_video, video_file
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.sources import Environment

Fps = Annotated[float, between(0.1, 100)]
"""Steps that are shown in a second."""


def record_video(
    policy: Policy,
    env: Environment,
    path: str | Path,
    episodes: int = 1,
    *,
    fps: float | None = None,
    env_config: EnvConfig | None = None,
    deterministic: bool = True,
    with_memory: bool = True,
    seed: int | None = None,
    max_steps: int | None = None,
    on_episode: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Write a video of episodes: the environment's picture, and what the memory held.

    An environment that draws itself (`render_mode="rgb_array"`) is shown as it does; another as a
    card of what it shows. Below are the last steps: observation, action, the right action
    where the environment says it, reward, and the memory's numbers. The file is there once it is
    whole.

    Args:
        policy: plays.
        env: where, as for `evaluate`, but no vector environment.
        path: of the video, which ends in `.gif` or `.mp4`; an MP4 needs the extra `video`.
        episodes: one after the other; the first of those that `evaluate` plays with this seed.
        fps: steps per second; by default as the environment says, or 4.
        env_config: as for `evaluate`.
        deterministic: as for `evaluate`.
        with_memory: as for `evaluate`.
        seed: as for `evaluate`.
        max_steps: as for `evaluate`.
        on_episode: as for `evaluate`.
        should_stop: called at each step; true ends early, and leaves no file.

    Returns:
        The episodes, as `evaluate` does.

    Raises:
        UserError: the file cannot be written, the environment cannot be made or not alone, or as
            `evaluate`.
    """
    check_is("policy", policy, Policy, "a Policy, as load_policy(path) gives")
    check_is("path", path, *PATH)
    check_is("env_config", env_config, (EnvConfig, NoneType), "an EnvConfig, or None")
    fps = argument("fps", fps, Fps | None)
    deterministic = argument("deterministic", deterministic, bool)
    with_memory = argument("with_memory", with_memory, bool)
    file = Path(path)
    check_video(file)
    file = file.absolute()  # an environment may change the working directory

    def is_whole() -> bool:
        return should_stop is None or not should_stop()

    with (
        Stage(policy, env, env_config) as stage,
        video_file(file, fps or stage.fps, is_whole) as video,
    ):
        played = stage.play(
            episodes,
            lambda moment: video.add(moment.frame()),
            deterministic=deterministic,
            with_memory=with_memory,
            seed=seed,
            max_steps=max_steps,
            on_episode=on_episode,
            should_stop=should_stop,
        )
    return played
