"""The map of a shift before zero padding: values, what is kept of it, and for how long."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.graph.border import BorderMap
from tests.support import noise

SIZES = [(5, 5), (3, 9), (5, 5), (12, 4)]


def wanted(border: BorderMap, *size: int, options: dict[str, Any] | None = None) -> torch.Tensor:
    """Return the map, computed at once."""
    ones = torch.ones(1, 1, *size, dtype=border.kernel.dtype)
    return F.conv2d(ones, border.kernel, **(options or {"padding": 1}))


def made(seed: int = 1) -> BorderMap:
    """Return a map with a kernel of noise."""
    return BorderMap(noise(3, 1, 3, 3, seed=seed), {"padding": 1})


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_the_convolution_of_ones(size: tuple[int, int]) -> None:
    border = made()
    for _ in range(2):
        assert torch.equal(border(noise(2, 7, *size)), wanted(border, *size))


def test_a_transposed_one() -> None:
    kernel, options = noise(1, 4, 3), {"stride": 2, "output_padding": 1}
    border = BorderMap(kernel, options, is_transposed=True)
    ones = torch.ones(1, 1, 6, dtype=torch.float64)
    result = F.conv_transpose1d(ones, kernel, None, 2, 0, 1)
    assert torch.equal(border(noise(2, 3, 6)), result)


def test_it_is_kept_for_eight_sizes() -> None:
    border, x = made(), noise(2, 3, 5, 5)
    first = border(x)
    assert border(-x) is first
    for size in range(1, 8):
        border(noise(1, 3, size, 20))
    assert border(x) is first
    border(noise(1, 3, 9, 20))
    assert border(x) is not first
    assert len(border._kept) == 8


def test_it_is_laid_out_as_the_value() -> None:
    border, x = made(), noise(2, 3, 5, 5)
    last = border(x.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert border(x).is_contiguous()
    assert torch.equal(border(x), last)
    assert border(x.contiguous(memory_format=torch.channels_last)) is last


def test_it_follows_its_kernel() -> None:
    border, x = made(), noise(2, 3, 5, 5)
    border(x)
    with torch.no_grad():
        border.kernel.mul_(2)
    assert torch.equal(border(x), wanted(border, 5, 5))
    border.load_state_dict(made(seed=5).state_dict())
    assert torch.equal(border(x), wanted(border, 5, 5))
    border.float()
    assert border(x).dtype is torch.float32
    assert torch.allclose(border(x), wanted(border, 5, 5))


def test_it_follows_a_new_kernel_at_the_place_of_one_that_is_gone() -> None:
    border, x = made(), noise(2, 3, 5, 5)
    for seed in range(40):
        border.load_state_dict({"kernel": noise(3, 1, 3, 3, seed=seed)}, assign=True)
        assert torch.equal(border(x), wanted(border, 5, 5))
    for seed in range(40):
        del border.kernel
        border.kernel = nn.Parameter(noise(3, 1, 3, 3, seed=seed), requires_grad=False)
        assert torch.equal(border(x), wanted(border, 5, 5))


def test_copies_leave_it_behind() -> None:
    border, x = made(), noise(2, 3, 5, 5)
    border(x)
    for other in (copy.deepcopy(border), copy.copy(border), pickle.loads(pickle.dumps(border))):
        assert other._kept == {}
        assert torch.equal(other(x), border(x))


def test_autocast_gives_it_the_dtype_of_the_convolution() -> None:
    border, x = made().float(), noise(2, 3, 5, 5).float()
    border(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert border(x).dtype is torch.bfloat16
        assert made()(x).dtype is torch.float64
    assert border(x).dtype is torch.float32


def test_inference_mode_and_gradients() -> None:
    border = made()
    x = noise(1, 3, 5, 5).requires_grad_()
    with torch.inference_mode():
        border(x)
    (border(x) + x).relu_().sum().backward()
    assert x.grad is not None


def test_other_sizes_after_export_and_trace() -> None:
    border, x = made(), noise(2, 3, 5, 5)
    sizes: Any = ({0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=2)},)
    exported = torch.export.export(border, (x,), dynamic_shapes=sizes).module()
    traced = torch.jit.trace(border, (x,))  # type: ignore[no-untyped-call]  # torch's
    for one in (exported, traced):
        assert torch.equal(one(noise(3, 3, 8, 5)), wanted(border, 8, 5))


def test_threads() -> None:
    border = made()
    failures: list[str] = []

    def run(start: int) -> None:
        try:
            for step in range(200):
                size = 3 + (7 * step + start) % 23
                if border(noise(1, 1, size, 4)).shape[2] != size:
                    failures.append("size")
        except Exception as error:
            failures.append(repr(error))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=run, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    assert failures == []
    assert len(border._kept) <= 12
