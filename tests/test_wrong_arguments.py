"""Each argument of a public function is refused by name where it is of the wrong type.

What comes of a mistake is never an AttributeError or TypeError from inside. Settings are tried in
tests/agents/test_settings.py and tests/recurrent_rl/test_config.py.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import recurrent_rl
from recurrent_rl.agents import (
    ActorCritic,
    AgentConfig,
    Encoder,
    Policy,
    UserError,
    load_policy,
)
from recurrent_rl.agents.memory.registry import make_memory
from recurrent_rl.experiments.results import learning_curve, load_evaluated_run, load_run
from recurrent_rl.group import ALONE
from recurrent_rl.trainer import Trainer
from tests.agents.test_sb3 import ACTION, MODEL, NORMALISER, OBSERVATION

WRONG = {"None": None, "3": 3, "text": "x", "list": [], "object": object()}
Arguments = dict[str, tuple[Any, str]]
"""By name: a right value, and which of `WRONG` are right too."""
FUNCTIONS = (
    *("train", "resume", "evaluate", "make_vector_env", "load_run", "learning_curve", "from_json"),
    *("load_policy", "Policy", "seed", "initial_state", "predict", "actor", "save"),
    *("act", "ActorCritic", "initial_state of ActorCritic", "step", "unroll"),
    *("make_memory", "step of a memory", "Encoder", "Trainer", "check_env", "record_video"),
    *("convert_sb3", "evaluate_run", "load_evaluated_run"),
)


@pytest.fixture(scope="module")
def functions(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[Callable[..., Any], Arguments]]]:
    """Each of `FUNCTIONS` with its arguments."""
    folder, tmaze = tmp_path_factory.mktemp("runs"), "recurrent_rl/TMaze-v0"
    agent = AgentConfig("gru", hidden_size=4, encoder_size=4, previous_reward=True)
    config = recurrent_rl.TrainConfig(
        tmaze,
        log_dir=folder,
        num_envs=4,
        num_steps=32,
        update_epochs=1,
        total_timesteps=128,
        memory_interval=None,
        eval_episodes=4,
        agent=agent,
    )
    run = recurrent_rl.train(config, progress=False)
    policy_of_run = load_policy(run.policy_path)
    options: Arguments = {
        "progress": (False, ""),
        "callbacks": ((), "list of Callback"),
        "seed_globals": (False, ""),
        "stop": (None, "None"),
    }
    two, box = gym.spaces.Discrete(2), gym.spaces.Box(-1, 1, (3,))
    policy = Policy(ActorCritic(two, two, agent))
    state = policy.initial_state(2)
    own = {"previous_action": torch.tensor([0, 0]), "previous_reward": torch.zeros(2, 1)}
    components = {"": torch.tensor([0, 1]), **own}
    flags = {"episode_start": (None, "None"), "action_mask": (None, "None")}
    player = policy.actor()
    player.act(0)
    memory = make_memory("gru", 3, 4, 1)
    with closing(recurrent_rl.make_vector_env(tmaze, 2)) as env:
        yield {
            "train": (
                recurrent_rl.train,
                {"config": (config, ""), "env": (None, "None"), **options},
            ),
            "resume": (
                recurrent_rl.resume,
                {
                    "run_dir": (run.run_dir, ""),
                    "env": (None, "None"),
                    "total_timesteps": (None, "None 3"),
                    "device": (None, "None"),
                    "compare": (False, ""),
                    **options,
                },
            ),
            "evaluate": (
                recurrent_rl.evaluate,
                {
                    "policy": (policy_of_run, ""),
                    "env": (env, ""),
                    "episodes": (2, "3"),
                    "num_envs": (None, "None"),
                    "env_config": (None, "None"),
                    "deterministic": (True, ""),
                    "with_memory": (True, ""),
                    "seed": (0, "None 3"),
                    "max_steps": (3, "None 3"),
                    "on_episode": (None, "None"),
                    "should_stop": (None, "None"),
                },
            ),
            "make_vector_env": (
                recurrent_rl.make_vector_env,
                {
                    "env": (tmaze, ""),
                    "num_envs": (2, "3"),
                    "env_config": (None, "None"),
                },
            ),
            "evaluate_run": (
                recurrent_rl.evaluate_run,
                {
                    "run_dir": (run.run_dir, ""),
                    "episodes": (2, "3"),
                    "env": (None, "None"),
                    "seed": (0, "3"),
                    "compare": (False, ""),
                    "max_steps": (3, "None 3"),
                    "progress": (False, ""),
                },
            ),
            "load_run": (load_run, {"run_dir": (run.run_dir, "")}),
            "load_evaluated_run": (load_evaluated_run, {"run_dir": (run.run_dir, "")}),
            "learning_curve": (
                learning_curve,
                {"run_dir": (run.run_dir, ""), "tag": ("time/fps", "text")},
            ),
            "from_json": (recurrent_rl.TrainConfig.from_json, {"text": (config.to_json(), "")}),
            "load_policy": (load_policy, {"path": (run.policy_path, ""), "device": ("cpu", "")}),
            "Policy": (Policy, {"agent": (policy.agent, ""), "summary": ({}, "None")}),
            "seed": (policy.seed, {"seed": (0, "None 3")}),
            "initial_state": (policy.initial_state, {"batch": (2, "3")}),
            "predict": (
                policy.predict,
                {
                    "observation": (np.array([0, 1]), ""),
                    "state": (state, "None"),
                    "episode_start": (np.array([True, False]), "None"),
                    "deterministic": (True, ""),
                    "action_masks": (None, "None"),
                    "reward": (np.zeros(2), "3"),
                },
            ),
            "actor": (
                policy.actor,
                {
                    "deterministic": (True, ""),
                    "seed": (0, "None 3"),
                    "num_envs": (None, "None 3"),
                },
            ),
            "save": (policy.save, {"path": (folder / "policy.safetensors", "text")}),
            "act": (
                player.act,
                {"observation": (1, ""), "reward": (0.0, "3"), "action_masks": (None, "None")},
            ),
            "ActorCritic": (
                ActorCritic,
                {
                    "observation_space": (box, ""),
                    "action_space": (two, ""),
                    "config": (agent, ""),
                    "hide_indices": ((1,), "list"),
                    "scaling": ({"": "none"}, "None"),
                },
            ),
            "initial_state of ActorCritic": (policy.agent.initial_state, {"batch": (2, "3")}),
            "make_memory": (
                make_memory,
                {
                    "name": ("gru", ""),
                    "input_size": (2, "3"),
                    "hidden_size": (4, "3"),
                    "num_layers": (1, "3"),
                    "horizon": (0, "3"),
                },
            ),
            "Encoder": (
                Encoder,
                {
                    "component_spaces": ({"": box}, ""),
                    "size": (4, "3"),
                    "num_layers": (1, "3"),
                    "activation": ("tanh", ""),
                    "one_hot": (False, ""),
                    "image_features": (4, "3"),
                },
            ),
            "convert_sb3": (
                recurrent_rl.convert_sb3,
                {
                    "path": (MODEL, ""),
                    "observation_space": (OBSERVATION, ""),
                    "action_space": (ACTION, ""),
                    "normaliser": (NORMALISER, ""),
                },
            ),
            "Trainer": (
                Trainer,
                {
                    "config": (dataclasses.replace(config, env_id=None), ""),
                    "env": (tmaze, ""),
                    "group": (ALONE, ""),
                    "source": (None, "None"),
                },
            ),
            "check_env": (
                recurrent_rl.check_env,
                {
                    "env": (tmaze, ""),
                    "env_kwargs": ({}, "None"),
                    "max_steps": (3, "None 3"),
                    "seed": (0, "3"),
                    "raise_faults": (True, ""),
                },
            ),
            "record_video": (
                recurrent_rl.record_video,
                {
                    "policy": (policy_of_run, ""),
                    "env": (tmaze, ""),
                    "path": (folder / "video.gif", ""),
                    "episodes": (1, "3"),
                    "fps": (None, "None 3"),
                    "env_config": (None, "None"),
                    "deterministic": (True, ""),
                    "with_memory": (True, ""),
                    "seed": (0, "None 3"),
                    "max_steps": (1, "None 3"),
                    "on_episode": (None, "None"),
                    "should_stop": (None, "None"),
                },
            ),
            "step of a memory": (
                memory.step,
                {"x": (torch.zeros(2, 3), ""), "state": (memory.initial_state(2), "")},
            ),
            "step": (
                policy.agent.step,
                {"components": (components, ""), "state": (state.memory, ""), **flags},
            ),
            "unroll": (
                policy.agent.unroll,
                {
                    "components": ({name: x[None] for name, x in components.items()}, ""),
                    "state": (state.memory, ""),
                    **flags,
                },
            ),
        }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_argument_of_the_wrong_type_is_refused_by_name(
    functions: dict[str, tuple[Callable[..., Any], Arguments]],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # where "x" is a path
    assert functions.keys() == set(FUNCTIONS)
    call, arguments = functions[name]
    right = {argument: value for argument, (value, _) in arguments.items()}
    for argument, (_, takes) in arguments.items():
        for kind, value in WRONG.items():
            if kind in takes.split():
                call(**{**right, argument: value})
                continue
            with pytest.raises(UserError) as refused:
                call(**{**right, argument: value})
            # `action_masks` may be "an action mask", the name of a memory "memory"; a path, id or
            # config.json is named by itself.
            named = "memory" if argument == "name" else argument.removesuffix("s")
            named = named.replace("_", "[_ ]")
            named += r"|\bx\b|config\.json" if value == "x" else ""
            assert re.search(named, str(refused.value), re.IGNORECASE), refused.value


NUMBERS = torch.zeros(1, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("name", "argument", "value", "message"),
    [
        ("step", "components", {}, "components lacks ''; it must hold '', "),
        ("unroll", "components", {"": NUMBERS}, "components lacks 'previous_"),
        ("step", "episode_start", NUMBERS[0], "episode_start is .*must be a bool tensor, or None"),
        ("unroll", "action_mask", NUMBERS, "action_mask is .*must be a bool tensor, or None"),
        ("load_policy", "path", "x" * 300, "cannot be read: .*File name too long"),
        ("resume", "run_dir", "x" * 300, "run_dir is .*no name over 255 bytes"),
        ("load_run", "run_dir", "x" * 300, "run_dir is .*no name over 255 bytes"),
        ("save", "path", "a\0b", r"'a\\x00b' holds a null character; give another path"),
        ("convert_sb3", "path", "a\0b", "cannot be read: embedded null byte"),
    ],
)
def test_what_is_of_the_right_type_and_cannot_be_is_refused(
    functions: dict[str, tuple[Callable[..., Any], Arguments]],
    name: str,
    argument: str,
    value: Any,
    message: str,
) -> None:
    call, arguments = functions[name]
    with pytest.raises(UserError, match=message):
        call(**{name: right for name, (right, _) in arguments.items()} | {argument: value})
