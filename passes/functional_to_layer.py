"""Call a layer where its forward was seen through to the function that it calls.

::

    x ── F.conv2d(·, conv.weight, conv.bias, ...) ── y        before
    x ── conv ── y                                            after

A subclass of PyTorch's own layer, such as one that pads by itself or standardizes its weight, is
captured as what its forward does. What is left of that is the layer of PyTorch with the weight that
is known by now, and there are fused kernels for layers only. It stands where the subclass stood;
what the call reads is its ``weight`` and its ``bias``, however the subclass named them.

Declined, silently:

1. the call was not made in the forward of a subclass of ``nn.Linear``, ``nn.Conv1d``,
   ``nn.Conv2d`` or ``nn.Conv3d``, or that one has hooks or modules of its own;
2. something else reads its tensors, or calls it;
3. its tensors are computed, written by the forward, or not plain.

Source: ``torch.nn.Linear`` and ``torch.nn.Conv2d``, whose forwards are these calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import fx, nn

from bnfuse.graph.hooks import is_hooked
from bnfuse.ops import Call, Kind, layer_name, read_call
from bnfuse.ops.odd import is_fixed
from bnfuse.passes import base
from bnfuse.passes.base import Applied

if TYPE_CHECKING:
    from bnfuse.graph import Program
    from bnfuse.report import Decline

_LAYERS: dict[tuple[Kind, int], type[nn.Module]] = {
    (Kind.LINEAR, 2): nn.Linear,
    (Kind.CONVOLUTION, 3): nn.Conv1d,
    (Kind.CONVOLUTION, 4): nn.Conv2d,
    (Kind.CONVOLUTION, 5): nn.Conv3d,
}
"""The layer for a kind of call, with the number of axes of its weight."""


@dataclass(frozen=True, slots=True, eq=False)
class Match(base.Match):
    """A call that is all that a layer does.

    Attributes:
        call: The call.
        path: Where the layer stands.
        kind: The class of PyTorch that it is.
    """

    call: Call
    path: str
    kind: type[nn.Module]

    @property
    def name(self) -> str:
        """The qualified name of the layer."""
        return self.path

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The operation that changes."""
        return (self.call.node,)


@dataclass(frozen=True, slots=True)
class FunctionalToLayer:
    """The pass; what it does is in the description of this module."""

    name: ClassVar[str] = "functional-to-layer"
    is_exact: ClassVar[bool] = True

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the call at ``node`` if it is all that a layer does."""
        if node.op != "call_function":
            return None
        call = read_call(program, node)
        if call is None or not call.kind.is_linear or not is_fixed(program, call):
            return None
        path, weight = layer_name(node), call.tensor("weight")
        kind = None if weight is None else _LAYERS.get((call.kind, weight.ndim))
        if kind is None or path == node.name or not program.has(path):
            return None
        module = program.module(path)
        if not isinstance(module, kind) or is_hooked(module) or module._modules:
            return None
        return Match(call, path, kind) if _is_alone(program, module, call, path) else None

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return None: what is not all of a layer is no match."""
        return None

    def rewrite(self, program: Program, match: Match) -> Applied:
        """Put a layer of PyTorch in the place of the subclass, and call it."""
        node = match.call.node
        layer = _layer(program.module(match.path), match)
        with program.graph.inserting_before(node):
            called = program.graph.call_module(match.path, (match.call.input,))
        called.meta.update(node.meta)
        program.replace(node, called)
        program.erase(node)
        program.index.at("call_module", match.path).append(called)
        program.put_module(called, layer)
        return Applied(match.path, node.name, into=None)


def _is_alone(program: Program, module: nn.Module, call: Call, path: str) -> bool:
    """Whether a call is all that reads the tensors of a layer and its own, and nothing calls it."""
    names = [*module._parameters, *module._buffers]
    paths = {*(f"{path}.{name}" for name in names), *(c.path for c in call.owned.values())}
    readers = [reader for one in paths for reader in program.index.at("get_attr", one)]
    users = {user for reader in readers for user in reader.users}
    return users <= {call.node} and not program.is_called(path)


def _layer(module: nn.Module, match: Match) -> nn.Module:
    """Return the layer of PyTorch that does what a call does."""
    made: Any = match.kind.__new__(match.kind)
    made.__dict__.update(module.__dict__)
    tensors: dict[str, Any] = {name: match.call.tensor(name) for name in ("weight", "bias")}
    made.__dict__.update(_parameters=tensors, _buffers={}, _modules={})
    made.__dict__["_non_persistent_buffers_set"] = set()
    axes = tensors["weight"].ndim - 2
    for name, value in match.call.options.items():
        setattr(made, name, (value,) * axes if name in _WINDOW and type(value) is int else value)
    return made  # type: ignore[no-any-return]  # made as a layer


_WINDOW = ("stride", "padding", "dilation")
