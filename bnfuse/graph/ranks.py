"""What the graph proves about the number of dimensions of its values, for every call it accepts."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.graph.guards import check_rank
from bnfuse.graph.hooks import is_hooked

if TYPE_CHECKING:
    from bnfuse.graph.program import Program

# Layers that raise for any other rank of input, and give back the rank they got.
_FIXED_RANK: dict[type[nn.Module], int] = {nn.BatchNorm2d: 4, nn.BatchNorm3d: 5}

_SAME_RANK_MODULES = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Linear, nn.BatchNorm1d, nn.SyncBatchNorm, nn.Identity, nn.Dropout, nn.Dropout1d,
    nn.Dropout2d, nn.Dropout3d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish,
    nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.ELU, nn.PReLU, nn.Mish, nn.MaxPool1d, nn.MaxPool2d,
    nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
    nn.Upsample,
)  # fmt: skip
_SAME_RANK_FUNCTIONS = frozenset(
    {F.batch_norm, F.relu, F.relu6, F.silu, F.gelu, F.hardswish, F.dropout, F.linear, F.conv1d,
     F.conv2d, F.conv3d, torch.relu, torch.sigmoid, torch.tanh}
)  # fmt: skip


def proven_rank(program: Program, node: fx.Node) -> int | None:
    """Return the number of dimensions of a node's value, or None where the graph does not fix it.

    The walk goes up through operations that keep the rank, until one states it: a layer that
    accepts one rank only, a ``flatten(1)``, or an assertion the model itself makes on ``ndim``.
    """
    value: object = node
    while isinstance(value, fx.Node):
        stated = _recorded_rank(value)
        if stated is None:
            stated = _asserted_rank(value)
        if stated is None:
            stated = _rank_by_operation(program, value)
        if stated is not None:
            return stated
        value = _same_rank_input(program, value)
    return None


def _recorded_rank(node: fx.Node) -> int | None:
    """The rank noted at capture, where the graph stands for calls of one shape."""
    return getattr(node.meta.get("val"), "ndim", None)


def _rank_by_operation(program: Program, node: fx.Node) -> int | None:
    """The rank that the operation itself fixes."""
    if node.op == "call_module":
        module = program.module(str(node.target))
        if is_hooked(module):
            return None
        if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            return 2
        return _FIXED_RANK.get(type(module))
    if node.target in (torch.flatten, "flatten"):
        rest = {"start_dim": 0, "end_dim": -1}
        rest.update(zip(rest, node.args[1:], strict=False))  # type: ignore[arg-type]  # literals
        rest.update(node.kwargs)  # type: ignore[arg-type]  # likewise
        return 2 if (rest["start_dim"], rest["end_dim"]) == (1, -1) else None
    return None


def _same_rank_input(program: Program, node: fx.Node) -> object:
    """The input whose rank the node's value has, or None where that is not known."""
    if node.op == "call_module":
        module = program.module(str(node.target))
        same = type(module) in _SAME_RANK_MODULES and not is_hooked(module)
    else:
        same = node.op == "call_function" and node.target in _SAME_RANK_FUNCTIONS
    if not same:
        return None
    return node.args[0] if node.args else node.kwargs.get("input")


def _asserted_rank(node: fx.Node) -> int | None:
    """The rank in ``torch._assert(value.ndim == rank, ...)``, if the model asserts one."""
    for reader in node.users:
        if reader.target is check_rank:
            ranks = reader.args[1]
            if isinstance(ranks, tuple) and len(ranks) == 1:
                return int(str(ranks[0]))
        if not _asks_rank(reader):
            continue
        for test in reader.users:
            if test.target is operator.eq and test.args[0] is reader and _is_asserted(test):
                rank = test.args[1]
                return rank if isinstance(rank, int) else None
    return None


def _asks_rank(reader: fx.Node) -> bool:
    """Whether a node is ``value.ndim`` or ``value.dim()``."""
    if reader.target is getattr:
        return str(reader.args[1]) == "ndim"
    return reader.op == "call_method" and reader.target == "dim"


def _is_asserted(test: fx.Node) -> bool:
    """Whether a condition is the first argument of ``torch._assert``."""
    return any(user.target is torch._assert and user.args[:1] == (test,) for user in test.users)
