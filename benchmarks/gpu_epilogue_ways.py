"""The ways to add a bias, a sum and an activation behind a convolution, each as a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.kernels.cuda_ending import Ending
from bnfuse.kernels.triton_launch import Compiled, Sizes, Variant, compiled, sizes, width

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from benchmarks.gpu_conv import Operands
    from bnfuse.kernels import Epilogue

    Call = Callable[[], Tensor]
    Launch = Callable[[tuple[Tensor, ...], tuple[int, ...]], object]

FORMULAS = {
    "": "x",
    "relu": "x <= 0.0f ? 0.0f : x",
    "silu": "x / (1.0f + ::exp(-x))",
    "hardswish": "x * ::min(::max(x + 3.0f, 0.0f), 6.0f) * 0.16666667f",
}
"""The activations of ``ENDED`` in CUDA."""


def conv(o: Operands, bias: Tensor | None, images: int | None = None) -> Tensor:
    """Return the convolution alone; of some images in float64, if that is asked for."""
    if images is None:
        return F.conv2d(o.x, o.weight, bias, o.stride, o.padding, 1, o.groups)
    x, weight = o.x[:images].double(), o.weight.double()
    return F.conv2d(x, weight, bias, o.stride, o.padding, 1, o.groups)


def _others(o: Operands) -> tuple[Tensor, ...]:
    return () if o.z is None else (o.z,)


def _operators(o: Operands, epilogue: Epilogue) -> Call:
    return lambda: epilogue.written(conv(o, o.bias), _others(o))


def bare(o: Operands, epilogue: Epilogue) -> Call:  # noqa: ARG001 - as the others
    """Return a convolution without bias, and nothing behind it."""
    return lambda: conv(o, None)


def _chosen(o: Operands, epilogue: Epilogue) -> Call:
    end = Ending(epilogue, o.x.get_device())
    return lambda: end(conv(o, None), o.bias, _others(o))


def _behind(o: Operands, launch: Launch) -> Call:
    """Return a convolution without bias, then a launch over its result."""

    def call() -> Tensor:
        y = conv(o, None)
        tensors = (y, o.bias, y if o.z is None else o.z)
        launch(tensors, tuple([t.data_ptr() for t in tensors]))
        return y

    return call


def kernel(o: Operands, epilogue: Epilogue) -> tuple[Compiled, Sizes]:
    """Return the kernel behind a convolution, compiled, and the sizes of its launches."""
    y = conv(o, None)
    is_last = not y.is_contiguous()
    period = y.shape[1] if is_last else y[0, 0].numel()
    at_once = width(period, y.dtype.itemsize)
    variant = Variant(
        y.get_device(), y.dtype, epilogue.activation, epilogue.binary, True, is_last, at_once
    )
    return compiled(variant), sizes(variant, y.numel(), period, y.shape[1])


def _by_triton(o: Operands, epilogue: Epilogue) -> Call:
    made, size = kernel(o, epilogue)
    return _behind(o, made.by_triton(size))


def directly(o: Operands, epilogue: Epilogue) -> Call:
    """Return what launches a kernel by its launcher, as bnfuse does."""
    made, size = kernel(o, epilogue)
    return _behind(o, made.directly(size))


def _publicly(o: Operands, epilogue: Epilogue) -> Call:
    """Return what launches a kernel as Triton's tutorials launch a compiled one."""
    made, size = kernel(o, epilogue)
    call, rest = made.kernel[(size.programs, 1, 1)], (*size[1:], *made.numbers, *made.constants)
    return _behind(o, lambda tensors, _: call(*tensors, *rest))


def _as_inductor(o: Operands, epilogue: Epilogue) -> Call:
    """Return what launches a kernel by the launcher in C++ that Inductor has."""
    made, size = kernel(o, epilogue)
    launcher: Any = torch._C._StaticCudaLauncher
    meta, stream = made.kernel.metadata, torch._C._cuda_getCurrentRawStream
    rest: tuple[Any, ...] = (*size[1:], *made.numbers)
    types = "OOOiiiff"  # three pointers, three sizes, two numbers
    for scratch in ("global_scratch_size", "profile_scratch_size"):
        if hasattr(meta, scratch):
            rest, types = (*rest, None), types + "O"
    made.kernel.run  # noqa: B018 - it loads the kernel
    head = (made.kernel.function, size.programs, 1, 1, meta.num_warps, meta.shared, types)
    at = made.device
    return _behind(
        o, lambda _, pointers: launcher._launch_kernel(*head, (*pointers, *rest), stream(at))
    )


def _jiterated(o: Operands, epilogue: Epilogue) -> Call:
    """Return a convolution, then a kernel of PyTorch's jiterator, out of place."""
    activation = "" if epilogue.activation is None else epilogue.activation.name
    names = ["y", "b", "z"] if epilogue.binary else ["y", "b"]
    head = ", ".join(f"T {name}" for name in names)
    total = " + ".join(f"static_cast<float>({name})" for name in names)
    body = f"float x = {total}; return static_cast<T>({FORMULAS[activation]});"
    made = torch.cuda.jiterator._create_jit_fn(f"template <typename T> T end({head}) {{ {body} }}")
    bias = o.bias.view(-1, 1, 1)
    result: Call = lambda: made(conv(o, None), bias, *_others(o))  # noqa: E731
    return result


WAYS = {
    "operators": _operators,
    "no epilogue": bare,
    "bnfuse": _chosen,
    "triton call": _by_triton,
    "compiled call": _publicly,
    "launcher": directly,
    "inductor": _as_inductor,
    "jiterator": _jiterated,
}
