"""Parallel branches over one value become one convolution: the numbers and the graph."""

from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from tests.passes.branches import Block, Block2, calls_of, conv, conv_norm, merged
from tests.support import noise, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = noise(2, 4, 7, 7)
ONE = {"Conv2d": 1}


def repvgg() -> Block:
    """Return a block of 3x3, 1x1 and identity, each with a batch norm."""
    return Block(
        lambda m, x: m.a(x) + m.b(x) + m.c(x), a=conv_norm(), b=conv_norm(1), c=nn.BatchNorm2d(4)
    )


def mobileone() -> Block:
    """Return a block of four 3x3 depthwise, a 1x1 depthwise and the identity."""
    rows = {f"r{count}": conv_norm(groups=4) for count in range(4)}

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        total = m.scale(x) + m.skip(x)
        for name in rows:
            total = total + m.get_submodule(name)(x)
        return total

    return Block(run, scale=conv_norm(1, groups=4), skip=nn.BatchNorm2d(4), **rows)


def layer_scale() -> Block:
    block = Block(lambda m, x: x + m.gamma * m.a(x) + 0.5 * m.b(x), a=conv_norm(), b=conv(1))
    block.gamma = nn.Parameter(torch.ones(4, 1, 1))
    return block


def two(run: Callable[[Any, torch.Tensor], object], first: Any = 3, second: Any = 1) -> Block:
    return Block(run, a=conv(first), b=conv(second))


