"""Where an agent computes."""

from __future__ import annotations

import torch

from recurrent_rl.agents.arguments import check_is
from recurrent_rl.agents.errors import UserError


class DeviceError(UserError):
    """There is no such device on this machine, or PyTorch cannot use it."""


def usable_device(device: str | torch.device) -> torch.device:
    """The device of this name, once a tensor has been on it.

    Raises:
        DeviceError: there is none, or PyTorch cannot use it.
    """
    check_is("device", device, (str, torch.device), "text such as cpu or cuda:0", DeviceError)
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise DeviceError(f"Device {str(device)!r} cannot be used ({reason}); try cpu.") from error
    return torch.device(device)
