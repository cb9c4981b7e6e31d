"""The six contracts in this library: a GRU, through `Trainer`, `train`, `resume`, `load_policy`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import contracts
import gymnasium as gym
import torch
from contracts import CHUNK, ENVIRONMENTS, EPOCHS, MINIBATCHES, STEPS, Library, Task, Trace

from recurrent_rl import ppo
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.policy import Policy, load_policy
from recurrent_rl.config import TrainConfig
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.training import resume, train
from recurrent_rl.trainer import Trainer

ENV = "conformance/Scripted-v0"


def config(task: Task, folder: Path) -> TrainConfig:
    """The settings; the environment becomes that of the task."""
    gym.registry.pop(ENV, None)
    gym.register(ENV, vector_entry_point=lambda num_envs, **_: contracts.make_env(task))
    return TrainConfig(
        ENV,
        seed=task.seed,
        log_dir=str(folder),
        total_timesteps=task.updates * ENVIRONMENTS * STEPS,
        num_envs=ENVIRONMENTS,
        num_steps=STEPS,
        seq_len=CHUNK,
        learning_rate=task.learning_rate,
        lr_schedule="constant",
        ent_schedule="constant",
        gamma=contracts.GAMMA,
        gae_lambda=contracts.GAE_LAMBDA,
        update_epochs=EPOCHS,
        num_minibatches=MINIBATCHES,
        target_kl=None,
        device="cpu",
        threads=1,
        memory_interval=None,
        eval_episodes=0,
        agent=AgentConfig(
            "gru",
            hidden_size=contracts.HIDDEN,
            encoder_size=contracts.HIDDEN,
            previous_action=False,
            normalize_observations=task.normalise,
            # PopArt changes the weights of the critic.
            normalize_returns=task.learning_rate > contracts.FROZEN.learning_rate,
        ),
    )


class Ours(Library):
    name = "recurrent-rl"
    packages = ("recurrent-rl",)

    def train(self, task: Task, folder: Path, trace: Trace | None = None) -> ActorCritic:
        if task == contracts.WHOLE or task == contracts.HALF:
            # `train` makes the folder that `resume` takes.
            return load_policy(train(config(task, folder), progress=False).policy_path).agent
        trainer = Trainer(config(task, folder))
        if task.wild:
            contracts.randomise(trainer.agent)
        trace = trace or Trace()
        original = ppo.ppo_loss

        def loss(agent: ActorCritic, batch: Any, *rest: Any) -> Any:
            with torch.no_grad():
                output, _ = agent.unroll(
                    batch.components, batch.state, batch.episode_start, batch.action_mask
                )
            trace.add(
                batch.valid,
                observations=batch.components[""],
                actions=batch.actions,
                old_values=batch.values,
                old_log_probs=batch.log_probs,
                returns=batch.returns,
                values=output.value,
                log_probs=output.distribution.log_prob(batch.actions),
            )
            return original(agent, batch, *rest)

        ppo.ppo_loss = loss
        try:
            while not trainer.done:
                trace.begin_update()
                trainer.iterate()
        finally:
            ppo.ppo_loss = original
            trainer.close()
        return trainer.agent

    def replay(
        self, agent: ActorCritic, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        state, values, log_probs = agent.initial_state(1), [], []
        for t, action in enumerate(actions[:, 0]):
            output, state = agent.step({"": observations[t : t + 1]}, state, torch.tensor([t == 0]))
            values.append(output.value)
            log_probs.append(output.distribution.log_prob(action[None]))
        return torch.cat(values), torch.cat(log_probs)

    def weights(self, agent: ActorCritic) -> dict[str, torch.Tensor]:
        return dict(agent.state_dict())

    def save(self, agent: ActorCritic, folder: Path) -> None:
        Policy(agent).save(folder / "policy.safetensors")

    def resume(self, task: Task, folder: Path, ready: Callable[[], None]) -> ActorCritic:
        config(task, folder)
        (run,) = RunFolder.find([folder])
        ready()
        resume(run.path, total_timesteps=2 * task.updates * ENVIRONMENTS * STEPS, progress=False)
        return load_policy(run.policy).agent

    def act(self, agent: ActorCritic, observations: torch.Tensor) -> torch.Tensor:
        both = [
            self.replay(agent, observations, torch.full((len(observations), 1), action))[1]
            for action in (0, 1)
        ]
        return torch.stack(both, 1)

    def load_and_act(self, folder: Path, observations: torch.Tensor) -> torch.Tensor:
        policy = load_policy(folder / "policy.safetensors")
        found = self.act(policy.agent, observations)
        # What users call says the same.
        actor = policy.actor()
        greedy = torch.tensor([int(actor.act(x)) for x in observations.numpy()])
        assert torch.equal(greedy, found.argmax(1))
        return found

    def forget_normaliser(self, agent: ActorCritic) -> None:
        contracts.forget_statistics(agent.observation_normaliser)


if __name__ == "__main__":
    contracts.main(Ours())
