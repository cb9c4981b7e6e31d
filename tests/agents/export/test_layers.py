"""Single layers and functions in C, on NumPy and in the kernels are torch's; no agent around."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recurrent_rl.agents.export import c_files
from recurrent_rl.agents.export.c import source as c_source
from recurrent_rl.agents.export.c.text import shortened
from recurrent_rl.agents.export.check import Arrays, Runner
from recurrent_rl.agents.export.compiled import CompiledStep
from recurrent_rl.agents.export.graph import Plain
from recurrent_rl.agents.export.listing import Listing, constants_of, to_json
from recurrent_rl.agents.export.lowering import lower_graph
from recurrent_rl.agents.export.numpy_policy import Step
from recurrent_rl.agents.export.plainer import PLAINER
from recurrent_rl.agents.export.record import record
from recurrent_rl.agents.export.signature import Field, Signature
from recurrent_rl.agents.export.step import START, ExportError
from recurrent_rl.agents.kernels.library import library
from tests.agents.export.test_export import copies

aten = torch.ops.aten
IMAGE = torch.linspace(-2, 1, 126).reshape(1, 3, 7, 6).roll(31).contiguous()
"""Nothing about it is square, and most of it is below zero."""
Function = Callable[[Tensor], Tensor]


class Several(nn.Module):
    """What functions and layers give of one image, an output each."""

    def __init__(self, *functions: Function) -> None:
        super().__init__()
        self.functions = functions
        self.layers = nn.ModuleList(one for one in functions if isinstance(one, nn.Module))

    def forward(self, x: Tensor, start: Tensor) -> tuple[Tensor, ...]:
        return tuple(function(x) for function in self.functions)


def listed(*functions: Function) -> tuple[Listing, Arrays]:
    """A step that computes these, and what it gives by torch."""
    torch.manual_seed(0)
    inputs = (IMAGE, torch.ones(1, dtype=torch.bool))
    step = Several(*functions).eval()
    with torch.no_grad():
        right = step(*inputs)
    names = ["action", *(f"y{i}" for i in range(1, len(right)))]

    def field(name: str, x: Tensor) -> Field:
        return Field(name, tuple(x.shape), str(x.dtype).removeprefix("torch."), "")

    signature = Signature(
        tuple(map(field, ("x", START), inputs)), tuple(map(field, names, right)), {}, 1
    )
    recorded = record(Plain(record(step, inputs)), inputs)
    recorded.graph.eliminate_dead_code()  # where a maximum stands
    listing = lower_graph(recorded.graph, dict(recorded.named_buffers()), signature)
    return listing, {name: x.numpy() for name, x in zip(names, right, strict=True)}


def by_c(listing: Listing, int8: bool = False) -> Runner:
    source = c_source.written(listing, "policy", {}, [], int8)
    texts = (source.header, source.source, listing.signature.to_json())
    return c_files.runner(dict(zip(c_files.NAMES, map(str.encode, texts), strict=True)))


def by_numpy(listing: Listing) -> Runner:
    step = Step(to_json(listing), constants_of(listing))
    return lambda inputs: copies(step(inputs))


def by_kernels(listing: Listing) -> Runner:
    step = CompiledStep(listing)
    return lambda inputs: copies(step(inputs))


RUNNERS = [
    pytest.param(
        by_c, marks=pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
    ),
    by_numpy,
    pytest.param(
        by_kernels, marks=pytest.mark.skipif(library() is None, reason="no kernels were built")
    ),
]
GIVEN = {"x": IMAGE.numpy(), START: np.ones(1, bool)}


def agree(run: Runner, right: Arrays) -> None:
    found = run(GIVEN)
    for name, x in right.items():
        assert found[name].dtype == x.dtype, name
        np.testing.assert_allclose(found[name], x, rtol=2e-6, atol=2e-6, err_msg=name)


LAYERS: list[Function] = [
    nn.Conv2d(3, 4, (3, 2), (2, 1), (1, 0)),
    nn.Conv2d(3, 2, (2, 3), (1, 2), (0, 2), bias=False),
    nn.Conv2d(3, 9, 1, padding=1),
    nn.MaxPool2d((3, 2), (2, 1), (1, 0)),
    nn.MaxPool2d((2, 3), padding=(0, 1)),
    nn.AvgPool2d((3, 2), (2, 1), (1, 0)),
    nn.AvgPool2d((2, 3)),
    lambda x: F.max_pool2d(x, (2, 3)) + F.avg_pool2d(x, (2, 3)),
]


@pytest.mark.parametrize("runner", RUNNERS)
def test_layers_of_images_are_torchs(runner: Callable[[Listing], Runner]) -> None:
    listing, right = listed(*LAYERS)
    agree(runner(listing), right)


def test_the_stack_that_is_stated_holds_what_a_convolution_gathers() -> None:
    """An output `[1, 4, 4, 5]`, the 18 numbers under the kernel, and 4 sums: floats."""
    listing, right = listed(LAYERS[0])
    assert right["action"].shape == (1, 4, 4, 5)
    header = c_source.written(listing, "policy", {}, [], int8=False).header
    assert f"about {4 * (80 + 18 + 4)} bytes" in header


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 3, 2, groups=3),
        nn.Conv2d(3, 3, 2, dilation=2),
        nn.ConvTranspose2d(3, 3, 2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(2, dilation=2),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2, padding=1, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
    ],
    ids=str,
)
def test_a_layer_that_is_not_plain_is_refused(layer: nn.Module) -> None:
    with pytest.raises(ExportError, match="This format has plain"):
        listed(layer)


@pytest.mark.parametrize("function", [lambda x: torch.add(x, x, alpha=2), lambda x: x.sort(-1)[0]])
def test_a_function_that_is_not_known_is_refused(function: Function) -> None:
    with pytest.raises(ExportError, match=r"aten\.\w+\.\w+"):
        listed(function)


WEIGHT = torch.linspace(-1, 2, 24).reshape(6, 4)
SINGLE: list[Function] = [
    lambda x: torch.remainder(x, 0.7),
    lambda x: torch.remainder(x, -0.7),
    lambda x: torch.minimum(x, x * x) - torch.maximum(-x, x / 3),
    lambda x: torch.rsqrt(x * x + 1) - torch.sqrt(x.abs()),
    lambda x: x.sum(-1) + x.sum((0, 1, 2, 3)),
    lambda x: F.softmax(x, -1) + F.softmax(x.flatten(), 0).view(x.shape),
    lambda x: x.argmax(-1) + (x > 0.5).float().argmax(-1),
    lambda x: x.permute(0, 3, 2, 1),
    lambda x: x[0, 1:, 2],
    lambda x: x[:, 2:],
    lambda x: x[:, 1:].sum(-1),
    lambda x: torch.cat([x + 1, x * 2], 1) * 3,
    lambda x: torch.cat([x + 1, x * 2], 1)[:, :3] * 3,
    lambda x: (x + 1).reshape(1, 3, 6, 7) * 2,
    lambda x: (x[:, :, :6] + 1).permute(0, 1, 3, 2) * 2,
    lambda x: torch.addmm(x[0, 1, 0, :4].clone(), x[0, 0], WEIGHT),
    lambda x: torch.addmm(x[0, 1, 0, :1].clone(), x[0, 0], WEIGHT[:, :1]),
    lambda x: (x[:, :, :1] + 1) * x,
    lambda x: (x + 1).permute(0, 1, 3, 2) * 2,
    lambda x: x @ x.permute(0, 1, 3, 2),
    lambda x: (0.5 * (x > 0)).bool() & ~(x > 0.5),
    lambda x: torch.where(x > 0, x, -x) + 1.0 * (x >= 0.5) + 2.0 * (x <= -1) + 4.0 * (x < 0),
    lambda x: F.gelu(x) + F.elu(x) + F.hardtanh(x, -0.5, 0.25) + torch.floor(x),
]
DOUBLE: list[Function] = [
    lambda x: torch.remainder(x, 0.7),
    lambda x: torch.remainder(x, -0.7),
    lambda x: torch.sigmoid(x),
    lambda x: torch.minimum(x, x * x) - torch.maximum(-x, x / 3),
    lambda x: torch.rsqrt(x * x + 1) + torch.exp(x).float(),
    lambda x: torch.tanh(x) + torch.sin(x) * torch.cos(x),
]


@pytest.mark.parametrize("function", [lambda x: x.double().sum(-1), lambda x: x.long().argmax(-1)])
def test_a_reduction_that_c_lacks_is_refused(function: Function) -> None:
    with pytest.raises(ExportError, match=r"A policy in C has no .* numbers, only of float32"):
        by_c(listed(function)[0])


def of_double(function: Function) -> Function:
    return lambda x: function(x.double())


@pytest.mark.parametrize("runner", RUNNERS)
def test_functions_are_torchs(runner: Callable[[Listing], Runner]) -> None:
    listing, right = listed(*SINGLE, *map(of_double, DOUBLE))
    agree(runner(listing), right)


@pytest.mark.parametrize("runner", [RUNNERS[0], RUNNERS[2]])
def test_what_is_too_large_becomes_infinite(runner: Callable[[Listing], Runner]) -> None:
    """NumPy says so, but warns of it."""
    exponents = (80.0, 100.0, 177.0, 1000.0)
    listing, right = listed(*(lambda x, e=e: torch.exp(e + 0.2 * torch.tanh(x)) for e in exponents))
    agree(runner(listing), right)
    assert np.isinf(right["y3"]).all()


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
def test_weights_of_8_bits_have_a_scale_for_each_column() -> None:
    """To half a 127th of the column's largest for each number that it is multiplied by."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = torch.randn(12, 5) * torch.tensor([1.0, 1e-3, 0.0, 50.0, 1.0])
            self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.randn(5))
            self.shared = nn.Parameter(torch.randn(12, 12))

        def forward(self, x: Tensor) -> Tensor:
            row = x.reshape(1, -1)[:, :12]
            both = row @ self.shared + (self.shared * row).sum(-1)  # no factors alone: exact
            hidden = torch.tanh(both)
            return torch.addmm(self.bias, hidden, self.weight)

    layer, several = Scaled(), nn.Linear(12, 5)
    listing, right = listed(layer, lambda x: several(x.reshape(1, -1)[:, :36].reshape(3, 12)))
    outputs = by_c(listing, int8=True)(GIVEN)
    found = outputs["action"]
    np.testing.assert_allclose(outputs["y1"], right["y1"], rtol=2e-6, atol=2e-6)  # of several rows
    off = np.abs(found - right["action"])[0]
    largest = layer.weight.detach().abs().max(0).values.numpy()
    assert (off <= 12 * largest / 127 / 2 + 1e-6).all()
    assert (off[[0, 1, 3]] > 1e-3 * largest[[0, 1, 3]] / 127).all()


