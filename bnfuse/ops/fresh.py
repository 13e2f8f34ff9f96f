"""Which operations are known to return a tensor of their own, sharing memory with no input."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.graph.hooks import is_hooked
from bnfuse.graph.readers import reads_metadata_only, writes_in_place
from bnfuse.ops.calls import read_call
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph.program import Program

# Not among them: copies, which may return their input, and everything that returns a view.
_NEW = frozenset(
    {
        Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.LINEAR, Kind.BATCH_NORM,
        Kind.LAYER_NORM, Kind.GROUP_NORM, Kind.RMS_NORM, Kind.EMBEDDING, Kind.ADD, Kind.SUBTRACT,
        Kind.MULTIPLY, Kind.DIVIDE, Kind.NEGATE, Kind.MAXIMUM, Kind.CHOICE, Kind.FILL,
        Kind.ABSOLUTE, Kind.RECTIFIER, Kind.CLAMP, Kind.GATE, Kind.SOFTMAX, Kind.ACTIVATION,
        Kind.AVERAGE_POOL, Kind.MAX_POOL, Kind.MEAN, Kind.SUM, Kind.CUMULATIVE_SUM,
        Kind.CONCATENATION, Kind.STACK,
    }
)  # fmt: skip
_NEW_FUNCTIONS = frozenset(
    {operator.matmul, torch.matmul, torch.mm, torch.addmm, F.layer_norm, F.group_norm, F.embedding}
)
"""Functions that return a tensor of their own, whatever they are given."""
_NEW_METHODS = frozenset({"matmul", "mm"})

# The layer in an exported program that compares its inputs with the example's.
_INPUT_CHECKS = "torch.export._unlift"
# Whose functions write nothing, unless their name says so.
_TRUSTED = frozenset({"torch", "_operator", "builtins", "math", "bnfuse", "torchvision"})


def makes_new(program: Program, node: fx.Node) -> bool:
    """Whether a node's value shares memory with nothing that was there before.

    In-place spellings do not; the caller looks for those first.
    """
    if isinstance(node.target, torch._ops.OpOverload):
        return all(value.alias_info is None for value in node.target._schema.returns)
    call = read_call(program, node)
    return (
        call is not None
        and call.kind in _NEW
        and not call.hooked
        and not call.options.get("inplace")
        and not _is_in_place_layer(program, node)
    )


def may_be_returned(program: Program, node: fx.Node) -> bool:
    """Whether the caller may get the value itself, or something that shares its memory."""
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        if current.op == "output":
            return True
        readers = [r for r in current.users if not reads_metadata_only(r, current)]
        fresh = [r for r in readers if r not in seen and not _returns_new(program, r)]
        seen.update(fresh)
        pending += fresh
    return False


def _returns_new(program: Program, node: fx.Node) -> bool:
    is_product = node.op == "call_method" and node.target in _NEW_METHODS
    return is_product or node.target in _NEW_FUNCTIONS or makes_new(program, node)


def may_write(program: Program, node: fx.Node) -> bool:
    """Whether a node may write into what it is given: known in-place ones, and unknown code."""
    return (
        writes_in_place(node)
        or _is_in_place_layer(program, node)
        or runs_unknown_code(program, node)
    )


def runs_unknown_code(program: Program, node: fx.Node) -> bool:
    """Whether a node runs code that is neither PyTorch's nor ours, hooks included."""
    if node.op == "call_module":
        module = program.module(str(node.target))
        owner = type(module).__module__
        is_known = owner.startswith(("torch.nn.", "torch.export.", "bnfuse."))
        return owner != _INPUT_CHECKS and (is_hooked(module) or not is_known)
    if node.op != "call_function" or isinstance(node.target, torch._ops.OpOverload):
        return False
    origin = str(getattr(node.target, "__module__", None) or "torch")
    return origin.partition(".")[0] not in _TRUSTED


def _is_in_place_layer(program: Program, node: fx.Node) -> bool:
    """Whether a node calls a layer that writes its input, such as ``nn.ReLU(inplace=True)``."""
    if node.op != "call_module":
        return False
    return bool(getattr(program.module(str(node.target)), "inplace", False))
