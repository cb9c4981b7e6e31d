"""What environments are made of: told apart, named, and refused where they cannot be."""

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from recurrent_rl.agents.importing import name_of
from recurrent_rl.config import TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.resolve import resolved, source_of
from recurrent_rl.vector_env.config import EnvConfig
from recurrent_rl.vector_env.limits import limits_of
from recurrent_rl.vector_env.properties import longest_episode
from recurrent_rl.vector_env.sources import find_source
from recurrent_rl.vector_env.vectorize import make_vector_env
from tests.recurrent_rl import corridor
from tests.recurrent_rl.corridor import LIMIT, Corridor, make, make_many
from tests.recurrent_rl.runs.small_runs import registered

HERE = "tests.recurrent_rl.corridor"


@pytest.fixture
def both() -> Iterator[None]:
    """An id of the name of a class."""
    gym.register("Both", f"{HERE}:Corridor")
    yield
    gym.registry.pop("Both")


def test_what_another_process_can_import_is_recorded_by_its_name() -> None:
    assert find_source(Corridor).name == f"{HERE}:Corridor"
    assert find_source(make).name == f"{HERE}:make"
    assert find_source(make_many).name == f"{HERE}:make_many"
    assert find_source("CartPole-v1").name == "CartPole-v1"
    assert all(find_source(one).found_by_name for one in (Corridor, make, "CartPole-v1"))


@pytest.mark.parametrize(
    ("env", "name"),
    [
        (lambda: Corridor(), "<lambda>"),
        (partial(make, 5), "<make>"),
        (Corridor(), "<Corridor>"),
        (make(), "<Corridor>"),
        (gym.make("Acrobot-v1"), "<Acrobot-v1>"),
        (make_many(2), "<Corridor>"),
        (gym.wrappers.vector.RecordEpisodeStatistics(make_many(2)), "<Corridor>"),
    ],
)
def test_what_no_other_process_can_import_is_described(env: Any, name: str) -> None:
    source = find_source(env)
    assert source.name == name
    assert not source.found_by_name
    with pytest.raises(UserError, match=rf"{name} was given in Python .* as env=\.\.\."):
        find_source(name)


