"""Precisions, and the bias that is easily lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import block, conv, given, image, norm, pair

if TYPE_CHECKING:
    from collections.abc import Callable

HALF = given((2, 3, 6, 7), dtype=torch.float16)
SINGLE = given((2, 3, 6, 7), dtype=torch.float32)


def image_of_zeros() -> tuple[Tensor]:
    return (torch.zeros(1, 3, 4, 4, dtype=torch.float64),)


def infinite_variance(model: Any) -> None:
    model[1].running_var.copy_(torch.full((4,), 1e5))  # past the largest half, 65504: infinite


def tremendous_scale(model: Any) -> None:
    """Make a scale of 6e5: the folded weights do not fit half precision, the outputs do."""
    with torch.no_grad():
        model[1].weight.fill_(2e3)
        model[1].running_var.zero_()
        model[1].running_mean.zero_()
        model[0].bias.zero_()


def no_variance(model: Any) -> None:
    """Leave nothing but eps below the root, which is no number above 0 in half precision."""
    model[1].running_var.zero_()
    model[1].running_mean.copy_(model[0].bias.detach())  # so that the outputs fit
    model[1].eps = 1e-8


def subnormal_variance(model: Any) -> None:
    model[1].running_var.fill_(1e-7)
    model[1].running_mean.copy_(model[0].bias.detach())


def no_scale(model: Any) -> None:
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].running_var.zero_()
    model[1].eps = 0.0  # 0 times infinity, which the norm itself computes as well


def dead_channels(model: Any) -> None:
    with torch.no_grad():
        model[1].weight[:2] = torch.tensor([0.0, 1e-7])


def tiny_scale(model: Any) -> None:
    """Make folded weights of 1e-6, where half precision has four bits left, for inputs of 1e3."""
    with torch.no_grad():
        model[1].weight.fill_(1e-5)
        model[1].bias.zero_()


def edge(name: str, then: Callable[[Any], object], factor: float, expect: Expect, why: str) -> Case:
    return case(
        f"c6-half-{name}",
        block,
        lambda: (HALF()[0] * factor,),
        expect,
        why,
        also_right=(Expect(0, ("check-failed",)),) if then is no_scale else (),
        dtype=torch.float16,
        then=then,
        rtol=1e-2,
    )


EDGES = (
    edge("eps-alone", no_variance, 1e-2, Expect(1), "eps is a number, not a tensor of half"),
    edge("subnormal-variance", subnormal_variance, 1e-2, Expect(1), "exact in float64"),
    edge("dead-channels", dead_channels, 1.0, Expect(1), "beside others they do not count"),
    edge(
        "zero-times-infinity",
        no_scale,
        1.0,
        Expect(0, ("not-finite",)),
        "left as it is; no output is a number",
    ),
    edge(
        "folded-weights-underflow",
        tiny_scale,
        1e3,
        Expect(0, ("overflow",)),
        "the folded weights keep four bits, the unfused ones eleven",
    ),
)


PRECISION = (
    case(
        "c6-half",
        block,
        HALF,
        Expect(1),
        "computed wide, rounded once",
        cites=("pytorch#145623", "YOLOX#1246"),
        dtype=torch.float16,
        rtol=1e-2,
    ),
    case(
        "c6-bfloat16",
        block,
        given((2, 3, 6, 7), dtype=torch.bfloat16),
        Expect(1),
        "likewise with eight bits of mantissa",
        cites=("pytorch#144888",),
        dtype=torch.bfloat16,
        rtol=6e-2,
    ),
    case(
        "c6-half-infinite-variance",
        block,
        HALF,
        Expect(1),
        "the scale is zero, and so is what the norm itself computes",
        cites=("coreai-torch#54",),
        also_right=(Expect(0, ("not-finite",)),),
        dtype=torch.float16,
        then=infinite_variance,
        rtol=1e-2,
    ),
    case(
        "c6-half-folded-weight-overflows",
        block,
        lambda: (given((2, 3, 6, 7))()[0].mul(1e-2).to(torch.float16),),
        Expect(0, ("overflow",)),
        "the folded weights would be infinite, the outputs are not",
        dtype=torch.float16,
        then=tremendous_scale,
        rtol=1e-2,
    ),
    case(
        "c6-half-conv-single-norm",
        block,
        HALF,
        Expect(1),
        "the result stays half, as the norm itself keeps it",
        cites=("pytorch#99696", "pytorch#133968"),
        dtype=torch.float16,
        then=lambda model: model[1].float(),
        rtol=1e-2,
    ),
    case(
        "c6-bfloat16-conv-single-norm",
        block,
        given((2, 3, 6, 7), dtype=torch.bfloat16),
        Expect(1),
        "the same in the other half precision",
        cites=("pytorch#133968",),
        dtype=torch.bfloat16,
        then=lambda model: model[1].float(),
        rtol=6e-2,
    ),
    case(
        "c6-single",
        block,
        SINGLE,
        Expect(1),
        "the ordinary precision",
        dtype=torch.float32,
        rtol=1e-5,
    ),
    case(
        "c6-cast-between",
        lambda: pair(lambda s, x: s.b(s.c(x).double())),
        SINGLE,
        Expect(0, ("no-linear-producer",)),
        "the convolution makes single, the norm double precision",
        dtype=torch.float32,
        then=lambda model: model.b.double(),
        also_right=(Expect(0, ("mixed-dtype",)),),
        rtol=1e-5,
    ),
)


def biased(name: str, *, bias: bool, affine: bool) -> Case:
    return case(
        f"c12-{name}",
        lambda: nn.Sequential(conv(3, 4, 1, bias=bias), norm(4, affine=affine)),
        image,
        Expect(1),
        "the new bias is shift + scale * bias; either term is easily lost",
        cites=("yolov3#807", "ncnn#1339"),
    )


BIAS = (
    biased("conv-with-bias", bias=True, affine=True),
    biased("conv-without-bias", bias=False, affine=True),
    biased("conv-without-bias-norm-without-affine", bias=False, affine=False),
    case(
        "c12-bias-alone-shows-on-zeros",
        block,
        image_of_zeros,
        Expect(1),
        "only the bias is left of the output",
    ),
)


CASES = (
    *PRECISION,
    *EDGES,
    *BIAS,
)
