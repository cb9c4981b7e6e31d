"""The policy as other projects use it: one file to load, observations in, actions out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recurrent_rl.agents.acting import choose, is_batched, read_starts
from recurrent_rl.agents.action_masks import read_masks
from recurrent_rl.agents.actor import Actor as Actor
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.arguments import PATH, argument, check_is
from recurrent_rl.agents.config import AgentConfig
from recurrent_rl.agents.devices import usable_device
from recurrent_rl.agents.export.names import FormatName
from recurrent_rl.agents.files import PolicyFileError, temporary_folder, write_atomically
from recurrent_rl.agents.generators import sampling_generator
from recurrent_rl.agents.hub import POLICY as POLICY
from recurrent_rl.agents.hub import check_repository, local_file, upload
from recurrent_rl.agents.model_card import CARD, Played, Result, model_card
from recurrent_rl.agents.named_parts import PARTS
from recurrent_rl.agents.policy_file import library_version, read_policy, write_policy
from recurrent_rl.agents.policy_state import PolicyState, check_state, fresh_state, state_from_json
from recurrent_rl.agents.settings import at_least, check_choice, parser
from recurrent_rl.agents.spaces import component_spaces, stack_observations

if TYPE_CHECKING:
    from recurrent_rl.agents.export.formats import Exported
    from recurrent_rl.agents.fast_actor import FastActor

_read_streams = parser(Annotated[int | None, at_least(1)])


class Policy:
    """A trained policy: takes raw observations, gives actions the environment takes.

    Args:
        agent: the network; used as it is, not copied. Of one with `critic_keys` what acts
            (`ActorCritic.without_critic`).
        summary: of its training, JSON values by name.
    """

    def __init__(self, agent: ActorCritic, summary: dict[str, Any] | None = None) -> None:
        check_is("agent", agent, ActorCritic, "an ActorCritic; load_policy(path) reads a file")
        check_is("summary", summary, (dict, NoneType), "a dict of JSON values, or None")
        self.agent = agent.without_critic()
        self.summary = summary or {}
        self._generator = sampling_generator(None)
        self._first_component = next(iter(component_spaces(self.observation_space).items()))

    def __repr__(self) -> str:
        steps = self.summary.get("timesteps")
        trained = f", {steps:,} steps" if isinstance(steps, int) else ""
        return f"<{type(self).__name__}: {self.agent.in_short()}{trained}>"

    @property
    def observation_space(self) -> gym.Space[Any]:
        """The space of one observation."""
        return self.agent.observation_space

    @property
    def action_space(self) -> gym.Space[Any]:
        """The space of one action."""
        return self.agent.action_space

    @property
    def config(self) -> AgentConfig:
        """What the agent is made of."""
        return self.agent.config

    def seed(self, seed: int) -> None:
        """Make the sampling of stochastic actions repeatable."""
        self._generator = sampling_generator(seed)

    def initial_state(self, batch: int) -> PolicyState:
        """A fresh state for `batch` streams.

        Raises:
            SettingError: `batch` is no number of streams.
        """
        return fresh_state(self.agent, batch)

    def state_from_json(self, text: str) -> PolicyState:
        """The state that `PolicyState.to_json` has written, to the bit.

        Args:
            text: may come from anyone: nothing in it is executed. A state of another policy whose
                tensors have the same types and shapes is not recognised as such.

        Raises:
            MemoryInputError: it is no such text, or of a state that `predict` refuses.
        """
        return state_from_json(self.agent, text)

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: PolicyState | None = None,
        episode_start: NDArray[np.bool_] | bool | None = None,
        deterministic: bool = False,
        action_masks: Any = None,
        reward: Any = None,
    ) -> tuple[Any, PolicyState]:
        """Choose actions, as Stable-Baselines3's `predict`.

        Args:
            observation: one raw observation, or a batch `[B, ...]` as a vector environment gives
                it.
            state: what the previous call returned; None for fresh streams.
            episode_start: true where an episode starts with this observation, `[B]` or one bool;
                None where none does.
            deterministic: take the most probable action instead of drawing one. As with
                Stable-Baselines3 one is drawn by default; `actor` and `evaluate` take the most
                probable one.
            action_masks: true for what is allowed, `[B, n]` or `[n]`, or as `spaces.flat_mask`
                takes them.
            reward: of the previous step, `[B]` or a number; only for agents that are fed it.

        Returns:
            The action, or the array of a batch of them, in the action space's type; and the new
            state. One action of a Discrete space is a NumPy number, such as an environment gets in
            training; Stable-Baselines3 gives an array without axes, which is no key of a dict.

        Raises:
            ObservationError: the observation does not fit the observation space, it or the reward
                is not finite, or the reward is missing. The state that was passed is as good as
                before.
            ActionMaskError: a mask does not fit the action space, or allows nothing.
            MemoryInputError: the state is none, of another policy or for another number of
                streams; or `episode_start` is none, or for another number of them.
            SettingError: `deterministic` is neither True nor False.
        """
        check_is("deterministic", deterministic, (bool, np.bool_), "True or False")
        batched = is_batched(self._first_component, observation)
        if not batched:
            observation = stack_observations(self.observation_space, [observation])
        arrays = self.agent.reader.read(observation)
        batch = len(next(iter(arrays.values())))
        start = None
        if state is None:
            state = self.initial_state(batch)
            start = torch.ones(batch, dtype=torch.bool, device=self.agent.device)
        else:
            check_state(self.agent, state, batch)
            if episode_start is not None:
                start = read_starts(episode_start, batch).to(self.agent.device)
        mask = None
        if action_masks is not None:
            mask = read_masks(self.action_space, action_masks, batch, batched)
        actions, state = self.choose(
            arrays, state, start, mask, reward, None if deterministic else self._generator
        )
        return (actions if batched else actions[0]), state

    def choose(
        self,
        arrays: Mapping[str, NDArray[Any]],
        state: PolicyState,
        start: Tensor | None,
        mask: NDArray[np.bool_] | None,
        reward: Any,
        generator: torch.Generator | None,
    ) -> tuple[NDArray[Any], PolicyState]:
        """Actions for a batch whose observations were read, and the state after them.

        Args:
            arrays: from `ActorCritic.reader`, `[B, ...]` each.
            state: of `B` streams.
            start: bool `[B]`, where an episode starts; None: nowhere.
            mask: bool `[B, n]`, or None.
            reward: of the step before, `[B]` or a number; only for agents that are fed it.
            generator: of the sampling; None takes the deterministic actions.

        Raises:
            ObservationError: the reward is not finite, missing or for another number of streams; or
                what is computed from a finite observation is not finite.
        """
        return choose(self.agent, arrays, state, start, mask, reward, generator)

    @overload
    def actor(
        self,
        deterministic: bool = ...,
        *,
        seed: int | None = ...,
        runner: Literal["exact"] = ...,
        num_envs: int | None = ...,
    ) -> Actor: ...

    @overload
    def actor(
        self,
        deterministic: bool = ...,
        *,
        seed: int | None = ...,
        runner: Literal["fast"],
        num_envs: int | None = ...,
    ) -> FastActor: ...

    def actor(
        self,
        deterministic: bool = True,
        *,
        seed: int | None = None,
        runner: Literal["exact", "fast"] = "exact",
        num_envs: int | None = None,
    ) -> Actor | FastActor:
        """A player of one stream, or of several side by side, that keeps the state itself.

        Args:
            deterministic: take the most probable action instead of drawing one.
            seed: of the sampling.
            runner: exact takes the agent's own step, as `predict` does; training steps it by
                compiled kernels where there are such, and differs by rounding. fast takes the whole
                step in one call, several times as fast, and differs by rounding too; it is made of
                the weights as they are now, which takes a few tenths of a second, and computes on
                the CPU. A part of your own is traced by torch.export, which takes seconds.
            num_envs: streams side by side, as a vector environment has them; observations, rewards,
                masks and actions then have a batch axis. None: one stream without it.

        Raises:
            SettingError: an argument is of another type.
            ExportError: `runner` is fast and the agent has a part of your own that it cannot take.
        """
        check_choice("runner", runner, ("exact", "fast"))
        generator = sampling_generator(seed)
        drawn = None if argument("deterministic", deterministic, bool) else generator
        streams = _read_streams("num_envs", num_envs)
        if runner == "exact":
            return Actor(self.agent, drawn, streams)
        from recurrent_rl.agents.fast_actor import FastActor  # which few need

        return FastActor(self.agent, drawn, streams)

    def export(
        self,
        path: str | Path,
        to: FormatName = "onnx",
        batch: int | Literal["dynamic"] = 1,
        value: bool = True,
    ) -> Exported:
        """Write the policy's step for another runtime, and check that it computes what this does.

        It is traced by torch.export, which takes seconds, most in the first call of a process.

        Args:
            path: of the file, or an existing folder to put it into.
            to: "onnx", "torch", "c", "c-int8" or "numpy"; docs/export.md says what each is.
            batch: streams stepped at once, or "dynamic" for any number.
            value: also give the value.

        Returns:
            Where it is, its inputs and outputs, and how far it is from the policy.

        Raises:
            ExportError: it cannot be exported so, or a package is missing, or the check failed;
                nothing is written then.
            FileWriteError: the disk is full, or the folder cannot be written to.
            SettingError: an argument is of another type, or there is no such form.
        """
        # Here, so that acting costs no import of it.
        from recurrent_rl.agents.export.formats import export

        return export(self.agent, path, to, batch, value)

    def save(self, path: str | Path) -> None:
        """Write the policy to one data-only `.safetensors` file.

        Raises:
            FileWriteError: the disk is full, or the folder cannot be written to.
            NonFiniteError: a weight is NaN or infinite. No file is written or changed.
            SettingError: `path` is none.
        """
        check_is("path", path, *PATH)
        write_policy(path, self.agent, self.summary)

    def save_with_card(
        self, folder: str | Path, repo: str, evaluation: Played | Sequence[Result] | None = None
    ) -> None:
        """Write what `push_to_hub` uploads into a folder: the policy's file and its card.

        Args:
            folder: made where there is none; other files in it stay.
            repo: `OWNER/NAME` that the card says to load the policy from.
            evaluation: what `evaluate` returned for this policy; or lines of results.

        Raises:
            FileWriteError, NonFiniteError: as `save`.
            SettingError: an argument is of another type.
            UserError: `repo` is no name of a repository.
        """
        check_is("folder", folder, *PATH)
        expected = "what recurrent_rl.evaluate returned, or None"
        check_is("evaluation", evaluation, (Played, Sequence, NoneType), expected)
        check_repository(repo)
        if evaluation is None:
            results: Sequence[Result] = ()
        else:
            results = evaluation if isinstance(evaluation, Sequence) else [Result.of(evaluation)]
        card = model_card(self.agent, self.summary, library_version(), repo, results)
        self.save(Path(folder, POLICY))
        write_atomically(Path(folder, CARD), card.encode(errors="backslashreplace"))

    def push_to_hub(
        self,
        repo: str,
        evaluation: Played | Sequence[Result] | None = None,
        *,
        revision: str | None = None,
        private: bool | None = None,
        message: str = "A policy of recurrent-rl",
        token: str | None = None,
    ) -> str:
        """Share the policy on the Hugging Face Hub: its file, and a card that says what it is.

        Needs the extra `hub`, and an account: `hf auth login`, or HF_TOKEN. Whoever has the extra
        loads it by `load_policy("hf://OWNER/NAME")`.

        Args:
            repo: `OWNER/NAME`, made where there is none.
            evaluation: what `evaluate` returned for this policy, for the card.
            revision: branch to commit to, made where there is none; by default the main one.
            private: whether only its owner sees a repository that is made now; by default as the
                owner has set, which is mostly for all to see.
            message: of the commit.
            token: of the account, instead of the one that is logged in.

        Returns:
            The address of the repository's page.

        Raises:
            NonFiniteError: as `save`. Nothing is uploaded.
            UserError: the extra is not installed, `repo` is no name of a repository, or the Hub
                refuses or cannot be reached.
        """
        with temporary_folder() as folder:
            self.save_with_card(folder, repo, evaluation)
            return upload(
                Path(folder),
                repo,
                revision=revision,
                private=private,
                message=message,
                token=token,
            )


def load_policy(
    path: str | Path,
    device: str | torch.device = "cpu",
    *,
    memory: type[nn.Module] | None = None,
    encoder: type[nn.Module] | None = None,
    head: type[nn.Module] | None = None,
) -> Policy:
    """Load a policy from its file, from the folder of a run, or from the Hugging Face Hub.

    Nothing in it is executed, and the caller's random state stays as it is.

    A file from anywhere may be tried: no more memory is taken than it has content, but by parts
    that are not the library's. Such a part is made of a class that was registered or named in this
    process, or is given here; the module that a file names is not imported for it.

    Args:
        path: of a file that `Policy.save` or a training run has written, or of a run's folder; or
            `hf://OWNER/NAME@REVISION/FILE`, where `@REVISION` and `/FILE` may be left out (needs
            the extra `hub`). A file of the Hub is downloaded once, into the Hub's cache.
        device: where the policy computes.
        memory: the class of a memory of your own, in the place of what the file's name stands for.
        encoder: of an encoder of your own.
        head: of an action head of your own.

    Raises:
        PolicyFileError: the file is missing, damaged, of a newer format or no policy, or its
            weights are not those of its agent, or not finite; or a part of its agent is not known
            here; or the Hub has no such file, or cannot be reached.
        DeviceError: there is no such device.
        SettingError: `path` is none, or a class is no such part.
    """
    check_is("path", path, *PATH)
    device = usable_device(device)
    if os.path.isdir(path := local_file(path)):  # which takes a name that is too long
        path = path / POLICY
        if not os.path.exists(path) and os.access(path.parent, os.R_OK | os.X_OK):
            if several := sorted(path.parent.glob(f"*/{POLICY}")):
                raise PolicyFileError(
                    f"{path.parent} is a folder of runs; name one of them, such as "
                    f"{several[-1].parent}."
                )
            raise PolicyFileError(f"The run folder {path.parent} holds no {POLICY} yet.")
    given = {"memory": memory, "encoder": encoder, "head": head}
    parts = {kind: part for kind, part in given.items() if part is not None}
    for kind, part in parts.items():
        PARTS[kind].check(part)
    agent, summary = read_policy(path, parts)
    return Policy(agent.to(device).eval(), summary)
