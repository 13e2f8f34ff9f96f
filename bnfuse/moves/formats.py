"""Where it could be told that a kernel returns its result channels last.

A value keeps its shape in any memory format, and what is computed from it its elements; but a view
of it may be refused, and code that no graph shows may ask for its strides::

    y = conv(x); y.view(n, -1)          is refused for y channels last

So the last fused layers before such a place return contiguous results, as their plain operators do
for contiguous inputs. From there on all is laid out as in the unfused model::

    y = conv(x); y.flatten(1).mul_(2)   writes to a copy of y channels last

Here the numbers depend on the layout, and that on the input's: all layers before such a write are
run by PyTorch's own operators. So are those before what is drawn in memory's order, as dropout that
is on does, and before what reads strides.

Signals ``(n, c, l)`` lie so as well, as images of one row do (``bnfuse.kernels.channels_last``);
they return contiguous also where what reads them would be slow otherwise (``moves.signals``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from bnfuse.kernels import FusedLayer
from bnfuse.kernels.layers import FusedConv1d
from bnfuse.moves.anew import is_laid_out_anew
from bnfuse.moves.signals import is_read_slowly
from bnfuse.moves.tells import depends_on_layout, tells_layout
from bnfuse.ops.calls import read_call
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import fx

    from bnfuse.graph import Program

_ACTIVATIONS = (Kind.RECTIFIER, Kind.CLAMP, Kind.ACTIVATION)


def settle_formats(program: Program) -> None:
    """Let those fused layers return contiguous results behind which a format could be told.

    Args:
        program: The program; what it found out before is forgotten.
    """
    program.refresh()
    pending = [
        source
        for node in program.graph.nodes
        if _can_tell(program, node)
        for source in node.all_input_nodes
    ]
    for module in _fused_before(program, pending, only_last=True):
        module.returns_contiguous = not isinstance(module, nn.Linear)  # which always does
    # An input that is channels last makes these so, or contiguous, as no kernel here would know.
    for module in _fused_before(program, _decisive(program), only_last=False):
        module.is_plain = not (isinstance(module, nn.Linear) and not module.epilogue.binary)
    for node, signal in _signals(program):
        signal.returns_contiguous |= not signal.is_plain and is_read_slowly(program, node)


def _signals(program: Program) -> Iterator[tuple[fx.Node, FusedConv1d]]:
    """Yield the fused layers over signals, each with its call."""
    for node in program.graph.nodes:
        module = program.module(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, FusedConv1d):
            yield node, module


def _decisive(program: Program) -> list[fx.Node]:
    """Return the values on whose layout the numbers that the model returns depend."""
    return [*program.lost_writes] + [
        source
        for node in program.graph.nodes
        if depends_on_layout(program, node)
        for source in node.all_input_nodes
    ]


def _fused_before(
    program: Program, nodes: Iterable[fx.Node], *, only_last: bool
) -> Iterator[FusedLayer]:
    """Yield the fused layers on whose results the layout of some values depends.

    Args:
        program: The program.
        nodes: The values.
        only_last: Whether to look no further than to the last layer before each.
    """
    pending = list(nodes)
    seen = set(pending)
    while pending:
        node = pending.pop()
        module = program.module(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, FusedLayer):
            yield module
        if isinstance(module, FusedLayer if only_last else nn.Linear):
            continue
        if not is_laid_out_anew(program, node):
            fresh = [source for source in node.all_input_nodes if source not in seen]
            seen.update(fresh)
            pending += fresh


def _can_tell(program: Program, node: fx.Node) -> bool:
    """Whether a node may ask how its inputs are laid out, or hands them to who may."""
    return node.op == "output" or _refuses(program, node) or tells_layout(program, node)


def _refuses(program: Program, node: fx.Node) -> bool:
    """Whether a node may refuse channels last: what shuffles pixels, on anything but images.

    A maximum over volumes does for what has four axes, without a batch.
    """
    call = read_call(program, node)
    if call is None:
        return False
    is_shuffle = call.kind in (Kind.PIXEL_SHUFFLE, Kind.PIXEL_UNSHUFFLE)
    is_of_volumes = call.kind is Kind.MAX_POOL and "3d" in call.spelling.lower()
    if not is_shuffle and not is_of_volumes:
        return False
    axes = 4 if is_shuffle else 5
    if program.shapes.rank(call.input) == axes:
        return False
    module = _fused_behind(program, call.input)
    return module is None or module.weight.ndim != axes


def _fused_behind(program: Program, node: fx.Node) -> FusedLayer | None:
    """Return the fused layer that a value comes from, through activations alone."""
    call = read_call(program, node)
    while call is not None and call.kind in _ACTIVATIONS:
        node = call.input
        call = read_call(program, node)
    module = program.module(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, FusedLayer) else None
