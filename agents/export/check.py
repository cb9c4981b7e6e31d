"""Whether an export computes what its policy does.

Random observations, resets and masks go through the policy in single and in double precision, and
through the export. Each step starts from the policy's own state, so that errors do not add up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
)
from recurrent_rl.agents.export.draw import Draw, Inputs
from recurrent_rl.agents.export.signature import Field, Signature
from recurrent_rl.agents.export.step import (
    ExportError,
    carried,
    carried_in,
    carried_out,
    parameters_of,
)
from recurrent_rl.agents.memory.states import tensors_of, with_tensors
from recurrent_rl.agents.previous_step import PREVIOUS_ACTION

Arrays: TypeAlias = dict[str, NDArray[Any]]
Runner: TypeAlias = Callable[[Arrays], Arrays]
"""What steps an export: from its inputs by name to its outputs by name."""

STEPS = 1000
STREAMS = 3
"""Stepped at once where the batch is dynamic."""
FACTOR = 4.0
"""How many times as large as single precision's own an error may be."""
TIE = 1e-5
"""Log-probabilities, or logits of a bit, closer than this may be taken for one another."""
FORBIDDEN = -1e30
"""The logit of an action that a mask forbids is below this."""
OF_THE_CHOICE = ("action", carried_out(PREVIOUS_ACTION))
"""Outputs that differ wholly where two actions are as likely."""


@dataclass(frozen=True)
class Check:
    """What a check has found."""

    steps: int
    streams: int
    worst: dict[str, float]
    """By output: the largest difference from the policy in double precision."""
    own: dict[str, float]
    """By output: the same of the policy in single precision, with its weights and with weights
    that are two roundings off, since a sum may come out near by its order; at least half a unit in
    the last place."""

    @property
    def largest(self) -> tuple[str, float]:
        """The output that differs most, in multiples of what it may, and its difference."""
        name = max(self.worst, key=lambda one: self.worst[one] / self.own[one])
        return name, self.worst[name]


def check(
    agent: ActorCritic, signature: Signature, run: Runner, steps: int = STEPS, seed: int = 0
) -> Check:
    """Compare an export with its policy, step by step.

    Args:
        agent: of the policy.
        signature: of the export.
        run: steps the export.
        steps: how many.
        seed: of the observations, resets and masks.

    Raises:
        ExportError: an output is missing, of another shape or type, another action, or farther from
            double precision than `FACTOR` times what single precision is.
    """
    single = copy.deepcopy(agent).cpu().eval()
    double, near = copy.deepcopy(single).double(), _nearly(single)
    streams = signature.batch or STREAMS
    draw = Draw(single, streams, seed)
    generator = torch.Generator().manual_seed(seed)
    state = carried(single, streams)
    found = _Found(signature)
    for step in range(steps):
        seen = draw.step(first=step == 0)
        given = seen.raw | {carried_in(name): x.numpy() for name, x in state.items()}
        outputs = run({f.name: given[f.name].astype(f.dtype) for f in signature.inputs})
        own = _said(single, seen, state)
        with _InDouble():
            exact = _said(double, seen, state)
        found.add(outputs, (own, _said(near, seen, state)), exact, seen.mask)
        state = {name: own.outputs[carried_out(name)] for name in state}
        if PREVIOUS_ACTION in state:  # an action that was drawn is fed back too
            noise = single.head.noise((streams,), generator)
            state[PREVIOUS_ACTION] = own.distribution.sample(noise)
    return found.judged(steps, streams)


def _nearly(agent: ActorCritic) -> ActorCritic:
    """A copy whose weights are each two units in the last place larger or smaller."""
    near, generator = copy.deepcopy(agent), torch.Generator().manual_seed(0)
    eps = torch.finfo(torch.float32).eps
    with torch.no_grad():
        for x in near.parameters():
            x.mul_(1 + 2 * eps * torch.empty_like(x).uniform_(-1, 1, generator=generator).sign())
    return near


