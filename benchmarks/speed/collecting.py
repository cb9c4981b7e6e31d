"""What the collector would gain if it stepped the agent as the fast actor does.

    python benchmarks/speed/collecting.py  # prints Markdown; about four minutes
    python benchmarks/speed/collecting.py --memories lstm --environments 1 16 --rounds 3

The collector steps the agent by PyTorch, whose step is the update's bit for bit. The fast actor
has the same step as one list of operations, in one call of the compiled kernels, equal but for
rounding.
Here the same trainer collects rollouts with each in turn, on one thread; both have the
environments, the random numbers and the writing of rows in them. The fast step copies states and
outputs as a collector would have to keep them. Its list of operations holds the weights, so that it
would have to take them in anew before every rollout: what that costs is the time to make it, which
is far more than copying weights would be, and stands in a column of its own.

`share` is what collecting takes of a whole iteration today. `whole iteration` is how much faster
one would be, with the fast step and without the time to make it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from loop import EVERY_PASS
from torch import Tensor

from recurrent_rl import process
from recurrent_rl.agents import AgentConfig
from recurrent_rl.agents.actor_critic import ActorCritic, AgentOutput
from recurrent_rl.agents.export.compiled import CompiledStep
from recurrent_rl.agents.export.record import listing_of
from recurrent_rl.agents.export.step import (
    MASK,
    START,
    carried_in,
    distribution_of,
    first_distribution,
    observation_names,
)
from recurrent_rl.agents.memory.states import MemoryState, tensors_of, with_tensors
from recurrent_rl.agents.previous_step import PREVIOUS_ACTION
from recurrent_rl.agents.spaces import Components
from recurrent_rl.config import TrainConfig
from recurrent_rl.trainer import Trainer

TASKS = ("recurrent_rl/CartPole-NoVelocity-v0", "recurrent_rl/RepeatPrevious-Easy-v0")
STEPS = 128
"""Of a rollout, of each environment."""


class FastStep:
    """`ActorCritic.step` by the compiled kernels, with the weights that the agent has now.

    Of another number of streams than `batch` it is the agent's own.
    """

    def __init__(self, agent: ActorCritic, batch: int) -> None:
        self._agent, self._batch, self._exact = agent, batch, agent.step
        listing = listing_of(agent, batch)
        self._step = CompiledStep(listing)
        inputs = {name: torch.from_numpy(x) for name, x in self._step.inputs.items()}
        outputs = {name: torch.from_numpy(x) for name, x in self._step.outputs.items()}
        names = observation_names(agent.observation_space) | {
            PREVIOUS_ACTION: carried_in(PREVIOUS_ACTION)
        }
        self._read = {path: inputs[name] for path, name in names.items() if name in inputs}
        self._start, self._mask = inputs[START], inputs.get(MASK)
        state = {one: x for one, x in listing.signature.state.items() if PREVIOUS_ACTION not in one}
        self._before = [inputs[name] for name in state]
        self._after = [outputs[name] for name in state.values()]
        names_of_distribution: tuple[str, ...] = ("logits", "mean", "std")
        self._said = {name: outputs[name] for name in names_of_distribution if name in outputs}
        self._value, self._like = outputs["value"], first_distribution(agent)

    def __call__(
        self,
        components: Components,
        state: MemoryState,
        episode_start: Tensor | None = None,
        action_mask: Tensor | None = None,
    ) -> tuple[AgentOutput, MemoryState]:
        if episode_start is None or len(episode_start) != self._batch:
            return self._exact(components, state, episode_start, action_mask)
        for path, x in self._read.items():
            x.copy_(components[path])
        self._start.copy_(episode_start)
        if self._mask is not None:
            self._mask.fill_(True) if action_mask is None else self._mask.copy_(action_mask)
        for x, given in zip(self._before, tensors_of(state), strict=True):
            x.copy_(given)
        self._step({})
        said = {name: x.clone() for name, x in self._said.items()}
        after = with_tensors(state, [x.clone() for x in self._after])
        distribution = distribution_of(said, self._like)
        no_features = self._value.new_empty(0)  # read by an update alone
        return AgentOutput(distribution, self._value.clone(), no_features), after


def seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def check(trainer: Trainer, fast: FastStep) -> None:
    """That both say the same of a row of the rollout, but for rounding."""
    collector = trainer.collector
    components, start, mask = collector.rollout.row(-1)
    state = trainer.agent.initial_state(len(start))
    with torch.no_grad():
        right, found = (step(components, state, start, mask) for step in (trainer.agent.step, fast))
    torch.testing.assert_close(found[0].value, right[0].value, rtol=1e-4, atol=1e-5)
    for one, other in zip(tensors_of(found[1]), tensors_of(right[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def measured(task: str, memory: str, environments: int, rounds: int) -> str:
    """A row of the table."""
    config = TrainConfig(
        task,
        num_envs=environments,
        num_steps=STEPS,
        total_timesteps=10**7,
        threads=1,
        agent=AgentConfig(memory=memory),
        **EVERY_PASS,
    )
    trainer = Trainer(config)
    for _ in range(2):
        trainer.iterate()
    exact, fast, whole, making = ([] for _ in range(4))
    with process.computing(threads=1):
        for _ in range(rounds):
            whole.append(seconds(trainer.iterate))
            making.append(seconds(lambda: FastStep(trainer.agent, environments)))
            step = FastStep(trainer.agent, environments)
            check(trainer, step)
            exact.append(seconds(trainer.collector.collect))
            with patch.object(trainer.agent, "step", step):
                fast.append(seconds(trainer.collector.collect))
    trainer.close()
    rows = environments * STEPS
    ratios = [a / b for a, b in zip(exact, fast, strict=True)]
    shares = [a / b for a, b in zip(exact, whole, strict=True)]
    gains = [w / (w - a + b) for w, a, b in zip(whole, exact, fast, strict=True)]
    median = statistics.median
    return (
        f"| {task.split('/')[1].removesuffix('-v0')} | {memory} | {environments} "
        f"| {rows / median(exact):,.0f} | {rows / median(fast):,.0f} "
        f"| {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] "
        f"| {median(shares):.0%} | {median(gains):.2f} | {1e3 * median(making):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--memories", nargs="+", default=["lstm", "gru-rotor", "gru-matrix"])
    parser.add_argument("--environments", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    print(
        "| task | memory | environments | exact, steps/s | fast, steps/s | fast / exact | share "
        "| whole iteration | to make the fast step, ms |"
    )
    print("|---" * 9 + "|")
    with process.keeping_freed_memory():  # as in a run
        for task in given.tasks:
            for memory in given.memories:
                for environments in given.environments:
                    print(measured(task, memory, environments, given.rounds), flush=True)


if __name__ == "__main__":
    main()
