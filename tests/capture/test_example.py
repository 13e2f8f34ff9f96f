"""The form of a call."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from bnfuse.capture.example import CallForm, ExampleAssumptions
from bnfuse.capture.watch import CaptureError
from tests.support import noise

X = noise(2, 3)


class Sub(torch.Tensor):
    """A kind of tensor of its own."""


class Word(str):
    """A kind of text of its own."""

    __slots__ = ()


def labelled() -> torch.Tensor:
    """Return a tensor with an attribute of its own."""
    tensor = noise(2, 3)
    tensor.label = 3  # type: ignore[attr-defined]  # Python lets it
    return tensor


def form_of(*args: Any) -> CallForm:
    """Return the form of a call without keywords."""
    return CallForm.of(args, {})


@pytest.mark.parametrize(
    ("example", "other"),
    [
        (X, noise(2, 3, seed=5)),
        (X, torch.empty(0, 3, dtype=torch.float64).new_zeros(2, 3)),
        ([X, (X + 1, None)], [X + 2, (X + 3, None)]),
        ({"a": X, "b": 1}, {"a": X + 1, "b": 1}),
        (0.5, 0.5), (math.nan, math.nan), ("a", "a"), (None, None), (torch.int8, torch.int8),
        (torch.device("cpu"), torch.device("cpu")), (torch.Size([2]), torch.Size([2])),
    ],
    ids=str,
)  # fmt: skip
def test_calls_of_the_form(example: Any, other: Any) -> None:
    leaves = form_of(example).leaves_of((other,), {})
    assert leaves == pytree.tree_leaves(other) or leaves is not None
    assert form_of(example).leaves_of((other, 1), {}) is None
    assert form_of(example).leaves_of((), {"x": other}) is None


@pytest.mark.parametrize(
    ("example", "other"),
    [
        (X, noise(3, 3)), (X, X.float()), (X, X.mT.contiguous().mT), (X, noise(3, 3)[1:]),
        (X, X.to("meta")), (X, X.to_sparse()), (X, X.clone().requires_grad_()),
        (X, nn.Parameter(X, requires_grad=False)), (X, X.clone().as_subclass(Sub)),
        (X, labelled()), (X, X.to(torch.complex64).conj()), (X, torch._neg_view(X)),
        (X, None), (X, [X]), (X, 1.0), (1, True), (1, 1.0), (True, 1), (0.0, -0.0), (1.0, 2.0),
        ("a", "b"), ("a", Word("a")), (None, False), ((X,), [X]), ([X], [X, X]),
        ({"a": X}, {"b": X}), ({"a": X, "b": X}, {"b": X, "a": X}), (torch.int8, torch.int16),
        (torch.Size([2]), torch.Size([3])), (torch.Size([2]), (2,)), (1, len), (1, slice(1)),
    ],
    ids=str,
)  # fmt: skip
def test_calls_of_another_form(example: Any, other: Any) -> None:
    assert form_of(example).leaves_of((other,), {}) is None


def test_which_arguments_are_one_tensor() -> None:
    y = X + 1
    assert form_of(X, y).leaves_of((y, X), {}) == [y, X]
    assert form_of(X, y).leaves_of((X, X), {}) is None
    assert form_of(X, X).leaves_of((y, y), {}) == [y, y]
    assert form_of(X, X).leaves_of((X, y), {}) is None


@pytest.mark.parametrize(
    "leaf",
    [
        len, slice(1), {1}, object(), nn.ReLU(), Word("a"), 1j, X.to_sparse(), labelled(),
        X.clone().requires_grad_(), nn.Parameter(X), X.clone().as_subclass(Sub),
    ],
    ids=lambda leaf: type(leaf).__name__,
)  # fmt: skip
def test_what_has_more_to_it_than_a_form_tells(leaf: Any) -> None:
    with pytest.raises(CaptureError, match="neither a plain tensor nor a plain value"):
        form_of(X, [leaf])


def function(
    x: torch.Tensor, scale: float = 2.0, *more: int, flag: bool = False, **rest: int
) -> None:
    """Has every kind of argument."""


def assumptions() -> ExampleAssumptions:
    """Return those of a call with everything at its default."""
    signature = inspect.signature(function)
    bound = signature.bind(X)
    bound.apply_defaults()
    outputs = pytree.tree_structure({"a": X, "b": (X, None)})
    return ExampleAssumptions(signature, CallForm.of(bound.args, bound.kwargs), outputs)


@pytest.mark.parametrize(
    ("args", "kwargs", "holds"),
    [
        ((X,), {}, True),
        ((), {"x": X}, True),
        ((X, 2.0), {"flag": False}, True),
        ((X,), {"scale": 2.0}, True),
        ((X,), {"flag": True}, False),
        ((X, 2), {}, False),
        ((X, 2.0, 1), {}, False),
        ((X,), {"rest": 1}, False),
    ],
)
def test_arguments_are_bound(args: Any, kwargs: Any, holds: bool) -> None:
    assert (assumptions().graph_arguments(args, kwargs) is not None) is holds


def test_a_call_that_python_refuses() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        assumptions().graph_arguments((), {})


@pytest.mark.parametrize("way", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_they_travel(way: Any) -> None:
    travelled: ExampleAssumptions = way(assumptions())
    assert travelled.graph_arguments((X + 1,), {}) is not None
    assert travelled.graph_arguments((X[:1],), {}) is None
    assert travelled.result([1, 2, None]) == {"a": 1, "b": (2, None)}
    assert travelled.hold_for_one_shape
    assert not travelled.hold_always
