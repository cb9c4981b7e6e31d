"""What the probes of the six contracts share: the scripted environment, the checks, the output.

A probe trains one library on an environment in which all is known: which episode lasts how long and
how it ends, and every observation occurs once, so that a row of a library's batch tells where it
comes from. What the library says of a row is then held against its own network, which is played
each episode's observations alone, from a fresh memory. Where nothing may depend on learning, the
learning rate is next to 0 and the weights are drawn large: a wrong memory then changes the values.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import common  # noqa: F401 (puts the repository on the path)
import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper

ENVIRONMENTS, STEPS, CHUNK = 4, 32, 8
EPOCHS, MINIBATCHES = 2, 2
GAMMA, GAE_LAMBDA = 0.9, 0.95
HIDDEN = 16
SIZE = 4  # of an observation
LENGTHS = (5, 3, 7, 1, 12, 4)
ROUNDING = 1e-4
"""What counts as rounding: float32 through some ten steps of a network of 16 units."""

PASS, FAIL = "pass", "FAIL"
NOT_APPLICABLE, NOT_CLAIMED, NOT_CHECKED = "not applicable", "not claimed", "not checked"

CONTRACTS = {
    "reset": "the memory is reset before an episode's first observation, and nowhere else",
    "bootstrap": "a time limit bootstraps from V(final observation), read after the last step",
    "inserted": "the row that a NEXT_STEP reset inserts is not learnt from",
    "ratio": "the probability ratio is 1 before each update's first optimiser step",
    "normaliser": "a saved policy acts on raw observations as it did in training",
    "resume": "train N, save, load, train N gives the weights of train 2N",
}

Where = tuple[int, int, int]
"""Environment, episode, step: where an observation occurs."""


# The environment


@dataclass(frozen=True)
class Task:
    """What a library is to train on, and how."""

    updates: int
    learning_rate: float = 1e-3
    normalise: bool = False
    """With the library's normalisation of observations."""
    wild: bool = False
    """With large random weights instead of the library's own."""
    aligned: bool = False
    """Episodes of one length that end with each rollout and are all the same: nothing of the
    environment has to be saved for training to resume as if it had not stopped."""
    far: bool = False
    """Observations around 50 instead of 0."""
    inserted_reward: float | None = None
    """Not None: autoreset mode NEXT_STEP, with this reward in the rows that resets insert."""
    seed: int = 1


def observation(where: Where) -> np.ndarray:
    """Numbers between -1 and 1 that occur nowhere else."""
    return np.random.default_rng(where).uniform(-1, 1, SIZE).astype(np.float32)


def reward(where: Where) -> float:
    """Of the step taken there."""
    return float(np.random.default_rng((*where, 1)).uniform(-1, 1))


def length(index: int, episode: int) -> int:
    return LENGTHS[(episode + index) % len(LENGTHS)]


def ends_by_time(index: int, episode: int) -> bool:
    """Three of four episodes are cut by a time limit, the fourth is terminated."""
    return (episode + index) % 4 != 3


