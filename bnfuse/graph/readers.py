"""Who reads a value, and which of the model's own tensors the forward writes."""

from __future__ import annotations

import operator
from itertools import islice
from typing import TYPE_CHECKING

import torch

from bnfuse.graph.guards import assume_rank, check_rank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import fx

# What these return depends on the shape, dtype and device of a value, never on its elements.
METADATA_METHODS = frozenset(
    {
        "size",
        "dim",
        "ndimension",
        "numel",
        "nelement",
        "is_contiguous",
        "is_floating_point",
        "stride",
    }
)
_METADATA_ATTRIBUTES = frozenset(
    {"shape", "ndim", "dtype", "device", "layout", "is_cuda", "itemsize", "requires_grad"}
)
_STORE_OPERATORS = frozenset(
    {
        operator.iadd, operator.iand, operator.iconcat, operator.ifloordiv, operator.ilshift,
        operator.imatmul, operator.imod, operator.imul, operator.ior, operator.ipow,
        operator.irshift, operator.isub, operator.itruediv, operator.ixor, operator.setitem,
        operator.delitem,
    }
)  # fmt: skip


# They give the tensor that they are called on another shape.
_RESHAPING_IN_PLACE = frozenset(
    {"unsqueeze_", "squeeze_", "t_", "transpose_", "swapaxes_", "swapdims_", "resize_",
     "resize_as_", "as_strided_", "set_"}
)  # fmt: skip
_SHAPED_LIKE = frozenset({"reshape_as", "view_as", "expand_as"})


def reads_metadata_only(reader: fx.Node, value: fx.Node | None = None) -> bool:
    """Whether a node asks only for shape, dtype or device of a value: by default its first one."""
    if reader.target in (check_rank, assume_rank):
        return True
    if reader.op == "call_method":
        is_shape = reader.target in _SHAPED_LIKE and value is not None
        return reader.target in METADATA_METHODS or (is_shape and reader.args[0] is not value)
    if str(reader.target).startswith("aten.sym_"):
        return True
    return reader.target is getattr and reader.args[1] in _METADATA_ATTRIBUTES


def value_readers(node: fx.Node) -> Iterator[fx.Node]:
    """Yield the users of ``node`` that depend on its elements, in graph order."""
    return (user for user in node.users if not reads_metadata_only(user, node))


def only_reader(node: fx.Node) -> fx.Node | None:
    """Return what reads the elements of ``node`` where that is a single user, else None."""
    first = list(islice(value_readers(node), 2))
    return first[0] if len(first) == 1 else None


def writes_in_place(node: fx.Node) -> bool:
    """Whether a node may write into its first argument or into an ``out`` argument."""
    if node.kwargs.get("out") is not None or node.kwargs.get("inplace"):
        return True
    if node.op == "call_method":
        name = str(node.target)
        return (name.endswith("_") and not name.endswith("__")) or name == "__setitem__"
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.is_mutable
    if node.op == "call_function":
        name = getattr(node.target, "__name__", "")
        return node.target in _STORE_OPERATORS or (name.endswith("_") and not name.endswith("__"))
    return False


def reshapes_in_place(node: fx.Node) -> bool:
    """Whether a node may give its input another rank or other sizes."""
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return str(name).partition(".")[0] in _RESHAPING_IN_PLACE


def written_constants(graph: fx.Graph) -> frozenset[str]:
    """Return the paths of tensors of the model that a forward may write.

    A writer is followed back through first arguments, so that ``w.data.view(-1).mul_(2)`` counts as
    writing ``w``. Following goes through every operation, view or not, which can only name more.
    """
    written: set[str] = set()
    for node in graph.nodes:
        if not writes_in_place(node):
            continue
        written.update(path for target in _targets(node) if (path := _origin(target)) is not None)
    return frozenset(written)


def _targets(node: fx.Node) -> list[object]:
    """Return what a node may write into, as its schema says where it has one."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return [*node.args[:1], node.kwargs.get("input"), node.kwargs.get("out")]
    arguments = node.target._schema.arguments
    given = {a.name: value for a, value in zip(arguments, node.args, strict=False)}
    given |= node.kwargs
    return [given.get(a.name) for a in arguments if a.alias_info and a.alias_info.is_write]


def _origin(value: object) -> str | None:
    """Return the path of the constant that ``value`` may be a view of."""
    while getattr(value, "op", None) in ("call_function", "call_method"):
        arguments = value.args  # type: ignore[attr-defined]  # it has an op: it is a node
        value = arguments[0] if arguments else None
    if getattr(value, "op", None) == "get_attr":
        return str(value.target)  # type: ignore[attr-defined]  # likewise
    return None
