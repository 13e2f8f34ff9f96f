"""What a conformance case is: a model, calls of it, and what has to become of its batch norms."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.zoo import randomize_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from torch import nn


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one call."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expect:
    """What has to become of the batch-norm call sites of a model.

    Attributes:
        gone: How many are folded or merged; None where the affine is written by hand, so that what
            counts is ``ops``.
        kept: The reason codes of the others, in any order.
        ops: How often an aten operation may run at most in a call of the optimized model.
    """

    gone: int | None
    kept: tuple[str, ...] = ()
    ops: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One pattern.

    Attributes:
        name: Which row or case of the collection it is.
        build: Makes the model, in eval mode, the same one at every call.
        inputs: Makes the positional arguments of a call, likewise.
        expect: What has to become of its batch norms.
        why: What a compiler gets wrong here, or why the outcome is what it is.
        cites: Upstream reports of the pattern.
        also_right: Outcomes that are as good.
        kwargs: Makes the keyword arguments that go with ``inputs``.
        more: Makes further calls that have to give, or raise, what the unfused model does.
        reach: Whether the fold needs the affine moved through another operation.
        sized: Whether the outcome is promised only where example inputs tell ranks and sizes.
        may_refuse: Whether calls other than a given example may raise AssumptionError.
        refused: Whether ``optimize`` has to refuse the model.
        once: Whether each call site runs exactly once in a call.
        by_reference: Whether a part refuses to be copied, and is kept as it is.
        watch: Attributes that have to agree with the unfused model's after the calls.
        around: Makes the context that the calls run in.
        grad_modes: The grad modes to call the model in.
        rtol: The largest deviation, relative to the largest value of an output.
        also: A further check, given the model and the optimized one.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    expect: Expect
    why: str
    cites: tuple[str, ...] = ()
    also_right: tuple[Expect, ...] = ()
    kwargs: Callable[[], dict[str, Any]] = dict
    more: Callable[[], tuple[Call, ...]] = tuple
    reach: bool = False
    sized: bool = False
    may_refuse: bool = False
    refused: bool = False
    once: bool = True
    by_reference: bool = False
    watch: tuple[str, ...] = ()
    around: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    grad_modes: tuple[bool, ...] = (False, True)
    rtol: float = 1e-9
    also: Callable[[nn.Module, nn.Module], None] | None = None

    @property
    def example(self) -> Call:
        """The call that the model is optimized for where example inputs are given."""
        return Call(self.inputs(), self.kwargs())


def case(
    name: str,
    make: Callable[[], nn.Module],
    inputs: Callable[[], tuple[Any, ...]],
    expect: Expect,
    why: str,
    *,
    then: Callable[[Any], object] = lambda _: None,
    dtype: torch.dtype = torch.float64,
    **rest: Any,
) -> Case:
    """Return a case whose model is made with fixed seeds.

    Args:
        name: See ``Case``, as for whatever else is given.
        make: Makes the model; its weights, dtype and mode are seen to here.
        inputs: See ``Case``.
        expect: See ``Case``.
        why: See ``Case``.
        then: What is done to the finished model.
        dtype: The dtype of the model.
        rest: The other attributes of ``Case``.
    """

    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = randomize_statistics(make().to(dtype=dtype)).eval()
            then(model)
        return model

    return Case(name=name, build=build, inputs=inputs, expect=expect, why=why, **rest)
