"""One step of an affine on its way through a graph, and what such steps leave behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from bnfuse.affine import ALL, Made, as_float64, stand_in
from bnfuse.report import decline

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, dtype, fx

    from bnfuse.affine import Affine, Bounds
    from bnfuse.graph import Program
    from bnfuse.ops import Call
    from bnfuse.ops.shapes import Shapes
    from bnfuse.report import Decline


class NewTensors(NamedTuple):
    """What a call site is to read, float64.

    Attributes:
        weight: Its weight.
        bias: Its bias, or None where it needs none.
        border: The kernel of the map to add to its result, see ``bnfuse.graph.border``, or None.
    """

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


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """A call site that is to have new tensors, made where they are asked for.

    Attributes:
        call: The call site.
        make: Makes the tensors of those of the call; of some rows of them if told which.
        is_by_rows: Whether it can make some rows without the others.
    """

    call: Call
    make: Callable[[Call, slice], NewTensors]
    is_by_rows: bool = False

    def tensors(self, rows: slice) -> NewTensors:
        """Return the tensors, or some rows of them."""
        if rows == ALL:
            return self.make(self.call, ALL)
        count = len(self.call.weight)

        def some(tensor: Tensor) -> Tensor:
            has_rows = tensor.ndim > 0 and len(tensor) == count
            return as_float64(tensor, rows if has_rows else ALL)

        return self.make(_changed(self.call, some), rows)

    def again(self) -> Made:
        """Return how to make the weight again, without memory that only the call's own takes."""
        light = replace(self, call=_changed(self.call, stand_in))
        return Made(lambda rows: light.tensors(rows).weight, self.is_by_rows)


def _changed(call: Call, change: Callable[[Tensor], Tensor]) -> Call:
    """Return a call with other tensors in the place of its own."""
    constants = {
        name: replace(known, tensor=change(known.tensor))
        for name, known in call.owned.items()
        if call.tensor(name) is not None
    }
    return replace(call, constants={**call.constants, **constants})


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
