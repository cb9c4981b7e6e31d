"""The six contracts in rl_games: its discrete PPO with an LSTM that actor and critic share."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import common
import contracts
import rl_games_runner
import torch
from contracts import CHUNK, ENVIRONMENTS, EPOCHS, MINIBATCHES, STEPS, Library, Task, Trace
from rl_games.algos_torch.a2c_discrete import DiscreteA2CAgent
from rl_games.common import env_configurations, vecenv
from rl_games.torch_runner import Runner

common.HIDDEN = contracts.HIDDEN


class RLGames(Library):
    name = "rl_games"
    packages = ("rl-games",)
    left_out: ClassVar = {
        "inserted": (
            contracts.NOT_APPLICABLE,
            "its own IVecEnv resets in the step in which an episode ends",
        )
    }
    notes: ClassVar = {
        "bootstrap": "A2CBase.play_steps_rnn in common/a2c_common.py adds gamma times the value "
        "of the step itself; it is not handed the final observation",
        "ratio": "BaseModelNetwork.norm_obs in algos_torch/models.py takes each minibatch of the "
        "first epoch into the statistics before the log-probabilities are computed",
        "resume": "A2CBase.get_full_state_weights in common/a2c_common.py keeps model, optimiser "
        "and counters, no random generator; its documentation offers to go on from a checkpoint, "
        "not to be exact",
    }

    def make(self, task: Task, folder: Path, updates: int) -> Runner:
        args = Namespace(
            seed=task.seed,
            num_envs=ENVIRONMENTS,
            learning_rate=task.learning_rate,
            variant="default",
            threads=1,
        )
        env = contracts.make_env(task)
        vecenv.register(
            "PEER", lambda name, num_actors, **_: rl_games_runner.Adapter(env, task.seed)
        )
        env_configurations.register("peer", {"vecenv_type": "PEER"})
        params = rl_games_runner.params(args)
        params["config"] |= {
            "horizon_length": STEPS,
            "seq_length": CHUNK,
            "minibatch_size": STEPS * ENVIRONMENTS // MINIBATCHES,
            "mini_epochs": EPOCHS,
            "gamma": contracts.GAMMA,
            "tau": contracts.GAE_LAMBDA,
            "normalize_input": task.normalise,
            "normalize_value": False,
            "torch_compile": False,
            "device_name": "cpu",  # for its player
            "max_epochs": updates,
            "train_dir": str(folder),
            "player": {"use_vecenv": True},
        }
        runner = Runner()
        runner.load({"params": params})
        return runner

    def agent(self, runner: Runner) -> DiscreteA2CAgent:
        return runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)

    def train(self, task: Task, folder: Path, trace: Trace | None = None) -> DiscreteA2CAgent:
        agent = self.agent(self.make(task, folder, task.updates))
        if task.wild:
            contracts.randomise(agent.model)
        if trace is not None:
            watch(agent, trace)
        agent.train()
        return agent

    def replay(
        self, agent: DiscreteA2CAgent, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values, logits = play(agent.model, observations)
        log_probs = torch.log_softmax(logits, 1).gather(1, actions.long())
        return values, log_probs[:, 0]

    def weights(self, agent: DiscreteA2CAgent) -> dict[str, torch.Tensor]:
        return dict(agent.model.state_dict())

    def save(self, agent: DiscreteA2CAgent, folder: Path) -> None:
        agent.save(str(folder / "agent"))

    def resume(self, task: Task, folder: Path, ready: Callable[[], None]) -> DiscreteA2CAgent:
        agent = self.agent(self.make(task, folder, 2 * task.updates))
        agent.restore(str(folder / "agent.pth"))
        ready()
        agent.train()
        return agent

    def act(self, agent: DiscreteA2CAgent, observations: torch.Tensor) -> torch.Tensor:
        return play(agent.model, observations)[1]

    def load_and_act(self, folder: Path, observations: torch.Tensor) -> torch.Tensor:
        player = self.make(contracts.SAVED, folder, 1).create_player()
        player.restore(str(folder / "agent.pth"))
        return play(player.model, observations)[1]

    def forget_normaliser(self, agent: DiscreteA2CAgent) -> None:
        contracts.forget_statistics(agent.model)


@torch.no_grad()
def play(model: Any, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values `[T]` and logits `[T, 2]` of one episode."""
    model.eval()
    states = [torch.zeros(1, 1, contracts.HIDDEN)] * 2
    values, logits = [], []
    for row in observations:
        found = model({"is_train": False, "obs": row[None], "rnn_states": states})
        states = found["rnn_states"]
        values.append(found["values"][0])
        logits.append(found["logits"])
    return torch.cat(values), torch.cat(logits)


def watch(agent: DiscreteA2CAgent, trace: Trace) -> None:
    """Note each minibatch as the dataset gives it, with what the model then says of it."""
    calc, prepare = agent.calc_gradients, agent.prepare_dataset
    said: dict[str, Any] = {}
    agent.model.register_forward_hook(lambda module, inputs, output: said.update(output))

    def watched_prepare(batch: dict[str, Any]) -> None:
        trace.begin_update()
        prepare(batch)

    def watched_calc(batch: dict[str, Any]) -> None:
        batch = dict(batch)
        calc(batch)
        trace.add(
            observations=batch["obs"],
            actions=batch["actions"],
            old_values=batch["old_values"],
            old_log_probs=-batch["old_logp_actions"],
            returns=batch["returns"],
            values=said["values"],
            log_probs=-said["prev_neglogp"],
        )

    agent.calc_gradients, agent.prepare_dataset = watched_calc, watched_prepare


if __name__ == "__main__":
    contracts.main(RLGames())
