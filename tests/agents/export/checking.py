"""One export, held to its policy."""

from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.export.check import Check, Runner, checks
from recurrent_rl.agents.export.signature import Signature
from recurrent_rl.agents.export.step import ExportError


def check(agent: ActorCritic, signature: Signature, run: Runner, steps: int) -> Check:
    """What `checks` finds of it; raises the error where it is refused."""
    (found,) = checks(agent, signature, [run], steps)
    if isinstance(found, ExportError):
        raise found
    return found
