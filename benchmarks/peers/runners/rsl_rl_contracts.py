"""The six contracts in rsl_rl: its own RNNModel, an LSTM each for actor and critic.

Its actions are continuous; the environment does not look at them but for the sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import contracts
import rsl_rl_runner
import torch
from contracts import EPOCHS, HIDDEN, MINIBATCHES, STEPS, Library, Task, Trace
from rsl_rl.runners import OnPolicyRunner
from rsl_rl.utils import unpad_trajectories
from tensordict import TensorDict


class RslRl(Library):
    name = "rsl_rl"
    packages = ("rsl-rl-lib",)
    left_out: ClassVar = {
        "inserted": (
            contracts.NOT_APPLICABLE,
            "its own VecEnv resets in the step in which an episode ends",
        )
    }
    notes: ClassVar = {
        "bootstrap": "PPO.process_env_step in algorithms/ppo.py adds gamma times the value of the "
        "step itself; it is not handed the final observation",
        "resume": "PPO.save in algorithms/ppo.py keeps models and optimiser, no random generator; "
        "its documentation offers to load a checkpoint, not to be exact",
    }

    def make(self, task: Task) -> OnPolicyRunner:
        torch.manual_seed(task.seed)
        model = {
            "class_name": "RNNModel",
            "obs_normalization": task.normalise,
            "hidden_dims": [HIDDEN],
            "rnn_type": "lstm",
            "rnn_hidden_dim": HIDDEN,
            "rnn_num_layers": 1,
        }
        cfg = {
            "num_steps_per_env": STEPS,
            "save_interval": 10**9,
            "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
            "actor": {**model, "distribution_cfg": {"class_name": "GaussianDistribution"}},
            "critic": dict(model),
            "algorithm": {
                "class_name": "PPO",
                "num_learning_epochs": EPOCHS,
                "num_mini_batches": MINIBATCHES,
                "gamma": contracts.GAMMA,
                "lam": contracts.GAE_LAMBDA,
                "learning_rate": task.learning_rate,
                "schedule": "fixed",
            },
        }
        env = rsl_rl_runner.Adapter(contracts.make_env(task), task.seed)
        runner = OnPolicyRunner(env, cfg, log_dir=None, device="cpu")
        if task.wild:
            contracts.randomise(runner.alg.actor.rnn, runner.alg.actor.mlp, runner.alg.critic)
        return runner

    def train(self, task: Task, folder: Path, trace: Trace | None = None) -> OnPolicyRunner:
        runner = self.make(task)
        if trace is not None:
            watch(runner.alg, trace)
        runner.learn(task.updates)
        return runner

    def replay(
        self, agent: OnPolicyRunner, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        actor, critic = agent.alg.actor, agent.alg.critic
        actor.reset()
        critic.reset()
        values, log_probs = [], []
        with torch.inference_mode():
            for row, action in zip(observations, actions, strict=True):
                seen = packed(row)
                actor(seen, stochastic_output=True)
                values.append(critic(seen)[0])
                log_probs.append(actor.get_output_log_prob(action[None]))
        return torch.cat(values), torch.cat(log_probs)

    def weights(self, agent: OnPolicyRunner) -> dict[str, torch.Tensor]:
        return {
            f"{name}.{key}": x
            for name, model in (("actor", agent.alg.actor), ("critic", agent.alg.critic))
            for key, x in model.state_dict().items()
        }

    def save(self, agent: OnPolicyRunner, folder: Path) -> None:
        agent.save(str(folder / "model.pt"))

    def resume(self, task: Task, folder: Path, ready: Callable[[], None]) -> OnPolicyRunner:
        runner = self.make(task)
        runner.load(str(folder / "model.pt"))
        ready()
        runner.learn(task.updates)
        return runner

    def act(self, agent: OnPolicyRunner, observations: torch.Tensor) -> torch.Tensor:
        policy = agent.get_inference_policy("cpu")
        policy.reset()
        with torch.inference_mode():
            return torch.cat([policy(packed(row)) for row in observations])

    def load_and_act(self, folder: Path, observations: torch.Tensor) -> torch.Tensor:
        runner = self.make(contracts.SAVED)
        runner.load(str(folder / "model.pt"))
        return self.act(runner, observations)

    def forget_normaliser(self, agent: OnPolicyRunner) -> None:
        contracts.forget_statistics(agent.alg.actor.obs_normalizer)


def packed(row: torch.Tensor) -> TensorDict:
    return TensorDict({"policy": row[None]}, batch_size=[1])


def watch(alg: Any, trace: Trace) -> None:
    """Note each minibatch as the storage gives it, with what the models then say of it."""
    generate, log_prob = alg.storage.recurrent_mini_batch_generator, alg.actor.get_output_log_prob
    said: dict[str, Any] = {}

    def watched_generate(*args: Any) -> Iterator[Any]:
        trace.begin_update()
        for batch in generate(*args):
            yield batch  # the models speak, and an optimiser step is taken
            trace.add(
                observations=unpad_trajectories(batch.observations["policy"], batch.masks),
                actions=batch.actions,
                old_values=batch.values,
                old_log_probs=batch.old_actions_log_prob,
                returns=batch.returns,
                values=said["values"],
                log_probs=said["log_probs"],
            )

    def watched_log_prob(actions: torch.Tensor) -> torch.Tensor:
        said["log_probs"] = log_prob(actions)
        return said["log_probs"]

    alg.critic.register_forward_hook(lambda module, inputs, found: said.update(values=found))
    alg.storage.recurrent_mini_batch_generator = watched_generate
    alg.actor.get_output_log_prob = watched_log_prob


if __name__ == "__main__":
    contracts.main(RslRl())