def plus(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.a(x) + m.b(x)


def in_place(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.a(x)
    y += m.b(x)
    return y.add_(x)


def functions(m: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.add(F.conv2d(x, m.a.weight, padding="same"), F.conv2d(x, m.b.weight, m.b.bias))


ONE_CONVOLUTION: dict[str, Callable[[], nn.Module]] = {
    "repvgg": repvgg,
    "mobileone": mobileone,
    "acnet": lambda: Block(
        lambda m, x: m.a(x) + m.b(x) + m.c(x), a=conv(3), b=conv((1, 3)), c=conv((3, 1))
    ),
    "strides": lambda: Block(plus, a=conv_norm(3, 6, stride=2), b=conv_norm(1, 6, stride=2)),
    "dilation": lambda: Block(plus, a=conv(3, dilation=2, padding=2), b=conv(1)),
    "dilated beside dense": lambda: Block(plus, a=conv(5), b=conv(3, dilation=2, padding=2)),
    "groups": lambda: Block(plus, a=conv(3, groups=2), b=conv(1, groups=4)),
    "depthwise with a multiplier": lambda: Block(
        plus, a=conv(3, outputs=8, groups=4), b=conv(1, outputs=8, groups=4)
    ),
    "reflected padding": lambda: Block(plus, a=conv(padding_mode="reflect"), b=conv(1)),
    "no padding": lambda: Block(plus, a=conv(padding=0), b=conv(padding="valid")),
    "same as a word": lambda: Block(plus, a=conv(padding="same"), b=conv(1, padding="same")),
    "identity alone": lambda: Block(lambda m, x: m.a(x) + x, a=conv_norm()),
    "subtraction": lambda: two(lambda m, x: m.a(x) - (m.b(x) - x)),
    "identity twice": lambda: two(lambda m, x: x + m.a(x) + m.b(x) + x),
    "layer scale": layer_scale,
    "nested": lambda: Block(
        lambda m, x: (m.a(x) + (x - m.b(x))) + (m.c(x) + x), a=conv(), b=conv(1), c=conv(3)
    ),
    "in place": lambda: two(in_place),
    "functions": lambda: two(functions),
    "one layer twice": lambda: Block(lambda m, x: m.a(x) + m.a(x) + x, a=conv()),
}


@pytest.mark.parametrize("name", ONE_CONVOLUTION)
def test_one_convolution_is_left(name: str) -> None:
    fused = merged(ONE_CONVOLUTION[name](), X)
    calls = calls_of(fused)
    assert calls.pop("conv2d", 0) + calls["Conv2d"] == 1
    assert not set(calls) - {"Conv2d"}


@pytest.mark.parametrize("sizes", [(4, 9), (4, 6, 5, 6)], ids=["1d", "3d"])
def test_other_numbers_of_axes(sizes: tuple[int, ...]) -> None:
    layer, norm = (nn.Conv1d, nn.BatchNorm1d) if len(sizes) == 2 else (nn.Conv3d, nn.BatchNorm3d)
    block = Block(
        lambda m, x: m.a(x) + m.b(x) + m.c(x),
        a=nn.Sequential(layer(4, 4, 3, padding=1), norm(4)),
        b=nn.Sequential(layer(4, 4, 1), norm(4)),
        c=norm(4),
    )
    calls = calls_of(merged(block, noise(2, *sizes)))
    assert calls[layer.__name__] == 1
    assert set(calls) <= {layer.__name__, "assume_rank", "check_rank"}


def test_other_terms_stay_in_their_order() -> None:
    block = Block2(lambda m, x, y: (y - m.a(x)) + torch.relu(y) - m.b(x), a=conv(), b=conv(1))
    fused = merged(block, X, noise(2, 4, 7, 7, seed=3))
    assert calls_of(fused) == {"Conv2d": 1, "relu": 1, "add": 2}


def test_several_values_in_one_sum() -> None:
    block = Block2(
        lambda m, x, y: m.a(x) + m.c(y) + m.b(x) + m.d(y), a=conv(), b=conv(1), c=conv(), d=conv(1)
    )
    fused = merged(block, X, noise(2, 4, 7, 7, seed=3))
    assert calls_of(fused) == {"Conv2d": 2, "add": 1}


def test_several_sums_over_one_value() -> None:
    block = Block(lambda m, x: (m.a(x) + x) * (m.b(x) - m.c(x)), a=conv(), b=conv(), c=conv((1, 3)))
    assert calls_of(merged(block, X)) == {"Conv2d": 2, "mul": 1}


def test_the_small_ones_merge_where_the_large_one_does_not() -> None:
    """A 1x1 convolution would fill a depthwise 5x5 with products."""
    block = Block(lambda m, x: m.a(x) + m.b(x) + m.c(x), a=conv(5, groups=4), b=conv(1), c=conv(1))
    assert calls_of(merged(block, X)) == {"Conv2d": 2, "add": 1}


def test_batch_norms_alone_become_one() -> None:
    block = Block(
        lambda m, x: torch.relu(m.a(x) + m.b(x) - x), a=nn.BatchNorm2d(4), b=nn.BatchNorm2d(4)
    )
    fused = merged(block, X)
    assert calls_of(fused)["BatchNorm2d"] == 1
    report = bnfuse.report(fused)
    assert [(row.name, row.into) for row in report.merged] == [("b", "a")]
    assert [row.name for row in report.kept] == ["a"]


def test_a_shared_convolution_gets_a_layer_of_its_own() -> None:
    block = Block(lambda m, x: m.a(torch.relu(m.a(x) + x)), a=conv())
    fused = merged(block, X)
    assert calls_of(fused) == {"Conv2d": 2, "relu": 1}
    assert {"a", "a_2"} <= dict(fused.named_modules()).keys()


def test_scales_of_both_signs_and_zero() -> None:
    block = ready(repvgg())
    with torch.no_grad():
        for name in ("a.1", "b.1", "c"):
            block.get_parameter(f"{name}.weight").copy_(torch.tensor([1.5, -2.0, 0.0, -0.1]))
    fused = bnfuse.optimize(block)
    assert calls_of(fused) == ONE
    assert relative_error(fused(X), block(X)) <= 1e-12


def test_graph_afterwards_and_the_report() -> None:
    fused = merged(repvgg(), X)
    assert str(fused.graph).split("\n") == [
        "graph():",
        "    %x : [num_users=1] = placeholder[target=x]",
        "    %a_0 : [num_users=1] = call_module[target=a.0](args = (%x,), kwargs = {})",
        "    return a_0",
    ]
    report = bnfuse.report(fused)
    assert [(row.name, row.into, row.by) for row in report.merged] == [
        ("c", "a.0", "merge-branches")
    ]
    assert report.name_map == {"a.1": "a.0", "b.1": "a.0", "c": "a.0"}
    layer: Any = fused.get_submodule("a.0")
    assert (layer.kernel_size, layer.padding, layer.groups) == ((3, 3), (1, 1), 1)


def test_skip_keeps_the_branches() -> None:
    block = ready(Block(plus, a=conv(), b=conv(1)))
    assert calls_of(bnfuse.optimize(block, skip=("b",))) == {"Conv2d": 2, "add": 1}


class RepVGG(nn.Module):
    """The first block with a forward of its own, which a pickle can find."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv_norm(), conv_norm(1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.a(x) + self.b(x) + self.c(x))


def test_copies_pickles_and_exports() -> None:
    model = ready(RepVGG())
    fused, wanted = bnfuse.optimize(model), model(X)
    assert calls_of(fused) == {"Conv2d": 1, "relu": 1}
    stream = io.BytesIO(pickle.dumps(fused))
    exported = torch.export.export(fused, (X,))
    for copied in (copy.deepcopy(fused), pickle.load(stream), exported.module()):
        assert relative_error(copied(X), wanted) <= 1e-12


def test_export_to_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = ready(repvgg()).float()
    path = tmp_path / "net.onnx"
    bnfuse.export_onnx(bnfuse.optimize(model), path, (X.float(),))
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Conv"]
