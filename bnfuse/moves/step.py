"""One step of an affine on its way through a graph, and what such steps leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfuse.report import decline

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, dtype, fx

    from bnfuse.affine import Affine, Bounds
    from bnfuse.graph import Program
    from bnfuse.ops import Call
    from bnfuse.ops.shapes import Shapes
    from bnfuse.report import Decline


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """New tensors for one call site.

    Attributes:
        call: The call site.
        weight: Its new weight, float64.
        bias: Its new bias, float64, or None where it needs none.
        border: The kernel of the map to add to its result, see ``bnfuse.graph.border``, or None.
    """

    call: Call
    weight: Tensor
    bias: Tensor | None
    border: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Clamp:
    """New bounds for one call site of a clamp or a rectifier.

    Attributes:
        call: The call site.
        bounds: What its value is kept between from now on.
    """

    call: Call
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Moved:
    """What becomes of an affine at one operation.

    Attributes:
        onward: The values it acts on next, with its new coefficients: inputs of the operation on
            the way up, its result on the way down. None of them where it is absorbed.
        edits: New tensors for the operation.
        ranks: Values with the ranks that the step takes them to have.
        clamps: New bounds for the operation.
    """

    onward: tuple[tuple[fx.Node, Affine], ...] = ()
    edits: tuple[Edit, ...] = ()
    ranks: tuple[tuple[fx.Node, int], ...] = ()
    clamps: tuple[Clamp, ...] = ()


@dataclass(frozen=True, slots=True)
class Traveller:
    """An affine of the model that looks for a place, and what it may take for granted.

    Attributes:
        program: The program.
        shapes: What is proven about its values.
        name: The qualified name of the layer the affine comes from.
        dtypes: The dtypes of the tensors it comes from; none where they are plain numbers.
        is_norm: Whether it is a batch norm, which returns the dtype it is given, whatever its own.
        with_maps: Whether a shift may become a map that is added behind a padded convolution.
        with_bounds: How many operations on each element a clamp may become that gets bounds for
            each channel; 0 for no such clamp.
    """

    program: Program
    shapes: Shapes
    name: str
    dtypes: frozenset[dtype]
    is_norm: bool = True
    with_maps: bool = False
    with_bounds: int = 0

    def decline(self, code: str, facts: str = "") -> Decline:
        """Return why the affine cannot go on."""
        return decline(code, self.name, facts)


@dataclass(frozen=True, slots=True)
class Rule:
    """How an affine goes past one kind of operation, or into it.

    A way holds all that has to be done; several are tried in order. Without any the operation lets
    nothing through, and there is nothing more to say about it.

    Attributes:
        up: From behind the operation to before it.
        down: From before it to behind it, given the operand that the affine is on as well.
    """

    up: Callable[[Traveller, Call, Affine], tuple[Moved, ...] | Decline]
    down: Callable[[Traveller, Call, fx.Node, Affine], tuple[Moved, ...] | Decline]


def nothing_up(_: Traveller, __: Call, ___: Affine) -> tuple[Moved, ...]:
    """Let nothing through on the way up."""
    return ()


def nothing_down(_: Traveller, __: Call, ___: fx.Node, ____: Affine) -> tuple[Moved, ...]:
    """Let nothing through on the way down."""
    return ()
