"""The fused layers there are, one for each layer of PyTorch that there are kernels for."""

from __future__ import annotations

import operator
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import nn

from bnfuse.kernels import cuda_epilogue, cuda_runners, direct_runners, runners
from bnfuse.kernels.fused import FusedLayer
from bnfuse.kernels.onednn_calls import Geometry
from bnfuse.kernels.packed import Cache
from bnfuse.kernels.sizes import FEW_PRODUCTS, is_large, is_slower_copied

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.kernels.epilogue import Epilogue
    from bnfuse.kernels.packed import Kernel, Packed


class _Convolution(FusedLayer):
    """What fused convolutions of all ranks share."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...] | str
    groups: int
    _conv_forward: Callable[..., Tensor]  # that of the other base

    def takes(self, packed: Packed, x: Tensor) -> bool:
        """Whether an input is a batch of the right channels, no smaller than the kernel."""
        return runners.output_shape(x.shape, packed.weight.shape, self._geometry()) is not None

    def by_onednn(self, packed: Packed, x: Tensor) -> Kernel:
        """Return what runs inputs of a shape by oneDNN."""
        size, geometry, epilogue = x.shape, self._geometry(), self.epilogue

        def by_pytorch(packed: Packed) -> Kernel:
            return runners.convolution(packed, size, geometry, epilogue)

        job = self.job(packed, x, by_pytorch)
        return direct_runners.convolution(job, geometry) or by_pytorch(packed)

    def by_cudnn(self, packed: Packed, x: Tensor) -> Kernel | None:
        """Return what runs inputs of a shape by cuDNN; None where it has no fused kernel."""
        return cuda_runners.convolution(packed, x, self.bias, self._geometry(), self.epilogue)

    def by_triton(self, packed: Packed, x: Tensor) -> Kernel | None:
        """Return what runs inputs of a shape with one kernel behind; None where that is no gain."""
        if self._is_matrix(packed, x):
            return None  # its product adds the bias
        return cuda_epilogue.convolution(packed, x, self.bias, self._geometry(), self.epilogue)

    def by_operators(self, packed: Packed, x: Tensor) -> Kernel:
        """Return what runs inputs of a shape by plain operators; single pixels are rows."""
        if self._is_matrix(packed, x):
            return runners.plain_pointwise(packed, self.epilogue)
        return super().by_operators(packed, x)

    def _is_matrix(self, packed: Packed, x: Tensor) -> bool:
        """Whether a linear layer is to run it: single pixels."""
        is_pixel = prod(x.shape[2:]) == prod(packed.weight.shape[2:]) == 1
        is_slow = x.is_cuda and x.dtype.itemsize > 2  # for convolutions alone TF32 is the default
        return is_pixel and not is_slow and self.groups == 1 and not any(self._geometry().padding)

    def _geometry(self) -> Geometry:
        padding = self.padding
        if padding == "same":
            steps = zip(self.dilation, self.weight.shape[2:], strict=True)
            padding = tuple(d * (k - 1) // 2 for d, k in steps)
        if isinstance(padding, str):
            padding = (0,) * len(self.stride)
        return Geometry(padding, self.stride, self.dilation, self.groups)

    def _is_large(self, x: Tensor) -> bool:
        shape = runners.output_shape(x.shape, self.weight.shape, self._geometry())
        pixels = 0 if shape is None else shape[0] * prod(shape[2:])
        weights = self.weight.numel()
        return is_large(pixels * self.groups, weights, pixels * weights)

    def alone(self, x: Tensor) -> Tensor:
        """Return the result of the layer alone, by PyTorch's own operators."""
        result: Tensor = self._conv_forward(x, self.weight, self.bias)
        return result


class FusedConv1d(_Convolution, nn.Conv1d):
    """A 1-d convolution with an epilogue: to oneDNN one of images of one row.

    There is no memory format for results channels last, but they are laid out so all the same where
    nothing could tell (``bnfuse.kernels.channels_last``) and nothing would read them slowly: the
    next layer reads them as they are.
    """

    def _is_large(self, x: Tensor) -> bool:
        is_by_sample = x.mT.is_contiguous() and not x.is_contiguous()
        is_copied = self.returns_contiguous and not is_by_sample
        return super()._is_large(x) and not (is_copied and is_slower_copied(x, self.weight))


class FusedConv2d(_Convolution, nn.Conv2d):
    """A 2-d convolution with an epilogue."""


class FusedConv3d(_Convolution, nn.Conv3d):
    """A 3-d convolution with an epilogue."""


class FusedLinear(FusedLayer, nn.Linear):  # type: ignore[misc]  # a bias may be missing
    """A linear layer with an epilogue."""

    def takes(self, packed: Packed, x: Tensor) -> bool:
        """Whether an input is of rows of the right length."""
        return x.ndim > 1 and x.shape[-1] == packed.weight.shape[1] and x.numel() > 0

    def by_onednn(self, packed: Packed, x: Tensor) -> Kernel:
        """Return what runs inputs of a shape by oneDNN."""
        size, epilogue = x.shape, self.epilogue

        def by_pytorch(packed: Packed) -> Kernel:
            return runners.linear(packed, size, epilogue)

        return direct_runners.linear(self.job(packed, x, by_pytorch)) or by_pytorch(packed)

    def by_triton(self, packed: Packed, x: Tensor) -> Kernel | None:
        """Return what runs inputs of a shape with one kernel behind; None where that is no gain."""
        return cuda_epilogue.linear(packed, x, self.epilogue)

    def _is_large(self, x: Tensor) -> bool:
        rows, weights = prod(x.shape[:-1]), self.weight.numel()
        return is_large(rows, weights, rows * weights)

    def alone(self, x: Tensor) -> Tensor:
        """Return the result of the layer alone, by PyTorch's own operators."""
        return nn.functional.linear(x, self.weight, self.bias)


