"""The terms of a sum, through the sums and differences that it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import fx

from bnfuse.graph.readers import only_reader, writes_in_place
from bnfuse.ops.calls import Call, read_call
from bnfuse.ops.fresh import makes_new
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from bnfuse.graph.program import Program


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One term of a sum.

    Attributes:
        value: The term.
        is_negative: Whether it is subtracted.
        is_in_place: Whether it is added in place, so that the sum keeps its dtype.
        is_own: Whether the sum alone reads it, once.
    """

    value: fx.Node
    is_negative: bool
    is_in_place: bool
    is_own: bool


@dataclass(frozen=True, slots=True, eq=False)
class Sum:
    """A sum that is no term of another.

    Attributes:
        top: The call that makes it.
        terms: Its terms, in order; the first is never negative.
        inner: The sums it is made of, each before those inside it.
    """

    top: Call
    terms: tuple[Term, ...]
    inner: tuple[fx.Node, ...]


def sum_at(program: Program, node: fx.Node) -> Sum | None:
    """Return the sum made at a node if it is outermost, and what it is made of may be reordered."""
    top = _addition(program, node)
    if top is None or _is_term(program, node):
        return None
    terms: list[Term] = []
    inner: list[fx.Node] = []
    pending = [_operand(top, 1, None), _operand(top, 0, None)]
    while pending:
        term = pending.pop()
        addition = _addition(program, term.value) if term.is_own else None
        if addition is None:
            terms.append(term)
            continue
        inner.append(term.value)
        pending += [_operand(addition, 1, term), _operand(addition, 0, term)]
    if any(_is_written_between(program, term) for term in terms):
        return None
    return Sum(top, tuple(terms), tuple(inner))


def _operand(call: Call, position: int, whole: Term | None) -> Term:
    """Return an operand of an addition as a term of what the addition is part of."""
    value, is_second = call.operands[position], position == 1
    return Term(
        value,
        (whole is not None and whole.is_negative) ^ (is_second and call.kind is Kind.SUBTRACT),
        (whole is not None and whole.is_in_place) or (is_second and writes_in_place(call.node)),
        _is_read_once(value, call),
    )


def _addition(program: Program, node: fx.Node) -> Call | None:
    """Return the call at a node if it is the sum or the difference of two values.

    One that writes in place counts where nothing else can see what it writes.
    """
    call = _plain_addition(program, node)
    if call is None or not writes_in_place(node):
        return call
    return call if _is_new(program, node) else None


def _plain_addition(program: Program, node: fx.Node) -> Call | None:
    call = read_call(program, node)
    if call is None or call.kind not in (Kind.ADD, Kind.SUBTRACT):
        return None
    is_plain = len(call.operands) == 2 and call.options["alpha"] == 1
    are_values = all(isinstance(o, fx.Node) and o.op != "get_attr" for o in call.operands)
    return call if is_plain and are_values else None


def _is_new(program: Program, value: fx.Node) -> bool:
    """Whether a value is a tensor that nothing made before can see, through sums in place."""
    while writes_in_place(value):
        call = _plain_addition(program, value)
        if call is None or not _is_read_once(call.operands[0], call):
            return False
        value = call.operands[0]
    return makes_new(program, value)


def _is_read_once(value: fx.Node, reader: Call) -> bool:
    return only_reader(value) is not None and reader.operands.count(value) == 1


def _is_term(program: Program, node: fx.Node) -> bool:
    """Whether a sum is only added to something else, so that it is looked at from there."""
    reader = only_reader(node)
    outer = None if reader is None else _addition(program, reader)
    return outer is not None and _is_read_once(node, outer)


def _is_written_between(program: Program, term: Term) -> bool:
    """Whether a term may be another tensor by the time the whole sum is made."""
    return term.value in program.written_values and not (
        term.is_own and _is_new(program, term.value)
    )
