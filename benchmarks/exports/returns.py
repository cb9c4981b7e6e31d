"""What weights of 8 bits cost in return: trained policies in C and in C with int8 weights.

    python benchmarks/exports/returns.py runs/benchmark-popgym  # all runs in these folders

Every policy plays the same episodes in each way, one stream, with its deterministic actions.
Printed are the mean return with its standard error, the mean of the differences episode by episode,
and the share of steps in which the int8 policy, with the observations and the memory of the other,
acts otherwise (continuous actions by more than 0.01). For tasks without action masks.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from recurrent_rl.agents.export import c_files
from recurrent_rl.agents.export.check import Arrays, Runner
from recurrent_rl.agents.export.graph import trace
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import MASK, START, observation_names
from recurrent_rl.agents.policy import Policy
from recurrent_rl.agents.previous_step import PREVIOUS_REWARD
from recurrent_rl.agents.spaces import component_arrays, component_spaces
from recurrent_rl.runs.folder import RunFolder
from recurrent_rl.runs.trained_on import environment_of, policy_of
from recurrent_rl.vector_env.vectorize import make_vector_env


class Played:
    """Episodes of one way to compute the policy.

    Attributes:
        returns: of the episodes that ended.
        steps: taken.
        other: in how many of them a second way, from the same inputs, took another action.
    """

    def __init__(self, signature: Signature, run: Runner, second: Runner | None) -> None:
        self._signature, self._run, self._second = signature, run, second
        self._given: Arrays = {
            field.name: np.zeros([int(n or 1) for n in field.shape], field.dtype)
            for field in signature.inputs
        }
        if MASK in self._given:
            self._given[MASK][...] = True
        self.returns: list[float] = []
        self.steps = self.other = 0

    def act(self, seen: Arrays, start: NDArray[np.bool_], reward: Any) -> NDArray[Any]:
        """The next action `[1, ...]`."""
        self._given |= seen | {START: start}
        if PREVIOUS_REWARD in self._given:
            self._given[PREVIOUS_REWARD] = np.asarray(reward, np.float32)
        outputs = self._run(self._given)
        if self._second is not None:
            second = self._second(self._given)["action"]
            self.other += not np.allclose(second, outputs["action"], atol=0.01)
        self._given |= {old: outputs[new] for old, new in self._signature.state.items()}
        self.steps += 1
        return outputs["action"]


def play(run: RunFolder, policy: Policy, played: Played, episodes: int) -> Played:
    """Play so many episodes of what the run was trained on."""
    space = policy.observation_space
    names = observation_names(space)
    # What is read counts from 0, what C takes from where the space does.
    origins = {path: getattr(one, "start", 0) for path, one in component_spaces(space).items()}
    env_id, config = environment_of(policy, run.path)
    env = make_vector_env(env_id, 1, config)
    observation, _ = env.reset(seed=12345)
    start, reward, total = np.ones(1, bool), np.zeros(1), 0.0
    while len(played.returns) < episodes:
        arrays = component_arrays(space, observation)
        seen = {names[path]: x + origins[path] for path, x in arrays.items()}
        action = played.act(seen, start, reward)
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward[0])
        start = terminated | truncated
        if start[0]:
            played.returns.append(total)
            total = 0.0
    env.close()
    return played


def row(run: RunFolder, episodes: int) -> str:
    """A row of the table."""
    config, policy = run.load_config(), policy_of(run.path)
    program = trace(policy.agent)
    exact, short = (c_files.runner(f(program)) for f in (c_files.files, c_files.short_files))
    in_c = play(run, policy, Played(program.signature, exact, short), episodes)
    in_8_bits = play(run, policy, Played(program.signature, short, None), episodes)
    means = " | ".join(stated(np.array(one.returns)) for one in (in_c, in_8_bits))
    lost = stated(np.array(in_8_bits.returns) - np.array(in_c.returns))
    what = f"{config.environment.removeprefix('recurrent_rl/')} | {config.agent.memory}"
    return f"| {what} | {means} | {lost} | {in_c.other / in_c.steps:.1%} |"


def stated(returns: NDArray[Any]) -> str:
    """Mean and standard error."""
    return f"{returns.mean():.3f} ± {returns.std(ddof=1) / len(returns) ** 0.5:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="of runs, at any depth")
    parser.add_argument("--episodes", type=int, default=100)
    given = parser.parse_args()
    runs = [run for run in RunFolder.find(given.folders) if run.policy.exists()]
    print("| task | memory | c | c-int8 | difference | other actions |")
    print("|---" * 6 + "|")
    for run in track(runs, "playing", console=Console(stderr=True)):
        print(row(run, given.episodes), flush=True)


if __name__ == "__main__":
    main()
