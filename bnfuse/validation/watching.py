"""See what each layer of a model computes in a call, by its name."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bnfuse.graph.part import part_forward
from bnfuse.kernels.fused import FusedLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn


class Call(NamedTuple):
    """A call of a layer: its name, and how many calls of it came before."""

    layer: str
    number: int

    def __str__(self) -> str:
        return self.layer if not self.number else f"{self.layer}, call {self.number + 1}"


def layers_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules inside a model with their names, each once.

    Those of a part that runs a graph are those of its graph: a hook on one of its own would make
    it run its own Python.
    """
    hidden: set[int] = set()
    for name, module in model.named_modules():
        if id(module) in hidden:
            continue
        if name:
            yield name, module
        forward = part_forward(module)
        if forward is None:
            continue
        hidden |= {id(inner) for inner in module.modules()}
        for inner_name, inner in layers_of(forward.optimized) if forward.optimized else ():
            if id(inner) not in hidden:
                yield f"{name}.{inner_name}" if name else inner_name, inner


@contextmanager
def watched(
    model: nn.Module,
    sink: Callable[[Call, bool, Tensor], None],
    fused: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[None]:
    """Hand over what the layers compute, as long as it is entered.

    A fused layer hands over what the layer computes alone, which is computed for that, and its
    result as that of the last layer fused with it.

    Args:
        model: The model.
        fused: For fused layers, the last one that they do the work of.
        sink: Gets each call of a layer that returns a floating-point tensor, whether the layer has
            no layers inside, and the tensor, which later operations may write.
    """
    numbers: Counter[str] = Counter()

    def hook_of(name: str, is_leaf: bool) -> Callable[[nn.Module, Any, Any], None]:
        def note(layer: str, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.is_floating_point():
                sink(Call(layer, numbers[layer]), is_leaf, output.detach())
                numbers[layer] += 1

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(module, FusedLayer) and not module.epilogue.is_empty:
                note(name, module.alone(args[0]))
                note(fused.get(name, ""), output)
            else:
                note(name, output)

        return hook

    with ExitStack() as stack:
        for name, module in layers_of(model):
            is_leaf = next(module.children(), None) is None
            stack.enter_context(module.register_forward_hook(hook_of(name, is_leaf)))
        yield
