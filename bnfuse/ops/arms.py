"""The terms of a sum as branches over the values they read, and which of them become one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bnfuse.affine import as_float64
from bnfuse.affine.branch import Branch, Grid, grid_of
from bnfuse.ops.calls import Call, read_call
from bnfuse.ops.geometry import branch_of, pool_branch
from bnfuse.ops.linear import norm_affine
from bnfuse.ops.odd import is_fixed
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx

    from bnfuse.graph.program import Program
    from bnfuse.ops.sums import Sum, Term


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One term of a sum, and the value it is made of.

    Attributes:
        term: The term.
        source: The value that the branch reads; the term itself where it is no branch.
        call: The call that makes it, or None for the value itself.
        branch: It as a convolution, or None where that depends on what it stands beside.
        guard: The rank that the source is taken to have, and for which layer; None where it is
            proven, or does not matter.
    """

    term: Term
    source: fx.Node
    call: Call | None
    branch: Branch | None
    guard: tuple[int, str] | None = None

    @property
    def signed(self) -> Branch:
        """The branch with its sign."""
        if self.branch is None:
            raise LookupError(f"{self.term.value.name} is no branch")
        return self.branch.negated() if self.term.is_negative else self.branch


def arms_over(program: Program, whole: Sum) -> dict[fx.Node, list[Arm]]:
    """Return the terms of a sum by the value that they read, which nothing may write."""
    found: dict[fx.Node, list[Arm]] = {}
    for term in whole.terms:
        arm = _arm(program, term)
        if arm.source not in program.written_values:
            found.setdefault(arm.source, []).append(arm)
    return found


def _arm(program: Program, term: Term) -> Arm:
    call = read_call(program, term.value) if term.is_own else None
    if call is not None:
        branch = branch_of(program, call)
        is_pool = call.kind is Kind.AVERAGE_POOL
        if branch is not None or is_pool or _is_constant_norm(program, call):
            return Arm(term, call.input, call, branch)
    return Arm(term, term.value, None, None)


def _is_constant_norm(program: Program, call: Call) -> bool:
    """Whether a call is a batch norm with statistics that nothing writes."""
    return (
        call.kind is Kind.BATCH_NORM
        and is_fixed(program, call)
        and not call.options["training"]
        and call.tensor("running_mean") is not None
    )


def clusters_of(program: Program, arms: dict[fx.Node, list[Arm]]) -> list[tuple[Arm, ...]]:
    """Return the arms that become one layer, that of the layer first, wherever several do."""
    found: list[tuple[Arm, ...]] = []
    for over_one_value in arms.values():
        rest = list(over_one_value)
        weights = [arm for arm in rest if arm.branch is not None]
        for main in sorted(weights, key=lambda arm: -_size(arm)):
            if main in rest:
                chosen = _beside_convolution(program, main, rest)
                found += [chosen] if len(chosen) > 1 else []
                gone = {arm.term for arm in chosen}
                rest = [arm for arm in rest if arm.term not in gone]
        norms = _norms([arm for arm in rest if arm.branch is None and not _is_pool(arm)])
        found += [norms] if len(norms) > 1 else []
    return found


def _is_pool(arm: Arm) -> bool:
    return arm.call is not None and arm.call.kind is Kind.AVERAGE_POOL


def _size(arm: Arm) -> int:
    return 0 if arm.branch is None else arm.branch.weight.numel()


def _beside_convolution(program: Program, main: Arm, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return a convolution and the arms that it can do the work of, for no more multiplications."""
    if main.branch is None:
        return (main,)
    chosen, grid, cost = [main], Grid.of(main.branch), main.branch.multiplications
    for arm in arms:
        other = None if arm is main else _as_branch(program, arm, main)
        if other is None or other.branch is None:
            continue
        joined, separate = grid.joined(Grid.of(other.branch)), cost + other.branch.multiplications
        if joined is None or joined.multiplications > separate:
            continue
        if _can_be_written(main, joined.padding_mode):
            chosen.append(other)
            grid, cost = joined, separate
    return tuple(chosen)


def _can_be_written(main: Arm, padding_mode: str | None) -> bool:
    """Whether a call takes the padding: a function pads with zeros alone."""
    is_module = main.call is not None and main.call.is_module
    return is_module or padding_mode in (None, "zeros")


def _as_branch(program: Program, arm: Arm, main: Arm) -> Arm | None:
    """Return an arm as a convolution beside another one, or None where it is none."""
    if main.branch is None or main.call is None:
        return None
    weight = main.call.weight
    if arm.call is not None and arm.branch is not None:
        return arm if arm.call.weight.dtype is weight.dtype else None
    axes, channels = weight.ndim - 2, main.branch.channels[0]
    if arm.call is None:
        return replace(arm, branch=_identity(channels, axes, main.branch.weight.device))
    if _is_pool(arm):  # of any rank that the convolution takes: it works on the same last axes
        return replace(arm, branch=pool_branch(arm.call, channels, weight))
    branch = _norm(arm.call, axes, weight.dtype)
    # A convolution takes a value without a batch axis as well, where axis 1 is another one.
    rank = program.shapes.rank(arm.call.node)
    if branch is None or rank not in (None, weight.ndim):
        return None
    if rank is not None:
        return replace(arm, branch=branch)
    is_other = arm.call.name in program.other_axis
    return None if is_other else replace(arm, branch=branch, guard=(weight.ndim, arm.call.name))


def _identity(channels: int, axes: int, device: torch.device) -> Branch:
    ones = torch.ones(channels, dtype=torch.float64, device=device)
    return Branch.diagonal(ones, torch.zeros_like(ones), axes)


def _norm(call: Call, axes: int, dtype: torch.dtype) -> Branch | None:
    """Return a batch norm as a pointwise convolution, or None where its dtypes are others."""
    if any(constant.tensor.dtype is not dtype for constant in call.owned.values()):
        return None
    affine = norm_affine(call)
    if not affine.is_finite:
        return None
    return Branch.diagonal(affine.scale, as_float64(affine.shift), axes)


def _norms(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return batch norms of one value, and the value itself, whose sum is one batch norm."""
    calls = [(arm, arm.call) for arm in arms if arm.call is not None]
    if not calls:
        return ()
    first, main = calls[0]
    mean = main.owned["running_mean"].tensor
    chosen: list[Arm] = []
    for arm in (first, *(arm for arm in arms if arm is not first)):
        if arm.call is None:
            branch: Branch | None = _identity(mean.numel(), 1, mean.device)
        else:
            # Without a batch axis an instance norm and a batch norm act on different axes.
            is_alike = _is_of_instances(arm.call) == _is_of_instances(main)
            branch = _norm(arm.call, 1, mean.dtype) if is_alike else None
        if branch is not None and grid_of([branch, *(one.signed for one in chosen[:1])]):
            chosen.append(replace(arm, branch=branch))
    return tuple(chosen) if chosen and chosen[0].call is main else ()


def _is_of_instances(call: Call) -> bool:
    return "instance" in call.spelling.lower()
