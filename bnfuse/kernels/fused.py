"""Layers that do the work of what follows them as well, with kernels of oneDNN, cuDNN or Triton.

::

    x ── conv ── + r ── relu ── y          before
    x, r ── conv + r, relu ── y            after

A fused layer is the layer it was, at the same place, with the same parameters, and takes what is
added to its result as a second argument. It runs PyTorch's own operators wherever anything but the
numbers may be asked for: gradients, graphs, other devices, autocast (``bnfuse.kernels.ordinary``).
On a GPU its result is laid out as PyTorch's own operator lays it out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from bnfuse.kernels import cudnn_calls
from bnfuse.kernels.direct import Job
from bnfuse.kernels.ordinary import is_ordinary, needs_gradient
from bnfuse.kernels.packed import Cache, Packed
from bnfuse.kernels.probe import onednn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.kernels.epilogue import Epilogue
    from bnfuse.kernels.packed import Kernel


class FusedLayer(nn.Module):
    """What all fused layers share; the other base of each is the layer it stands for.

    Attributes:
        epilogue: What it does to its result.
        returns_contiguous: Whether its result is to be contiguous, where oneDNN would return it
            channels last: something reads it that could tell, or reads signals slowly that are.
        is_plain: Whether PyTorch's own operators are to run it, whatever the input: how its result
            is laid out decides what a write reaches.
        choices: For inputs of some shapes, by measurement, whether oneDNN is to run them; the
            others go by a fixed rule.
    """

    weight: Tensor
    bias: Tensor | None
    epilogue: Epilogue
    returns_contiguous: bool
    is_plain: bool
    choices: dict[tuple[int, ...], bool]
    _cache: Cache

    def forward(self, input: Tensor, *others: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        """Return ``activation(layer(input) + other)``; without a second argument, no sum."""
        weight, bias = self._parameters.get("weight"), self._parameters.get("bias")
        if (
            weight is None
            or not is_ordinary((input, *others))
            or bool(others) is not bool(self.epilogue.binary)
            or needs_gradient((input, weight, bias, *others))
            or input.dtype is not weight.dtype
            or input.device != weight.device
            or (bias is not None and (bias.dtype is not weight.dtype or not bias.is_contiguous()))
        ):
            return self._plain(input, others)
        kernel = self._cache.kernel(weight, input.shape, lambda packed: self._chosen(packed, input))
        if kernel is None:
            return self._plain(input, others)
        return kernel(input, bias, *others)

    def is_faster(self, x: Tensor) -> bool:
        """Whether oneDNN is to run inputs of a shape: as measured, or as a fixed rule has it."""
        measured = self.choices.get(tuple(x.shape))
        return self._is_large(x) if measured is None else measured

    def takes(self, packed: Packed, x: Tensor) -> bool:
        """Whether PyTorch's own operators take such an input, and oneDNN does as well."""
        raise NotImplementedError

    def by_onednn(self, packed: Packed, x: Tensor) -> Kernel:
        """Return what runs inputs of a shape by oneDNN."""
        raise NotImplementedError

    def job(self, packed: Packed, x: Tensor, by_pytorch: Callable[[Packed], Kernel]) -> Job:
        """Return what oneDNN is to know of the layer; ``by_pytorch`` makes PyTorch's kernel."""
        weight = packed.weight.detach()
        # A kernel that held what it is kept in would live until cycles are looked for.
        apart = Packed(packed.weight, packed.version, packed.pointer)
        otherwise = partial(by_pytorch, apart)
        return Job(x.shape, weight, self.bias, self.epilogue, packed.formats, otherwise)

    def by_operators(self, packed: Packed, x: Tensor) -> Kernel:  # noqa: ARG002 - some layers need them
        """Return what runs inputs of a shape by plain operators, the activation in place."""
        return lambda x, _, *others: self.epilogue.written(self.alone(x), others)

    def _is_large(self, x: Tensor) -> bool:
        raise NotImplementedError

    def alone(self, x: Tensor) -> Tensor:
        """Return the result of the layer alone, by PyTorch's own operators."""
        raise NotImplementedError

    def decides(self, packed: Packed, x: Tensor) -> bool | None:
        """Whether oneDNN is to run inputs of a shape; None for only PyTorch's own operators."""
        if not x.is_cpu or x.dtype not in onednn().dtypes or not self.takes(packed, x):
            return None
        return self.is_faster(x)

    def by_cudnn(self, packed: Packed, x: Tensor) -> Kernel | None:  # noqa: ARG002 - convolutions need them
        """Return what runs inputs of a shape by cuDNN; None where it has no fused kernel."""
        return None

    def by_triton(self, packed: Packed, x: Tensor) -> Kernel | None:
        """Return what runs inputs of a shape with one kernel behind; None where that is no gain."""
        raise NotImplementedError

    def _chosen(self, packed: Packed, x: Tensor) -> Kernel | None:
        if self.is_plain:
            return None
        if x.is_cuda:
            if x.dtype not in cudnn_calls.DTYPES or not self.takes(packed, x):
                return None
            fused = self.by_cudnn(packed, x) or self.by_triton(packed, x)
            return fused or self.by_operators(packed, x)
        decided = self.decides(packed, x)
        if decided is None:
            return None
        chosen = self.by_onednn(packed, x) if decided else self.by_operators(packed, x)
        return self.laid_out(chosen)

    def laid_out(self, kernel: Kernel) -> Kernel:
        """Return a kernel whose result is contiguous, if the layer's is to be."""
        return _made_contiguous(kernel) if self.returns_contiguous else kernel

    def _plain(self, x: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        return self.epilogue.plain(self.alone(x), others)

    def extra_repr(self) -> str:
        """Return what the layer shows, and what it does beside."""
        return ", ".join(filter(None, (super().extra_repr(), str(self.epilogue))))

    def release(self) -> None:
        """Give up the packed weight; the next call makes it again."""
        self._cache.release()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.release()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, on which kernels may depend."""
        super().__setattr__(name, value)
        if "_cache" in self.__dict__:
            self._cache.release()

    def __getstate__(self) -> dict[str, Any]:
        """Leave packed weights behind: a copy makes its own."""
        return {**self.__dict__, "_cache": Cache()}


def _made_contiguous(kernel: Kernel) -> Kernel:
    """Return a kernel whose result is contiguous."""
    return lambda *args: kernel(*args).contiguous()
