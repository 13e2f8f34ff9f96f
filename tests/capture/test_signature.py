"""Which calls a graph stands for."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bnfuse.capture.signature import Assumptions, parameters_of
from bnfuse.capture.watch import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable


def assumptions(forward: Callable[..., Any], *tensors: str) -> Assumptions:
    """Return what a graph of a forward assumes."""
    signature = inspect.signature(forward)
    rest = list(signature.parameters.values())[1:]
    return Assumptions(
        signature.replace(parameters=rest), parameters_of(forward), frozenset(tensors)
    )


def plain(self: object, x: object, y: object) -> None: ...


def optional(
    self: object, x: object, size: int = 2, *rest: object, mode: str | None = None, **more: object
) -> None: ...


def keyword(self: object, x: object, *, y: object) -> None: ...


def test_a_forward_without_options_is_always_stood_for() -> None:
    assert assumptions(plain).hold_always
    assert assumptions(keyword).hold_always
    assert not assumptions(optional).hold_always
    assert not assumptions(plain, "x").hold_always


@pytest.mark.parametrize(
    ("args", "kwargs", "given"),
    [
        ((1,), {}, [1]),
        ((), {"x": 1}, [1]),
        ((1, 2), {}, [1]),
        ((1,), {"size": 2, "mode": None}, [1]),
        ((1, 3), {}, None),
        ((1, 2.0), {}, None),
        ((1, True), {}, None),
        ((1,), {"mode": "sum"}, None),
        ((1, 2, 3), {}, None),
        ((1,), {"other": None}, None),
    ],
)
def test_optional_arguments_at_their_defaults(
    args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Any] | None
) -> None:
    assert assumptions(optional).graph_arguments(args, kwargs) == given


def test_arguments_come_in_the_order_of_the_graph() -> None:
    assert assumptions(plain).graph_arguments((), {"y": 2, "x": 1}) == [1, 2]
    assert assumptions(keyword).graph_arguments((1,), {"y": 2}) == [1, 2]


def test_what_has_to_be_a_tensor() -> None:
    x = torch.ones(1)
    assert assumptions(plain, "x").graph_arguments((x, 2), {}) == [x, 2]
    assert assumptions(plain, "x").graph_arguments(([x], 2), {}) is None


def test_a_call_that_python_refuses_is_refused() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'y'"):
        assumptions(plain).graph_arguments((1,), {})


def test_a_forward_without_required_arguments_is_an_obstacle() -> None:
    with pytest.raises(CaptureError, match=r"^no argument of its forward is required$"):
        parameters_of(lambda self, *args: None)
