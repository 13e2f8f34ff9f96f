"""Which operator of which layer an exporter stumbled over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from bnfuse.errors import ExportError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_OPERATOR = "DispatchError"
"""The exception that torch.onnx raises, privately, for an operator that it cannot translate."""


def conversion_error(name: str, error: Exception) -> ExportError:
    """Return what to raise where torch.onnx cannot convert a model.

    Args:
        name: The class of the model.
        error: What torch.onnx raised. It keeps the node at fault in its frames alone.
    """
    causes = list(_causes(error))
    node = next((found for cause in causes if (found := _node_at_fault(cause))), None)
    where = "" if node is None else f" for {node.target}{_layer_of(node)}"
    if any(type(cause).__name__ == _NO_OPERATOR for cause in causes):
        return ExportError(
            f"{name} cannot be an ONNX file: torch.onnx has no translation{where}: compute that "
            "with other operators, or write a .pt2 file with bnfuse.export_pt2, which takes all."
        )
    cause = causes[-1]
    return ExportError(
        f"torch.onnx cannot convert {name}{' (it stopped' + where + ')' if where else ''} "
        f"({type(cause).__name__}: {first_line(cause)}): "
        "torch.onnx.export(model, args, dynamo=True, report=True) writes the details."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those it was raised from, the first cause last."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _node_at_fault(error: BaseException) -> fx.Node | None:
    """Return the node that was being translated when an exception was raised."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        node = trace.tb_frame.f_locals.get("node")
        found = node if isinstance(node, fx.Node) else found
        trace = trace.tb_next
    return found


def _layer_of(node: fx.Node) -> str:
    """Return ``, called in layer4.0 (Spectral)``, or nothing where the node has no such note."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return ""
    path, owner = stack[-1]
    kind = owner.rpartition(".")[2] if isinstance(owner, str) else owner.__name__
    return f", called in {path} ({kind})" if path else ", called in its own forward"
