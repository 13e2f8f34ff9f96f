"""Each layer that oneDNN's own interface runs, against PyTorch's operators."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bnfuse.kernels import Activation
from bnfuse.kernels.channels_last import FORMATS, strides_of
from bnfuse.kernels.direct import Direct
from bnfuse.kernels.probe import onednn
from tests.kernels.support import (
    ACTIVATIONS,
    conv,
    drawn,
    error,
    fused,
    kernels_of,
    layer,
    needs_library,
)

pytestmark = needs_library
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "plain": (conv(), (2, 8, 20, 20)),
    "no-bias": (conv(bias=False, stride=2), (1, 8, 21, 20)),
    "groups": (layer(nn.Conv2d, 32, 64, 3, groups=2), (1, 32, 20, 20)),
    "depthwise": (layer(nn.Conv2d, 32, 32, 5, 1, 2, groups=32), (2, 32, 20, 20)),
    "dilated": (conv(dilation=2), (1, 8, 20, 20)),
    "pointwise": (layer(nn.Conv2d, 16, 40, 1), (1, 16, 20, 20)),
    "pixel": (layer(nn.Conv2d, 160, 64, 1), (2, 160, 1, 1)),
    "stem": (layer(nn.Conv2d, 3, 16, 3, 2, 1), (1, 3, 40, 40)),
    "3d": (layer(nn.Conv3d, 4, 8, 3, padding=1), (1, 4, 9, 10, 11)),
    "signal": (layer(nn.Conv1d, 16, 32, 5, 2, 2), (2, 16, 101)),
    "signal-groups": (layer(nn.Conv1d, 32, 64, 3, 1, 4, 2, 2), (1, 32, 100)),
    "signal-depthwise": (layer(nn.Conv1d, 32, 32, 25, 1, 12, groups=32), (2, 32, 100)),
    "transposed": (layer(nn.ConvTranspose2d, 8, 16, 4, 2, 1), (2, 8, 15, 14)),
    "linear": (layer(nn.Linear, 64, 96), (3, 40, 64)),
    "row": (layer(nn.Linear, 256, 96), (1, 256)),
}


def kernel_of(made: Any) -> Any:
    (kernel,) = kernels_of(made).values()
    return kernel


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("binary", ["", "add", "mul"])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS], ids=str)
def test_layers(name: str, binary: str, activation: Activation | None) -> None:
    plain, shape = LAYERS[name]
    made, x = fused(plain, binary, activation), drawn(*shape)
    alone = plain(x)
    others = (drawn(*alone.shape, seed=1),) if binary else ()
    assert error(made(x, *others), made.epilogue.plain(alone, others)) < TOLERANCES[x.dtype]
    assert isinstance(kernel_of(made), Direct)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    if dtype not in onednn().dtypes:
        pytest.skip(f"this processor has no {dtype}")
    plain, shape = LAYERS[name]
    x = drawn(*shape, dtype=dtype)
    made = fused(plain, "", Activation("hardswish")).to(dtype)
    wanted = made.epilogue.plain(made.alone(x), ())
    assert error(made(x), wanted) < TOLERANCES[dtype]
    made.float()


def test_results_are_laid_out_as_pytorchs_kernel_does() -> None:
    for plain, shape in LAYERS.values():
        made, x = fused(plain), drawn(*shape)
        result, is_linear = made(x), isinstance(plain, nn.Linear)
        last = torch.contiguous_format if is_linear else FORMATS[x.ndim]
        assert result.stride() == strides_of(result.shape, last)


def test_what_it_has_no_kernel_for_is_left_to_pytorch() -> None:
    plain = layer(nn.Conv2d, 6, 9, 3, groups=3)
    made, x = fused(plain), drawn(1, 6, 30, 30)
    assert error(made(x), plain(x)) < 1e-6
