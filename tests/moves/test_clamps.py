"""An affine before a clamp whose bounds move: what it passes, and what lets it stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from tests.moves.support import Model, checked, clamps, operations, preactivated, settled
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

X = noise(2, 4, 7, 6)
ACTIVATIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "layer": lambda m, x: m.act(x),
    "relu": lambda m, x: F.relu(x),
    "relu-in-place": lambda m, x: F.relu(x, inplace=True),
    "relu_": lambda m, x: x.relu_(),
    "relu6": lambda m, x: F.relu6(x),
    "relu6-in-place": lambda m, x: F.relu6(x, inplace=True),
    "hardtanh": lambda m, x: F.hardtanh(x, -0.3, 2.0),
    "clamp": lambda m, x: x.clamp(0.2, 1),
    "clamp-max": lambda m, x: torch.clamp_max(x, 0.5),
    "twice": lambda m, x: m.act(m.act(x) - 1.0),
    "pooled": lambda m, x: F.avg_pool2d(F.relu(x), 2),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_it_fires(name: str) -> None:
    model = preactivated(ACTIVATIONS[name], act=nn.ReLU(inplace="in-place" in name))
    assert settled(model, X) == 1
    fused = bnfuse.optimize(model)
    assert clamps(fused)
    assert [row.into for row in bnfuse.report(fused).folded] == ["head"]


@pytest.mark.parametrize(("sign", "sides"), [(1, {"min"}), (-1, {"max"})])
def test_scales_of_one_sign_leave_one_bound(sign: int, sides: set[str]) -> None:
    model = preactivated(lambda m, x: m.act(x))
    model.norm.weight.data.abs_().mul_(sign)
    (clamp,) = clamps(checked(model, X)[0])
    assert {name for name, bound in clamp._buffers.items() if bound is not None} == sides


@pytest.mark.parametrize("scale", [0.0, 1e-300, -1e-300], ids=str)
@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_dead_channels(scale: float, shift: float) -> None:
    model = preactivated(lambda m, x: m.act(x))
    with torch.no_grad():
        model.norm.weight[::2] = scale
        model.norm.bias[::2] = shift
    is_far = scale != 0 and shift < 0  # the bound is reached, and no half precision holds it
    assert settled(model, X) == (0 if is_far else 1)


PADDED: dict[str, nn.Module] = {
    "many": nn.Conv2d(8, 40, 3, padding=1),
    "depthwise": nn.Conv2d(8, 8, 3, 2, padding=1, groups=8),
    "transposed": nn.ConvTranspose2d(8, 5, 3, 2, 1),
}


@pytest.mark.parametrize("name", PADDED)
@pytest.mark.parametrize("act", ["layer", "hardtanh"])
def test_zero_padding_leaves_the_shift_with_the_clamp(name: str, act: str) -> None:
    """A padded 0 is the 0 of the unfused model; of a clamp with other bounds as well."""
    model = preactivated(ACTIVATIONS[act], head=PADDED[name])
    with torch.no_grad():
        model.norm.weight[:2] = 0.0
        model.norm.bias[:2] = torch.tensor([-1.0, 1.0])
    fused, report = checked(model, X)
    assert len(report.folded) == 1
    (clamp,) = clamps(fused)
    assert clamp.shift is not None
    assert operations(bnfuse.optimize(fused)) == operations(fused)


def both(m: Any, y: Tensor) -> Tensor:
    z = m.act(y)
    return torch.cat([z, y], 1)


def written(m: Any, y: Tensor) -> Tensor:
    z = y.relu_()
    z.add_(1.0)
    return z


def read_again(m: Any, y: Tensor) -> Tensor:
    y.relu_()
    return y


def in_place_on_a_view(m: Any, y: Tensor) -> Tensor:
    y.view(-1).relu_()
    return y


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda *_: None)
    return module


DECLINED: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, nn.Module]]] = {
    "the-norm-is-read-too": (both, {"head": nn.Conv2d(16, 5, 1), "act": nn.ELU()}),
    "something-else-reads-the-activation": (lambda m, y: m.act(y) + F.elu(m.act(y)), {}),
    "an-addition": (lambda m, y: F.relu(y) + y.sigmoid(), {}),
    "written-afterwards": (written, {}),
    "read-under-the-old-name": (read_again, {}),
    "a-view-is-written": (in_place_on_a_view, {}),
    "leaky": (lambda m, y: F.leaky_relu(y, 0.1), {}),
    "elu": (lambda m, y: F.elu(y), {}),
    "bounds-in-the-wrong-order": (lambda m, y: y.clamp(1, -1), {}),
    "a-bound-by-size": (lambda m, y: y.clamp(min=y.shape[0] - 2), {}),
    "hooks": (lambda m, y: m.act(y), {"act": hooked(nn.ReLU())}),
    "not-absorbed": (lambda m, y: m.act(y), {"head": nn.LayerNorm(6)}),
    "dropout-that-is-on": (lambda m, y: F.dropout(m.act(y), 1e-12), {}),
}


@pytest.mark.parametrize("name", DECLINED)
def test_it_declines(name: str) -> None:
    run, layers = DECLINED[name]
    fused, report = checked(preactivated(run, **layers), X)
    assert not report.folded
    assert not clamps(fused)


def test_a_view_that_would_be_refused() -> None:
    """Of a transposed value the norm makes a dense one, of which a view can be taken."""

    def run(m: Any, x: Tensor) -> Tensor:
        y = F.relu(m.norm(x.transpose(1, 2)), inplace=True)
        return m.head(y.view(y.shape[0], -1).view(-1, 4, 7))

    model = ready(Model(run, norm=nn.BatchNorm1d(4), head=nn.Conv1d(4, 3, 1)))
    checked(model, noise(2, 7, 4))
    model.run = lambda m, x: m.head(F.relu(m.norm(x.transpose(1, 2))))
    assert not checked(model, noise(2, 7, 4))[1].kept
