"""The shapes of all values of a graph in one call of it, for regions that take no guessed shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from bnfuse.capture.copying import copy_model
from bnfuse.ops.calls import read_call
from bnfuse.ops.table import Kind
from bnfuse.validation.inputs import map_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from bnfuse.graph import Program
    from bnfuse.validation.inputs import Arguments

_IMAGE_SIZES = (224, 64, 32, 128, 256, 160, 192, 384)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what each value looks like."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        self.seen: dict[fx.Node, tuple[tuple[int, ...], torch.dtype]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.seen[n] = tuple(value.shape), value.dtype
        return value


def observed(
    program: Program, example: Arguments | None
) -> dict[fx.Node, tuple[tuple[int, ...], torch.dtype]]:
    """Return the shape and the dtype of every tensor in a call; empty where none is found.

    Args:
        program: The program; a copy of it is run as it is now, since a forward may write buffers.
        example: The arguments of the call; without them images of common sizes are tried.
    """
    for arguments in call_arguments(program, example):
        try:
            recorder = _Recorder(copy_model(program.root).model, program.graph)
            with torch.no_grad():
                recorder.run(*arguments)
        except Exception:
            continue  # the next size may do
        return recorder.seen
    return {}


def call_arguments(program: Program, example: Arguments | None) -> Iterator[tuple[Any, ...]]:
    """Yield arguments for the inputs of a graph, in order: the example's, or noise of common sizes.

    Args:
        program: The program.
        example: The arguments of a call, or None.
    """
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    if example is not None:
        args, kwargs = map_tensors(torch.clone, example)  # a forward may write its inputs
        rest = placeholders[len(args) :]
        named = {**{str(n.target): n.args[0] for n in rest if n.args}, **kwargs}
        yield (*args, *(named[str(n.target)] for n in rest if str(n.target) in named))
        return
    required = [node for node in placeholders if not node.args]
    generator = torch.Generator().manual_seed(0)
    like = next((t for t in program.root.parameters() if t.is_floating_point()), torch.empty(0))
    for size in _IMAGE_SIZES:
        shapes = [(1, *_sizes(program, node, size)) for node in required]
        noise = [torch.randn(shape, generator=generator, device="cpu") for shape in shapes]
        yield tuple(one.to(like.device, like.dtype) for one in noise)


def _sizes(program: Program, node: fx.Node, size: int) -> tuple[int, ...]:
    """Return channels and size of an image, or of what else the first layer that reads it takes.

    Sequences and volumes have as many points as images: those of 224 along three axes would be 11
    million, and every layer behind them as slow.
    """
    for user in node.users:
        call = read_call(program, user)
        weight = None if call is None else call.tensor("weight")
        if call is None or weight is None or call.kind is not Kind.CONVOLUTION:
            continue
        channels = weight.shape[1] * int(call.options.get("groups", 1))
        axes = weight.ndim - 2
        return channels, *(round(size ** (2 / axes)),) * axes
    return 3, size, size
