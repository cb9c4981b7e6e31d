"""Reinforcement learning with recurrent policies, for environments that do not show everything.

The public names are loaded on first use: importing the package, or its environments, does not
import PyTorch.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # here little is imported: typing and random are long to
if TYPE_CHECKING:  # what each public name is; _HOMES says it again, for use
    from typing import Any

    from recurrent_rl.agents.action_masks import ActionMaskError as ActionMaskError
    from recurrent_rl.agents.actor import Actor as Actor
    from recurrent_rl.agents.actor_critic import ActorCritic as ActorCritic
    from recurrent_rl.agents.config import AgentConfig as AgentConfig
    from recurrent_rl.agents.devices import DeviceError as DeviceError
    from recurrent_rl.agents.distributions import Distribution as Distribution
    from recurrent_rl.agents.encoders import register_encoder as register_encoder
    from recurrent_rl.agents.errors import UserError as UserError
    from recurrent_rl.agents.export.step import ExportError as ExportError
    from recurrent_rl.agents.fast_actor import FastActor as FastActor
    from recurrent_rl.agents.files import FileWriteError as FileWriteError
    from recurrent_rl.agents.files import NonFiniteError as NonFiniteError
    from recurrent_rl.agents.files import PolicyFileError as PolicyFileError
    from recurrent_rl.agents.heads import ActionHead as ActionHead
    from recurrent_rl.agents.heads import register_head as register_head
    from recurrent_rl.agents.kernels.safeguards import MemoryInputError as MemoryInputError
    from recurrent_rl.agents.kernels.safeguards import (
        SecondDerivativeError as SecondDerivativeError,
    )
    from recurrent_rl.agents.memory.contract import Memory as Memory
    from recurrent_rl.agents.memory.registry import register_memory as register_memory
    from recurrent_rl.agents.memory.states import MemoryState as MemoryState
    from recurrent_rl.agents.policy import Policy as Policy
    from recurrent_rl.agents.policy import load_policy as load_policy
    from recurrent_rl.agents.policy_state import PolicyState as PolicyState
    from recurrent_rl.agents.sb3.convert import convert_sb3 as convert_sb3
    from recurrent_rl.agents.settings import SettingError as SettingError
    from recurrent_rl.agents.spaces import ObservationError as ObservationError
    from recurrent_rl.agents.spaces import UnsupportedSpaceError as UnsupportedSpaceError
    from recurrent_rl.auxiliary import AuxiliaryLoss as AuxiliaryLoss
    from recurrent_rl.auxiliary import register_aux_loss as register_aux_loss
    from recurrent_rl.checks.check import check_env as check_env
    from recurrent_rl.checks.finding import FaultyEnvironmentError as FaultyEnvironmentError
    from recurrent_rl.checks.finding import Finding as Finding
    from recurrent_rl.config import TrainConfig as TrainConfig
    from recurrent_rl.errors import RaisedError as RaisedError
    from recurrent_rl.errors import ToldError as ToldError
    from recurrent_rl.experiments.tuning.search import TuneResult as TuneResult
    from recurrent_rl.experiments.tuning.search import tune as tune
    from recurrent_rl.rollout import Rollout as Rollout
    from recurrent_rl.runs.callbacks import AnyCallback as AnyCallback
    from recurrent_rl.runs.callbacks import Callback as Callback
    from recurrent_rl.runs.callbacks import TrainingState as TrainingState
    from recurrent_rl.runs.evaluation import evaluate as evaluate
    from recurrent_rl.runs.evaluation_result import Evaluation as Evaluation
    from recurrent_rl.runs.folder import RunHeldError as RunHeldError
    from recurrent_rl.runs.imitation import imitate as imitate
    from recurrent_rl.runs.recorded import RecordedEpisode as RecordedEpisode
    from recurrent_rl.runs.run_evaluation import evaluate_run as evaluate_run
    from recurrent_rl.runs.training import TrainResult as TrainResult
    from recurrent_rl.runs.training import resume as resume
    from recurrent_rl.runs.training import train as train
    from recurrent_rl.runs.watching.filming import record_video as record_video
    from recurrent_rl.sequences import Sequences as Sequences
    from recurrent_rl.signals import StopSignals as StopSignals
    from recurrent_rl.trainer import Trainer as Trainer
    from recurrent_rl.vector_env.config import EnvConfig as EnvConfig
    from recurrent_rl.vector_env.sources import Environment as Environment
    from recurrent_rl.vector_env.vectorize import make_vector_env as make_vector_env

    __version__: str

_HOMES = {
    "ActionHead": "agents.heads",
    "ActionMaskError": "agents.action_masks",
    "Actor": "agents.actor",
    "ActorCritic": "agents.actor_critic",
    "AgentConfig": "agents.config",
    "AnyCallback": "runs.callbacks",
    "AuxiliaryLoss": "auxiliary",
    "Callback": "runs.callbacks",
    "DeviceError": "agents.devices",
    "Distribution": "agents.distributions",
    "EnvConfig": "vector_env.config",
    "Environment": "vector_env.sources",
    "Evaluation": "runs.evaluation_result",
    "ExportError": "agents.export.step",
    "FastActor": "agents.fast_actor",
    "FaultyEnvironmentError": "checks.finding",
    "FileWriteError": "agents.files",
    "Finding": "checks.finding",
    "Memory": "agents.memory.contract",
    "MemoryInputError": "agents.kernels.safeguards",
    "MemoryState": "agents.memory.states",
    "NonFiniteError": "agents.files",
    "ObservationError": "agents.spaces",
    "Policy": "agents.policy",
    "PolicyFileError": "agents.files",
    "PolicyState": "agents.policy_state",
    "RaisedError": "errors",
    "RecordedEpisode": "runs.recorded",
    "Rollout": "rollout",
    "RunHeldError": "runs.folder",
    "SecondDerivativeError": "agents.kernels.safeguards",
    "Sequences": "sequences",
    "SettingError": "agents.settings",
    "StopSignals": "signals",
    "ToldError": "errors",
    "TrainConfig": "config",
    "TrainResult": "runs.training",
    "Trainer": "trainer",
    "TrainingState": "runs.callbacks",
    "TuneResult": "experiments.tuning.search",
    "UnsupportedSpaceError": "agents.spaces",
    "UserError": "agents.errors",
    "check_env": "checks.check",
    "convert_sb3": "agents.sb3.convert",
    "evaluate": "runs.evaluation",
    "evaluate_run": "runs.run_evaluation",
    "imitate": "runs.imitation",
    "load_policy": "agents.policy",
    "make_vector_env": "vector_env.vectorize",
    "record_video": "runs.watching.filming",
    "register_aux_loss": "auxiliary",
    "register_encoder": "agents.encoders",
    "register_head": "agents.heads",
    "register_memory": "agents.memory.registry",
    "resume": "runs.training",
    "train": "runs.training",
    "tune": "experiments.tuning.search",
}

__all__ = ["__version__", *sorted(_HOMES)]


if not TYPE_CHECKING:  # else any other name would do

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("recurrent-rl")
        if name in _HOMES:
            import random

            state = random.getstate()  # importing rich draws from it
            try:
                return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
            finally:
                random.setstate(state)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
