"""What is refused of an agent with parts of one's own says which these are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.export.step import ExportError
from recurrent_rl.agents.named_parts import own_parts


def named_parts(agent: ActorCritic) -> str:
    """The parts that are not the library's: "your memory 'mine'"; empty where there are none."""
    return " and ".join(f"your {kind} {name!r}" for kind, name in own_parts(agent.config).items())


@contextmanager
def naming_parts(agent: ActorCritic) -> Iterator[None]:
    """Add to what a format refuses inside which parts are not the library's."""
    try:
        yield
    except ExportError as error:
        if own := named_parts(agent):
            raise ExportError(f"{error} The policy has {own}.") from error
        raise


@contextmanager
def blaming_parts(agent: ActorCritic, what: str, fix: str) -> Iterator[None]:
    """Tell what fails inside as what it is where parts of one's own are there: no fault of ours.

    Args:
        agent: that may have such parts; of one without, the error stays as it is.
        what: of the policy fails, in the beginning of a sentence.
        fix: a sentence.

    Raises:
        ExportError: names the parts and the cause.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not (own := named_parts(agent)):
            raise
        raise ExportError(f"{what}, with {own}: {_cause(error)} {fix}") from error


def _cause(error: BaseException) -> str:
    """The first line of what an error goes back to."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0].split(" For more information")[0]
