"""The shapes of all values of a graph in one call of it, for regions that take no guessed shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from bnfuse.ops.calls import read_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from bnfuse.graph import Program
    from bnfuse.validation.inputs import Arguments

_IMAGE_SIZES = (224, 64, 32, 128, 256)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what each value looks like."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.root, graph=program.graph)
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
        program: The program; it is run as it is now.
        example: The arguments of the call; without them images of common sizes are tried.
    """
    for arguments in _arguments(program, example):
        recorder = _Recorder(program)
        try:
            with torch.no_grad():
                recorder.run(*arguments)
        except Exception:
            continue  # the next size may do
        return recorder.seen
    return {}


def _arguments(program: Program, example: Arguments | None) -> Iterator[tuple[Any, ...]]:
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    if example is not None:
        args, kwargs = example
        rest = placeholders[len(args) :]
        given = [kwargs[str(n.target)] for n in rest if str(n.target) in kwargs]
        yield (*(a.clone() if isinstance(a, torch.Tensor) else a for a in args), *given)
        return
    channels = next(_channels(program, placeholders), 3)
    for size in _IMAGE_SIZES:
        yield tuple(_image(channels, size) for node in placeholders if not node.args)


def _channels(program: Program, placeholders: Iterable[fx.Node]) -> Iterator[int]:
    """Yield how many channels the layers read that take an input of the model."""
    for node in placeholders:
        for user in node.users:
            call = read_call(program, user)
            weight = None if call is None else call.tensor("weight")
            if call is not None and weight is not None and weight.ndim == 4:
                yield weight.shape[1] * int(call.options.get("groups", 1))


def _image(channels: int, size: int) -> Tensor:
    return torch.randn(1, channels, size, size)
