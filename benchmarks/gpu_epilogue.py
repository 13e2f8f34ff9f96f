"""What is the cheapest way to add a bias, a sum and an activation behind a convolution.

The ways: PyTorch's operators; one Triton kernel, launched by Triton's own call, by the compiled
kernel's public call, by its launcher, and by that of Inductor; one kernel of ``torch.cuda.
jiterator``; and what bnfuse chose. Each is timed by the clock of the processor, many calls without
waiting for the GPU, and as a replay of a CUDA graph, and compared with float64.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from benchmarks.gpu_conv import operands
from benchmarks.gpu_guard import cudnn_tf32, deviation, guarded
from benchmarks.gpu_plan import ENDED
from benchmarks.gpu_timing import kernel_us
from bnfuse.kernels import Activation, Epilogue, triton_launch, triton_probe
from bnfuse.kernels.cuda_ending import Ending
from bnfuse.kernels.triton_launch import Compiled, Sizes, Variant, compiled, sizes, width

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from benchmarks.gpu_conv import Operands

    Call = Callable[[], Tensor]
    Timer = Callable[[Call], float]
    Launch = Callable[[tuple[Tensor, ...], tuple[int, ...]], object]

CALLS, ROUNDS = 60, 9
COMPARED = 4
ELEMENTS, WARPS = (512, 1024, 2048, 4096), (4, 8)
FORMULAS = {
    "": "x",
    "relu": "x <= 0.0f ? 0.0f : x",
    "silu": "x / (1.0f + ::exp(-x))",
    "hardswish": "x * ::min(::max(x + 3.0f, 0.0f), 6.0f) * 0.16666667f",
}
"""The activations of ``ENDED`` in CUDA."""


def ending(
    shape: str,
    dtype: str,
    batch: int,
    is_last: bool,
    device: str = "cuda",
    timer: Timer = kernel_us,
) -> dict[str, Any]:
    """Compute and time a convolution with all that follows it, in each of the ways."""
    conv, name = ENDED[shape]
    layout = torch.channels_last if is_last else torch.contiguous_format
    o = operands(conv, dtype, batch, device, layout)
    epilogue = Epilogue("add" if conv.residual else "", Activation(name) if name else None)
    wanted = epilogue.plain(
        _conv(o, o.bias.double(), COMPARED), () if o.z is None else (o.z[:COMPARED].double(),)
    )
    with cudnn_tf32(False):
        found = {
            name: guarded(_figures, way, o, epilogue, wanted, timer) for name, way in WAYS.items()
        }
    return {"candidates": found}


def _figures(
    way: Callable[[Operands, Epilogue], Call],
    o: Operands,
    epilogue: Epilogue,
    wanted: Tensor,
    timer: Timer,
) -> dict[str, Any]:
    call = way(o, epilogue)
    error = deviation(call()[: len(wanted)], wanted)
    return {"error": error, "host_us": host_us(call), "us": timer(call)}


def host_us(call: Call) -> float:
    """Return the microseconds of the processor that a call takes, the GPU not waited for."""
    times = []
    for _ in range(ROUNDS):
        _wait()
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        times.append((time.perf_counter() - start) / CALLS * 1e6)
    _wait()
    return statistics.median(times)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _conv(o: Operands, bias: Tensor | None, images: int | None = None) -> Tensor:
    """Return the convolution alone; of some images in float64, if that is asked for."""
    if images is None:
        return F.conv2d(o.x, o.weight, bias, o.stride, o.padding, 1, o.groups)
    x, weight = o.x[:images].double(), o.weight.double()
    return F.conv2d(x, weight, bias, o.stride, o.padding, 1, o.groups)


def _others(o: Operands) -> tuple[Tensor, ...]:
    return () if o.z is None else (o.z,)


def _operators(o: Operands, epilogue: Epilogue) -> Call:
    return lambda: epilogue.written(_conv(o, o.bias), _others(o))


def _bare(o: Operands, epilogue: Epilogue) -> Call:  # noqa: ARG001 - as the others
    return lambda: _conv(o, None)


def _chosen(o: Operands, epilogue: Epilogue) -> Call:
    end = Ending(epilogue, o.x.get_device())
    return lambda: end(_conv(o, None), o.bias, _others(o))


def _behind(o: Operands, launch: Launch) -> Call:
    """Return a convolution without bias, then a launch over its result."""

    def call() -> Tensor:
        y = _conv(o, None)
        tensors = (y, o.bias, y if o.z is None else o.z)
        launch(tensors, tuple([t.data_ptr() for t in tensors]))
        return y

    return call


def kernel(o: Operands, epilogue: Epilogue) -> tuple[Compiled, Sizes]:
    """Return the kernel behind a convolution, compiled, and the sizes of its launches."""
    y = _conv(o, None)
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


def _directly(o: Operands, epilogue: Epilogue) -> Call:
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
    result: Call = lambda: made(_conv(o, None), bias, *_others(o))  # noqa: E731
    return result


WAYS = {
    "operators": _operators,
    "no epilogue": _bare,
    "bnfuse": _chosen,
    "triton call": _by_triton,
    "compiled call": _publicly,
    "launcher": _directly,
    "inductor": _as_inductor,
    "jiterator": _jiterated,
}


def accuracy(
    dtype: str, device: str = "cuda", shape: tuple[int, ...] = (8, 32, 64, 64)
) -> dict[str, Any]:
    """Return the errors of each activation behind a sum and a bias, and those of operators.

    They are the largest deviations from float64, relative to the larger of 1 and the exact value.
    """
    activations = [Activation(n, *more) for n, *more in ACTIVATIONS]
    found = {str(a): guarded(_errors, a, dtype, device, shape) for a in activations}
    return {"candidates": found}


ACTIVATIONS: tuple[tuple[Any, ...], ...] = (
    ("relu",),
    ("relu6",),
    ("hardtanh", (-0.5, 0.75)),
    ("leaky_relu", (0.1,)),
    ("sigmoid",),
    ("tanh",),
    ("silu",),
    ("hardswish",),
    ("hardsigmoid",),
    ("gelu", (), "none"),
    ("gelu", (), "tanh"),
)
"""All there are."""


def _errors(
    activation: Activation, dtype: str, device: str, shape: tuple[int, ...]
) -> dict[str, Any]:
    generator = torch.Generator(device).manual_seed(0)
    y, bias, other = (
        (3 * torch.randn(s, generator=generator, device=device)).to(getattr(torch, dtype))
        for s in (shape, (shape[1], 1, 1), shape)
    )
    epilogue = Epilogue("add", activation)
    wanted = epilogue.plain(y.double() + bias.double(), (other.double(),))
    by_operators = epilogue.plain(y + bias, (other,))
    end = Ending(epilogue, y.get_device())
    got = end(y.clone(), bias.flatten(), (other,))
    known = triton_probe._KNOWN.values()
    notes = [note for _, note in known if note]
    return {
        "operators": _error(by_operators, wanted),
        "kernel": _error(got, wanted),
        "direct": all(
            made is not None and made.is_direct for made, _ in triton_probe._KNOWN.values()
        ),
        "notes": "; ".join(dict.fromkeys(notes)),
    }


def _error(got: Tensor, wanted: Tensor) -> float:
    return float(((got.double() - wanted).abs() / wanted.abs().clamp(min=1)).max())


def blocks(
    shape: str, dtype: str, batch: int = 32, device: str = "cuda", timer: Timer = kernel_us
) -> dict[str, Any]:
    """Time the kernel with other numbers of elements for a program, and of warps."""
    conv, name = ENDED[shape]
    o = operands(conv, dtype, batch, device)
    epilogue = Epilogue("", Activation(name))
    found = {"no epilogue": guarded(lambda: {"us": timer(_bare(o, epilogue))})}
    before = triton_launch.ELEMENTS, triton_launch.WARPS
    try:
        for elements in ELEMENTS:
            for warps in WARPS:
                triton_launch.ELEMENTS, triton_launch.WARPS = elements, warps
                found[f"{elements} in {warps} warps"] = guarded(
                    lambda: {"us": timer(_directly(o, epilogue))}
                )
    finally:
        triton_launch.ELEMENTS, triton_launch.WARPS = before
    return {"candidates": found}
