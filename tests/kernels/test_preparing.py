"""Each computation that can be prepared, on bare addresses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.kernels import Activation, Epilogue, preparing
from bnfuse.kernels.onednn_calls import Geometry
from bnfuse.kernels.prepared import Layout, Prepared, Problem, Weights
from tests.kernels.support import LIBRARY, drawn, error, needs_library

pytestmark = needs_library
RELU = Activation("relu")
LAST = torch.channels_last


def result_of(
    made: Prepared, x: Tensor, wanted: Tensor, bias: Tensor | None, other: Tensor | None = None
) -> Tensor:
    y = torch.full_like(wanted, torch.nan)
    places = [None if value is None else value.data_ptr() for value in (bias, other)]
    made(x.data_ptr(), y.data_ptr(), *places)
    return y


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("binary", ["", "add", "imul"])
def test_convolution(binary: str, *, has_bias: bool) -> None:
    assert LIBRARY is not None
    x, weight = drawn(2, 16, 11, 9).to(memory_format=LAST), drawn(32, 8, 3, 3)
    bias, geometry = drawn(32) if has_bias else None, Geometry((1, 2), (2, 1), (1, 2), 2)
    wanted = F.conv2d(x, weight, bias, (2, 1), (1, 2), (1, 2), 2).contiguous(memory_format=LAST)
    other = drawn(*wanted.shape).to(memory_format=LAST) if binary else None
    epilogue = Epilogue(binary, RELU)
    problem = Problem(
        Layout.of(x), Layout.of(wanted), weight.view(2, 16, 8, 3, 3), has_bias, epilogue
    )
    made = preparing.convolution(LIBRARY, problem, geometry, Weights())
    others = () if other is None else (other,)
    wanted = epilogue.plain(wanted, others)
    assert error(result_of(made, x, wanted, bias, other), wanted) < 1e-6


def test_transposed() -> None:
    assert LIBRARY is not None
    x, weight, bias = drawn(2, 16, 7, 6).to(memory_format=LAST), drawn(16, 24, 3, 3), drawn(24)
    wanted = F.conv_transpose2d(x, weight, bias, 2, 1, 1).contiguous(memory_format=LAST)
    problem = Problem(
        Layout.of(x), Layout.of(wanted), weight.transpose(0, 1), True, Epilogue("", RELU)
    )
    geometry = Geometry((1, 1), (2, 2), (1, 1), 1)
    made = preparing.transposed(LIBRARY, problem, geometry, (1, 1), Weights())
    assert error(result_of(made, x, wanted, bias), wanted.relu()) < 1e-6


@pytest.mark.parametrize("rows", [1, 5, 64])
@pytest.mark.parametrize("has_bias", [True, False])
def test_product(rows: int, *, has_bias: bool) -> None:
    assert LIBRARY is not None
    x, weight, bias = drawn(rows, 48), drawn(40, 48), drawn(40) if has_bias else None
    wanted, other = F.linear(x, weight, bias), drawn(rows, 40)
    problem = Problem(Layout.of(x), Layout.of(wanted), weight.t(), has_bias, Epilogue("add", RELU))
    made = preparing.product(LIBRARY, problem, Weights())
    wanted = (wanted + other).relu()
    assert error(result_of(made, x, wanted, bias, other), wanted) < 1e-6
