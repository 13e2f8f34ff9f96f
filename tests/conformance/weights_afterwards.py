"""What users do after optimizing, and weights of other kinds."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from tests.conformance.case import Case, Expect, case
from tests.conformance.models import block, conv, given, image, net, norm, pair, sample
from tests.conformance.weights import quietly

SINGLE = given((2, 3, 6, 7), dtype=torch.float32)


class LowRank(nn.Module):
    """A convolution with a low-rank update beside it, as adapters have it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = conv(3, 4)
        self.down = conv(3, 2, bias=False)
        self.up = conv(2, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base(x) + self.up(self.down(x)) * 0.5
        return result


def quantized_linear() -> nn.Module:
    from torch.ao.nn.quantized import dynamic

    layer: Any = quietly(lambda: dynamic.Linear(5, 4))()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    weight = sample(4, 5, dtype=torch.float32)
    quantize = quietly(lambda: torch.quantize_per_tensor(weight, 0.05, 0, torch.qint8))
    layer.set_weight_bias(quantize(), sample(4, dtype=torch.float32))
    return nn.Sequential(layer, nn.BatchNorm1d(4))


def reads_attributes(model: nn.Module, fused: nn.Module) -> None:
    """What a layer's owner reads is there after folding."""
    layer, before = (m.get_submodule("c") for m in (fused, model))
    assert isinstance(layer.bias, Tensor), "the bias of the folded layer"
    for name in ("stride", "padding", "in_channels", "out_channels", "groups"):
        assert getattr(layer, name) == getattr(before, name)
    assert layer.weight.shape == before.weight.shape
    assert not any(p.requires_grad for p in fused.parameters())


def loads_its_state(model: nn.Module, fused: nn.Module) -> None:
    """A checkpoint of an optimized model goes into another one."""
    file = io.BytesIO()
    torch.save(fused.state_dict(), file)
    file.seek(0)
    other = bnfuse.optimize(model)
    for value in other.state_dict().values():
        value.zero_()
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(*image()), fused(*image()))


def is_independent(model: nn.Module, fused: nn.Module) -> None:
    """Training on does not change what was optimized; optimizing again sees the new weights."""
    before = fused(*image())
    model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
        model(*image())
    model.eval()
    assert torch.equal(fused(*image()), before)
    again = bnfuse.optimize(model)(*image())
    assert torch.allclose(again, model(*image()), rtol=1e-9, atol=1e-9)


def plain(name: str, why: str, also: Any, *cites: str) -> Case:
    return case(
        f"d{name}",
        lambda: pair(lambda s, x: s.b(s.c(x)), c=conv(3, 4, bias=False)),
        image,
        Expect(1),
        why,
        also=also,
        cites=cites,
    )


AFTERWARDS = (
    plain(
        "3-attributes-of-the-folded-layer",
        "users read them after optimizing",
        reads_attributes,
        "pytorch#69158",
        "pytorch#68892",
        "ultralytics#18691",
    ),
    plain(
        "4-checkpoint-of-an-optimized-model",
        "the bias was not in the architecture",
        loads_its_state,
        "mmdetection#2924",
        "mmdetection#2848",
    ),
    plain("5-training-goes-on", "nothing is cached or shared", is_independent, "pytorch#108863"),
    case(
        "d6-quantized-linear",
        quantized_linear,
        given((3, 5), dtype=torch.float32),
        Expect(0, ("no-linear-producer",)),
        "packed weights are left alone",
        dtype=torch.float32,
        rtol=1e-6,
    ),
    case(
        "d6-low-rank-update",
        lambda: nn.Sequential(LowRank(), norm(4)),
        image,
        Expect(1),
        "the norm acts on the sum, its scale goes to both",
    ),
    case(
        "d6-fake-quantized-weight",
        lambda: net(
            lambda s, x: s.b(F.conv2d(x, torch.fake_quantize_per_tensor_affine(
                s.w, 0.05, 0, -128, 127))), w=nn.Parameter(sample(4, 3, 3, 3).float()), b=norm(4)),
        SINGLE,
        Expect(1),
        "fold into the quantized values, not into the raw ones",
        dtype=torch.float32,
        rtol=1e-5,
    ),
    case(
        "d6-weights-as-plain-tensors",
        lambda: pair(lambda s, x: s.b(F.conv2d(x, s.w)), c=nn.Identity()),
        image,
        Expect(1),
        "a tensor that is neither parameter nor buffer",
        then=lambda model: setattr(model, "w", sample(4, 3, 3, 3)),
    ),
    case("d6-block-in-block", lambda: nn.Sequential(nn.Sequential(block())), image, Expect(1),
         "names with several parts"),
)  # fmt: skip


CASES = (*AFTERWARDS,)
