"""Check rewrites as they are made."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bnfuse.capture.capture import ONE_AT_A_TIME
from bnfuse.regions.compare import difference
from bnfuse.regions.evaluate import Evaluator
from bnfuse.regions.inputs import Habit, drawn, guessed_inputs
from bnfuse.regions.observe import observed
from bnfuse.regions.region import Region, other_reader, region_of, successor
from bnfuse.regions.rounding import NONE, Rounding, rounding_of
from bnfuse.regions.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, fx

    from bnfuse.graph import Program
    from bnfuse.passes.base import Match
    from bnfuse.validation.inputs import Arguments


class RewriteKey(NamedTuple):
    """Which rewrite: the part of the model, the pass and the call site."""

    part: str
    by: str
    site: str


class BrokenRewriteError(Exception):
    """A rewrite raised; the graph it was about is of no more use."""

    def __init__(self, key: RewriteKey, error: Exception) -> None:
        super().__init__(f"{key.by} at {key.site}: {type(error).__name__}: {error}")
        self.key = key


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """A region before its rewrite, with its values for some inputs.

    Attributes:
        region: The region.
        inputs: The inputs.
        values: Its outputs for them.
        rounding: What rounding may do to them, where that is in question.
        evaluator: What ran it.
    """

    region: Region
    inputs: dict[fx.Node, Tensor]
    values: tuple[Any, ...]
    rounding: Rounding
    evaluator: Evaluator


@dataclass(slots=True)
class RewriteChecks:
    """What is known about the rewrites of one model.

    Attributes:
        refused: Rewrites that are not to be made, and why.
        only: The rewrites that are to be made; None for all others.
        is_on: Whether to check those that are made.
        made: Those that were made, in order, with their largest relative error; None for those that
            were not checked.
        suspects: Those whose error is to be held against what rounding does to the region: it is
            run once more for that.
        failed: Those that were made and are wrong, and how it shows.
        seconds: How long checking took.
    """

    refused: dict[RewriteKey, str] = field(default_factory=dict)
    only: frozenset[RewriteKey] | None = None
    suspects: frozenset[RewriteKey] = frozenset()
    is_on: bool = True
    made: dict[RewriteKey, float | None] = field(default_factory=dict)
    failed: dict[RewriteKey, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(slots=True)
class PartChecks:
    """Checks the rewrites of one part of a model.

    Attributes:
        checks: Where the outcomes go.
        part: The path of the part.
        example: Returns the arguments of a call of the part, where there are any.
    """

    checks: RewriteChecks
    part: str
    example: Callable[[], Arguments | None]
    _seen: dict[fx.Node, tuple[tuple[int, ...], torch.dtype]] | None = None
    _scratch: Scratch = field(default_factory=Scratch)
    _habit: Habit = field(default_factory=Habit)

    def before(
        self, program: Program, match: Match, key: RewriteKey, *, is_exact: bool = True
    ) -> Before | None:
        """Run a region that is going to be rewritten, on the first inputs that it takes.

        Args:
            program: The program.
            match: What the rewrite is about.
            key: Which rewrite.
            is_exact: Whether to compute in float64, not in the dtypes of the model.

        Returns:
            The region with what it computes, or nothing of it where checks are off or no value is
            changed; None where no inputs were found.
        """
        evaluator = Evaluator(program, is_exact=is_exact, scratch=self._scratch)
        if not self.checks.is_on or not match.nodes:
            return Before(Region((), (), ()), {}, (), NONE, evaluator)
        start = time.perf_counter()
        region = region_of(match.nodes)
        program.replacements.forget()
        program.index.placed.clear()
        found = None
        with ONE_AT_A_TIME, torch.no_grad(), torch.random.fork_rng(devices=[]):
            self._scratch.clear()
            for inputs in self._inputs(program, region):
                torch.default_generator.manual_seed(0)  # that of the CPU, where all is run
                try:
                    values = evaluator.run(region.nodes, cloned(inputs))
                except Exception:
                    continue  # they do not fit; the next ones may
                if any(values[n].ndim != rank for n, rank in match.ranks if n in values):
                    continue  # a guard would refuse them
                self._habit.keep()
                is_suspect = key in self.checks.suspects
                rounding = rounding_of(program, region, inputs, values) if is_suspect else NONE
                found = Before(region, inputs, region.outputs_in(values), rounding, evaluator)
                break
        self.checks.seconds += time.perf_counter() - start
        return found

    def after(self, program: Program, before: Before, key: RewriteKey) -> float | None:
        """Run what stands in the place of a region now, and return how far it is from what stood.

        Returns:
            The largest relative error; None where it was not measured.
        """
        self.checks.made[key] = None
        if not self.checks.is_on:
            return None
        start = time.perf_counter()
        with ONE_AT_A_TIME, torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            error, complaint = _outcome(program, before)
        self.checks.made[key] = error
        if complaint:
            self.checks.failed[key] = complaint
        self.checks.seconds += time.perf_counter() - start
        return error

    def key(self, by: str, site: str) -> RewriteKey:
        """Return what names a rewrite of this part."""
        return RewriteKey(self.part, by, site)

    def refusal(self, key: RewriteKey) -> str | None:
        """Return why a rewrite is not to be made, or None."""
        if self.checks.only is not None and key not in self.checks.only:
            return "left out for a trial"
        return self.checks.refused.get(key)

    def broken(self, key: RewriteKey, error: Exception) -> str:
        """Return what is wrong with a rewrite that raised, where that is known.

        Raises:
            BrokenRewriteError: It is not known yet.
        """
        if key in self.checks.refused:
            return self.checks.refused[key]
        raise BrokenRewriteError(key, error) from error

    def _inputs(self, program: Program, region: Region) -> Iterator[dict[fx.Node, Tensor]]:
        """Yield inputs of guessed shapes, then of the shapes in one call of the whole part."""
        generator = torch.Generator().manual_seed(0)
        yield from guessed_inputs(program, region, generator, self._habit)
        if self._seen is None or any(node not in self._seen for node in region.inputs):
            self._seen = observed(program, self.example())
        if all(node in self._seen for node in region.inputs):
            yield {node: _like(*self._seen[node], generator) for node in region.inputs}


def _like(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if dtype.is_floating_point:
        return drawn(shape, generator)
    return torch.randint(0, 2, shape, generator=generator, device="cpu").to(dtype)


def _outcome(program: Program, before: Before) -> tuple[float | None, str]:
    """Return the largest relative error of a rewrite, and what is wrong with it, if anything."""
    now = successor(program, before.region)
    if now is None:
        return None, "it reads values that it did not read before"
    if not before.region.outputs:
        return 0.0, ""  # nothing reads what was rewritten
    if other := other_reader(program, before.region, now):
        return None, f"it changes what {other.name} computes as well"
    before.evaluator.again(now.nodes)
    try:
        values = before.evaluator.run(now.nodes, cloned(before.inputs))
    except Exception as error:
        return None, f"it cannot run any more ({type(error).__name__})"
    return difference(before.values, now.outputs_in(values), before.rounding)


def cloned(inputs: dict[fx.Node, Tensor]) -> dict[fx.Node, Any]:
    """Return copies of inputs, since an operation may write them."""
    return {node: tensor.clone() for node, tensor in inputs.items()}
