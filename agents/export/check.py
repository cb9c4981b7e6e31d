"""Whether an export computes what its policy does.

Random observations, resets and masks go through the policy in single and in double precision, and
through the export. Each step starts from the policy's own state, so that errors do not add up.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
)
from recurrent_rl.agents.export.draw import Draw, Inputs
from recurrent_rl.agents.export.own_parts import blaming_parts
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
    worst: dict[str, float] = dataclasses.field(hash=False)
    """By output: the largest difference from the policy in double precision."""
    own: dict[str, float] = dataclasses.field(hash=False)
    """By output: the same of the policy in single precision, with its weights and with weights
    that are two roundings off, since a sum may come out near by its order; at least half a unit in
    the last place, of half precision where the action space has that."""

    @property
    def largest(self) -> tuple[str, float]:
        """The output that differs most, in multiples of what it may, and its difference."""
        name = max(self.worst, key=lambda one: self.worst[one] / self.own[one])
        return name, self.worst[name]


def checks(
    agent: ActorCritic,
    signature: Signature,
    runs: Sequence[Runner],
    steps: int = STEPS,
    seed: int = 0,
) -> list[Check | ExportError]:
    """Compare exports with their policy, step by step and side by side: its own steps take longest.

    An export is refused where an output is missing, of another shape or type, another action, or
    farther from double precision than `FACTOR` times what single precision is.

    Args:
        agent: of the policy.
        signature: of the exports.
        runs: step the exports, one each.
        steps: how many.
        seed: of the observations, resets and masks.

    Returns:
        What was found of each, or why it is refused.
    """
    single = copy.deepcopy(agent).cpu().eval()
    double, near = copy.deepcopy(single).double(), _nearly(single)
    streams = signature.batch or STREAMS
    draw = Draw(single, streams, seed)
    generator = torch.Generator().manual_seed(seed)
    state = carried(single, streams)
    found = [_Found(signature, run) for run in runs]
    for step in range(steps):
        seen = draw.step(first=step == 0)
        given = seen.raw | {carried_in(name): x.numpy() for name, x in state.items()}
        own = _said(single, seen, state)
        exact, around = _exactly(double, seen, state), (own, _said(near, seen, state))
        for one in found:
            inputs = {f.name: given[f.name].astype(f.dtype) for f in signature.inputs}  # its own
            one.step(inputs, around, exact, seen.mask)
        if all(one.error for one in found):
            break
        state = {name: own.outputs[carried_out(name)] for name in state}
        if PREVIOUS_ACTION in state:  # an action that was drawn is fed back too
            noise = single.head.noise((streams,), generator)
            state[PREVIOUS_ACTION] = own.distribution.sample(noise)
    return [one.judged(steps, streams) for one in found]


def _nearly(agent: ActorCritic) -> ActorCritic:
    """A copy whose weights are each two units in the last place larger or smaller."""
    near, generator = copy.deepcopy(agent), torch.Generator().manual_seed(0)
    eps = torch.finfo(torch.float32).eps
    with torch.no_grad():
        for x in near.parameters():
            x.mul_(1 + 2 * eps * torch.empty_like(x).uniform_(-1, 1, generator=generator).sign())
    return near


class _InDouble(TorchFunctionMode):
    """Lets what an agent brings to single precision, its observations, be in double.

    That is what it asks for by name, and what torch makes of whole numbers, such as bytes / 255.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = tree_map(_wider, (args, kwargs or {}))
        result = (Tensor.double if func is Tensor.float else func)(*args, **kwargs)
        if isinstance(result, Tensor) and result.dtype is torch.float32:
            given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            if given and not any(x.is_floating_point() for x in given):
                args, kwargs = tree_map_only(Tensor, Tensor.double, (args, kwargs))
                return func(*args, **kwargs)
        return result


def _wider(x: Any) -> Any:
    """A type of single precision in double; all else as it is."""
    return torch.float64 if x is torch.float32 else x


class Said(NamedTuple):
    """What the policy says of a step."""

    distribution: Distribution
    outputs: dict[str, Tensor]
    """By name."""


@torch.no_grad()
def _said(agent: ActorCritic, seen: Inputs, state: dict[str, Tensor]) -> Said:
    """By the agent's own step and `to_env`, in the agent's precision."""
    dtype = agent.head.linear.weight.dtype

    def precise(x: Tensor) -> Tensor:
        return x.to(dtype) if x.dtype is torch.float32 else x

    tensors = [precise(x) for x in state.values()]
    action = tensors.pop(0) if agent.config.previous_action else torch.empty(0)
    components = {path: precise(x) for path, x in seen.components.items()}
    components = agent.with_previous(components, action, seen.reward)
    memory = with_tensors(agent.initial_state(1), tensors)
    (distribution, value, _), after = agent.step(components, memory, seen.start, seen.mask)
    chosen = distribution.mode()
    outputs = {"action": torch.as_tensor(agent.head.to_env(chosen)), "value": value}
    after_it = [chosen] * agent.config.previous_action + tensors_of(after)
    named = zip(map(carried_out, state), after_it, strict=True)
    return Said(distribution, outputs | parameters_of(distribution) | dict(named))


def _exactly(agent: ActorCritic, seen: Inputs, state: dict[str, Tensor]) -> Said:
    """As `_said`, of an agent in double precision.

    Raises:
        ExportError: a part of one's own keeps single precision, which does not go with it.
    """
    fix = "Register its tensors as parameters or buffers, so that .double() reaches them."
    what = "The check cannot compute this policy in double precision"
    with blaming_parts(agent, what, fix), _InDouble():
        return _said(agent, seen, state)


class _Found:
    """The largest differences of an export so far, or the error that it is refused with."""

    def __init__(self, signature: Signature, run: Runner) -> None:
        self.run, self.fields = run, signature.outputs
        self.error: ExportError | None = None
        self.worst = {field.name: 0.0 for field in self.fields}
        self.own = {field.name: np.finfo(np.float32).tiny.item() for field in self.fields}

    def step(
        self, inputs: Arrays, single: tuple[Said, ...], exact: Said, mask: Tensor | None
    ) -> None:
        """Take a step of the export and compare it, unless it is refused already."""
        if self.error is None:
            try:
                self._add(self.run(inputs), single, exact, mask)
            except ExportError as error:
                self.error = error

    def _add(
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
        eps = max(float(np.finfo(kind).eps) for kind in (np.float32, right.dtype))
        name, rounding = field.name, eps / 2 * float(np.abs(right).max())
        self.worst[name] = max(self.worst[name], float(np.abs(got - right).max()))
        own = max(float(np.abs(one - right).max()) for one in single)
        self.own[name] = max(self.own[name], own, rounding)

    def judged(self, steps: int, streams: int) -> Check | ExportError:
        """What was found, or the error: that of a step, or that a difference is too large."""
        if self.error is not None:
            return self.error
        found = Check(steps, streams, self.worst, self.own)
        name, difference = found.largest
        if difference <= FACTOR * self.own[name]:
            return found
        (field,) = (one for one in self.fields if one.name == name)
        return _wrong(
            field,
            f"it is off by up to {difference:.1e} from double precision, where the policy's own "
            f"single precision is off by {self.own[name]:.1e}; at most {FACTOR:g} times that is "
            "allowed",
        )


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
