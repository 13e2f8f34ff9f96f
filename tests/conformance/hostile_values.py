"""Values that a graph may not freeze: random numbers, tensors made on the spot, data as control."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use
from torch.utils.checkpoint import checkpoint

from tests.conformance.case import Call, Case, Expect, case
from tests.conformance.models import block, given, image, net, pair, sample

NOT_CAPTURED = Expect(0, ("not-captured",))
NOT_NEXT = Expect(0, ("no-linear-producer",))
SINGLE = given((2, 3, 6, 7), dtype=torch.float32)


def autocast_inside(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        result: Tensor = self.b(self.c(x))
    return result


def autocast_around_conv(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        y = self.c(x)
    result: Tensor = self.b(y.float())
    return result


def autocast_around_block(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        result: Tensor = self.block(x)
    return result


@torch.autocast("cpu", torch.bfloat16)  # type: ignore[untyped-decorator]  # torch leaves it unannotated
def autocast_decorated(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.b(self.c(x))
    return result


def autocast_switched_off(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        result: Tensor = self.b(self.c(x))
    return result


@torch.no_grad()
def decorated(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.b(self.c(x))
    return result


def without_gradients(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = self.b(self.c(x))
    return y


def depends_on_grad_mode(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    return y if torch.is_grad_enabled() else y.argmax(1)


def positions(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    rows = torch.arange(y.shape[2], dtype=y.dtype, device=y.device)
    return y + rows.view(1, 1, -1, 1) + y.new_zeros(y.shape[-1]) + torch.zeros(1, dtype=y.dtype)


def default_dtype(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    return y + torch.linspace(0, 1, 4).view(4, 1, 1)


def literal(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    return y * torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).view(4, 1, 1)


def written_scratch(self: Any, x: Tensor) -> Tensor:
    scratch = torch.zeros(4, 1, 1, dtype=torch.float64)
    scratch += x.mean()
    result: Tensor = self.b(self.c(x)) + scratch
    return result


def noise_of_fixed_size(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.b(self.c(x)) + torch.randn(1, 4, 1, 1, dtype=torch.float64)
    return result


def noise_by_module_size(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.b(self.c(x)) * torch.rand(self.c.weight.shape[0]).view(-1, 1, 1)
    return result


def noise_in_place(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    y.add_(torch.empty_like(y).normal_())
    result: Tensor = self.b(y)
    return result


def permuted_at_random(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.b(self.c(x))[:, torch.randperm(4)]
    return result


def item_as_factor(self: Any, x: Tensor) -> Tensor:
    return self.b(self.c(x)) * x.max().item()


def loop_over_batch(self: Any, x: Tensor) -> Tensor:
    return torch.stack([self.block(one[None])[0] for one in x])


def loop_over_length(self: Any, x: Tensor) -> Tensor:
    for _ in range(len(x)):
        x = self.block(x)
    return x


def boolean_mask(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    return y[y > 0].sum() + torch.where(y > 0, y, -y).mean()


def through_numpy(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.block(x)
    return torch.from_numpy(y.detach().numpy() * 2)


def value(name: str, forward: Any, why: str, expect: Expect, *others: Expect, **rest: Any) -> Case:
    return case(
        f"value-{name}",
        rest.pop("make", lambda: pair(forward)),
        rest.pop("inputs", image),
        expect,
        why,
        also_right=others,
        **rest,
    )


def blocked(forward: Any) -> Any:
    return lambda: net(forward, block=block(3, 3, padding=1))


LOW = {"inputs": SINGLE, "dtype": torch.float32, "rtol": 3e-2}

MODES = (
    value("autocast-region", autocast_inside, "the result is bfloat16", NOT_CAPTURED, Expect(1),
          **LOW),
    value("autocast-region-around-the-conv", autocast_around_conv, "the norm is outside of it",
          NOT_CAPTURED, NOT_NEXT, **LOW | {"rtol": 1e-5}),
    value("autocast-region-around-a-block", autocast_around_block, "the block is traced apart",
          Expect(1), NOT_CAPTURED, make=blocked(autocast_around_block), **LOW),
    value("autocast-decorated", autocast_decorated, "the region is around the forward",
          NOT_CAPTURED, Expect(1), **LOW),
    value("autocast-outside", lambda s, x: s.b(s.c(x)), "the caller chooses the precision",
          Expect(1), around=lambda: torch.autocast("cpu", torch.bfloat16), **LOW),
    value("autocast-outside-switched-off-inside", autocast_switched_off,
          "the model insists on its own", NOT_CAPTURED, Expect(1),
          around=lambda: torch.autocast("cpu", torch.bfloat16), **LOW | {"rtol": 1e-5}),
    value("no-grad-decorated", decorated, "the decorator is around the forward", Expect(1)),
    value("no-grad-region", without_gradients, "a region that changes no value", Expect(1)),
    value("depends-on-grad-mode", depends_on_grad_mode, "the mode is the caller's", NOT_CAPTURED,
          Expect(1)),
    value("inference-mode-outside", lambda s, x: s.b(s.c(x)), "tensors of another kind", Expect(1),
          around=torch.inference_mode),
)  # fmt: skip

MADE = (
    value("positions-by-size", positions, "tensors by the size of the input", Expect(1),
          more=lambda: (Call((sample(1, 3, 9, 5),)),)),
    value("default-dtype", default_dtype, "single precision beside double", Expect(1)),
    value("literal-tensor", literal, "made anew at each call", Expect(1)),
    value("literal-tensor-written", written_scratch, "the scratch starts at zero each time",
          Expect(1), NOT_CAPTURED),
    value("tensor-attribute", lambda s, x: s.b(s.c(x)) + s.k, "neither parameter nor buffer",
          Expect(1), then=lambda model: setattr(model, "k", sample(4, 1, 1))),
)  # fmt: skip

RANDOM = (
    value("functional-dropout-after", lambda s, x: F.dropout(s.b(s.c(x))), "training=True is its "
          "default", Expect(1)),
    value("functional-dropout-between", lambda s, x: s.b(F.dropout(s.c(x), 0.3)),
          "it drops, in eval mode too", NOT_NEXT),
    value("functional-dropout-that-is-off", lambda s, x: s.b(F.dropout(s.c(x), 0.3, s.training)),
          "it is told the mode", Expect(1)),
    value("dropout-in-training-mode", lambda s, x: s.b(s.drop(s.c(x))), "one layer left in train()",
          NOT_NEXT, make=lambda: pair(lambda s, x: s.b(s.drop(s.c(x))), drop=nn.Dropout()),
          then=lambda model: model.drop.train()),
    value("noise-like-the-value", lambda s, x: (lambda y: y + torch.randn_like(y))(s.b(s.c(x))),
          "drawn at each call", Expect(1)),
    value("noise-of-fixed-size", noise_of_fixed_size, "tracing may draw it once and for all",
          Expect(1), NOT_CAPTURED),
    value("noise-by-module-size", noise_by_module_size, "likewise", Expect(1), NOT_CAPTURED),
    value("noise-in-place", noise_in_place, "written before the norm",
          Expect(0, ("several-readers",)),
          NOT_NEXT, grad_modes=(False,)),
    value("random-permutation", permuted_at_random, "channels in another order at each call",
          Expect(1), NOT_CAPTURED),
)  # fmt: skip

CONTROL = (
    value("item-as-factor", item_as_factor, "a number read from the data", NOT_CAPTURED, Expect(1)),
    value("loop-over-the-batch", loop_over_batch, "as many calls as images", Expect(1),
          make=blocked(loop_over_batch), once=False,
          more=lambda: (Call((sample(3, 3, 6, 7),)),)),
    value("loop-over-the-length", loop_over_length, "as many calls as images", Expect(1),
          make=blocked(loop_over_length), once=False,
          more=lambda: (Call((sample(3, 3, 6, 7),)),)),
    value("boolean-mask", boolean_mask, "sizes that depend on the data", Expect(1)),
    value("through-numpy", through_numpy, "a graph does not hold numpy", Expect(1),
          make=blocked(through_numpy)),
    value("checkpointed", lambda s, x: checkpoint(s.block, x, use_reentrant=False),
          "memory is saved in training", Expect(1), NOT_CAPTURED,
          make=blocked(lambda s, x: checkpoint(s.block, x, use_reentrant=False)),
          around=contextlib.nullcontext),
)  # fmt: skip

CASES = (*MODES, *MADE, *RANDOM, *CONTROL)
