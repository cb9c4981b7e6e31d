"""Components selected, wrappers by name, and texts that tell nothing left out."""

from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from recurrent_rl.errors import UserError
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.properties import left_out
from recurrent_rl.vector_env.vectorize import make_vector_env
from tests.recurrent_rl.corridor import Corridor, Parts, Picture

HERE = "tests.recurrent_rl.corridor"


def observed(env: Any, **config: Any) -> tuple[gym.Space[Any], Any]:
    """The observation space of two environments with these settings, and what they show first."""
    made = make_vector_env(env, 2, EnvConfig(**config))
    try:
        return made.single_observation_space, made.reset(seed=0)[0]
    finally:
        made.close()


def test_one_key_is_seen_alone_and_several_as_a_dict() -> None:
    space, seen = observed(Parts, observe=["sign"])
    assert space == spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert seen.shape == (2, 1)
    space, seen = observed(Parts, observe=["sign", "end"])
    assert isinstance(space, spaces.Dict)
    assert set(space) == set(seen) == {"sign", "end"}


def test_wrappers_go_around_each_environment_in_order() -> None:
    plain = observed(Corridor)[1]
    space, seen = observed(Corridor, wrappers=[f"{HERE}:twice_as_bright", "frame-stack:3"])
    assert space.shape == (3, 2)
    np.testing.assert_array_equal(seen[:, -1], 2 * plain)
    with pytest.raises(UserError, match=r"Wrapper grayscale cannot go around .* shape"):
        observed(Picture, wrappers=["flatten", "grayscale"])
    assert observed(Picture, wrappers=["grayscale", "flatten"])[0].shape == (64,)
    assert observed(Parts, observe=["sign"], wrappers=["frame-stack:2"])[0].shape == (2, 1)


class Clock(Corridor):
    """Shows the step; where it `overwrites`, always in one array."""

    def __init__(self, overwrites: bool = False) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 100, (1,), np.float32)
        self.overwrites, self.shown = overwrites, np.zeros(1, np.float32)

    def _observe(self) -> Any:
        self.shown = self.shown if self.overwrites else self.shown.copy()
        self.shown[0] = 10 + self.t
        return self.shown


@pytest.mark.parametrize(
    "config",
    [
        {"observation_delay": 2},
        {"wrappers": ["frame-stack:3"]},
        {"wrappers": ['gymnasium.wrappers:FrameStackObservation{"stack_size": 3}']},
        {"wrappers": ['gymnasium.wrappers:DelayObservation{"delay": 2}']},
    ],
)
def test_observations_are_kept_as_they_were_where_one_array_holds_all(config: Any) -> None:
    def seen(overwrites: bool) -> list[Any]:
        settings = EnvConfig({"overwrites": overwrites}, **config)
        made = make_vector_env(Clock, 1, settings)
        first = made.reset(seed=0)[0].copy()
        return [first, *(made.step(np.zeros(1, np.int64))[0].copy() for _ in range(5))]

    np.testing.assert_array_equal(seen(overwrites=True), seen(overwrites=False))


@pytest.mark.parametrize("shape", [(7, 7, 3), (3, 7, 7), (20, 16, 3), (3, 20, 16)])
def test_stacked_images_are_one_image_with_the_channels_of_all(shape: tuple[int, ...]) -> None:
    class Film(Clock):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Box(0, 255, shape, np.uint8)
            self.shown = np.zeros(shape, np.uint8)

        def _observe(self) -> Any:
            return np.full(shape, 10 + self.t, np.uint8)

    made = make_vector_env(Film, 2, EnvConfig(wrappers=("frame-stack:4",)))
    axis = 0 if shape[0] == 3 else 2
    wanted = tuple(4 * n if i == axis else n for i, n in enumerate(shape))
    assert made.single_observation_space == spaces.Box(0, 255, wanted, np.uint8)
    made.reset(seed=0)
    seen = made.step(np.zeros(2, np.int64))[0][1]
    channels = np.moveaxis(seen, axis, 0).reshape(12, -1)
    assert (channels == np.repeat([10, 10, 10, 11], 3)[:, None]).all()
    shape = (6, 7, 2)
    with pytest.raises(UserError, match=r"channels of 4 images of \(6, 7, 2\) could not be dis"):
        make_vector_env(Film, 2, EnvConfig(wrappers=("frame-stack:4",)))


