"""The call sites that are a constant affine, and the way out for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import fx

from bnfuse.affine import Affine
from bnfuse.moves.arithmetic import affine_of_arithmetic, constant_operand
from bnfuse.moves.search import Plan
from bnfuse.moves.step import Traveller
from bnfuse.moves.strides import is_laid_out_alike, is_told_apart
from bnfuse.moves.ways import way_out
from bnfuse.ops.calls import Call, read_call
from bnfuse.ops.linear import norm_affine, rank_with_channels_on_axis_1
from bnfuse.ops.odd import oddities, written_tensors
from bnfuse.ops.table import Kind
from bnfuse.report.reasons import Decline, decline

if TYPE_CHECKING:
    from bnfuse.graph import Program

_ARITHMETIC = (Kind.ADD, Kind.SUBTRACT, Kind.MULTIPLY, Kind.DIVIDE)
_RANKS = (2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Origin:
    """A call site that is an affine, whatever it is spelled as.

    Attributes:
        call: The call.
        value: What it is applied to.
        dtypes: The dtypes of its tensors; none where it is a plain number.
        axes: How many last axes of the value its coefficients lie along; all that there are for a
            batch norm.
    """

    call: Call
    value: fx.Node
    dtypes: frozenset[torch.dtype]
    axes: int

    @property
    def has_tensor(self) -> bool:
        """Whether the coefficients differ along an axis of the value."""
        return self.axes > 0


def origin_of(program: Program, node: fx.Node) -> Origin | None:
    """Return the affine called at a node: a batch norm, or arithmetic with a constant."""
    call = read_call(program, node)
    if call is None:
        return None
    if call.kind is Kind.BATCH_NORM:
        tensors = [constant.tensor for constant in call.owned.values()]
        dtypes = frozenset(t.dtype for t in tensors if isinstance(t, torch.Tensor))
        return Origin(call, call.input, dtypes, axes=5)
    if call.kind not in _ARITHMETIC:
        return None
    nodes = [operand for operand in call.operands if isinstance(operand, fx.Node)]
    values = [operand for operand in nodes if operand.op != "get_attr"]
    found = constant_operand(_traveller(program, call, frozenset()), call)
    if found is None or len(values) != 1:
        return None
    if affine_of_arithmetic(_traveller(program, call, frozenset()), call, 9) is None:
        return None
    position, constant = found
    source = call.operands[position]
    tensor = program.tensor(str(source.target)) if isinstance(source, fx.Node) else None
    dtypes = frozenset([tensor.dtype] if tensor is not None and tensor.ndim else [])
    return Origin(call, values[0], dtypes, constant.ndim)


def find_plan(
    program: Program, origin: Origin, *, with_maps: bool = False, with_bounds: int = 0
) -> Plan | Decline:
    """Return where an affine can go, or why it has to stay.

    Args:
        program: The program.
        origin: The affine.
        with_maps: Whether its shift may become a map behind a zero-padded convolution.
        with_bounds: How many operations a clamp that it passes may become; 0 to leave its bounds.
    """
    call = origin.call
    if obstacle := _obstacle(program, call):
        return obstacle
    is_alike = is_laid_out_alike(program, call, origin.value)
    if not is_alike and is_told_apart(program, call):
        return decline("written-value", call.name)
    proven = program.shapes.rank(origin.value)
    is_other = call.name in program.other_axis
    if proven is None and origin.has_tensor and is_other:
        return decline("other-axis", call.name, _producer_name(program, origin))
    shapes = program.shapes if is_other else program.batched_shapes
    likely = shapes.rank(origin.value) if proven is None else proven
    traveller = Traveller(
        program, shapes, call.name, origin.dtypes, call.kind is Kind.BATCH_NORM, with_maps,
        with_bounds if likely is not None else 0,  # bounds have the shape of one rank, no guess
    )  # fmt: skip
    obstacles: list[Decline] = []
    for rank in _candidate_ranks(program, origin, likely):
        affine = _affine(traveller, origin, rank)
        if affine is None:
            continue
        if not affine.is_finite:
            return decline("not-finite", call.name)
        found = way_out(traveller, origin, affine)
        if isinstance(found, Plan):
            return found
        obstacles.append(found)
    return obstacles[0] if obstacles else decline("other-axis", call.name, "nothing")


def _obstacle(program: Program, call: Call) -> Decline | None:
    """Return why a call is no constant affine, or None."""
    if call.kind is not Kind.BATCH_NORM:
        return None
    if odd := oddities(call):
        return decline("odd-constants", call.name, ", ".join(odd))
    if call.computed:
        return decline("computed-constants", call.name, ", ".join(call.computed))
    if call.options["training"]:
        return decline("training-mode", call.name)
    if call.hooked:
        return decline("hooked", call.name)
    if call.tensor("running_mean") is None or call.tensor("running_var") is None:
        return decline("batch-statistics", call.name)
    if written := written_tensors(program, call):
        return decline("written-constants", call.name, ", ".join(written))
    return None


def _candidate_ranks(program: Program, origin: Origin, likely: int | None) -> tuple[int, ...]:
    """Return the ranks that the value may have, the likeliest first.

    Without a tensor there is one coefficient for all axes, and the rank does not matter.
    """
    if not origin.has_tensor:
        return (0,)
    if origin.call.spelling.startswith("InstanceNorm"):  # it takes a value without a batch as well
        batched = int(origin.call.spelling[-2]) + 2
        return (batched,) if likely in (None, batched) else ()
    if likely is not None:
        return (likely,)
    if origin.call.kind is not Kind.BATCH_NORM:
        return (1,) if origin.axes == 1 else ()
    producer = read_call(program, origin.value)
    first: tuple[int, ...] = ()
    if producer is not None and producer.kind.is_linear and producer.tensor("weight") is not None:
        first = (rank_with_channels_on_axis_1(producer),)
    known = (2, 3) if origin.call.spelling == "BatchNorm1d" else _RANKS
    return (*first, *(rank for rank in known if rank not in first))


def _affine(traveller: Traveller, origin: Origin, rank: int) -> Affine | None:
    """Return the affine on a value with ``rank`` axes, or None where it does not fit one."""
    call = origin.call
    if call.kind is not Kind.BATCH_NORM:
        found = affine_of_arithmetic(traveller, call, max(rank, 1))
        return found.map(lambda c: c.reshape(())) if found is not None and rank == 0 else found
    return norm_affine(call).on_axis(1, rank) if rank >= 2 else None


def _producer_name(program: Program, origin: Origin) -> str:
    producer = read_call(program, origin.value)
    return origin.value.name if producer is None else producer.name


def _traveller(program: Program, call: Call, dtypes: frozenset[torch.dtype]) -> Traveller:
    is_norm = call.kind is Kind.BATCH_NORM
    return Traveller(program, program.shapes, call.name, dtypes, is_norm)
