"""Where an agent computes."""

from __future__ import annotations

import os

import torch

from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.errors import UserError


class DeviceError(UserError):
    """There is no such device on this machine, or PyTorch cannot use it."""


_forked = False
"""Whether this process was forked from one that had this module."""


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):  # not on every system
    os.register_at_fork(after_in_child=_note_fork)


def spare_threads_of_a_fork() -> None:
    """In a forked process let PyTorch compute on one thread.

    The threads of its OpenMP are not forked with it, and where the parent has used them PyTorch
    would wait for them for ever. The workers of its DataLoader compute on one thread too.
    """
    if _forked and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


def usable_device(device: str | torch.device) -> torch.device:
    """The device of this name, once a tensor has been on it.

    Raises:
        DeviceError: there is none, or PyTorch cannot use it.
    """
    check_is("device", device, (str, torch.device), "text such as cpu or cuda:0", DeviceError)
    spare_threads_of_a_fork()
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise DeviceError(f"Device {str(device)!r} cannot be used ({reason}); try cpu.") from error
    return torch.device(device)
