"""The six contracts in skrl's PPO_RNN, its Gymnasium wrapper around the vector environment.

In skrl the models are the user's code, the unroll of the update included. The contracts are checked
with the model of `skrl_runner.py`, which resets the memory in the update at terminations and
truncations, of both of which skrl tells it. The models of skrl's own examples reset at terminations
alone: what that does to the first contract is measured too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import common
import contracts
import skrl_runner
import torch
from contracts import CHUNK, ENVIRONMENTS, EPOCHS, MINIBATCHES, STEPS, Library, Task, Trace
from skrl.agents.torch.ppo import PPO_RNN
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed

common.HIDDEN = contracts.HIDDEN


class ModelAsInExamples(skrl_runner.SharedModel):
    """Resets in the update where skrl's examples do: at terminations."""

    def remember(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        if "truncated" in inputs:
            inputs = inputs | {"truncated": torch.zeros_like(inputs["truncated"])}
        return super().remember(inputs)


class Skrl(Library):
    name = "skrl"
    packages = ("skrl",)
    notes: ClassVar = {
        "reset": "PPO_RNN.record_transition in agents/torch/ppo/ppo_rnn.py makes "
        "_rnn_initial_states and _rnn_final_states one dictionary, so that from the second step on "
        "the state stored with a row is the one after it, and each sequence of the update starts "
        "with its first observation consumed already",
        "bootstrap": "record_transition in agents/torch/ppo/ppo_rnn.py adds gamma V(s_t) to the "
        "reward, and compute_gae there stops the sum at terminations only",
        "inserted": "GymnasiumWrapper in envs/wrappers/torch/gymnasium_envs.py passes every row "
        "on, and nothing reads the autoreset mode; its examples make their environments with "
        "gymnasium.make_vec, whose default is NEXT_STEP",
        "ratio": "the states stored a step late, as under the first contract (kept apart, the "
        "ratio is 1 without normalisation); and PPO_RNN.update in agents/torch/ppo/ppo_rnn.py "
        "takes each minibatch of the first epoch into the observation scaler before it computes "
        "the log-probabilities",
        "resume": "Agent.save in agents/torch/base.py keeps models, optimiser and scalers, no "
        "random generator; with the states kept apart (see the first contract) that is all that "
        "is missing; its documentation offers to resume, not to be exact",
    }
    model: type[skrl_runner.SharedModel] = skrl_runner.SharedModel

    def make(self, task: Task) -> tuple[PPO_RNN, SequentialTrainer]:
        set_seed(task.seed)
        env = wrap_env(contracts.make_env(task), wrapper="gymnasium", verbose=False)
        model = self.model(env, CHUNK)
        cfg: dict[str, Any] = {
            "rollouts": STEPS,
            "learning_epochs": EPOCHS,
            "mini_batches": MINIBATCHES,
            "learning_rate": task.learning_rate,
            "discount_factor": contracts.GAMMA,
            "gae_lambda": contracts.GAE_LAMBDA,
            "time_limit_bootstrap": True,
            "experiment": {"write_interval": 0, "checkpoint_interval": 0},
        }
        if task.normalise:
            cfg["observation_preprocessor"] = RunningStandardScaler
            cfg["observation_preprocessor_kwargs"] = {
                "size": env.observation_space,
                "device": "cpu",
            }
        agent = PPO_RNN(
            models={"policy": model, "value": model},
            memory=RandomMemory(memory_size=STEPS, num_envs=ENVIRONMENTS, device="cpu"),
            observation_space=env.observation_space,
            action_space=env.action_space,
            device="cpu",
            cfg=cfg,
        )
        if task.wild:
            contracts.randomise(model)
        trainer_cfg = {
            "timesteps": task.updates * STEPS,
            "disable_progressbar": True,
            "headless": True,
            "close_environment_at_exit": False,
        }
        return agent, SequentialTrainer(env=env, agents=agent, cfg=trainer_cfg)

    def train(self, task: Task, folder: Path, trace: Trace | None = None) -> PPO_RNN:
        agent, trainer = self.make(task)
        if trace is not None:
            watch(agent, trace)
        trainer.train()
        return agent

    def replay(
        self, agent: PPO_RNN, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return replay(agent.policy, observations, actions)

    def weights(self, agent: PPO_RNN) -> dict[str, torch.Tensor]:
        found = dict(agent.policy.state_dict())
        scaler = agent.checkpoint_modules.get("observation_preprocessor")
        if scaler is not None:
            found |= {f"normaliser.{name}": x for name, x in scaler.state_dict().items()}
        return found

    def save(self, agent: PPO_RNN, folder: Path) -> None:
        agent.save(str(folder / "agent.pt"))

    def resume(self, task: Task, folder: Path, ready: Callable[[], None]) -> PPO_RNN:
        agent, trainer = self.make(task)
        agent.load(str(folder / "agent.pt"))
        ready()
        trainer.train()
        return agent

    def act(self, agent: PPO_RNN, observations: torch.Tensor) -> torch.Tensor:
        seen = agent._observation_preprocessor(observations)
        agent.policy.eval()
        actions = [torch.full((len(seen), 1), action) for action in (0, 1)]
        with torch.no_grad():
            return torch.stack([replay(agent.policy, seen, x)[1] for x in actions], 1)

    def load_and_act(self, folder: Path, observations: torch.Tensor) -> torch.Tensor:
        agent, _ = self.make(contracts.SAVED)
        agent.load(str(folder / "agent.pt"))
        return self.act(agent, observations)

    def remark(self, contract: str) -> str:
        if contract != "reset":
            return ""
        apart, as_in_examples = StatesApart(), StatesApart()
        as_in_examples.model = ModelAsInExamples
        off = []
        for library in (apart, as_in_examples):
            played = contracts.Played(library, contracts.FROZEN)
            off.append(contracts.tell(played.error(played.played(0))))
        return (
            f"with the two kept apart the update is off by {off[0]}; the unroll is the user's "
            "code: if its model also resets at terminations only, as those of skrl's examples do, "
            f"by {off[1]}"
        )

    def forget_normaliser(self, agent: PPO_RNN) -> None:
        contracts.forget_statistics(agent.checkpoint_modules["observation_preprocessor"])


class StatesApart(Skrl):
    """With the memory's states before and after a step in a dictionary each."""

    def make(self, task: Task) -> tuple[PPO_RNN, SequentialTrainer]:
        agent, trainer = super().make(task)
        record = agent.record_transition

        def record_apart(**transition: Any) -> None:
            record(**transition)
            agent._rnn_initial_states = dict(agent._rnn_final_states)

        agent.record_transition = record_apart
        return agent, trainer


def replay(
    model: skrl_runner.SharedModel, observations: torch.Tensor, actions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    state = [torch.zeros(1, 1, contracts.HIDDEN)] * 2
    values, log_probs = [], []
    for row, action in zip(observations, actions, strict=True):
        features, state = model.remember({"observations": row[None], "rnn": state})
        values.append(model.values(features)[0])
        log_probs.append(torch.log_softmax(model.logits(features)[0], 0)[action.long()])
    return torch.cat(values), torch.cat(log_probs)


def watch(agent: PPO_RNN, trace: Trace) -> None:
    """Note each minibatch as the memory gives it, with what the model then says of it."""
    sample, act, update = agent.memory.sample_all, agent.policy.act, agent.update
    given: dict[str, Any] = {}

    def watched_sample(names: list[str], **kwargs: Any) -> Any:
        batches = sample(names, **kwargs)
        if "observations" in names:
            given["batches"] = [dict(zip(names, batch, strict=True)) for batch in batches]
        return batches

    def watched_act(inputs: dict[str, Any], *, role: str = "") -> Any:
        found = act(inputs, role=role)
        if "taken_actions" in inputs:
            given["log_probs"] = found[1]["log_prob"]
        elif "terminated" in inputs and role == "value":
            batch = given["batches"][trace.minibatch % MINIBATCHES]
            trace.add(
                observations=batch["observations"],
                actions=batch["actions"],
                old_values=batch["values"],
                old_log_probs=batch["log_prob"],
                returns=batch["returns"],
                values=found[0],
                log_probs=given["log_probs"],
            )
        return found

    def watched_update(**kwargs: Any) -> None:
        trace.begin_update()
        update(**kwargs)

    agent.memory.sample_all, agent.update = watched_sample, watched_update
    agent.policy.act = watched_act


if __name__ == "__main__":
    contracts.main(Skrl())
