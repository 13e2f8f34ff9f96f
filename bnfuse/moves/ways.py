"""The two ways of an affine, up and down, and what has to hold of its input and its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.graph.readers import only_reader, value_readers
from bnfuse.moves.clamps import is_replaceable
from bnfuse.moves.dtypes import keeps_dtype
from bnfuse.moves.search import Plan, Search
from bnfuse.ops.calls import read_call
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.affine import Affine
    from bnfuse.moves.origin import Origin
    from bnfuse.moves.step import Traveller
    from bnfuse.report.reasons import Decline


def way_out(traveller: Traveller, origin: Origin, affine: Affine) -> Plan | Decline:
    """Return where an affine can go, up if it can, else down; or what stands in the way up.

    One whose result nothing reads just goes.
    """
    if next(value_readers(origin.call.node), None) is None:
        gone = _downward(traveller, origin, affine)
        if isinstance(gone, Plan):
            return gone
    upward = Search(traveller)
    above = upward.up(origin.value, affine, origin.call.node)
    plan = _checked(traveller, origin, affine, upward.plan)
    if above is None and plan is not None:
        return plan
    below = _downward(traveller, origin, affine)
    if isinstance(below, Plan):
        return below
    return above or below


def _downward(traveller: Traveller, origin: Origin, affine: Affine) -> Plan | Decline:
    if origin.value in traveller.program.written_values or _is_overwritten(traveller, origin):
        return traveller.decline("written-value")
    if not keeps_dtype(traveller, origin):
        return traveller.decline("no-linear-reader", "values that may have another dtype")
    if not _keeps_shape(traveller, origin, affine):
        return traveller.decline("no-linear-reader", "values that may have another shape")
    search = Search(traveller)
    obstacle = search.down(origin.call.node, affine)
    if obstacle is not None:
        return obstacle
    if not search.plan.passed:
        return search.plan  # nothing reads the result: no rank is taken for granted
    plan = _checked(traveller, origin, affine, search.plan)
    return plan or traveller.decline("other-axis", origin.call.name)


def _is_overwritten(traveller: Traveller, origin: Origin) -> bool:
    """Whether the result of an affine is written, but for an activation that can be replaced."""
    node, written = origin.call.node, traveller.program.written_values
    if node not in written:
        return False
    reader = only_reader(node)
    call = None if reader is None else read_call(traveller.program, reader)
    return call is None or call.node in written or not is_replaceable(traveller, call, node)


def _keeps_shape(traveller: Traveller, origin: Origin, affine: Affine) -> bool:
    """Whether what an affine is applied to has the shape of its result: a constant may grow it."""
    if origin.call.kind is Kind.BATCH_NORM:
        return True
    wide = [axis for axis in range(affine.rank) if not affine.is_constant_on(axis)]
    shape = traveller.shapes.of(origin.value)
    return not wide or (
        shape is not None
        and all(shape[axis - affine.rank] == affine.scale.shape[axis] for axis in wide)
    )


def _checked(traveller: Traveller, origin: Origin, affine: Affine, plan: Plan) -> Plan | None:
    """Return the plan with the ranks that need a guard alone, or None where one is wrong."""
    ranks = traveller.program.shapes.ranks
    needed: list[tuple[fx.Node, int]] = []
    taken = [(origin.value, affine.rank)] if affine.is_placed else []
    for value, rank in [*taken, *plan.ranks, *_relied_on(traveller, plan)]:
        known = ranks.of(value)
        if known is None and not traveller.is_norm and traveller.shapes.rank(value) != rank:
            return None  # arithmetic takes any rank: no guard but the one for a convolution's batch
        implied = [ranks.implied(value, other, fixed) for other, fixed in needed]
        told = next((one for one in implied if one is not None), known)
        if told is not None and told != rank:
            return None
        if told is None and origin.call.name in traveller.program.other_axis:
            return None  # an example has shown that a guard of this one refuses its calls
        if told is None:
            needed.append((value, rank))
    return Plan(plan.edits, needed, plan.passed, plan.clamps)


def _relied_on(traveller: Traveller, plan: Plan) -> list[tuple[fx.Node, int]]:
    """Return the ranks of what a plan passes that are not proven but were taken into account."""
    passed = [value for node in plan.passed for value in (node, *node.all_input_nodes)]
    ranks = {value: traveller.shapes.rank(value) for value in passed}
    return [(value, rank) for value, rank in ranks.items() if rank is not None]
