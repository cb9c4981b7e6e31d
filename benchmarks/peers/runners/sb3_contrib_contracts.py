"""The six contracts in sb3-contrib's RecurrentPPO, its own DummyVecEnv and VecNormalize around it.

An LSTM each for actor and critic, as is its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import contracts
import numpy as np
import torch
from contracts import ENVIRONMENTS, EPOCHS, MINIBATCHES, STEPS, Library, Task, Trace
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize


def make_env(task: Task) -> VecEnv:
    env = DummyVecEnv(contracts.environments_of(task))
    return VecNormalize(env, norm_reward=False) if task.normalise else env


class SB3Contrib(Library):
    name = "sb3-contrib"
    packages = (
        "sb3-contrib",
        "stable-baselines3",
    )
    left_out: ClassVar = {
        "inserted": (
            contracts.NOT_APPLICABLE,
            "its own VecEnv resets in the step in which an episode ends",
        )
    }
    notes: ClassVar = {
        "resume": "BaseAlgorithm.load in stable_baselines3/common/base_class.py restores policy, "
        "optimiser and counters and seeds the random generators anew; VecNormalize.reset takes the "
        "observations of the reset into its statistics once more; its documentation offers to "
        "continue training, not to be exact",
    }

    def remark(self, contract: str) -> str:
        if contract != "normaliser":
            return ""
        return "the normaliser is a file of its own, which the documentation says to save and load"

    def train(self, task: Task, folder: Path, trace: Trace | None = None) -> RecurrentPPO:
        model = RecurrentPPO(
            "MlpLstmPolicy",
            make_env(task),
            learning_rate=task.learning_rate,
            n_steps=STEPS,
            batch_size=STEPS * ENVIRONMENTS // MINIBATCHES,
            n_epochs=EPOCHS,
            gamma=contracts.GAMMA,
            gae_lambda=contracts.GAE_LAMBDA,
            policy_kwargs={
                "net_arch": {"pi": [], "vf": []},
                "lstm_hidden_size": contracts.HIDDEN,
            },
            seed=task.seed,
            device="cpu",
        )
        if task.wild:
            contracts.randomise(model.policy)
        if trace is not None:
            watch(model, trace)
        return model.learn(task.updates * STEPS * ENVIRONMENTS)

    def replay(
        self, agent: RecurrentPPO, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        fresh = torch.zeros(1, 1, contracts.HIDDEN)
        starts = torch.zeros(len(observations))
        states = RNNStates((fresh, fresh), (fresh, fresh))
        values, log_probs, _ = agent.policy.evaluate_actions(
            observations, actions[:, 0].long(), states, starts
        )
        return values, log_probs

    def weights(self, agent: RecurrentPPO) -> dict[str, torch.Tensor]:
        found = dict(agent.policy.state_dict())
        normaliser = agent.get_vec_normalize_env()
        if normaliser is not None:
            found["normaliser.mean"] = torch.tensor(normaliser.obs_rms.mean)
            found["normaliser.var"] = torch.tensor(normaliser.obs_rms.var)
        return found

    def save(self, agent: RecurrentPPO, folder: Path) -> None:
        agent.save(folder / "model.zip")
        agent.get_vec_normalize_env().save(folder / "normaliser.pkl")

    def load(self, task: Task, folder: Path) -> RecurrentPPO:
        env = VecNormalize.load(
            folder / "normaliser.pkl", DummyVecEnv(contracts.environments_of(task))
        )
        return RecurrentPPO.load(folder / "model.zip", env=env, device="cpu")

    def resume(self, task: Task, folder: Path, ready: Callable[[], None]) -> RecurrentPPO:
        model = self.load(task, folder)
        ready()
        return model.learn(task.updates * STEPS * ENVIRONMENTS, reset_num_timesteps=False)

    def act(self, agent: RecurrentPPO, observations: torch.Tensor) -> torch.Tensor:
        normaliser = agent.get_vec_normalize_env()
        seen = torch.tensor(normaliser.normalize_obs(observations.numpy()))
        with torch.no_grad():
            found = [
                self.replay(agent, seen, torch.full((len(seen), 1), action))[1] for action in (0, 1)
            ]
        return torch.stack(found, 1)

    def load_and_act(self, folder: Path, observations: torch.Tensor) -> torch.Tensor:
        agent = self.load(contracts.SAVED, folder)
        found = self.act(agent, observations)
        # What users call says the same.
        state, starts, greedy = None, np.ones(1, dtype=bool), []
        for row in agent.get_vec_normalize_env().normalize_obs(observations.numpy()):
            action, state = agent.predict(row[None], state, starts, deterministic=True)
            starts = np.zeros(1, dtype=bool)
            greedy.append(int(action[0]))
        assert torch.equal(torch.tensor(greedy), found.argmax(1))
        return found

    def forget_normaliser(self, agent: RecurrentPPO) -> None:
        statistics = agent.get_vec_normalize_env().obs_rms
        statistics.mean[:], statistics.var[:] = 0, 1


def watch(model: RecurrentPPO, trace: Trace) -> None:
    """Note each minibatch as the buffer gives it, with what the policy then says of it."""
    get, evaluate = model.rollout_buffer.get, model.policy.evaluate_actions
    given: list[Any] = []

    def watched_get(batch_size: int | None = None) -> Iterator[Any]:
        for batch in get(batch_size):
            given[:] = [batch]
            yield batch

    def watched_evaluate(*args: Any) -> Any:
        values, log_probs, entropy = evaluate(*args)
        batch = given[0]
        trace.add(
            batch.mask > 0.5,
            observations=batch.observations,
            actions=batch.actions,
            old_values=batch.old_values,
            old_log_probs=batch.old_log_prob,
            returns=batch.returns,
            values=values,
            log_probs=log_probs,
        )
        return values, log_probs, entropy

    train = model.train

    def watched_train() -> None:
        trace.begin_update()
        model.policy.evaluate_actions = watched_evaluate
        train()
        model.policy.evaluate_actions = evaluate

    model.rollout_buffer.get, model.train = watched_get, watched_train


if __name__ == "__main__":
    contracts.main(SB3Contrib())
