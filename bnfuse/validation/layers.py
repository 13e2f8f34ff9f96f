"""Deviations of what the layers compute, accumulated over several sets of inputs.

A layer of the candidate has the value of the layer of its name in the unfused model, or that of one
that was folded into it::

    unfused     x ── conv1 ── bn1 ── relu          conv1' is held against bn1
    candidate   x ── conv1' ──────── relu          conv1 has no counterpart

Which of them it is depends on the way the fold took, so it is told from the values themselves: the
closest one, RMS. Where an affine moved further than that, the values on its way exist no more: they
are scaled and shifted now, or those of merged layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import fx

from bnfuse.errors import RequestError
from bnfuse.report.report import report
from bnfuse.validation.compare import tolerance
from bnfuse.validation.result import LayerError
from bnfuse.validation.watching import Call, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from bnfuse.validation.inputs import Arguments
    from bnfuse.validation.reference import Reference
    from bnfuse.validation.runners import ModuleRun


@dataclass(slots=True)
class _Figures:
    """The largest figures of one call of a layer of the candidate so far."""

    counterpart: Call
    is_other: bool
    error: float = 0.0
    own: float = 0.0
    scale: float = 0.0


@dataclass(slots=True)
class LayerComparison:
    """Compares what layers compute, a set of inputs at a time.

    Attributes:
        reference: The unfused model.
        candidate: The optimized one.
        seed: The seed of the random numbers that a forward draws.
    """

    reference: Reference
    candidate: ModuleRun
    seed: int
    _folded: dict[str, list[str]] = field(default_factory=dict)
    _fused: dict[str, str] = field(default_factory=dict)
    _figures: dict[Call, _Figures] = field(default_factory=dict)
    _leaves: set[Call] = field(default_factory=set)
    _models: tuple[ModuleRun, ...] = ()

    def __post_init__(self) -> None:
        """Read what was folded into what."""
        self._models = (self.reference.exact.make(), self.reference.rounded.make())
        for name, into in _folds(self.candidate.module):
            self._folded.setdefault(into, []).append(name)
        self._fused = _fused(self.candidate.module)

    def add(self, arguments: Arguments) -> None:
        """Take in one set of inputs; the unfused model's values for it are held, in float64."""
        exact: dict[Call, Tensor] = {}
        own: dict[Call, float] = {}
        is_graph = isinstance(self.candidate.module, fx.GraphModule)  # which calls no containers

        def keep(call: Call, is_leaf: bool, value: Tensor) -> None:
            self._leaves |= {call} if is_leaf else set()
            if is_leaf or not is_graph:
                exact[call] = value.to(torch.float64, copy=True)

        def round_off(call: Call, _: bool, value: Tensor) -> None:
            if call in exact and exact[call].shape == value.shape:
                error = _largest(value.double() - exact[call])
                own[call] = error * self.reference.own_error_ratio

        def compare(call: Call, _: bool, value: Tensor) -> None:
            options = self._options(call)
            fitting = [c for c in options if c in own and exact[c].shape == value.shape]
            if fitting and value.numel():
                self._compare(call, value.double(), {c: (exact[c], own[c]) for c in fitting})

        exactly, rounding = self._models
        self._run(exactly, keep, arguments)
        self._run(rounding, round_off, arguments)
        self._run(self.candidate, compare, arguments)

    def outcome(self, *, is_equal: bool) -> tuple[tuple[LayerError, ...], int]:
        """Return a row for each call, in order, and how many values have none.

        Left out are those of layers that one of the models does not call; where the outputs are
        equal, those that differ, since they are other values; and else those of layers that more
        than one norm went into, and those that are scaled and shifted, if a later row agrees.

        Args:
            is_equal: Whether the outputs of the models are equal.
        """
        rows = {call: self._row(call, figures) for call, figures in self._figures.items()}
        last = max((n for n, row in enumerate(rows.values()) if row.passed), default=-1)
        shown = tuple(
            row
            for n, (call, row) in enumerate(rows.items())
            if row.passed or not (is_equal or (self._figures[call].is_other and n < last))
        )
        counterparts = {row.counterpart for row in shown}
        return shown, sum(str(call) not in counterparts for call in self._leaves)

    def _run(
        self, run: ModuleRun, sink: Callable[[Call, bool, Tensor], None], arguments: Arguments
    ) -> None:
        torch.manual_seed(self.seed)
        fused = self._fused if run is self.candidate else {}
        with watched(run.module, sink, fused):
            run(arguments)

    def _options(self, call: Call) -> list[Call]:
        """Return the calls in the unfused model whose value a call may have."""
        if call in self._figures:
            return [self._figures[call].counterpart]
        names = (call.layer, *self._folded.get(call.layer, ()))
        return [Call(name, call.number) for name in names]

    def _compare(
        self, call: Call, value: Tensor, options: dict[Call, tuple[Tensor, float]]
    ) -> None:
        """Hold a value against its counterpart, which the first set of inputs settles."""
        chosen = min(options, key=lambda c: float((value - options[c][0]).square().mean()))
        exact, own = options[chosen]
        scale = _largest(exact)
        if call not in self._figures:
            noise = tolerance(own, scale, self.reference.ulp)
            is_merged = len(self._folded.get(call.layer, ())) > 1
            is_other = differs_on_most(value, exact, noise) and any(
                is_rescaled(value, other, noise) for other, _ in options.values()
            )
            self._figures[call] = _Figures(chosen, is_merged or is_other)
        figures = self._figures[call]
        figures.error = max(figures.error, _largest(value - exact))
        figures.own = max(figures.own, own)
        figures.scale = max(figures.scale, scale)

    def _row(self, call: Call, figures: _Figures) -> LayerError:
        return LayerError(
            name=str(call),
            counterpart=str(figures.counterpart),
            max_abs_error=figures.error,
            scale=figures.scale,
            own_error=figures.own,
            tolerance=tolerance(figures.own, figures.scale, self.reference.ulp),
        )