class ScriptedEnv(gym.Env[Any, Any]):
    """One environment. What happens does not depend on the actions."""

    def __init__(self, index: int, task: Task) -> None:
        self.index, self.task = index, task
        self.observation_space = gym.spaces.Box(-1000, 1000, (SIZE,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.episode = -1

    def _seen(self) -> np.ndarray:
        seen = observation((self.index, 0 if self.task.aligned else self.episode, self.t))
        return (50 + 20 * seen).astype(np.float32) if self.task.far else seen

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        episode = 0 if self.task.aligned else self.episode
        earned = reward((self.index, episode, self.t))
        if self.task.aligned:  # an action that matters, so that learning depends on the noise
            earned += float(np.asarray(action).reshape(-1)[0] > 0.5)
        self.t += 1
        over = self.t == (CHUNK if self.task.aligned else length(self.index, self.episode))
        by_time = ends_by_time(self.index, episode)
        return self._seen(), earned, over and not by_time, over and by_time, {}


class InsertedReward(VectorWrapper):
    """Gives the rows that an autoreset inserts a reward of their own."""

    def __init__(self, env: VectorEnv, amount: float) -> None:
        super().__init__(env)
        self.amount = amount
        self.done = np.zeros(env.num_envs, dtype=bool)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observed, rewards, terminated, truncated, infos = self.env.step(actions)
        rewards = np.where(self.done, self.amount, rewards)
        self.done = terminated | truncated
        return observed, rewards, terminated, truncated, infos


def environments_of(task: Task) -> list[Callable[[], ScriptedEnv]]:
    return [lambda index=index: ScriptedEnv(index, task) for index in range(ENVIRONMENTS)]


def make_env(task: Task) -> VectorEnv:
    """Environments in autoreset mode SAME_STEP, or NEXT_STEP where the task says so."""
    if task.inserted_reward is None:
        return SyncVectorEnv(environments_of(task), autoreset_mode=AutoresetMode.SAME_STEP)
    environments = SyncVectorEnv(environments_of(task), autoreset_mode=AutoresetMode.NEXT_STEP)
    return InsertedReward(environments, task.inserted_reward)


def randomise(*modules: torch.nn.Module) -> None:
    """Draw all weights anew, large enough that what the memory holds changes the outputs."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in modules:
            for weights in module.parameters():
                weights.copy_(0.5 * torch.randn(weights.shape, generator=generator))


# What a library does


@dataclass
class Trace:
    """The rows of all minibatches, as the library's loss saw them."""

    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)
    update: int = -1
    minibatch: int = 0

    def begin_update(self) -> None:
        self.update, self.minibatch = self.update + 1, 0

    def add(self, mask: Any = None, **columns: Any) -> None:
        """A minibatch.

        Args:
            mask: which rows count, `[...]`; None: all.
            columns: observations `[..., SIZE]`, actions `[..., *]`, and `[...]` each old_values,
                old_log_probs and returns, as stored, and values and log_probs, as just computed.
        """
        seen = torch.as_tensor(columns["observations"]).reshape(-1, SIZE)
        rows = len(seen)
        kept = np.ones(rows, bool) if mask is None else numpy(mask).reshape(-1).astype(bool)
        columns["update"] = np.full(rows, self.update)
        columns["first"] = np.full(rows, self.minibatch == 0)
        for name, column in columns.items():
            self.rows.setdefault(name, []).append(numpy(column).reshape(rows, -1)[kept])
        self.minibatch += 1

    def column(self, name: str) -> np.ndarray:
        joined = np.concatenate(self.rows[name])
        return joined if name in ("observations", "actions") else joined[:, 0]


def numpy(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy().copy() if isinstance(x, torch.Tensor) else np.array(x)


class Library(ABC):
    """One library: how it is trained, saved, loaded and asked, by its own documented means."""

    name: str
    packages: tuple[str, ...]
    left_out: ClassVar[dict[str, tuple[str, str]]] = {}
    """Contracts that are not checked: verdict and reason."""
    notes: ClassVar[dict[str, str]] = {}
    """What was found in its source, by contract; told where the check fails."""

    @abstractmethod
    def train(self, task: Task, folder: Path, trace: Trace | None = None) -> Any:
        """Train from scratch: the agent, whatever that is here.

        Args:
            task: on what.
            folder: for the library's files.
            trace: is to hold all minibatches; None: nothing of the library is touched.
        """

    @abstractmethod
    def replay(
        self, agent: Any, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values and log-probabilities `[T]` of an episode `[T, ...]`, from a fresh memory."""

    @abstractmethod
    def weights(self, agent: Any) -> dict[str, torch.Tensor]:
        """All that was learnt."""

    @abstractmethod
    def save(self, agent: Any, folder: Path) -> None: ...

    @abstractmethod
    def resume(self, task: Task, folder: Path, ready: Callable[[], None]) -> Any:
        """In a fresh process: load, call `ready`, train on for as many updates as `task` says."""

    @abstractmethod
    def act(self, agent: Any, observations: torch.Tensor) -> torch.Tensor:
        """The agent's greedy action's parameters `[T, n]` for raw observations `[T, SIZE]`."""

    @abstractmethod
    def load_and_act(self, folder: Path, observations: torch.Tensor) -> torch.Tensor:
        """The same in a fresh process, from the files."""

    def remark(self, contract: str) -> str:
        """What else there is to know of a check; always told."""
        return ""

    @abstractmethod
    def forget_normaliser(self, agent: Any) -> None:
        """Put the statistics back to mean 0 and variance 1, to see that the check would notice."""


def forget_statistics(module: torch.nn.Module) -> None:
    """Mean 0 and variance 1 in all buffers that hold such."""
    for name, buffer in module.named_buffers():
        last = name.rpartition(".")[2]
        if any(part in last for part in ("mean", "shift")):
            buffer.zero_()
        elif any(part in last for part in ("var", "std", "scale")):
            buffer.fill_(1)


# The checks


@dataclass(frozen=True)
class Finding:
    verdict: str
    figure: str
    note: str = ""


class Played:
    """What the library's network says of each row when every episode is played alone."""

    def __init__(self, library: Library, task: Task) -> None:
        self.library, self.trace = library, Trace()
        with tempfile.TemporaryDirectory() as folder:
            self.agent = library.train(task, Path(folder), self.trace)
        places = {
            observation((index, episode, t)).tobytes(): (index, episode, t)
            for index in range(ENVIRONMENTS)
            for episode in range(task.updates * STEPS)
            for t in range(length(index, episode) + 1)
        }
        seen = self.trace.column("observations")
        self.places: list[Where] = [places[row.tobytes()] for row in seen]
        self.actions = dict(zip(self.places, self.trace.column("actions"), strict=True))
        # Each environment's rows in their order in time.
        self.streams = [
            sorted(p for p in self.actions if p[0] == index) for index in range(ENVIRONMENTS)
        ]
        for stream in self.streams:
            for (_, episode, t), after in pairwise(stream):
                last = t + 1 == length(after[0], episode)
                assert after[1:] == ((episode + 1, 0) if last else (episode, t + 1)), (
                    "The batches lack a row between two others."
                )

    def replay(self, places: list[Where]) -> tuple[np.ndarray, np.ndarray]:
        """Values and log-probabilities of these rows, played in one go from a fresh memory."""
        observations = torch.tensor(np.stack([observation(place) for place in places]))
        nothing = np.zeros_like(next(iter(self.actions.values())))
        actions = torch.tensor(np.stack([self.actions.get(place, nothing) for place in places]))
        with torch.no_grad():
            values, log_probs = self.library.replay(self.agent, observations, actions)
        return numpy(values).reshape(-1), numpy(log_probs).reshape(-1)

    def value(self, *places: Where) -> float:
        """V of the last of these observations, seen one after the other from a fresh memory."""
        return float(self.replay(list(places))[0][-1])

    def played(self, late: int | None) -> dict[Where, tuple[float, float]]:
        """Value and log-probability of each row, the memory reset so many steps late; None: never.

        0 is right, -1 a step early.
        """
        found = {}
        for stream in self.streams:
            starts = [t == 0 for _, _, t in stream]
            if late is None:
                starts = [False] * len(starts)
            elif late:
                starts = list(np.roll(starts, late))
            starts[0] = True
            cuts = [*np.flatnonzero(starts).tolist(), len(stream)]
            for begin, end in pairwise(cuts):
                values, log_probs = self.replay(stream[begin:end])
                found |= dict(
                    zip(stream[begin:end], zip(values, log_probs, strict=True), strict=True)
                )
        return found

    def error(self, expected: dict[Where, tuple[float, float]], prefix: str = "") -> float:
        """The largest difference of what the update said, with `old_` the rollout, from this."""
        columns = [self.trace.column(prefix + name) for name in ("values", "log_probs")]
        wanted = np.array([expected[place] for place in self.places])
        return float(np.abs(np.stack(columns, axis=1) - wanted).max())

    def episode(self, index: int, episode: int) -> list[Where]:
        """Its observations, the final one, which no action follows, included."""
        return [(index, episode, t) for t in range(length(index, episode) + 1)]


FROZEN = Task(updates=5, learning_rate=1e-30, wild=True)
"""A learning rate that float32 does not feel: some libraries refuse 0."""


def check_reset(library: Library) -> Finding:
    played = Played(library, FROZEN)
    wrong = {1: "a step late", -1: "a step early", None: "never"}
    expectations = {late: played.played(late) for late in (0, *wrong)}

    def error(late: int | None, prefix: str) -> float:
        return played.error(expectations[late], prefix)

    rollout, update = error(0, "old_"), error(0, "")
    least = min(error(late, prefix) for late in wrong for prefix in ("old_", ""))
    figure = f"rollout {tell(rollout)}, update {tell(update)} (a wrong reset: {least:.1g} or more)"
    if max(rollout, update) < ROUNDING:
        return Finding(PASS if least > 10 * ROUNDING else NOT_CHECKED, figure)
    like = [
        f"the {where} is as if reset {wrong[late]}"
        for where, prefix in (("rollout", "old_"), ("update", ""))
        for late in wrong
        if error(late, prefix) < ROUNDING
    ]
    return Finding(FAIL, figure, "; ".join(like))


def check_bootstrap(library: Library) -> Finding:
    played = Played(library, FROZEN)
    returns = dict(zip(played.places, played.trace.column("returns"), strict=True))
    update = dict(zip(played.places, played.trace.column("update"), strict=True))
    errors: dict[str, list[float]] = {}
    for stream in played.streams:
        for place, after in pairwise(stream):
            index, episode, t = place
            if t + 1 != length(index, episode) or not ends_by_time(index, episode):
                continue
            whole = played.episode(index, episode)
            final, steps = whole[-1], whole[:-1]
            used = (returns[place] - reward(place)) / GAMMA
            v_t, v_next = played.value(*steps), played.value(after)
            in_rollout = update[place] == update[after]
            following = returns[after] if in_rollout else v_next
            following = (1 - GAE_LAMBDA) * v_next + GAE_LAMBDA * following
            for name, value in {
                "V(final observation) after the last step": played.value(*whole),
                "V(final observation) with a fresh memory": played.value(final),
                "V(final observation) with the memory before the last step": played.value(
                    *steps[:-1], final
                ),
                "V(s_t)": v_t,
                "zero": 0.0,
                "V(next episode's first observation)": v_next,
                "V(next episode's first observation) with the old memory": played.value(
                    *steps, after
                ),
                "the next episode's return": following,
                "V(s_t) plus the next episode's return": v_t + following,
            }.items():
                errors.setdefault(name, []).append(abs(used - value))
    worst = {name: max(of) for name, of in errors.items()}
    right = "V(final observation) after the last step"
    off, count = worst[right], len(errors[right])
    nearest = min(worst, key=lambda name: worst[name])
    others = min(value for name, value in worst.items() if name != right)
    if off < ROUNDING:
        figure = (
            f"off by {tell(off)} in {count} time limits (any other value: {others:.1g} or more)"
        )
        return Finding(PASS if others > 10 * ROUNDING else NOT_CHECKED, figure)
    said = f"it uses {nearest} (to {worst[nearest]:.0e})" if worst[nearest] < ROUNDING else ""
    return Finding(FAIL, f"off by {off:.1g} in {count} time limits", said)


def check_inserted(library: Library) -> Finding:
    weights = []
    for amount in (0.0, 0.0, 1.0):
        task = Task(updates=2, inserted_reward=amount)
        with tempfile.TemporaryDirectory() as folder:
            agent = library.train(task, Path(folder))
        weights.append({name: numpy(x) for name, x in library.weights(agent).items()})
    again, moved = (distance(weights[0], other) for other in weights[1:])
    if again:
        return Finding(NOT_CHECKED, f"two runs of the same seed differ by {again:.0e}")
    figure = f"weights move by {tell(moved)} with the reward of the inserted rows"
    return Finding(PASS if moved == 0 else FAIL, figure)


def check_ratio(library: Library) -> Finding:
    errors: dict[bool, float] = {}
    tenth: dict[bool, float] = {}
    for normalise in (False, True):
        trace = Trace()
        with tempfile.TemporaryDirectory() as folder:
            task = Task(updates=10, normalise=normalise, far=normalise, wild=True)
            library.train(task, Path(folder), trace)
        assert trace.update + 1 >= 10, f"{trace.update + 1} updates instead of 10"
        first = trace.column("first").astype(bool)
        moved = trace.column("log_probs") - trace.column("old_log_probs")
        ratio = np.abs(np.exp(moved.astype(np.float64)) - 1)
        errors[normalise] = float(ratio[first].max())
        tenth[normalise] = float(ratio[first & (trace.column("update") == 9)].max())
        assert ratio[~first].max() > 10 * ROUNDING, "Nothing was learnt: the check would not see it"
    figure = f"largest |ratio - 1| of ten updates {tell(errors[False])}; with normalised "
    figure += f"observations {tell(errors[True])}, in the tenth update {tell(tenth[True])}"
    note = ""
    if errors[False] < ROUNDING <= errors[True]:
        note = "only with normalised observations"
    return Finding(PASS if max(errors.values()) < ROUNDING else FAIL, figure, note)


SAVED = Task(updates=4, normalise=True, far=True, wild=True)


def raw_observations() -> torch.Tensor:
    """Observations `[20, SIZE]` as the environment of `SAVED` gives them."""
    rows = [50 + 20 * observation((ENVIRONMENTS, 0, t)) for t in range(20)]
    return torch.tensor(np.stack(rows), dtype=torch.float32)


def check_normaliser(library: Library) -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        in_process("save", folder)
        in_process("load", folder)
        trained, forgotten, loaded = (
            np.load(Path(folder, f"{name}.npy")) for name in ("trained", "forgotten", "loaded")
        )
    off, lost = float(np.abs(loaded - trained).max()), float(np.abs(forgotten - trained).max())
    figure = f"actions differ by {tell(off)} (normaliser lost: {lost:.1g})"
    if lost < 10 * ROUNDING:
        return Finding(NOT_CHECKED, figure)
    return Finding(PASS if off < ROUNDING else FAIL, figure)


N = 3
HALF = Task(updates=N, normalise=True, aligned=True)
WHOLE = replace(HALF, updates=2 * N)


def check_resume(library: Library) -> Finding:
    found = {}
    for name in ("whole", "again", "half"):
        with tempfile.TemporaryDirectory() as folder:
            in_process(name, folder)
            found[name] = dict(np.load(Path(folder, "weights.npz")))
            if name == "half":
                for rest in ("rest", "rest-random"):
                    with tempfile.TemporaryDirectory() as copy:
                        subprocess.run(["cp", "-a", f"{folder}/.", copy], check=True)
                        in_process(rest, copy)
                        found[rest] = dict(np.load(Path(copy, "weights.npz")))
    again = distance(found["whole"], found["again"])
    if again:
        return Finding(NOT_CHECKED, f"two runs of the same seed differ by {again:.0e}")
    off = distance(found["whole"], found["rest"])
    random_off = distance(found["whole"], found["rest-random"])
    assert distance(found["whole"], found["half"]), "Nothing was learnt after the first N"
    figure = f"weights differ by {tell(off)}"
    if off == 0:
        return Finding(PASS, figure)
    figure += f"; with random generators put back by hand: {tell(random_off)}"
    return Finding(FAIL, figure)


CHECKS = {
    "reset": check_reset,
    "bootstrap": check_bootstrap,
    "inserted": check_inserted,
    "ratio": check_ratio,
    "normaliser": check_normaliser,
    "resume": check_resume,
}


def tell(x: float) -> str:
    """A difference in one digit."""
    return "0" if x == 0 else f"{x:.0e}"


def distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """The largest difference of any weight."""
    assert a
    assert a.keys() == b.keys(), (a.keys(), b.keys())
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


# Fresh processes


def in_process(stage: str, folder: str) -> None:
    """Run a stage in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, sys.argv[0], "--stage", stage, "--folder", folder]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode:
        raise RuntimeError(f"Stage {stage} failed; see the lines above.")


def run_stage(library: Library, stage: str, folder: Path) -> None:
    if stage == "save":
        agent = library.train(SAVED, folder)
        library.save(agent, folder)
        np.save(folder / "trained.npy", numpy(library.act(agent, raw_observations())))
        library.forget_normaliser(agent)
        np.save(folder / "forgotten.npy", numpy(library.act(agent, raw_observations())))
        return
    if stage == "load":
        np.save(folder / "loaded.npy", numpy(library.load_and_act(folder, raw_observations())))
        return
    if stage in ("whole", "again"):
        agent = library.train(WHOLE, folder)
    elif stage == "half":
        agent = library.train(HALF, folder)
        library.save(agent, folder)
        of_numpy = np.random.get_state()  # noqa: NPY002 (the libraries draw from it)
        torch.save((torch.get_rng_state(), of_numpy, random.getstate()), folder / "random.pt")
    else:
        ready = partial_restore(folder) if stage == "rest-random" else lambda: None
        agent = library.resume(HALF, folder, ready)
    weights = {name: numpy(x) for name, x in library.weights(agent).items()}
    np.savez(folder / "weights.npz", **weights)


def partial_restore(folder: Path) -> Callable[[], None]:
    """Puts the global random generators back to where the first half left them."""

    def restore() -> None:
        of_torch, of_numpy, of_python = torch.load(folder / "random.pt", weights_only=False)
        torch.set_rng_state(of_torch)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)

    return restore


def main(library: Library) -> None:
    """Run one check and print its finding as a line of JSON; all other output is an error's."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--contract", choices=list(CONTRACTS))
    parser.add_argument("--stage", help="a part of a check that needs a fresh process")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if args.stage:
        run_stage(library, args.stage, args.folder)
        return
    contract = args.contract
    if contract in library.left_out:
        verdict, reason = library.left_out[contract]
        finding = Finding(verdict, "", reason)
    else:
        finding = CHECKS[contract](library)
        told = [finding.note]
        if finding.verdict == FAIL:
            told.append(library.notes.get(contract, ""))
        told.append(library.remark(contract))
        finding = replace(finding, note="; ".join(text for text in told if text))
    versions = ", ".join(f"{name} {version(name)}" for name in library.packages)
    row = {"library": library.name, "version": versions, "contract": contract, **asdict(finding)}
    print(json.dumps(row), file=output, flush=True)
