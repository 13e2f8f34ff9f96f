"""Operations with weights: layers where the weights are constants, function calls where not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.importing.windows import padded, window

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.importing.site import Operand, Site

_CONVOLUTIONS: dict[int, tuple[type[Any], Callable[..., Any]]] = {
    1: (nn.Conv1d, F.conv1d),
    2: (nn.Conv2d, F.conv2d),
    3: (nn.Conv3d, F.conv3d),
}
_TRANSPOSED: dict[int, tuple[type[Any], Callable[..., Any]]] = {
    1: (nn.ConvTranspose1d, F.conv_transpose1d),
    2: (nn.ConvTranspose2d, F.conv_transpose2d),
    3: (nn.ConvTranspose3d, F.conv_transpose3d),
}
_NORMS: dict[int, type[Any]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}


def _convolution(site: Site) -> Operand:
    """Conv: paddings that differ at the two ends of an axis become an operation of their own."""
    axes = site.rank(1) - 2
    if axes not in _CONVOLUTIONS:
        raise site.error(f"it convolves {axes} axes, and PyTorch 1 to 3")
    module, function = _CONVOLUTIONS[axes]
    frame = window(site, [site.fixed_size(1, axis + 2) for axis in range(axes)])
    given, padding = padded(site, frame, 0.0)
    options = {
        "stride": frame.stride,
        "padding": padding,
        "dilation": frame.dilation,
        "groups": site.attribute("group", 1),
    }
    weight = site.known(1)
    if weight is None or not _has_known_bias(site):
        return site.call(function, given, site.value(1), site.optional(2), **options)
    groups = options["groups"]
    channels = (weight.shape[1] * groups, weight.shape[0])
    made = module(*channels, tuple(weight.shape[2:]), **options, bias=site.has(2), device="meta")
    return site.layer(_given(site, made, weight, site.known(2)), given)


def _transposed(site: Site) -> Operand:
    """ConvTranspose: paddings that differ at the two ends become an output padding."""
    axes = site.rank(1) - 2
    if axes not in _TRANSPOSED or site.attribute("output_shape", None):
        raise site.error("it convolves more than 3 axes, or asks for a shape of its result")
    module, function = _TRANSPOSED[axes]
    frame = window(site, [site.fixed_size(1, axis + 2) for axis in range(axes)], is_transposed=True)
    more = site.attribute("output_padding", [0] * axes)
    output_padding = tuple(o + b - e for o, b, e in zip(more, frame.begin, frame.end, strict=True))
    limits = [max(s, d) for s, d in zip(frame.stride, frame.dilation, strict=True)]
    if any(not 0 <= o < limit for o, limit in zip(output_padding, limits, strict=True)):
        raise site.error(f"PyTorch takes no paddings {frame.begin} and {frame.end} with it")
    options = {
        "stride": frame.stride,
        "padding": frame.begin,
        "output_padding": output_padding,
        "groups": site.attribute("group", 1),
        "dilation": frame.dilation,
    }
    weight = site.known(1)
    if weight is None or not _has_known_bias(site):
        return site.call(function, site.value(0), site.value(1), site.optional(2), **options)
    channels = (weight.shape[0], weight.shape[1] * options["groups"])
    made = module(*channels, tuple(weight.shape[2:]), **options, bias=site.has(2), device="meta")
    return site.layer(_given(site, made, weight, site.known(2)), site.value(0))


def _batch_norm(site: Site) -> Operand:
    """BatchNormalization with the statistics of training."""
    if site.attribute("training_mode", 0) or len(site.outputs) > 1:
        raise site.error("it computes statistics, as in training: export in eval mode")
    weight, bias, mean, variance = (site.known(index) for index in range(1, 5))
    epsilon = site.attribute("epsilon", 1e-5)
    dims = site.dims(0)
    kind = _NORMS.get(len(dims)) if dims is not None else None
    if kind is None or weight is None or bias is None or mean is None or variance is None:
        order = (site.value(index) for index in (3, 4, 1, 2))
        return site.call(F.batch_norm, site.value(0), *order, False, 0.0, epsilon)
    made = kind(weight.numel(), eps=epsilon, device="meta")
    made.running_mean, made.running_var = mean, variance
    made.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    return site.layer(_given(site, made, weight, bias), site.value(0))


def _product(site: Site) -> Operand:
    """MatMul: with a constant matrix on the right a linear layer."""
    matrix = site.known(1)
    if matrix is None or matrix.ndim != 2 or not matrix.is_floating_point() or site.is_constant:
        return site.call(torch.matmul, site.value(0), site.value(1))
    return _linear(site, site.value(0), matrix.t().contiguous(), None)


def _general_product(site: Site) -> Operand:
    """Gemm: ``alpha A' B' + beta C``."""
    a, b = site.value(0), site.value(1)
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    if site.attribute("transA", 0):
        a = site.call(torch.transpose, a, 0, 1)
    weight, bias = site.known(1), site.known(2)
    is_plain = alpha == 1 and (not site.has(2) or beta == 1) and not site.is_constant
    if is_plain and weight is not None and _is_vector(site, bias, weight):
        if not site.attribute("transB", 0):
            weight = weight.t().contiguous()
        return _linear(site, a, weight, None if bias is None else _flat(site, bias))
    if site.attribute("transB", 0):
        b = site.call(torch.transpose, b, 0, 1)
    product = site.call(torch.matmul, a, b)
    if alpha != 1:
        product = site.call(torch.mul, product, alpha)
    if not site.has(2):
        return product
    summand = site.value(2)
    return site.call(
        torch.add, product, summand if beta == 1 else site.call(torch.mul, summand, beta)
    )


def _is_vector(site: Site, bias: Tensor | None, weight: Tensor) -> bool:
    """Whether the summand is missing, or a constant with a number for each column."""
    if bias is None:
        return not site.has(2)
    columns = weight.shape[0 if site.attribute("transB", 0) else 1]
    return bias.numel() == columns and tuple(bias.shape) in ((columns,), (1, columns))


def _flat(site: Site, bias: Tensor) -> Tensor:
    if bias.ndim == 1:
        return bias
    flat = bias.reshape(-1)
    site.builder.name(flat, site.builder.name_of(bias))
    return flat


def _linear(site: Site, given: Operand, weight: Tensor, bias: Tensor | None) -> Operand:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    return site.layer(_given(site, made, weight, bias), given)


def _given(site: Site, made: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Put a file's weights into a layer that was made without any."""
    made.weight = site.builder.parameter(weight)
    if bias is not None:
        made.bias = site.builder.parameter(bias)
    return made


def _has_known_bias(site: Site) -> bool:
    return not site.has(2) or site.known(2) is not None


OPERATORS: dict[str, Callable[[Site], Operand]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "BatchNormalization": _batch_norm,
    "MatMul": _product,
    "Gemm": _general_product,
}
"""The operations with weights."""
