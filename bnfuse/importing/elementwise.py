"""Operations on each element of one value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.importing.site import Operand, Site

_ONE_SIXTH, _SIX_DIGITS = 1 / 6, 1e-6
_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}


def _plain(function: Callable[..., Operand]) -> Callable[[Site], Operand]:
    def convert(site: Site) -> Operand:
        return site.call(function, site.value(0))

    return convert


def _with_attribute(
    function: Callable[..., Operand], name: str, argument: str, default: float
) -> Callable[[Site], Operand]:
    def convert(site: Site) -> Operand:
        number = site.attribute(name, default)
        return site.call(function, site.value(0), **{argument: number})

    return convert


def _clip(site: Site) -> Operand:
    """Clip: bounds that are constant numbers, or computed ones."""
    low, high = site.optional(1), site.optional(2)
    given = site.value(0)
    is_known = all(not site.has(index) or site.known(index) is not None for index in (1, 2))
    if is_known:
        bounds = [
            None if bound is None else site.number(index, 0.0)
            for index, bound in ((1, low), (2, high))
        ]
        if bounds == [None, None]:
            return given
        return site.call(torch.clamp, given, bounds[0], bounds[1])
    if low is not None:
        given = site.call(torch.maximum, given, low)
    return given if high is None else site.call(torch.minimum, given, high)


def _hard_sigmoid(site: Site) -> Operand:
    """HardSigmoid: ``clamp(alpha x + beta, 0, 1)``; PyTorch's has a slope of one sixth."""
    alpha, beta = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    given = site.value(0)
    if abs(alpha - _ONE_SIXTH) < _SIX_DIGITS and beta == 0.5:
        return site.call(F.hardsigmoid, given)
    line = site.call(torch.add, site.call(torch.mul, given, alpha), beta)
    return site.call(torch.clamp, line, 0.0, 1.0)


def _selu(site: Site) -> Operand:
    """Selu: ``gamma elu(x, alpha)``."""
    alpha, gamma = (site.attribute(name, default) for name, default in _SELU.items())
    return site.call(torch.mul, site.call(F.elu, site.value(0), alpha=alpha), gamma)


def _prelu(site: Site) -> Operand:
    """PRelu: one slope, one for each channel, or any that broadcast."""
    given, slope = site.value(0), site.known(1)
    dims = site.dims(0)
    if slope is not None and dims is not None and len(dims) > 1:
        is_channels = slope.ndim == len(dims) - 1 and slope.numel() == slope.shape[0] == dims[1]
        if slope.numel() == 1 or is_channels:
            flat = slope.reshape(-1)
            site.builder.name(flat, site.builder.name_of(slope))
            return site.call(F.prelu, given, flat)
    scaled = site.call(torch.mul, given, site.value(1))
    return site.call(torch.where, site.call(torch.lt, given, 0), scaled, given)


def _thresholded(site: Site) -> Operand:
    return site.call(F.threshold, site.value(0), site.attribute("alpha", 1.0), 0.0)


def _gelu(site: Site) -> Operand:
    kind = site.attribute("approximate", "none")
    return site.call(F.gelu, site.value(0), approximate=kind)


def _is_infinite(site: Site) -> Operand:
    """IsInf: of either sign, or of one."""
    wanted = (site.attribute("detect_negative", 1), site.attribute("detect_positive", 1))
    if wanted == (1, 1):
        return site.call(torch.isinf, site.value(0))
    if wanted == (0, 0):
        raise site.error("it looks for no infinity at all")
    return site.call(torch.eq, site.value(0), math.inf if wanted[1] else -math.inf)


def _cast(site: Site) -> Operand:
    return site.method("to", site.value(0), site.target_dtype())


def _cast_like(site: Site) -> Operand:
    dtype = site.dtype(1)
    if dtype is None:
        raise site.error("the file does not tell the type of its input 1")
    return site.method("to", site.value(0), dtype)


def _identity(site: Site) -> Operand:
    return site.value(0)


def _dropout(site: Site) -> Operand:
    """Dropout: nothing, unless it is told to train."""
    if site.has(2) and site.number(2, 0.0):
        raise site.error("it drops elements at random, as in training: export in eval mode")
    if len(site.outputs) > 1:
        raise site.error("its mask is read")
    return site.value(0)


_PLAIN: dict[str, Callable[..., Operand]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin,
    "Asinh": torch.asinh, "Atan": torch.atan, "Atanh": torch.atanh, "Ceil": torch.ceil,
    "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp,
    "Floor": torch.floor, "HardSwish": F.hardswish, "IsNaN": torch.isnan, "Log": torch.log,
    "Mish": F.mish, "Neg": torch.neg, "Not": torch.logical_not, "Reciprocal": torch.reciprocal,
    "Relu": F.relu, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign,
    "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": F.softplus, "Softsign": F.softsign,
    "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh,
}  # fmt: skip

OPERATORS: dict[str, Callable[[Site], Operand]] = {
    **{name: _plain(function) for name, function in _PLAIN.items()},
    "Elu": _with_attribute(F.elu, "alpha", "alpha", 1.0),
    "Celu": _with_attribute(F.celu, "alpha", "alpha", 1.0),
    "LeakyRelu": _with_attribute(F.leaky_relu, "alpha", "negative_slope", 0.01),
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "Selu": _selu,
    "PRelu": _prelu,
    "ThresholdedRelu": _thresholded,
    "Gelu": _gelu,
    "IsInf": _is_infinite,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Identity": _identity,
    "Dropout": _dropout,
}
"""The operations on elements."""
