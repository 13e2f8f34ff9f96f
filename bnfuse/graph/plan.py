"""A straight run of a graph: its kernels called one after another, nothing else in between.

A fused layer asks at each call whether a kernel may run, and which. On a CPU that, and the way to
the layer through its containers, is a tenth of a small network's time. So it is asked once for all
layers: a plan is a function made of the graph for inputs of one form, in which each fused layer is
the kernel that it chose. Before it runs, all that it relies on is compared: the modules and tensors
are those it was made of and in their places, none was written, no hook was added.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx
from torch.nn.modules import module as torch_module

from bnfuse.graph.clamp import ChannelClamp
from bnfuse.graph.hooks import is_hooked
from bnfuse.graph.plan_source import Source
from bnfuse.kernels import FusedLayer
from bnfuse.kernels.ordinary import is_ordinary

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from bnfuse.kernels.packed import Cache, Packed

_MOST_FORMS = 8
_MOST_TIMES = 32
"""How many plans are made for a graph; where weights change at each call they are not worth it."""
_look_up: Callable[..., Any] = dict.get


@dataclass(slots=True, eq=False)
class Draft:
    """What a plan relies on, as it is found.

    Attributes:
        places: Where each module and each tensor was found: a table, a name, and what was there.
        layers: The fused layers whose kernels are called, with what they had made.
        is_open: Whether a module of unknown code is called, whose results may need a gradient.
    """

    places: list[tuple[dict[str, Any], str, Any]] = field(default_factory=list)
    layers: list[tuple[FusedLayer, Cache, Packed]] = field(default_factory=list)
    is_open: bool = False


class Plan:
    """A run of a graph for inputs of one form.

    Args:
        run: The function.
        draft: What it relies on.
    """

    def __init__(self, run: Callable[..., Any], draft: Draft) -> None:
        self.run = run
        self._is_open = draft.is_open
        self._tables = [table for table, _, _ in draft.places]
        self._names = [name for _, name, _ in draft.places]
        self._found = [found for _, _, found in draft.places]
        self._hooks = [
            hooks for m, *_ in draft.layers for hooks in (m._forward_hooks, m._forward_pre_hooks)
        ]
        self._caches = [cache for _, cache, _ in draft.layers]
        self._packed = [packed for *_, packed in draft.layers]
        self._weights = [packed.weight for packed in self._packed]
        self._versions = [packed.version for packed in self._packed]
        biases = [m.bias for m, *_ in draft.layers if m.bias is not None]
        self._tensors = [*self._weights, *biases]
        pointers = [bias.data_ptr() for bias in biases]
        self._pointers = [*[packed.pointer for packed in self._packed], *pointers]

    def stands(self) -> bool:
        """Whether all that the plan relies on is as it was."""
        return not (
            any(map(operator.is_not, map(_look_up, self._tables, self._names), self._found))
            or any(self._hooks)
            or torch_module._has_any_global_hook()  # type: ignore[no-untyped-call]  # torch's
            or [weight._version for weight in self._weights] != self._versions
            or [tensor.data_ptr() for tensor in self._tensors] != self._pointers
            or any(map(operator.is_not, [c.packed for c in self._caches], self._packed))
        )

    def needs_gradient(self) -> bool:
        """Whether anything inside may need a gradient, where gradients are kept at all."""
        return self._is_open or any(
            isinstance(found, Tensor) and found.requires_grad for found in self._found
        )


class Plans:
    """The plans of one graph, by the form of the inputs."""

    def __init__(self) -> None:
        self._by_form: dict[tuple[Any, ...], Plan | None] = {}
        self._times = 0

    def run(
        self, module: fx.GraphModule, forward: Callable[..., Any], args: tuple[Any, ...]
    ) -> Any:
        """Return what a graph module makes of positional arguments.

        Args:
            module: The module.
            forward: Its own forward.
            args: The arguments.
        """
        if not is_ordinary(args):
            return forward(module, *args)
        form = tuple([(x.shape, x.dtype, x.get_device()) for x in args])
        plan = self._by_form.get(form)
        if plan is not None and plan.stands():
            is_needed = torch.is_grad_enabled() and (
                plan.needs_gradient() or any(x.requires_grad for x in args)
            )
            return forward(module, *args) if is_needed else plan.run(*args)
        result = forward(module, *args)
        if plan is not None or form not in self._by_form:
            self._make(module, form)
        return result

    def clear(self) -> None:
        """Give up all plans, and what they hold."""
        self._by_form = {}

    def _make(self, module: fx.GraphModule, form: tuple[Any, ...]) -> None:
        if len(self._by_form) >= _MOST_FORMS:
            self._by_form = {}
        self._times += 1
        is_worth_it = self._times <= _MOST_TIMES
        self._by_form[form] = made_plan(module, len(form)) if is_worth_it else None


def made_plan(module: fx.GraphModule, count: int) -> Plan | None:
    """Return a plan for a graph that has just run, with the kernels of that run.

    Args:
        module: The graph module.
        count: How many arguments it was given.

    Returns:
        None where there is nothing to gain, or an argument was left out.
    """
    nodes = list(module.graph.nodes)
    if type(module.graph._codegen) is not fx.graph.CodeGen:
        return None
    if sum(node.op == "placeholder" for node in nodes) != count:
        return None
    source, draft = Source(), Draft()
    for node in nodes:
        if node.op == "get_attr":
            source.bind(node, _at(module, str(node.target), draft))
        elif node.op == "call_module":
            _add_module(module, node, source, draft)
        else:
            source.add(node)
    return Plan(source.compiled(), draft) if draft.layers else None


def _add_module(module: fx.GraphModule, node: fx.Node, source: Source, draft: Draft) -> None:
    """Add a call of a module: by its kernel where it has chosen one."""
    layer: nn.Module = _at(module, str(node.target), draft)
    if not isinstance(layer, FusedLayer) or is_hooked(layer):
        is_known = type(layer).__module__.startswith("torch.nn.modules.")
        draft.is_open |= not (is_known or type(layer) is ChannelClamp)
        source.call(node, layer)
        return
    cache = layer._cache
    packed, size, tensors = cache.packed, cache.last, layer._parameters
    weight, bias = tensors.get("weight"), tensors.get("bias")
    draft.places += [(tensors, "weight", weight), (tensors, "bias", bias)]
    kernel = None if packed is None or size is None else packed.kernels.get(size)
    if packed is None or kernel is None or weight is None or not packed.is_of(weight):
        source.call(node, layer)
        return
    draft.layers.append((layer, cache, packed))
    source.call_kernel(node, layer, kernel, (size, weight.dtype, bias))


def _at(root: nn.Module, path: str, draft: Draft) -> Any:
    """Return what stands at a path, and note each step of the way as a place to look at."""
    found: Any = root
    for name in path.split("."):
        tables = (found._parameters, found._buffers, found._modules, found.__dict__)
        table = next(table for table in tables if name in table)
        found = table[name]
        draft.places.append((table, name, found))
    return found
