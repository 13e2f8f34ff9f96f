"""What follows from a graph about its values, found out when it is first asked for.

The modules that find it out read the graph through ``Program``; they are imported where they run.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import fx

    from bnfuse.graph.aliases import WrittenValues
    from bnfuse.graph.program import Program
    from bnfuse.ops.calls import Call
    from bnfuse.ops.dtypes import PossibleDtypes
    from bnfuse.ops.layouts import Formats
    from bnfuse.ops.shapes import Shapes
    from bnfuse.ops.stated import StatedRanks


FOUND = (
    "shapes", "stated_ranks", "batched_shapes", "formats", "dtypes", "written_values", "lost_writes"
)  # fmt: skip


class Findings:
    """What is known about the values that were there when it was last forgotten.

    Attributes:
        readings: How nodes are read as calls, for those that were read since anything was edited;
            None where whoever edits might not say so.
        is_edited: Whether anything was edited since all was forgotten.
    """

    readings: dict[fx.Node, Call | None] | None = None
    is_edited = False

    def forget(self) -> None:
        """Forget everything, since the graph has changed."""
        for name in FOUND:
            self.__dict__.pop(name, None)
        self._readings: dict[fx.Node, Call | None] = {}
        self.is_edited = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Remember how nodes are read, while all edits are made in ``editing``."""
        self.readings = self._readings
        try:
            yield
        finally:
            self.readings = None

    @contextmanager
    def editing(self) -> Iterator[None]:
        """Forget how nodes were read, and remember nothing until the edit is done."""
        self.is_edited = True
        self.readings, self._readings = None, {}
        try:
            yield
        finally:
            self.readings = self._readings

    @property
    def _program(self) -> Program:
        return cast("Program", self)

    @cached_property
    def shapes(self) -> Shapes:
        """What is proven about the shapes of the values."""
        from bnfuse.ops.shapes import Shapes

        return Shapes(self._program)

    @cached_property
    def stated_ranks(self) -> StatedRanks:
        """Where the model, or a guard, first states the rank of a value."""
        from bnfuse.ops.stated import StatedRanks

        return StatedRanks(self._program)

    @cached_property
    def batched_shapes(self) -> Shapes:
        """What follows as well where all convolutions are given batches, which is not proven."""
        from bnfuse.ops.shapes import Shapes

        proven = self.shapes
        return proven if proven.ranks.are_batched else Shapes(self._program, batched=True)

    @cached_property
    def formats(self) -> Formats:
        """Which values are laid out in memory as the result of a batch norm is."""
        from bnfuse.ops.layouts import Formats

        return Formats(self._program)

    @cached_property
    def dtypes(self) -> PossibleDtypes:
        """Which dtypes the values may have."""
        from bnfuse.ops.dtypes import PossibleDtypes

        return PossibleDtypes(self._program)

    @cached_property
    def written_values(self) -> WrittenValues:
        """The values that an in-place operation may write."""
        from bnfuse.graph.aliases import WrittenValues
        from bnfuse.ops.fresh import makes_new, may_write

        program = self._program
        return WrittenValues(
            program.graph, partial(makes_new, program), partial(may_write, program)
        )

    @cached_property
    def lost_writes(self) -> tuple[fx.Node, ...]:
        """The values written after what may be a copy of them was taken, as they are laid out."""
        from bnfuse.moves.strides import loses_a_write, returns_own
        from bnfuse.ops.fresh import may_write

        program, nodes = self._program, self._program.graph.nodes
        if not any(may_write(program, node) for node in nodes):
            return ()
        return tuple(n for n in nodes if returns_own(program, n) and loses_a_write(program, n))
