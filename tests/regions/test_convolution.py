"""Grouped convolutions tap by tap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.regions import convolution
from bnfuse.regions.convolution import AllGroupsAtOnce
from tests.support import noise

if TYPE_CHECKING:
    from collections.abc import Callable

OWN: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}

Call = tuple[int, tuple[torch.Tensor | None, ...], dict[str, Any]]


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what the way tap by tap gives, call by call, while a test runs."""
    found: list[Any] = []
    real: Callable[..., Any] = convolution._by_taps

    def noted(*args: Any, **kwargs: Any) -> Any:
        found.append(real(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr(convolution, "_by_taps", noted)
    return found


@st.composite
def calls(draw: Callable[..., Any]) -> Call:
    """Draw a convolution with more groups than taps, or not quite."""
    axes = draw(st.integers(1, 3))
    small = st.tuples(*[st.integers(1, 3)] * axes)
    kernel, stride, dilation = draw(small), draw(small), draw(small)
    padding = draw(st.one_of(st.integers(0, 2), st.tuples(*[st.integers(0, 2)] * axes)))
    groups = draw(st.sampled_from([1, 2, 5, 30]))
    inputs, outputs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    room = draw(st.integers(0, 2))
    sizes = [d * (k - 1) + 1 + room for d, k in zip(dilation, kernel, strict=True)]
    x = noise(2, groups * inputs, *sizes)
    weight = noise(groups * outputs, inputs, *kernel, seed=2)
    bias = noise(groups * outputs, seed=3) if draw(st.booleans()) else None
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return axes, (x, weight, bias), options


@settings(max_examples=60, deadline=None, derandomize=True)
@given(calls())
def test_equal_to_the_own_one(call: Call) -> None:
    axes, tensors, options = call
    wanted = OWN[axes](*tensors, **options)
    with AllGroupsAtOnce():
        got = OWN[axes](*tensors, **options)
    assert got.shape == wanted.shape
    assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("groups", "is_used"), [(10, True), (9, False), (1, False)])
def test_used_where_there_are_more_groups_than_taps(
    groups: int, is_used: bool, results: list[Any]
) -> None:
    x, weight = noise(1, 90, 5, 4), noise(90, 90 // groups, 3, 3)
    with AllGroupsAtOnce():
        F.conv2d(x, weight, groups=groups)
        torch.conv2d(input=x, weight=weight, groups=groups)
        layer = torch.nn.Conv2d(90, 90, 3, groups=groups).double()
        layer(x)
    assert [found is not None for found in results] == [is_used] * 3
    F.conv2d(x, weight, groups=groups)
    assert len(results) == 3  # and only while it is entered


def test_other_functions_are_run_as_they_are(results: list[Any]) -> None:
    with AllGroupsAtOnce():
        got = F.conv_transpose2d(noise(1, 4, 3, 3), noise(4, 1, 2, 2), groups=4) + F.relu(noise(1))
    assert got.shape == (1, 4, 4, 4)
    assert results == []


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name_is_left_to_pytorch(padding: str, results: list[Any]) -> None:
    x, weight = noise(1, 12, 5, 4), noise(12, 1, 3, 3)
    with AllGroupsAtOnce():
        got = F.conv2d(x, weight, padding=padding, groups=12)
    assert torch.equal(got, F.conv2d(x, weight, padding=padding, groups=12))
    assert results[0] is None


def test_a_value_without_a_batch_axis_is_left_to_pytorch(results: list[Any]) -> None:
    x, weight = noise(12, 5, 4), noise(12, 1, 3, 3)
    with AllGroupsAtOnce():
        got = F.conv2d(x, weight, groups=12)
    assert torch.equal(got, F.conv2d(x, weight, groups=12))
    assert results[0] is None


X, W = noise(2, 20, 5, 4), noise(20, 1, 3, 3)
BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "channels": ((X[:, :19], W), {}),
    "too small": ((X[:, :, :2], W), {}),
    "rank": ((X[0, 0], W), {}),
    "one bias for all": ((X, W, noise(1)), {}),
    "a bias too many": ((X, W, noise(21)), {}),
    "outputs no multiple of the groups": ((X, noise(21, 1, 3, 3)), {}),
    "dtypes": ((X, W.float()), {}),
    "negative padding": ((X, W), {"padding": -1}),
    "no stride": ((X, W), {"stride": 0}),
    "too many strides": ((X, W), {"stride": (1, 1, 1)}),
}


@pytest.mark.parametrize("case", BAD.values(), ids=list(BAD))
def test_what_pytorch_refuses_is_refused(case: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    tensors, options = case
    with pytest.raises((RuntimeError, ValueError)):
        OWN[2](*tensors, groups=20, **options)
    with AllGroupsAtOnce(), pytest.raises((RuntimeError, ValueError, ZeroDivisionError)):
        OWN[2](*tensors, groups=20, **options)
