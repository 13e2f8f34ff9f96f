"""What the bytecode of a forward tells."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import fx, nn

from bnfuse.capture import code as bytecode
from bnfuse.capture.code import codes_of, noting_code, untraceable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

COUNT = 0


def catches(x: Any) -> Any:
    try:
        return x.sum()
    except ValueError:
        return x


def catches_all(x: Any) -> Any:
    try:
        return x.sum()
    except:  # noqa: E722 - as users do
        return x


def cleans_up(x: Any) -> Any:
    try:
        return x.sum()
    finally:
        x.clear()


def uses_a_context(x: Any) -> Any:
    with torch.no_grad():
        return x.sum()


def asks_the_type(x: Any) -> Any:
    return x if type(x) is torch.Tensor else x[0]


def asks_its_own_type(self: Any) -> Any:
    return type(self) is nn.Module


def makes_one_like_itself(x: Any) -> Any:
    return type(x)(x.shape)


def counts(x: Any) -> Any:
    global COUNT
    COUNT += 1
    return x


def matches(x: Any) -> Any:
    match x:
        case {"a": v}:
            return v
        case _:
            return x


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (catches, "catches exceptions"),
        (catches_all, "catches exceptions"),
        (asks_the_type, "asks for the exact type of a value"),
        (counts, "sets a global"),
        (cleans_up, ""),
        (uses_a_context, ""),
        (asks_its_own_type, "asks whether two values are the same object"),
        (makes_one_like_itself, "asks for the exact type of a value"),
        (lambda x: {torch.Tensor: 2}.get(type(x), 3), "asks for the exact type of a value"),
        (lambda x: x.contiguous() is x, "asks whether two values are the same object"),
        (lambda x: x.dtype is torch.float32, "asks whether two values are the same object"),
        (lambda x: x is None, ""),
        (matches, "matches patterns"),
        (lambda x: [y for y in x if y], ""),
    ],
)
def test_what_a_trace_takes_no_notice_of(function: Callable[..., Any], what: str) -> None:
    assert untraceable(function.__code__) == what


@pytest.mark.parametrize(
    ("function", "tests"),
    [
        (lambda x: x is None, True),
        (lambda x: 1 if x is not None else 2, True),
        (lambda x: 1 if x else 2, False),
        (lambda x: x == 1, False),
    ],
)
def test_tests_for_none(function: Callable[..., Any], tests: bool) -> None:
    assert bytecode.tests_none(function.__code__) is tests


class Delegating(nn.Module):
    """Its forward calls another method, which makes a function."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._inner(x)

    def _inner(self, x: torch.Tensor) -> torch.Tensor:
        return (lambda y: y.relu())(x)

    def unrelated(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_methods_that_forward_names_are_followed() -> None:
    assert [code.co_name for code in codes_of(Delegating())] == ["forward", "_inner", "<lambda>"]


def test_pytorch_s_own_and_generated_forwards() -> None:
    assert codes_of(nn.Conv2d(1, 1, 1)) == ()
    graph = fx.symbolic_trace(nn.Sequential(nn.ReLU()))
    assert [code.co_name for code in codes_of(graph)] == ["forward"]


def test_code_that_runs_is_noted_and_the_profiler_put_back() -> None:
    run: set[Any] = set()
    with noting_code(run):
        makes_one_like_itself(torch.ones(1))
    assert makes_one_like_itself.__code__ in run
    catches(torch.ones(1))
    assert catches.__code__ not in run


def test_what_runs_when_garbage_is_collected_is_not_noted() -> None:
    """Libraries register such functions; one that sets a global is not the forward's doing."""
    run: set[CodeType] = set()
    seen: list[str] = []

    def collected(phase: str, _: dict[str, int]) -> None:
        seen.append(phase)

    gc.callbacks.append(collected)
    try:
        with noting_code(run):
            for _ in range(5000):
                cycle: list[object] = []
                cycle.append(cycle)
    finally:
        gc.callbacks.remove(collected)
    assert gc.isenabled()
    assert collected.__code__ not in run