class _InDouble(TorchFunctionMode):
    """Lets what an agent brings to single precision, its observations, be in double."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return (Tensor.double if func is Tensor.float else func)(*args, **(kwargs or {}))


class Said(NamedTuple):
    """What the policy says of a step."""

    distribution: Distribution
    outputs: dict[str, Tensor]
    """By name."""


@torch.no_grad()
def _said(agent: ActorCritic, seen: Inputs, state: dict[str, Tensor]) -> Said:
    """By the agent's own step and `to_env`, in the agent's precision."""
    dtype = agent.head.linear.weight.dtype
    tensors = [x.to(dtype) if x.dtype is torch.float32 else x for x in state.values()]
    action = tensors.pop(0) if agent.config.previous_action else torch.empty(0)
    components = agent.with_previous(seen.components, action, seen.reward)
    memory = with_tensors(agent.initial_state(1), tensors)
    (distribution, value), after = agent.step(components, memory, seen.start, seen.mask)
    chosen = distribution.mode()
    outputs = {"action": torch.as_tensor(agent.head.to_env(chosen)), "value": value}
    after_it = [chosen] * agent.config.previous_action + tensors_of(after)
    named = zip(map(carried_out, state), after_it, strict=True)
    return Said(distribution, outputs | parameters_of(distribution) | dict(named))


class _Found:
    """The largest differences so far."""

    def __init__(self, signature: Signature) -> None:
        self.fields = signature.outputs
        self.worst = {field.name: 0.0 for field in self.fields}
        self.own = {field.name: np.finfo(np.float32).tiny.item() for field in self.fields}

    def add(
        self, outputs: Arrays, single: tuple[Said, ...], exact: Said, mask: Tensor | None
    ) -> None:
        """Compare the outputs of a step with the policy's in single and in double precision."""
        for field in self.fields:
            got, right = outputs.get(field.name), exact.outputs[field.name].numpy()
            if got is None or got.shape != right.shape or str(got.dtype) != field.dtype:
                came = "missing" if got is None else f"{got.dtype} {list(got.shape)}"
                raise _wrong(field, f"it is {came}; expected {field.dtype} {list(right.shape)}")
            here = [one.outputs[field.name].numpy() for one in single]
            if field.name == "logits" and mask is not None:
                allowed = mask.numpy()
                if not (got[~allowed] < FORBIDDEN).all():
                    raise _wrong(field, "an action that the mask forbids has a chance")
                got, right = got[allowed], right[allowed]
                here = [one[allowed] for one in here]
            elif field.name in OF_THE_CHOICE:
                sure = ~tied(exact.distribution).numpy()
                got, right = got[sure], right[sure]
                here = [one[sure] for one in here]
            self._compare(field, got, here, right)

    def _compare(
        self, field: Field, got: NDArray[Any], single: list[NDArray[Any]], right: NDArray[Any]
    ) -> None:
        """Take in the differences of one output, or refuse whole numbers that differ."""
        if got.dtype.kind != "f":
            if not np.array_equal(got, right):
                raise _wrong(field, f"it is {got.tolist()}; the policy has {right.tolist()}")
            return
        if not got.size:
            return
        if not np.isfinite(got).all():
            raise _wrong(field, "it is not finite")
        name, rounding = field.name, np.finfo(np.float32).eps / 2 * np.abs(right).max()
        self.worst[name] = max(self.worst[name], float(np.abs(got - right).max()))
        own = max(float(np.abs(one - right).max()) for one in single)
        self.own[name] = max(self.own[name], own, float(rounding))

    def judged(self, steps: int, streams: int) -> Check:
        """What was found, where no difference is too large."""
        found = Check(steps, streams, self.worst, self.own)
        name, difference = found.largest
        if difference > FACTOR * self.own[name]:
            (field,) = (one for one in self.fields if one.name == name)
            raise _wrong(
                field,
                f"it is off by up to {difference:.1e} from double precision, where the policy's "
                f"own single precision is off by {self.own[name]:.1e}; at most {FACTOR:g} times "
                "that is allowed",
            )
        return found


def _wrong(field: Field, what: str) -> ExportError:
    return ExportError(
        f"The export does not compute what the policy does. Of its output {field.name!r} "
        f"({field.meaning}): {what}. Nothing was written."
    )


def tied(distribution: Distribution) -> Tensor:
    """Where a choice hangs by less than `TIE`, bool `[B]`."""
    if isinstance(distribution, Categorical):
        return _nearly_two(distribution)
    if isinstance(distribution, MultiCategorical):
        return torch.stack([_nearly_two(part) for part in distribution.parts]).any(0)
    if isinstance(distribution, Bernoulli):
        return (distribution.logits.abs() < TIE).any(-1)
    assert isinstance(distribution, DiagonalGaussian)
    return torch.zeros(len(distribution.mean), dtype=torch.bool)


def _nearly_two(distribution: Categorical) -> Tensor:
    if distribution.log_probs.shape[-1] < 2:
        return torch.zeros(len(distribution.log_probs), dtype=torch.bool)
    best, second = distribution.log_probs.topk(2).values.unbind(-1)
    return best - second < TIE
