"""A module as a ``torch.export`` program, with the sizes that are to stay open."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram
from torch.fx import immutable_collections
from torch.fx.experimental import _config as symbolic
from torch.utils import _pytree as pytree

from bnfuse.errors import ExportError, first_line
from bnfuse.export.sizes import OTHER_BATCH, with_batch
from bnfuse.graph.part import registered_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from bnfuse.validation.inputs import Arguments


@dataclass(frozen=True, slots=True)
class Captured:
    """An exported program.

    Attributes:
        program: The program, without the example inputs and without notes of where it was made.
        dynamic_shapes: The open sizes, as ``torch.export`` and ``torch.onnx`` take them; None where
            all are fixed.
        open_axes: For each tensor of a call, in order, its axes of open size, with their names.
    """

    program: ExportedProgram
    dynamic_shapes: Any
    open_axes: tuple[dict[int, str], ...]

    @property
    def has_open_batch(self) -> bool:
        """Whether the first axis of an input is open."""
        return any(0 in axes for axes in self.open_axes)


def captured(
    module: nn.Module,
    call: Arguments,
    dynamic_batch: bool,
    dynamic_shapes: Any = None,
    *,
    smallest_batches: tuple[int, ...] = (1,),
) -> Captured:
    """Return a module as an exported program.

    Args:
        module: The module, in eval mode.
        call: The arguments of an example call.
        dynamic_batch: Whether to leave the first axis of every input open, as one size. Where the
            module fixes it, it stays that of the example.
        dynamic_shapes: The sizes to leave open instead, as ``torch.export.export`` takes them.
        smallest_batches: What an open batch has to be at least, from the first that works. 2 is of
            use where the file is without the program's guards, and is checked at 1 anyway.

    Raises:
        ExportError: ``torch.export`` cannot follow the module.
    """
    wants_batch = dynamic_batch and dynamic_shapes is None
    for smallest in smallest_batches if wants_batch else ():
        shapes = _batch_axes(module, call, smallest)
        try:  # with more than one sample, since the code for a batch of 1 is often another
            program = _exported(module, with_batch(call, OTHER_BATCH), shapes)
        except Exception:  # whatever stands in the way, the fixed size may still do
            logging.getLogger(__name__).info("the batch size is not open", exc_info=True)
        else:
            axes = open_axes(program)
            if any(axes):
                return Captured(program, shapes, axes)
    try:
        program = _exported(module, call, dynamic_shapes)
    except Exception as error:
        open_sizes = "" if dynamic_shapes is None else f" with dynamic_shapes={dynamic_shapes!r}"
        raise ExportError(
            f"torch.export cannot follow {type(module).__name__}{open_sizes} "
            f"({type(error).__name__}: {first_line(error)}): "
            "torch.export.draft_export(model, args) shows what is in its way."
        ) from error
    return Captured(program, dynamic_shapes, open_axes(program))


def open_axes(program: ExportedProgram) -> tuple[dict[int, str], ...]:
    """Return, for each tensor that a program is called with, the names of its open sizes."""
    given = set(program.graph_signature.user_inputs)
    nodes = program.graph.find_nodes(op="placeholder")
    values = [node.meta.get("val") for node in nodes if node.name in given]
    return tuple(
        {
            axis: str(size)
            for axis, size in enumerate(value.shape)
            if isinstance(size, torch.SymInt) and not size.node.is_constant()
        }
        for value in values
        if isinstance(value, torch.Tensor)
    )


def _exported(module: nn.Module, call: Arguments, dynamic_shapes: Any) -> ExportedProgram:
    """Export without running the module's Python in dynamo, and with it where that fails."""
    args, kwargs = call
    shapes = pytree.tree_map_only(str, lambda _: torch.export.Dim.DYNAMIC, dynamic_shapes)
    errors: list[Exception] = []
    # A size of 1 or 0 in the example is a size like any other.
    any_size = symbolic.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]  # made by torch
    with quiet(), torch.no_grad(), registered_parts(module), any_size:
        for is_strict in (False, True):
            try:
                program = torch.export.export(
                    module, args, kwargs, dynamic_shapes=shapes, strict=is_strict
                )
                break
            except Exception as error:
                errors.append(error)
        else:
            raise errors[0]
    forget_origin(program)
    _settle_outputs(program)
    return program


def forget_origin(program: ExportedProgram) -> None:
    """Drop the example, and the notes of the source files and lines that each node is from."""
    program.example_inputs = None
    for inner in program.graph_module.modules():
        for node in getattr(getattr(inner, "graph", None), "nodes", ()):
            for note in ("stack_trace", "from_node", "source_fn_stack"):
                node.meta.pop(note, None)


def _settle_outputs(program: ExportedProgram) -> None:
    """Let a program return lists and dictionaries where torch.fx writes immutable ones."""
    signature = program.module_call_graph[0].signature
    if signature is not None:
        spec = signature.out_spec
        outputs = pytree.tree_unflatten([0] * spec.num_leaves, spec)
        signature.out_spec = pytree.tree_structure(_mutable(outputs))


def _mutable(value: Any) -> Any:
    if isinstance(value, immutable_collections.immutable_dict):
        value = dict(value)
    if isinstance(value, immutable_collections.immutable_list):
        value = list(value)
    if type(value) is dict:
        return {key: _mutable(inner) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_mutable, value))
    return value


def _batch_axes(module: nn.Module, call: Arguments, smallest: int) -> dict[str, Any]:
    """Return torch.export's description of inputs whose first axis is one open batch size."""
    batch = torch.export.Dim("batch", min=smallest)

    def axes(leaf: Any) -> dict[int, Any] | None:
        return {0: batch} if isinstance(leaf, torch.Tensor) and leaf.ndim else None

    args, kwargs = call
    names = list(inspect.signature(module.forward).parameters)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return {name: pytree.tree_map(axes, value) for name, value in given.items()}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep an exporter's remarks about its own internals from the user's terminal.

    They come from many loggers with levels of their own; what matters is raised as well.
    """
    before = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
