"""The six contracts in Sample Factory, in serial mode as in `sample_factory_runner.py`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import common
import contracts
import sample_factory_runner
import torch
from contracts import CHUNK, ENVIRONMENTS, EPOCHS, MINIBATCHES, STEPS, Library, Task, Trace
from sample_factory.algo.learning import learner
from sample_factory.algo.utils.make_env import make_env_func_batched
from sample_factory.algo.utils.misc import ExperimentStatus
from sample_factory.algo.utils.rl_utils import prepare_and_normalize_obs
from sample_factory.cfg.arguments import load_from_checkpoint, parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import register_env
from sample_factory.model.actor_critic import ActorCritic, create_actor_critic
from sample_factory.train import make_runner
from sample_factory.utils.attr_dict import AttrDict

common.HIDDEN = contracts.HIDDEN


def make(task: Task, *_: Any, **__: Any) -> sample_factory_runner.Adapter:
    """Called here and in a process of its own that looks up the spaces."""
    return sample_factory_runner.Adapter(contracts.make_env(task), task.seed)


def settings(task: Task, folder: Path, updates: int) -> Any:
    """What its command line gives."""
    register_env("peer", partial(make, task))
    args = Namespace(
        seed=task.seed, num_envs=ENVIRONMENTS, learning_rate=task.learning_rate, variant="default"
    )
    line = sample_factory_runner.settings(args)
    chosen = {
        "train_dir": folder,
        "restart_behavior": "resume",
        "rollout": STEPS,
        "recurrence": CHUNK,
        "batch_size": STEPS * ENVIRONMENTS // MINIBATCHES,
        "num_batches_per_epoch": MINIBATCHES,
        "num_epochs": EPOCHS,
        "gamma": contracts.GAMMA,
        "gae_lambda": contracts.GAE_LAMBDA,
        "normalize_input": task.normalise,
        "normalize_returns": False,
        # It stops after the iteration that passes this number.
        "train_for_env_steps": updates * STEPS * ENVIRONMENTS - 1,
    }
    line[-3:-3] = [f"--{name}={value}" for name, value in chosen.items()]
    parser, _ = parse_sf_args(line)
    return parse_full_cfg(parser, line)


class SampleFactory(Library):
    name = "Sample Factory"
    packages = ("sample-factory",)
    left_out: ClassVar = {
        "inserted": (
            contracts.NOT_APPLICABLE,
            "its own vector interface resets in the step in which an episode ends",
        )
    }
    notes: ClassVar = {
        "bootstrap": "Learner._prepare_batch in algo/learning/learner.py adds gamma times the "
        "value of the step itself, and says there that it approximates",
        "ratio": "Learner._prepare_batch in algo/learning/learner.py takes the rollout into the "
        "statistics and normalises with them before the first step",
        "resume": "Learner._get_checkpoint_dict in algo/learning/learner.py keeps model, "
        "optimiser and counters, no random generator; its documentation offers to resume, not to "
        "be exact",
    }

    def run(
        self, task: Task, folder: Path, updates: int, ready: Callable[[], None] | None = None
    ) -> ActorCritic:
        """Train to so many updates in all: the learner's network."""
        made: list[ActorCritic] = []

        def made_here(*args: Any) -> ActorCritic:
            made.append(create_actor_critic(*args))
            if task.wild:
                contracts.randomise(made[-1])
            return made[-1]

        def init(self: Any) -> Any:
            found = init_learner(self)  # loads the checkpoint, and seeds the generators
            if ready is not None:
                ready()
            return found

        init_learner = learner.Learner.init
        learner.create_actor_critic, learner.Learner.init = made_here, init
        _, runner = make_runner(settings(task, folder, updates))
        runner.init()
        if runner.run() != ExperimentStatus.SUCCESS:
            raise RuntimeError("Sample Factory stopped; see its messages above.")
        return made[0]

    def train(self, task: Task, folder: Path, trace: Trace | None = None) -> ActorCritic:
        if trace is not None:
            watch(trace)
        return self.run(task, folder, task.updates)

    def replay(
        self, agent: ActorCritic, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values, logits = play(agent, observations)
        log_probs = torch.log_softmax(logits, 1).gather(1, actions.long().reshape(-1, 1))
        return values, log_probs[:, 0]

    def weights(self, agent: ActorCritic) -> dict[str, torch.Tensor]:
        return dict(agent.state_dict())

    def save(self, agent: ActorCritic, folder: Path) -> None:
        """It saved when the training ended."""

    def resume(self, task: Task, folder: Path, ready: Callable[[], None]) -> ActorCritic:
        return self.run(task, folder, 2 * task.updates, ready)

    def act(self, agent: ActorCritic, observations: torch.Tensor) -> torch.Tensor:
        return play(agent, observations)[1]

    def load_and_act(self, folder: Path, observations: torch.Tensor) -> torch.Tensor:
        # The steps of its enjoy.py.
        cfg = load_from_checkpoint(settings(contracts.SAVED, folder, contracts.SAVED.updates))
        place = AttrDict(worker_index=0, vector_index=0, env_id=0)
        env = make_env_func_batched(cfg, env_config=place)
        agent = create_actor_critic(cfg, env.observation_space, env.action_space)
        agent.eval()
        saved = learner.Learner.get_checkpoints(learner.Learner.checkpoint_dir(cfg, 0))
        checkpoint = learner.Learner.load_checkpoint(saved, torch.device("cpu"))
        agent.load_state_dict(checkpoint["model"])
        return play(agent, observations)[1]

    def forget_normaliser(self, agent: ActorCritic) -> None:
        contracts.forget_statistics(agent.obs_normalizer)


@torch.no_grad()
def play(agent: ActorCritic, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values `[T]` and logits `[T, 2]` of one episode."""
    agent.eval()
    state = torch.zeros(1, 2 * contracts.HIDDEN)
    values, logits = [], []
    for row in observations:
        seen = prepare_and_normalize_obs(agent, {"obs": row[None].clone()})
        found = agent(seen, state)
        state = found["new_rnn_states"]
        values.append(found["values"].reshape(1))
        logits.append(found["action_logits"].reshape(1, -1))
    return torch.cat(values), torch.cat(logits)


def watch(trace: Trace) -> None:
    """Note each minibatch as the learner's loss sees it."""
    calculate, train = learner.Learner._calculate_losses, learner.Learner._train

    def watched_calculate(self: Any, mb: Any, num_invalids: int) -> Any:
        found = calculate(self, mb, num_invalids)
        trace.add(
            mb.valids,
            observations=mb.normalized_obs["obs"],
            actions=mb.actions,
            old_values=mb["values"],
            old_log_probs=mb.log_prob_actions,
            returns=mb.returns,
            values=found[-1]["values"],
            log_probs=found[0].log_prob(mb.actions),
        )
        return found

    def watched_train(self: Any, *args: Any) -> Any:
        trace.begin_update()
        return train(self, *args)

    learner.Learner._calculate_losses = watched_calculate
    learner.Learner._train = watched_train


if __name__ == "__main__":
    contracts.main(SampleFactory())
