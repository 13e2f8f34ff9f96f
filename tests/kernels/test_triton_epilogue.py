"""The kernel in Triton's interpreter, and its assembly; on a GPU see test_cuda_epilogue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bnfuse.kernels import Activation, Epilogue
from tests.kernels.interpreted import interpreter
from tests.kernels.support import ACTIVATIONS, drawn

if TYPE_CHECKING:
    from torch import Tensor

triton = pytest.importorskip("triton")
__all__ = ["interpreter"]
ROWS = 16
LIMITS = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""A unit in the last place; in float32 some. The interpreter cuts bfloat16 off, a GPU rounds."""
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")  # NumPy's, of infinities


def run(
    y: Tensor, bias: Tensor | None, other: Tensor | None, epilogue: Epilogue, width: int
) -> Tensor:
    """Write what the kernel makes of a result over a copy of it, and return that."""
    from bnfuse.kernels.triton_activations import formula
    from bnfuse.kernels.triton_epilogue import epilogue_kernel

    is_last = not y.is_contiguous()
    period = (y.shape[1] if is_last else y[0, 0].numel()) // width
    y = y.clone(memory_format=torch.preserve_format)
    groups = y.numel() // width
    numbers = epilogue.activation.numbers if epilogue.activation is not None else ()
    constants = (formula(epilogue.activation), epilogue.binary, bias is not None, is_last, width)
    epilogue_kernel[(-(-groups // ROWS),)](
        y,
        y if bias is None else bias,
        y if other is None else other,
        groups,
        period,
        y.shape[1],
        *(*numbers, 0.0, 0.0)[:2],
        *constants,
        ROWS,
    )
    return y


def wanted(y: Tensor, bias: Tensor | None, other: Tensor | None, epilogue: Epilogue) -> Tensor:
    """Return the same in float64, by PyTorch's operators."""
    exact = y.double() if bias is None else y.double() + bias.double().view(-1, 1, 1)
    return epilogue.plain(exact, () if other is None else (other.double(),))


def operands(
    dtype: torch.dtype, layout: torch.memory_format, *shape: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a result that begins with what is no number, a bias and a second value."""
    y, other = (3 * drawn(*shape, seed=seed) for seed in (0, 1))
    y[0, 0, 0, :4] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0])
    y, other = (t.to(dtype).contiguous(memory_format=layout) for t in (y, other))
    return y, drawn(shape[1], seed=2, dtype=dtype), other


def check(got: Tensor, exact: Tensor) -> None:
    assert torch.equal(got.isnan(), exact.isnan())
    assert torch.equal(got.isinf(), exact.isinf())
    off = (got.double() - exact).abs() / exact.abs().clamp(min=1)
    assert float(off[exact.isfinite()].max()) < LIMITS[got.dtype]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS], ids=str)
def test_numbers(
    interpreter: None,
    activation: Activation | None,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> None:
    y, bias, other = operands(dtype, layout, 2, 24, 3, 8)
    for binary in ("", "add", "mul"):
        given, epilogue = other if binary else None, Epilogue(binary, activation)
        for offset in (bias, None):
            got = run(y, offset, given, epilogue, 8)
            check(got, wanted(y, offset, given, epilogue))
            assert got.stride() == y.stride()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("width", [1, 2, 4])
def test_widths(interpreter: None, width: int, layout: torch.memory_format) -> None:
    y, bias, other = operands(torch.float32, layout, 3, 5 * width, 3, 7 * width)
    epilogue = Epilogue("add", Activation("relu"))
    check(run(y, bias, other, epilogue, width), wanted(y, bias, other, epilogue))


def test_negative_zero_of_relu_is_zero(interpreter: None) -> None:
    y = torch.full((1, 1, 2, 4), -0.0)
    got = run(y, None, None, Epilogue("", Activation("leaky_relu", (0.5,))), 4)
    assert got.signbit().all()


def compiled(dtype: str, width: int, *, is_last: bool) -> str:
    """Return the assembly of a kernel for a GPU of capability 9.0."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from bnfuse.kernels.triton_activations import formula
    from bnfuse.kernels.triton_epilogue import epilogue_kernel

    pointers, sizes, numbers = ("y", "bias", "other"), ("groups", "period", "channels"), ("a", "b")
    constants: dict[str, Any] = {
        "FORMULA": formula(Activation("silu")),
        "BINARY": "add",
        "HAS_BIAS": True,
        "IS_LAST": is_last,
        "WIDTH": width,
        "ROWS": 1024 // width,
    }
    signature = {
        **dict.fromkeys(pointers, f"*{dtype}"),
        **dict.fromkeys(sizes, "i32"),
        **dict.fromkeys(numbers, "fp32"),
        **dict.fromkeys(constants, "constexpr"),
    }
    aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(pointers))}
    source = ASTSource(epilogue_kernel, signature, constants, aligned)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    text: str = made.asm["ptx"]
    return text


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize(("dtype", "width"), [("fp16", 8), ("bf16", 8), ("fp32", 4)])
def test_threads_move_16_bytes(dtype: str, width: int, is_last: bool) -> None:
    text = compiled(dtype, width, is_last=is_last)
    whole = 1024 // 128 // width * (3 if is_last else 2)  # result, second value, bias of a pixel
    assert re.findall(r"ld\.global\S*", text).count("ld.global.v4.b32") == whole
    assert set(re.findall(r"st\.global\S*", text)) == {"st.global.v4.b32"}