class FusedConvTranspose2d(FusedLayer, nn.ConvTranspose2d):  # type: ignore[misc]  # likewise
    """A transposed 2-d convolution with an epilogue."""

    def takes(self, packed: Packed, x: Tensor) -> bool:
        """Whether an input is a batch of the right channels, and the layer a usual one."""
        geometry, extra = self._geometry(), self.output_padding
        fits = x.ndim == 4 and x.shape[1] == packed.weight.shape[0] and x.numel() > 0
        is_usual = geometry.is_usual and all(map(operator.lt, extra, geometry.stride))
        if not fits or not is_usual or self.groups != 1:
            return False
        return min(self._sizes(x)) > 0

    def by_onednn(self, packed: Packed, x: Tensor) -> Kernel:
        """Return what runs inputs of a shape by oneDNN."""
        geometry, extra, epilogue = self._geometry(), tuple(self.output_padding), self.epilogue

        def by_pytorch(packed: Packed) -> Kernel:
            return runners.transposed(packed, geometry, extra, epilogue)

        shape = torch.Size([x.shape[0], self.weight.shape[1], *self._sizes(x)])
        job = self.job(packed, x, by_pytorch)
        return direct_runners.transposed(job, geometry, extra, shape) or by_pytorch(packed)

    def _sizes(self, x: Tensor) -> list[int]:
        """Return the lengths of the spatial axes of the result."""
        extra, kernel = self.output_padding, self.weight.shape[2:]
        axes = zip(x.shape[2:], kernel, *self._geometry()[:3], extra, strict=True)
        return [(n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, p, s, d, e in axes]

    def by_triton(self, packed: Packed, x: Tensor) -> Kernel | None:
        """Return what runs inputs of a shape with one kernel behind; None where that is no gain."""
        return cuda_epilogue.transposed(
            packed, x, self.bias, self._geometry(), tuple(self.output_padding), self.epilogue
        )

    def _geometry(self) -> Geometry:
        sides = tuple(map(int, self.padding))
        return Geometry(sides, tuple(self.stride), tuple(self.dilation), self.groups)

    def _is_large(self, x: Tensor) -> bool:
        return x.numel() // x.shape[1] * self.weight.numel() >= FEW_PRODUCTS

    def alone(self, x: Tensor) -> Tensor:
        """Return the result of the layer alone, by PyTorch's own operators."""
        result: Tensor = nn.ConvTranspose2d.forward(self, x)
        return result


_FUSED: dict[type[nn.Module], type[FusedLayer]] = {
    nn.Conv1d: FusedConv1d,
    nn.Conv2d: FusedConv2d,
    nn.Conv3d: FusedConv3d,
    nn.ConvTranspose2d: FusedConvTranspose2d,
    nn.Linear: FusedLinear,
}


_AXES = {nn.Linear: 2, nn.Conv1d: 3, nn.Conv2d: 4, nn.ConvTranspose2d: 4, nn.Conv3d: 5}
"""How many axes a layer's weight has."""


def can_fuse(module: nn.Module) -> bool:
    """Whether there is a fused layer for a layer: exactly for PyTorch's own, padded with zeros.

    >>> can_fuse(nn.Conv1d(1, 1, 1)), can_fuse(nn.ConvTranspose1d(1, 1, 1))
    (True, False)
    """
    if getattr(module, "padding_mode", "zeros") != "zeros":
        return False
    if getattr(module, "padding", None) == "same":
        steps = zip(module.dilation, module.kernel_size, strict=True)  # type: ignore[arg-type]  # a convolution's
        if any(d * (k - 1) % 2 for d, k in steps):
            return False
    if type(module) not in _FUSED:
        return False
    weight = module._parameters.get("weight")  # the caller may have put another in its place
    return weight is not None and weight.ndim == _AXES[type(module)]


def fuse(module: nn.Module, epilogue: Epilogue) -> FusedLayer:
    """Return the fused layer for a layer, sharing its tensors, its attributes and its hooks.

    Args:
        module: A layer for which ``can_fuse``.
        epilogue: What it is to do to its result.

    >>> from bnfuse.kernels.epilogue import Epilogue
    >>> fuse(nn.Linear(2, 3), Epilogue("add"))
    FusedLinear(in_features=2, out_features=3, bias=True, binary=add)
    """
    made = _FUSED[type(module)].__new__(_FUSED[type(module)])
    made.__dict__.update(module.__dict__)
    for table in ("_parameters", "_buffers", "_modules"):
        made.__dict__[table] = dict(module.__dict__[table])
    made.epilogue = epilogue
    made.returns_contiguous = made.is_plain = False
    made.choices = {}
    made._cache = Cache()
    return made


def release(model: nn.Module) -> None:
    """Give up the packed weights of a model; calls make them again as they need them."""
    for module in model.modules():
        if isinstance(module, FusedLayer) or "_plans" in module.__dict__:
            module.release()  # type: ignore[operator]  # a method of both
