"""Run some operations of a graph in float64, with the values their weights were rounded from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.func import functional_call

from bnfuse.affine import FEW_ELEMENTS, as_float64
from bnfuse.kernels import FusedLayer, release
from bnfuse.regions.convolution import MOST
from bnfuse.regions.layers import Layers
from bnfuse.regions.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from bnfuse.graph import Program


@dataclass(slots=True)
class Evaluator:
    """Runs operations of a program.

    Attributes:
        program: The program.
        nudge: By how much each constant is changed at most, relatively and at random, to learn how
            much rounding matters; 0 to take them as they are.
        is_exact: Whether everything is computed in float64, instead of the dtypes of the model.
        scratch: Memory for large weights, which stay there until it is cleared.

    Where operations are run before and after a rewrite, by one evaluator, layers that are the same
    compute once: see ``again``.
    """

    program: Program
    nudge: float = 0.0
    is_exact: bool = True
    scratch: Scratch | None = None
    _widened: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _large: dict[int, _Large] = field(default_factory=dict)
    _layers: Layers = field(default_factory=Layers)

    def run(self, nodes: Iterable[fx.Node], values: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
        """Run operations in order; ``values`` has those of their inputs, and gets theirs.

        Raises:
            Exception: Whatever an operation raises on its inputs.
        """
        for node in nodes:
            values[node] = self._value(node, values)
        return values

    def again(self, nodes: Iterable[fx.Node]) -> None:
        """Get ready to run what stands in the place of the operations that were run.

        Large weights that it reads as well stay in float64, with what layers computed of them.

        Args:
            nodes: What is to be run.
        """
        called = [self.program.module(str(n.target)) for n in nodes if n.op == "call_module"]
        read = {id(tensor) for module in called for tensor in module.parameters()}
        self._widened.clear()
        self._large = {k: v for k, v in self._large.items() if k in read and v.is_unwritten}
        if not self._large:
            self._layers.forget()
            if self.scratch is not None:
                self.scratch.clear()

    def _value(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        target: Any = node.target
        if node.op == "get_attr":
            tensor = self.program.tensor(str(target))
            if tensor is None:
                return self._constant(str(target))
            wide = self._wide(tensor)
            return wide.clone() if target in self.program.written else wide
        args = fx.node.map_aggregate(node.args, lambda a: self._argument(a, values))
        kwargs = fx.node.map_aggregate(node.kwargs, lambda a: self._argument(a, values))
        if node.op == "call_module":
            return self._call(self.program.module(str(target)), args, kwargs)
        if node.op == "call_method":
            name = _CASTS.get(target, target) if self.is_exact else target
            return getattr(args[0], name)(*args[1:], **kwargs)
        with self._layers:
            return target(*args, **kwargs)

    def _constant(self, path: str) -> Any:
        owner, _, name = path.rpartition(".")
        return getattr(self.program.root.get_submodule(owner), name)

    def _argument(self, argument: Any, values: dict[fx.Node, Any]) -> Any:
        if isinstance(argument, fx.Node):
            return values[argument]
        if isinstance(argument, torch.dtype) and argument.is_floating_point and self.is_exact:
            return torch.float64
        return _CPU if isinstance(argument, torch.device) and self.is_exact else argument

    def _call(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        large = self.is_exact and not self.nudge and _has_large_weight(module)
        call = _called if _is_plain(module) else functional_call
        state = {
            name: self._of_layer(module) if large and name == "weight" else self._wide(tensor)
            for name, tensor in module.named_parameters()
        }
        # A layer may write its buffers.
        state |= {name: self._wide(tensor).clone() for name, tensor in module.named_buffers()}
        try:
            with self._layers:
                return call(module, state, args, kwargs)
        finally:
            release(module)  # a fused layer notes which weight it was called with

    def _wide(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the model in float64, and nudged where that is asked for.

        It is on the CPU, as the inputs are, wherever the model is, and in memory of its own, since
        nobody knows what a module of the user's writes.
        """
        if not self.is_exact:
            return tensor.detach().clone()
        if not tensor.is_floating_point():
            return tensor.detach().to(_CPU)
        known = self._widened.get(id(tensor))
        if known is None:
            wide = as_float64(tensor).to(_CPU)
            wide = wide.clone() if wide.data_ptr() == tensor.data_ptr() else wide
            known = self._widened[id(tensor)] = (tensor, nudged(wide, self.nudge))
        return known[1]

    def _of_layer(self, module: nn.Module) -> Tensor:
        """Return the large weight of a layer in float64, or as it is, to be widened by rows."""
        tensor = module.get_parameter("weight")
        known = self._large.get(id(tensor))
        if known is not None:
            return known.made
        has_free_rows = isinstance(module, _LAYERS) and getattr(module, "groups", 1) == 1
        if has_free_rows and tensor.numel() > MOST:
            made = tensor.detach()
            self._layers.note(made, lambda rows: as_float64(tensor, rows).to(_CPU))
        elif self.scratch is None:
            return self._wide(tensor)
        else:
            made = self.scratch.widened(tensor)
            self._layers.note(made)
        self._large[id(tensor)] = _Large(tensor, made, _version(tensor))
        return made


@dataclass(frozen=True, slots=True)
class _Large:
    """The large weight of a layer.

    Attributes:
        tensor: The weight.
        made: What layers are called with in its place.
        version: Its version when that was made.
    """

    tensor: Tensor
    made: Tensor
    version: int

    @property
    def is_unwritten(self) -> bool:
        """Whether the weight is what it was."""
        return _version(self.tensor) == self.version


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a layer of PyTorch's, or a fused one, with nothing inside it, or tied."""
    is_known = type(module).__module__.startswith("torch.nn.modules.")
    tensors = [
        t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None
    ]
    is_alone = not module._modules and len({id(t) for t in tensors}) == len(tensors)
    return is_alone and (is_known or isinstance(module, FusedLayer))


def _called(module: nn.Module, state: dict[str, Tensor], args: Any, kwargs: Any) -> Any:
    """Call a layer with other tensors in the place of its own.

    ``functional_call`` does the same for any module, and takes as long as a small layer.
    """
    own = dict(module._parameters), dict(module._buffers)
    tables: Any = module._parameters, module._buffers
    try:
        for table in tables:
            table.update({name: state[name] for name in table if name in state})
        return module(*args, **kwargs)
    finally:
        for table, before in zip(tables, own, strict=True):
            table.update(before)


def _has_large_weight(module: nn.Module) -> bool:
    """Whether a module is a layer of PyTorch's whose weight takes memory that counts."""
    if type(module) not in _LAYERS and not isinstance(module, FusedLayer):
        return False
    weight = module._parameters.get("weight")
    return weight is not None and weight.is_floating_point() and weight.numel() > FEW_ELEMENTS


_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CPU = torch.device("cpu")
_CASTS = {"float": "double", "half": "double", "bfloat16": "double"}


def nudged(tensor: Tensor, by: float) -> Tensor:
    """Return a tensor with each element changed by a relative amount up to ``by``, at random.

    No two change alike: where two values cancel, such as a bias and a mean, it shows.
    """
    if not by:
        return tensor
    return tensor * (1 + by * (2 * torch.rand_like(tensor) - 1))
