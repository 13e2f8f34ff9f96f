"""What is the cheapest way to add a bias, a sum and an activation behind a convolution.

The ways: PyTorch's operators; one Triton kernel, launched by Triton's own call, by the compiled
kernel's public call, by its launcher, and by that of Inductor; one kernel of ``torch.cuda.
jiterator``; and what bnfuse chose. Each is timed by the clock of the processor, many calls without
waiting for the GPU, and as a replay of a CUDA graph, and compared with float64.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from benchmarks.gpu_conv import operands
from benchmarks.gpu_epilogue_ways import WAYS, bare, conv, directly
from benchmarks.gpu_guard import cudnn_tf32, deviation, guarded
from benchmarks.gpu_latency import measured
from benchmarks.gpu_models import calls
from benchmarks.gpu_plan import ENDED
from benchmarks.gpu_timing import captured, kernel_us
from bnfuse.kernels import Activation, Epilogue, triton_launch, triton_probe
from bnfuse.kernels.cuda_ending import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from benchmarks.gpu_conv import Operands

    Call = Callable[[], Tensor]
    Timer = Callable[[Call], float]

CALLS, ROUNDS = 60, 9
COMPARED = 4
ELEMENTS, WARPS = (512, 1024, 2048, 4096), (4, 8)


def ending(
    shape: str,
    dtype: str,
    batch: int,
    is_last: bool,
    device: str = "cuda",
    timer: Timer = kernel_us,
) -> dict[str, Any]:
    """Compute and time a convolution with all that follows it, in each of the ways."""
    chosen, name = ENDED[shape]
    layout = torch.channels_last if is_last else torch.contiguous_format
    o = operands(chosen, dtype, batch, device, layout)
    epilogue = Epilogue("add" if chosen.residual else "", Activation(name) if name else None)
    wanted = epilogue.plain(
        conv(o, o.bias.double(), COMPARED), () if o.z is None else (o.z[:COMPARED].double(),)
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


def whole(
    model: str, dtype: str, batch: int, device: str = "cuda", seconds: float = 2.0
) -> dict[str, Any]:
    """Time an optimized model with and without the kernel, in both layouts, as ``gpu_latency``."""
    made: dict[str, Call] = {}
    for title, reason in (("operators", "it is not asked for"), ("one kernel", "")):
        found = calls(model, dtype, batch, device)
        with patch.object(triton_probe, "lacks", lambda _, reason=reason: reason):
            for name in ("bnfuse", "bnfuse channels_last"):
                call = found[name]
                call()  # its layers choose their kernels
                made[name.replace("bnfuse", title)] = call
    return measured(made, {name: partial(captured, call) for name, call in made.items()}, seconds)


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
    chosen, name = ENDED[shape]
    o = operands(chosen, dtype, batch, device)
    epilogue = Epilogue("", Activation(name))
    found = {"no epilogue": guarded(lambda: {"us": timer(bare(o, epilogue))})}
    before = triton_launch.ELEMENTS, triton_launch.WARPS
    try:
        for elements in ELEMENTS:
            for warps in WARPS:
                triton_launch.ELEMENTS, triton_launch.WARPS = elements, warps
                found[f"{elements} in {warps} warps"] = guarded(
                    lambda: {"us": timer(directly(o, epilogue))}
                )
    finally:
        triton_launch.ELEMENTS, triton_launch.WARPS = before
    return {"candidates": found}