def differs_on_most(value: Tensor, exact: Tensor, noise: float) -> bool:
    """Whether a value is another one on most of its channels, axis 1: no fault in one of them."""
    if value.ndim < 2:
        return False
    differs = (value - exact).transpose(0, 1).flatten(1).abs().amax(1) > noise
    return bool(2 * differs.sum() > len(differs))


def is_rescaled(value: Tensor, exact: Tensor, noise: float) -> bool:
    """Whether a value is another one, scaled and shifted channel by channel, on most channels.

    The factors are those of the least squares.

    Args:
        value: The value, in float64, with its channels on axis 1.
        exact: The other, of the same shape.
        noise: By how much equal values differ.
    """
    if value.ndim < 2:
        return False
    y, x = (tensor.transpose(0, 1).flatten(1) for tensor in (value, exact))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    spread = x.square().sum(1)
    scale = (x * y).sum(1) / spread.clamp(min=torch.finfo(torch.float64).tiny)
    rest = (y - scale[:, None] * x).abs().amax(1)
    is_affine = rest <= noise * scale.abs().clamp(min=1.0)
    return bool(2 * is_affine.sum() > len(is_affine))


def _folds(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield what was folded into what, for a module with a report."""
    try:
        made = report(module)
    except RequestError:
        return
    for row in made.folded + made.merged:
        yield from ((row.name, into) for into in (row.into or "").split(", ") if into)


def _fused(module: nn.Module) -> dict[str, str]:
    """Return the last layer that each fused one does the work of."""
    try:
        return {row.into: row.name for row in report(module).fused if row.into}
    except RequestError:
        return {}


def _largest(values: Tensor) -> float:
    finite = values[torch.isfinite(values)].abs()
    return float(finite.max()) if finite.numel() else 0.0
