"""As a folder for NumPy: one Python file and the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.numpy

from recurrent_rl.agents.action_masks import mask_sizes
from recurrent_rl.agents.actor_critic import ActorCritic
from recurrent_rl.agents.export import numpy_policy
from recurrent_rl.agents.export.check import Arrays, Runner
from recurrent_rl.agents.export.graph import Program
from recurrent_rl.agents.export.listing import Listing, constants_of, to_json
from recurrent_rl.agents.export.lowering import lower
from recurrent_rl.agents.export.passes.shorter import shorter
from recurrent_rl.agents.export.step import limits_of
from recurrent_rl.agents.files import NUMPY_EXPORT, temporary_folder

NAMES = CODE, WEIGHTS = "policy.py", "policy.safetensors"


def files(program: Program) -> dict[str, bytes]:
    """The two files."""
    return written(lower(program), program.agent)


def written(listing: Listing, agent: ActorCritic) -> dict[str, bytes]:
    """The two files of an agent's step."""
    listing = shorter(listing)
    limits = {
        name: [x.tolist() for x in ends]
        for name, ends in limits_of(agent.observation_space).items()
    }
    text = {
        "format": f"{NUMPY_EXPORT} 2",
        "signature": listing.signature.to_json(),
        "limits": json.dumps(limits),
        "mask_parts": json.dumps(mask_sizes(agent.action_space) or []),
        "step": json.dumps(to_json(listing)),
    }
    return {
        CODE: Path(numpy_policy.__file__).read_bytes(),
        WEIGHTS: safetensors.numpy.save(constants_of(listing), text),
    }


def policy(content: Mapping[str, bytes]) -> numpy_policy.Policy:
    """What `files` has made, as a program that has the folder would load it."""
    with temporary_folder() as folder:
        weights = Path(folder) / WEIGHTS
        weights.write_bytes(content[WEIGHTS])
        return numpy_policy.Policy(weights)


def runner(content: Mapping[str, bytes]) -> Runner:
    """Steps what `files` has made."""
    step = policy(content).step

    def run(inputs: Arrays) -> Arrays:
        return {name: x.copy() for name, x in step(inputs).items()}

    return run
