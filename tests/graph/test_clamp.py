"""The clamp with bounds for each channel: values, layouts, dtypes, gradients, exports."""

from __future__ import annotations

import copy
import io
import pickle
from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch

from bnfuse.graph.clamp import ChannelClamp
from tests.support import noise

if TYPE_CHECKING:
    from torch import Tensor

INF = float("inf")
LOW = torch.tensor([0.5, -INF, -1.0, -INF]).view(1, 4, 1, 1)
HIGH = torch.tensor([INF, 0.5, 1.0, INF]).view(1, 4, 1, 1)
SHIFT = torch.tensor([0.0, 1.0, -2.0, 3.0]).view(1, 4, 1, 1)
PARTS = [parts for parts in product((None, LOW), (None, HIGH), (None, SHIFT)) if any(
    part is not None for part in parts[:2])]  # fmt: skip


def wanted(x: Tensor, low: Tensor | None, high: Tensor | None, shift: Tensor | None) -> Tensor:
    y = x if low is None else torch.where(x < low, low, x)
    y = y if high is None else torch.where(y > high, high, y)
    return y if shift is None else y + shift


def image(dtype: torch.dtype = torch.float32) -> Tensor:
    return noise(2, 4, 5, 3).to(dtype)


@pytest.mark.parametrize("parts", PARTS, ids=lambda p: "-".join("01"[q is not None] for q in p))
@pytest.mark.parametrize("is_last", [False, True], ids="channels_last={}".format)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_values(parts: tuple[Tensor | None, ...], is_last: bool, dtype: torch.dtype) -> None:
    order = torch.channels_last if is_last else torch.contiguous_format
    x = image(dtype).contiguous(memory_format=order)
    before, clamp = x.clone(), ChannelClamp(*parts)
    y = clamp(x)
    low, high, shift = (None if part is None else part.to(dtype) for part in parts)
    assert torch.equal(y, wanted(x, low, high, shift))
    assert y.dtype is dtype
    assert y.is_contiguous(memory_format=order)
    assert torch.equal(x, before)
    assert y.data_ptr() != x.data_ptr()


def test_nan_stays() -> None:
    x = torch.full((1, 4, 1, 1), float("nan"))
    assert ChannelClamp(LOW, HIGH, SHIFT)(x).isnan().all()


@pytest.mark.parametrize("parts", PARTS, ids=lambda p: "-".join("01"[q is not None] for q in p))
def test_gradients(parts: tuple[Tensor | None, ...]) -> None:
    x = image(torch.float64).requires_grad_()
    y = image(torch.float64).requires_grad_()
    (got,) = torch.autograd.grad(ChannelClamp(*parts).double()(x).square().sum(), x)
    (other,) = torch.autograd.grad(wanted(y, *parts).square().sum(), y)
    assert torch.allclose(got, other)


def test_a_bound_too_large_for_another_dtype() -> None:
    """It would become infinite, and make infinite what it is the bound of."""
    low = torch.tensor([1e6, -1e6, -INF, 1.0]).view(1, 4, 1, 1)
    clamp = ChannelClamp(low, None, low)
    for y in (copy.deepcopy(clamp).half()(image(torch.float16)), clamp(image(torch.float16))):
        assert y.dtype is torch.float16
        assert y[:, 0].isfinite().all()
        assert y[:, 1].isfinite().all()
    half = clamp.half().min
    assert half is not None
    assert half.flatten().tolist() == [32752.0, -32752.0, -INF, 1.0]


def test_under_autocast_it_keeps_the_dtype() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert ChannelClamp(LOW, HIGH)(image(torch.bfloat16)).dtype is torch.bfloat16


def test_it_is_copied_pickled_loaded_and_cast() -> None:
    clamp, x = ChannelClamp(LOW, HIGH, SHIFT), image()
    assert repr(clamp) == "ChannelClamp(min=(1, 4, 1, 1), max=(1, 4, 1, 1), shift=(1, 4, 1, 1))"
    for other in (copy.deepcopy(clamp), pickle.loads(pickle.dumps(clamp))):
        assert torch.equal(other(x), clamp(x))
    zeros = torch.zeros(1, 4, 1, 1)
    other = ChannelClamp(zeros, zeros.clone(), zeros.clone())
    other.load_state_dict(clamp.state_dict())
    assert torch.equal(other(x), clamp(x))
    assert torch.equal(clamp.double()(x.double()), wanted(x.double(), LOW, HIGH, SHIFT))


@pytest.mark.parametrize("parts", PARTS, ids=lambda p: "-".join("01"[q is not None] for q in p))
def test_it_is_exported(parts: tuple[Tensor | None, ...]) -> None:
    clamp, x = ChannelClamp(*parts), image()
    exported = torch.export.export(clamp, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
    assert torch.equal(exported.module()(image()[:1]), clamp(image()[:1]))
    operations = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert operations <= {
        "aten.maximum.default", "aten.minimum.default", "aten.add.Tensor",
    }  # fmt: skip
    torch.export.save(exported, io.BytesIO())


def test_traced_by_torch_fx() -> None:
    clamp = ChannelClamp(torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1), torch.ones(1, 2, 1, 1))
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.fx.symbolic_trace(torch.nn.Sequential(clamp))(x), clamp(x))
