"""The optimiser, without what PyTorch's loads for its compiler."""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import torch


class Adam(torch.optim.Adam):
    """PyTorch's Adam, number for number (Kingma and Ba 2015).

    Around its methods PyTorch wraps what torch.compile needs to know of them. The first call of one
    imports the compiler: a second for each process that trains, of two and a half. Nothing here is
    compiled, so the methods stand without.
    """

    add_param_group: Any = unwrap(torch.optim.Adam.add_param_group)
    load_state_dict: Any = unwrap(torch.optim.Adam.load_state_dict)
    state_dict: Any = unwrap(torch.optim.Adam.state_dict)
    step: Any = torch.no_grad()(unwrap(torch.optim.Adam.step))
    zero_grad: Any = unwrap(torch.optim.Adam.zero_grad)
