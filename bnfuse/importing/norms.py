"""Norms that compute their statistics from the value itself, softmax and attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.importing.site import Operand, Site


def _layer_norm(site: Site) -> Operand:
    """LayerNormalization over all axes from ``axis`` on."""
    if len(site.outputs) > 1:
        raise site.error("its statistics are read")
    scale, bias = site.known(1), site.known(2)
    epsilon = site.attribute("epsilon", 1e-5)
    shape = _normalized_shape(site)
    is_layer = scale is not None and tuple(scale.shape) == shape and not site.is_constant
    if is_layer and scale is not None and (bias is not None or not site.has(2)):
        made = nn.LayerNorm(shape, eps=epsilon, bias=site.has(2), device="meta")
        made.weight = site.builder.parameter(scale)
        if bias is not None:
            made.bias = site.builder.parameter(bias)
        return site.layer(made, site.value(0))
    normalized = site.call(F.layer_norm, site.value(0), shape, None, None, epsilon)
    return _scaled(site, normalized)


def _rms_norm(site: Site) -> Operand:
    """RMSNormalization over all axes from ``axis`` on."""
    shape = _normalized_shape(site)
    epsilon = site.attribute("epsilon", 1e-5)
    return _scaled(site, site.call(F.rms_norm, site.value(0), shape, None, epsilon))


def _normalized_shape(site: Site) -> tuple[int, ...]:
    axis = site.attribute("axis", -1)
    scale = site.known(1)
    count = -axis if axis < 0 else site.rank(0) - axis
    if scale is not None and scale.ndim == count and 1 not in scale.shape:
        return tuple(scale.shape)
    rank = site.rank(0)
    return tuple(site.fixed_size(0, index) for index in range(rank - count, rank))


def _scaled(site: Site, normalized: Operand) -> Operand:
    scaled = site.call(torch.mul, normalized, site.value(1))
    return site.call(torch.add, scaled, site.value(2)) if site.has(2) else scaled


def _instance_norm(site: Site) -> Operand:
    epsilon = site.attribute("epsilon", 1e-5)
    options = {"weight": site.value(1), "bias": site.value(2), "eps": epsilon}
    return site.call(F.instance_norm, site.value(0), **options)


def _group_norm(site: Site) -> Operand:
    """GroupNormalization with a scale for each channel, as it is since opset 21."""
    groups, epsilon = site.attribute("num_groups", 1), site.attribute("epsilon", 1e-5)
    return site.call(F.group_norm, site.value(0), groups, site.value(1), site.value(2), epsilon)


def _response_norm(site: Site) -> Operand:
    """LRN; PyTorch's reaches as far as ONNX's where it is as wide as an odd number."""
    size = site.attribute("size", 1)
    if size % 2 == 0:
        raise site.error(f"its size {size} is even")
    numbers = [site.attribute(*pair) for pair in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))]
    return site.call(F.local_response_norm, site.value(0), size, *numbers)


def _softmax(function: Callable[..., Tensor]) -> Callable[[Site], Operand]:
    def convert(site: Site) -> Operand:
        return site.call(function, site.value(0), site.attribute("axis", -1))

    return convert


def _attention(site: Site) -> Operand:
    """Attention of values with four axes, without a cache."""
    options = ("softcap", "qk_matmul_output_mode", "q_num_heads", "kv_num_heads")
    is_odd = any(site.attribute(name, 0) for name in options) or len(site.outputs) > 1
    if is_odd or len(site.inputs) > 4 or site.attribute("softmax_precision", 1) != 1:
        raise site.error("it has a cache, heads in one axis, a softcap or a precision of its own")
    if {site.rank(index) for index in range(3)} != {4}:
        raise site.error("its inputs do not have four axes")
    if site.fixed_size(0, 1) != site.fixed_size(1, 1):
        raise site.error("several queries share a key")
    return site.call(
        F.scaled_dot_product_attention, *(site.value(index) for index in range(3)),
        attn_mask=site.optional(3), is_causal=bool(site.attribute("is_causal", 0)),
        scale=site.attribute("scale", None),
    )  # fmt: skip


OPERATORS: dict[str, Callable[[Site], Operand]] = {
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LRN": _response_norm,
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Attention": _attention,
}
"""The norms, and what normalizes over an axis."""