def test_a_weight_of_8_bits_is_the_nearest() -> None:
    weight = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    weight[:, 1] = 0
    short, scale = shortened(weight)
    assert short.dtype == np.int8
    assert np.abs(short).max(0).tolist() == [127, 0, 127]
    assert (np.abs(short * scale - weight) <= 0.5001 * scale).all()


def test_a_choice_between_truth_values_is_logic() -> None:
    """ONNX Runtime has no such choice."""
    of_truth_values = Several(
        lambda x: torch.where(x > 0, x > 0.5, x < -1), lambda x: torch.where(x > 0, x, 1)
    )
    inputs = (IMAGE, torch.ones(1, dtype=torch.bool))
    graph = record(Plain(record(of_truth_values, inputs)), inputs).graph
    kinds = [x.meta["val"].dtype for x in graph.nodes if x.target is aten.where.self]
    assert kinds == [torch.float32]


X = torch.linspace(-1, 2, 2 * 3 * 7 * 5).reshape(2, 3, 7, 5)
CHANNELS = [torch.tensor(x) for x in ([1.0, 2, 3], [3.0, 1, -1], [0.5, 0, 2], [1e-4, 4, 9])]
MADE: list[tuple[Any, tuple[Any, ...]]] = [
    (aten.where.self, (X > 0, X, -X)),
    (aten.where.self, (X > 0, X > 1, X > -0.5)),
    (aten.cummax.default, (X, 2)),
    (aten.cummax.default, (X[:, :, :1], 2)),
    (aten.native_layer_norm.default, (1e-3 * X, [7, 5], X[0, 0] + 3, X[1, 1], 1e-5)),
    (aten.native_layer_norm.default, (X, [7, 5], None, None, 1e-5)),
    (aten._adaptive_avg_pool2d.default, (X, [3, 2])),
    (aten._adaptive_avg_pool2d.default, (X, [1, 1])),
    (aten._native_batch_norm_legit_no_training.default, (X, *CHANNELS, 0.1, 1e-4)),
    (aten._native_batch_norm_legit_no_training.default, (X, None, None, *CHANNELS[2:], 0.1, 1e-4)),
    (aten.as_strided.default, (X, [2, 3, 7, 5], [105, 35, 5, 1])),
    (aten.as_strided.default, (X, [2, 3], [105, 35])),
    (aten.as_strided.default, (X, [2, 3], [105, 35], 7)),
    (aten.as_strided.default, (torch.arange(8.0)[:4], [4], [1], 4)),
    (aten.as_strided.default, (X, [2, 3, 7, 4], [105, 35, 5, 1], 1)),
    (aten.as_strided.default, (X, [2, 3, 5, 7], [105, 35, 1, 5])),
    (aten.leaky_relu.default, (X,)),
    (aten.leaky_relu.default, (X, 0.3)),
    (aten.hardtanh.default, (X, -0.5, 0.25)),
]


@pytest.mark.parametrize(("operation", "arguments"), MADE)
def test_what_is_made_of_plainer_operations_is_the_operation(
    operation: Any, arguments: tuple[Any, ...]
) -> None:
    found, right = PLAINER[operation](*arguments), operation(*arguments)
    if isinstance(right, tuple):  # what else it gives is for the backward pass, but for cummax
        count = 2 if operation is aten.cummax.default else 1
        found, right = found[:count], right[:count]
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-6)