def test_a_wrapper_takes_arguments() -> None:
    seen = observed(Corridor, wrappers=[f'{HERE}:brighter{{"times": 3}}'])[1]
    np.testing.assert_array_equal(seen, 3 * observed(Corridor)[1])


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_wrappers_go_around_environments_in_processes_too(vectorization: Any) -> None:
    config = {"wrappers": ["grayscale"], "vectorization": vectorization}
    space, seen = observed(Picture, **config)
    assert space.shape == (8, 8)
    assert (abs(seen.astype(int) - 100) <= 1).all()


def test_a_registered_environment_is_wrapped_instead_of_stepped_in_its_batched_form() -> None:
    assert observed("recurrent_rl/TMaze-v0", wrappers=["frame-stack:2"])[0] == (
        spaces.MultiDiscrete([4, 4])
    )


def test_pictures_are_resized_or_the_package_for_it_is_named() -> None:
    if find_spec("cv2") is None:
        with pytest.raises(UserError, match=r"resize:4x6 .*pip install .gymnasium\[other\]"):
            observed(Picture, wrappers=["resize:4x6"])
    else:
        assert observed(Picture, wrappers=["resize:4x6"])[0].shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("flaten", r"wrappers\[0\] is 'flaten'; it must be flatten, .*Did you mean flatten"),
        ("frame_stack:4", "Did you mean frame-stack"),
        ("resize:84", "must be written resize:HEIGHTxWIDTH"),
        ("frame-stack", "must be written frame-stack:N"),
        ("frame-stack:0", "must be written frame-stack:N"),
        (f"{HERE}:brighter{{times=3}}", r"wrappers\[0\] is not JSON"),
        ("flatten:2", "must be written flatten"),
        ("", "must be flatten, "),
        (3, "must be text"),
    ],
)
def test_a_wrapper_that_cannot_be_is_refused_with_the_settings(wrapper: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EnvConfig(wrappers=[wrapper])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("nowhere:wrap", "Module 'nowhere' of wrapper 'nowhere:wrap' cannot be imported"),
        (f"{HERE}:twice_as_brigth", rf"has no wrapper .* Did you mean {HERE}:twice_as_bright"),
        (f"{HERE}:LIMIT", "is a int, which cannot be called"),
        (f"{HERE}:no_wrapper", "no_wrapper returned a int; it must return the environment"),
        (f'{HERE}:brighter{{"time": 3}}', "brighter.* unexpected keyword argument 'time'"),
        (f"{HERE}:nothing", "nothing cannot go around .* takes 0 positional arguments"),
    ],
)
def test_a_wrapper_that_is_none_is_refused_by_name(wrapper: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        observed(Corridor, wrappers=[wrapper])


@pytest.mark.parametrize(
    ("env", "observe", "message"),
    [
        (
            Parts,
            ["sing"],
            "observe names 'sing', which .* has end, mission, sign. Did you mean sig",
        ),
        (Corridor, ["sign"], "observe is .* which has no keys: it is no Dict"),
    ],
)
def test_a_key_that_is_not_there_is_refused(env: Any, observe: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        observed(env, observe=observe)


def test_a_key_twice_is_refused() -> None:
    with pytest.raises(UserError, match="without a key twice"):
        EnvConfig(observe=("a", "a"))


class MissionSpace(spaces.Space[str]):
    """As MiniGrid's."""

    def __init__(self, colours: list[str] | None) -> None:
        self.ordered_placeholders = [colours] if colours else None
        self.mission_func = lambda *colour: f"go to the {' '.join(colour) or 'door'}"
        super().__init__(dtype=str)


def test_a_text_that_never_changes_is_left_out_and_told() -> None:
    for mission, text in ((None, "aaaa"), (MissionSpace(None), "go to the door")):
        env = make_vector_env(lambda mission=mission: Parts(mission), 2)
        assert isinstance(env.single_observation_space, spaces.Dict)
        assert set(env.single_observation_space) == {"sign", "end"}
        assert left_out(env) == {"mission": text}
    assert left_out(make_vector_env(Corridor, 2)) == {}
    assert left_out(make_vector_env("CartPole-v1", 2)) == {}


@pytest.mark.parametrize("mission", [spaces.Text(4), MissionSpace(["red", "blue"])])
def test_a_text_that_changes_is_refused_and_can_be_left_out(mission: spaces.Space[Any]) -> None:
    with pytest.raises(UserError, match=r"'mission' is text that may change.*--observe end sign"):
        make_vector_env(lambda: Parts(mission), 2)
    assert set(observed(lambda: Parts(mission), observe=["sign", "end"])[1]) == {"sign", "end"}
