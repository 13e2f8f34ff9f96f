"""What is made for one shape: sizes, and sums of other shapes and dtypes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.kernels import Activation
from bnfuse.kernels.onednn_calls import Geometry
from bnfuse.kernels.runners import output_shape
from tests.kernels.support import ACTIVATIONS, Case, drawn, error, fused, layer

pytestmark = pytest.mark.usefixtures("onednn_call")
GEOMETRY = Geometry((1, 2), (2, 1), (1, 2), 2)


def test_output_shape_is_that_of_the_operator() -> None:
    for size in ((1, 8, 11, 9), (3, 8, 4, 12)):
        x, weight = drawn(*size), drawn(6, 4, 3, 3)
        wanted = F.conv2d(x, weight, None, (2, 1), (1, 2), (1, 2), 2).shape
        assert output_shape(x.shape, weight.shape, GEOMETRY) == wanted


def test_output_shape_of_signals() -> None:
    wanted = F.conv1d(drawn(2, 8, 31), drawn(6, 4, 3), None, 2, 5, 3, 2).shape
    geometry = Geometry((5,), (2,), (3,), 2)
    assert output_shape(torch.Size([2, 8, 31]), torch.Size([6, 4, 3]), geometry) == wanted
    for size in ((8, 31), (2, 8, 0), (2, 7, 31), (2, 8, 31, 1)):
        assert output_shape(torch.Size(size), torch.Size([6, 4, 3]), geometry) is None


@pytest.mark.parametrize(
    "size", [(8, 11, 9), (1, 7, 11, 9), (0, 8, 11, 9), (1, 8, 11, 0), (1, 8, 0, 9)]
)
def test_inputs_that_are_not_taken(size: tuple[int, ...]) -> None:
    assert output_shape(torch.Size(size), torch.Size([6, 4, 3, 3]), GEOMETRY) is None


@pytest.mark.parametrize(
    "changed", [{"padding": (-1, 0)}, {"stride": (0, 1)}, {"dilation": (1, 0)}, {"groups": 4}]
)
def test_geometries_that_are_not_taken(changed: dict[str, Any]) -> None:
    geometry, weight = GEOMETRY._replace(**changed), torch.Size([6, 4, 1, 1])
    assert output_shape(torch.Size([1, 4 * geometry.groups, 11, 9]), weight, geometry) is None


def test_results_that_meet_nothing_of_the_input_are_those_of_the_operator() -> None:
    # oneDNN in torch 2.14.1 crashes for this one, its input channels last
    options = {"stride": (3, 2), "padding": (0, 3), "dilation": (1, 3), "groups": 2}
    plain, x = layer(nn.Conv2d, 12, 64, (2, 1), **options), drawn(5, 12, 8, 1)
    geometry = Geometry((0, 3), (3, 2), (1, 3), 2)
    assert output_shape(x.shape, plain.weight.shape, geometry) is None
    made = fused(plain, "", Activation("relu"))
    assert error(made(x), plain(x).relu()) == 0.0


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS], ids=str)
@pytest.mark.parametrize("binary", ["", "add", "mul"])
def test_convolution(case: Case, groups: int, activation: Activation | None, binary: str) -> None:
    plain, x, other = case.conv(groups=groups), *(torch.cat([v, -v]) for v in (case.x, case.other))
    made = fused(plain, binary, activation)
    others = (other,) if binary else ()
    assert error(made(x, *others), made.epilogue.plain(plain(x), others)) < 2e-6
    assert case.is_last(made(x, *others))


@pytest.mark.parametrize("binary", ["add", "iadd", "mul"])
def test_operands_of_other_shapes_and_dtypes(case: Case, binary: str) -> None:
    plain, x = case.conv(), case.x
    made = fused(plain, binary, Activation("relu"))
    for other in (drawn(1, 8, *(1,) * case.axes), case.other[0], case.other.double()):
        assert error(made(x, other), made.epilogue.plain(plain(x), (other,))) < 1e-6


def test_operand_that_grows_the_result(case: Case) -> None:
    made, x, other = fused(case.conv(), "add"), case.x, drawn(3, *case.x.shape[1:])
    assert error(made(x, other), case.conv()(x) + other) < 1e-6


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS], ids=str)
@pytest.mark.parametrize("binary", ["", "add"])
def test_linear(activation: Activation | None, binary: str) -> None:
    plain = layer(torch.nn.Linear, 64, 48)
    x, others = drawn(4, 30, 64), (drawn(4, 30, 48, seed=1),) if binary else ()
    made = fused(plain, binary, activation)
    assert error(made(x, *others), made.epilogue.plain(plain(x), others)) < 2e-6