def test_a_function_in_a_function_or_in_the_script_has_no_name_to_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def local() -> Corridor:
        return Corridor()

    assert name_of(local) is None
    assert find_source(local).name == "<local>"
    script = (
        "from recurrent_rl.vector_env.sources import find_source\n"
        "def f(): ...\n"
        "print(find_source(f).name)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "<f>\n"
    monkeypatch.setattr(corridor, "make", lambda: None)  # another stands under its name
    assert find_source(make).name == "<make>"


def test_a_name_is_an_id_or_an_attribute_and_a_mark_says_which(both: None) -> None:
    with pytest.raises(UserError, match=rf"Write {HERE}:/Both for the id, {HERE}:\.Both for the"):
        find_source(f"{HERE}:Both")
    assert find_source(f"{HERE}:/Both").spec is gym.spec("Both")
    env = make_vector_env(f"{HERE}:.Both", 1)
    assert isinstance(env, SyncVectorEnv)
    assert isinstance(env.envs[0].unwrapped, corridor.Both)
    assert find_source(corridor.Both).name == f"{HERE}:.Both"


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        (f"{HERE}:mak", rf"Unknown environment 'mak'.* Did you mean {HERE}:make"),
        (f"{HERE}:ALREADY", "is <TimeLimit.*, which makes no environment. Name a class, or"),
        (f"{HERE}:LIMIT", "is 12, which makes no environment"),
        (f"{HERE}:CartPol-v1", "Did you mean .*:CartPole-v1"),
        ("nowhere:make", "Module 'nowhere' of 'nowhere:make' cannot be imported"),
        ("my/door.py:Door", r"is named without \.py: my\.door:\.\.\., not my/door\.py:"),
        (f"{HERE}.make", f"Unknown environment .* Did you mean {HERE}:make"),
    ],
)
def test_a_name_that_makes_no_environment_is_refused(env_id: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_source(env_id)


@pytest.mark.parametrize("env", [3, [], object(), None])
def test_what_is_no_source_is_refused_by_name(env: Any) -> None:
    with pytest.raises(
        UserError, match=r"env is .*; it must be an environment's id, a class, a fun"
    ):
        find_source(env)


def test_a_class_and_a_function_are_called_for_each_environment_with_the_arguments() -> None:
    config = EnvConfig({"length": 5})
    for env in (Corridor, make, f"{HERE}:make", lambda length: Corridor(length)):
        made: Any = make_vector_env(env, 3, config)
        assert made.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        assert [one.unwrapped.length for one in made.envs] == [5, 5, 5]
    many: Any = make_vector_env(make_many, 3, config)
    assert many.num_envs == 3
    assert not hasattr(many.envs[0], "number")  # as it came
    assert many.envs[0].unwrapped.length == 5


def test_what_cannot_be_sent_to_a_process_of_its_own_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where processes are not forked, as on a Mac."""
    lock, real = threading.Lock(), multiprocessing.get_context
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: real("spawn"))

    def make_one() -> corridor.Env:
        with lock:
            return Corridor()

    with pytest.raises(UserError, match=r"<make_one> cannot be sent to a process of its own \("):
        make_vector_env(make_one, 1, EnvConfig(vectorization="async"))
    env = make_vector_env(lambda: Corridor(), 1, EnvConfig(vectorization="async"))
    env.close()


def test_a_registered_environment_has_nothing_around_it_but_what_checks_it() -> None:
    env = make_vector_env("Acrobot-v1", 1)
    assert isinstance(env, SyncVectorEnv)
    assert str(env.envs[0]) == f"<CheckedEnv{gym.make('Acrobot-v1', disable_env_checker=True)}>"


def test_a_subclass_of_vector_env_makes_as_many_as_are_asked_for() -> None:
    cart_pole = type(make_vector_env("CartPole-v1", 2).unwrapped)
    source = find_source(cart_pole)
    assert source.one is None
    env = make_vector_env(source, 5)
    assert isinstance(env, cart_pole)
    assert env.num_envs == 5


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (corridor.nothing, "nothing returned None; it must return a gymnasium.Env"),
        (
            type("Gyms", (), {"__module__": "gym.core"}),
            "return a gymnasium.Env. It is of gym, which",
        ),
        (type("Zoo", (), {"__module__": "pettingzoo.utils"}), "It is of PettingZoo, where several"),
        (type("Vec", (), {"__module__": "stable_baselines3.x"}), "what makes a single one, and "),
        (type("Own", (), {}), "gymnasium.Env. Let its class be a subclass of that"),
        (corridor.many_without_asking, "returned a vector environment. Give it an argument num_en"),
        (corridor.make_too_few, "called with num_envs 2 and returned a vector environment of 1"),
        (corridor.one_where_many_are_asked_for, "must return a gymnasium.vector.VectorEnv"),
        (lambda one=corridor.ALREADY: one, "<lambda> returned the same environment twice"),
    ],
)
def test_what_a_function_returns_is_checked(env: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_vector_env(env, 2)


@pytest.mark.parametrize(
    ("env", "num_envs", "config", "message"),
    [
        (make(), 2, {}, "num_envs is 2, but <Corridor> is one environment. Leave num_envs out"),
        (make_many(3), 2, {}, "num_envs is 2, but <Corridor> is 3 environments"),
        (make(), 1, {"env_kwargs": {"length": 2}}, "env_kwargs are .* is made already"),
        (make_many(2), 2, {"env_kwargs": {"length": 2}}, "env_kwargs are .* is made already"),
        (make(), 1, {"vectorization": "async"}, "vectorization is 'async', but <Corridor>"),
        (make_many(2), 2, {"vectorization": "sync"}, "vectorization is 'sync', but <Corridor> st"),
        (make_many, 2, {"vectorization": "async"}, "vectorization is 'async', but .* steps its"),
        (make_many(2), 2, {"flicker": 0.1}, "flicker cannot be: wrappers go around single"),
        (make_many(2), 2, {"observation_noise": 0.1}, "observation_noise cannot be"),
        (make_many, 2, {"observation_delay": 1}, "observation_delay cannot be"),
        (make_many, 2, {"wrappers": ["flatten"]}, "wrappers cannot be"),
        (make_many(2), 2, {"observe": ["x"], "flicker": 0.1}, "observe and flicker cannot be"),
    ],
)
def test_a_setting_that_cannot_be_of_an_environment_is_refused_by_name(
    env: Any, num_envs: int, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_vector_env(env, num_envs, EnvConfig(**config))


def test_hiding_goes_around_an_environment_that_was_given() -> None:
    env = make_vector_env(make(), 1, EnvConfig(observation_delay=1))
    assert (env.reset(seed=0)[0] == 0).all()


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_the_time_limit_is_found_through_the_wrappers(vectorization: Any) -> None:
    config = EnvConfig(vectorization=vectorization)
    env = make_vector_env(lambda: TimeLimit(TimeLimit(Corridor(), 30), 20), 2, config)
    try:
        assert limits_of(env).longest == 20
    finally:
        env.close()


def test_how_long_an_episode_can_be_is_asked_of_any_source() -> None:
    for env in (make, make_many, make(), make_many(2)):
        assert longest_episode(env, EnvConfig()) == LIMIT
    assert longest_episode(Corridor, EnvConfig()) is None
    with registered(make) as env_id:  # without a time limit
        assert longest_episode(env_id, EnvConfig()) == LIMIT
    assert longest_episode("Acrobot-v1", EnvConfig(wrappers=(f"{HERE}:twice_as_bright",))) == 500


def test_an_environment_that_was_given_stays_open() -> None:
    one, many = make(), make_many(2)
    for env, count in ((one, 1), (many, 2)):
        source = find_source(env)
        made = make_vector_env(source, count)
        made.reset(seed=0)
        source.close(made)
    assert not one.unwrapped.closed  # type: ignore[attr-defined]
    many.reset(seed=0)


def test_the_settings_follow_from_what_was_given() -> None:
    one = resolved(TrainConfig(), find_source(make()))
    assert (one.env_id, one.num_envs, one.workers) == ("<Corridor>", 1, 1)
    assert one.seq_len == 10 * LIMIT + LIMIT  # 11 whole episodes, about 128 steps
    assert one.num_chunks % one.num_minibatches == 0
    assert 7000 < one.batch_size <= 8192
    assert "chunks of 132 (seq_len)" in one.reasons["num_steps"]
    many = resolved(TrainConfig(workers="auto"), find_source(make_many(6)))
    assert (many.num_envs, many.workers) == (6, 1)
    assert many.num_chunks % many.num_minibatches == 0
    assert many.reasons["workers"] == "other processes cannot make <Corridor>"
    assert resolved(TrainConfig(), find_source(make)).env_id == f"{HERE}:make"


def test_settings_without_an_environment_or_with_two_are_refused() -> None:
    with pytest.raises(UserError, match=r"no environment to train on: env_id is missing. Name one"):
        source_of(TrainConfig())
    with pytest.raises(
        UserError, match=r"env_id is 'CartPole-v1', but env is '.*:make'. Leave one"
    ):
        source_of(TrainConfig("CartPole-v1"), make)
    assert source_of(TrainConfig(f"{HERE}:make"), make).name == f"{HERE}:make"


@pytest.mark.parametrize(
    ("env_id", "package"),
    [
        ("ALE/Pong-v5", "gymnasium[atari]"),
        ("LunarLander-v3", "gymnasium[box2d]"),
        ("HalfCheetah-v5", "gymnasium[mujoco]"),
        ("phys2d/CartPole-v1", "gymnasium[jax]"),
        ("MiniGrid-MemoryS7-v0", "minigrid"),
        ("BabyAI-OpenDoor-v0", "minigrid"),
        ("popgym-AutoencodeEasy-v0", "popgym"),
    ],
)
def test_an_environment_whose_package_is_missing_says_what_to_install(
    env_id: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not env_id.startswith(("LunarLander", "HalfCheetah", "phys2d")):
        monkeypatch.delitem(gym.registry, env_id, raising=False)
    for module in ("ale_py", "Box2D", "mujoco", "jax", "minigrid", "popgym"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    for name in list(sys.modules):
        if name.startswith(
            ("gymnasium.envs.box2d", "gymnasium.envs.mujoco", "gymnasium.envs.phys")
        ):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError) as refused:
        make_vector_env(env_id, 2, EnvConfig(vectorization="sync"))
    expected = f"Environment {env_id} needs a package that is missing: pip install '{package}'"
    assert str(refused.value) == expected


def test_ale_py_is_imported_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        """Stands for the package, whose import registers its ids."""

        @staticmethod
        def find_spec(name: str, *_: Any) -> None:
            if name == "ale_py":
                gym.register("ALE/Standing-v5", f"{HERE}:Corridor")

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "ale_py", raising=False)
    try:
        with pytest.raises(UserError, match="pip install"):  # Finder has no module to load
            find_source("ALE/Standing-v5")
        assert find_source("ALE/Standing-v5").spec is gym.spec("ALE/Standing-v5")
    finally:
        gym.registry.pop("ALE/Standing-v5", None)


@pytest.mark.parametrize("env", [Corridor, make, Corridor()])
def test_an_environment_in_the_place_of_its_id_is_told_where_it_goes(env: Any) -> None:
    with pytest.raises(UserError, match=r"env_id is .* Give a class, .* as train\(config, env="):
        TrainConfig(env)
