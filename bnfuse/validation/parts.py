"""Run a model in float64 without a float64 copy of it: each layer is widened while it is called.

::

    x ── layer ── y          x.double() ── layer with its tensors in float64 ── y
         W                                 W.double(), gone after the call

Widening is exact, so the values are those of ``model.double()``. What stands in float64 at a time
is the buffers, and the parameters of the layers whose calls are under way.

A forward that reads the weights of a layer it does not call would find them narrow, and a product
of two such weights would be rounded: any function that is given one is refused.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_ABOUT_SIZES = frozenset(
    {
        torch.Tensor.size,
        torch.Tensor.dim,
        torch.Tensor.numel,
        *(vars(torch._C.TensorBase)[name].__get__ for name in ("shape", "ndim", "device")),
    }
)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class NotByPartsError(Exception):
    """A model reads weights outside of the call of the layer that owns them."""


class WidenedCalls:
    """Runs a module in float64, layer by layer.

    Args:
        model: The module, a copy to be changed: its buffers become float64, and its layers get
            hooks that widen their parameters during their calls.

    Attributes:
        most_bytes: The most bytes all parameters ever took.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.data = buffer.data.double()
        self._reads = _NarrowReads(
            {id(tensor): name for name, tensor in model.named_parameters() if _is_narrow(tensor)}
        )
        self._kept: list[list[tuple[nn.Parameter, torch.Tensor]]] = []
        self.most_bytes = 0
        for module in model.modules():
            module.register_forward_pre_hook(self._widen, prepend=True)
            module.register_forward_hook(self._restore, always_call=True)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Refuse functions that read a parameter whose layer is not being called.

        Raises:
            NotByPartsError: One did.
        """
        try:
            with self._reads:
                yield
        finally:
            while self._kept:
                self._put_back()

    def _widen(self, module: nn.Module, _: Any) -> None:
        """Widen the parameters that a call of a layer reads, and remember what they were.

        Those of PyTorch's own layers read their children's too, as attention does.
        """
        is_torchs = type(module).__module__.startswith("torch.nn.")
        recurse = is_torchs and not isinstance(module, _CONTAINERS)
        with self._reads.allowed():
            mine = [p for p in module.parameters(recurse=recurse) if _is_narrow(p)]
            self._kept.append([(parameter, parameter.data) for parameter in mine])
            for parameter in mine:
                parameter.data = parameter.data.double()
            held = sum(p.numel() * p.element_size() for p in self._model.parameters())
            self.most_bytes = max(self.most_bytes, held)

    def _restore(self, _: nn.Module, __: Any, outputs: Any) -> Any:
        """Put the parameters of a call back; one that is itself returned stays wide."""
        with self._reads.allowed():
            own = {id(parameter) for parameter, _ in self._kept[-1]}
            wide = pytree.tree_map_only(
                nn.Parameter, lambda p: p.detach() if id(p) in own else p, outputs
            )
            self._put_back()
        return wide

    def _put_back(self) -> None:
        for parameter, data in self._kept.pop():
            parameter.data = data


class _NarrowReads(TorchFunctionMode):
    """Refuses functions that are given a parameter which is narrow at that moment.

    Args:
        names: The names of the parameters that are narrow outside of calls, by identity.
    """

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self._names = names
        self._is_on = True

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Refuse nothing for the time being."""
        before, self._is_on = self._is_on, False
        try:
            yield
        finally:
            self._is_on = before

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function, unless it would see a parameter in its own precision."""
        if self._is_on and func not in _ABOUT_SIZES:
            for given in pytree.tree_leaves((args, kwargs)):
                if id(given) in self._names and _is_narrow(given):
                    raise NotByPartsError(
                        f"{self._names[id(given)]} is read outside of its layer's call"
                    )
        return func(*args, **(kwargs or {}))


def _is_narrow(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype is not torch.float64
