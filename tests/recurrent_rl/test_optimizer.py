"""The optimiser is PyTorch's, number for number, without PyTorch's compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from recurrent_rl.optimizer import Adam

TRAINING = """
import sys
from recurrent_rl import TrainConfig, Trainer

trainer = Trainer(TrainConfig("recurrent_rl/TMaze-v0", num_envs=4, num_steps=8, device="cpu"))
trainer.iterate()
trainer.optimizer.load_state_dict(trainer.optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""


def learnt(kind: type[torch.optim.Adam], fused: bool) -> dict[str, torch.Tensor]:
    """The weights of a layer after steps whose gradients differ, with a new start between them."""
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 3), torch.randn(20, 4, 5)
    optimizer = kind(layer.parameters(), lr=0.1, eps=1e-5, fused=fused)
    for i, batch in enumerate(x):
        if i == 10:
            before, optimizer = optimizer, kind(layer.parameters(), lr=0.3, fused=fused)
            optimizer.load_state_dict(before.state_dict())
        optimizer.zero_grad(set_to_none=i % 2 == 0)
        layer(batch).square().mean().backward()
        optimizer.step()
    return layer.state_dict()


@pytest.mark.parametrize("fused", [False, True])
def test_it_learns_what_pytorchs_does(fused: bool) -> None:
    ours, theirs = learnt(Adam, fused), learnt(torch.optim.Adam, fused)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not torch.equal(ours["weight"], nn.Linear(5, 3).weight)


def test_training_does_not_load_the_compiler() -> None:
    """It would take a second of every process that trains."""
    subprocess.run([sys.executable, "-c", TRAINING], check=True)
