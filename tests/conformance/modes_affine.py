"""Batch norms under other names: functions, frozen ones, subclasses; and norms beside norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import conv, image, net, norm, pair, sample

NO_AFFINE = Expect(None, ops={"mul": 0, "add": 0, "rsqrt": 0})


def with_statistics(forward: Any) -> nn.Module:
    """Return a module that holds the tensors of a norm as its own."""
    return net(
        forward,
        c=conv(3, 4),
        mean=sample(4),
        var=sample(4, seed=2).abs() + 0.5,
        weight=nn.Parameter(sample(4, seed=3)),
        bias=nn.Parameter(sample(4, seed=4)),
    )


def functional(name: str, forward: Any, why: str, expect: Expect | None = None) -> Case:
    return case(
        f"c8-{name}",
        lambda: with_statistics(forward),
        image,
        expect or Expect(1),
        why,
        cites=("pytorch#122070",),
    )


def by_hand(self: Any, x: Tensor) -> Tensor:
    scale = self.weight / torch.sqrt(self.var + 1e-5)
    shift = self.bias - self.mean * scale
    y: Tensor = self.c(x) * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
    return y


FUNCTIONAL = (
    functional(
        "functional-by-keyword",
        lambda s, x: F.batch_norm(
            s.c(x), running_var=s.var, running_mean=s.mean, bias=s.bias, weight=s.weight, eps=0.1
        ),
        "arguments in no order",
    ),
    functional(
        "functional-by-position",
        lambda s, x: F.batch_norm(s.c(x), s.mean, s.var, s.weight, s.bias, False, 0.1, 0.1),
        "every argument at its position",
    ),
    functional(
        "functional-without-affine",
        lambda s, x: F.batch_norm(s.c(x), s.mean, s.var),
        "two tensors are enough",
    ),
    functional(
        "functional-mode-of-the-module",
        lambda s, x: F.batch_norm(s.c(x), s.mean, s.var, s.weight, s.bias, s.training),
        "the mode is an attribute",
    ),
    functional(
        "torch-batch-norm",
        lambda s, x: torch.batch_norm(
            s.c(x), s.weight, s.bias, s.mean, s.var, False, 0.1, 1e-5, False
        ),
        "another order of arguments",
    ),
    functional(
        "functional-in-training-mode",
        lambda s, x: F.batch_norm(s.c(x), None, None, s.weight, s.bias, True),
        "the statistics of the batch, whatever the mode",
        Expect(0, ("training-mode",)),
    ),
    case(
        "c9-frozen-by-hand",
        lambda: with_statistics(by_hand),
        image,
        NO_AFFINE,
        "an affine computed from constants, operation by operation",
    ),
)


def frozen() -> nn.Module:
    """Return a convolution with torchvision's frozen norm, its statistics made random."""
    from torchvision.ops import FrozenBatchNorm2d

    model = nn.Sequential(conv(3, 4), FrozenBatchNorm2d(4))
    for name, buffer in model[1].named_buffers():
        buffer.copy_(sample(4).abs() + 0.5 if name == "running_var" else sample(4, seed=len(name)))
    return model


def timm_norm_act() -> nn.Module:
    from timm.layers.norm_act import BatchNormAct2d

    return nn.Sequential(conv(3, 4), BatchNormAct2d(4))


def timm_layer_norm() -> nn.Module:
    from timm.layers.norm import LayerNorm2d

    return nn.Sequential(conv(3, 4), LayerNorm2d(4))


class PlainSubclass(nn.BatchNorm2d):
    """The same norm under another name."""


class PlusOne(nn.BatchNorm2d):
    """A norm that adds one more."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch gives it
        return super().forward(input) + 1


SUBCLASSES = (
    case(
        "c9-frozen-batch-norm-of-torchvision",
        frozen,
        image,
        NO_AFFINE,
        "its scale and shift are computed from buffers at each call",
        cites=("mobile-vision#98",),
    ),
    case(
        "c10-sync-batch-norm",
        lambda: nn.Sequential(conv(3, 4), nn.SyncBatchNorm(4)),
        image,
        Expect(1),
        "in eval mode it is a batch norm",
    ),
    case(
        "c10-norm-with-activation-of-timm",
        timm_norm_act,
        image,
        Expect(1),
        "a subclass whose forward ends in an activation",
    ),
    case(
        "c10-layer-norm-that-looks-alike",
        timm_layer_norm,
        image,
        Expect(0),
        "its statistics are those of the value",
    ),
    case(
        "c10-subclass-without-a-forward",
        lambda: nn.Sequential(conv(3, 4), PlainSubclass(4)),
        image,
        Expect(1),
        "the class is another, the forward is not",
    ),
    case(
        "c10-subclass-with-another-forward",
        lambda: nn.Sequential(conv(3, 4), PlusOne(4)),
        image,
        Expect(1),
        "what the subclass adds is not lost",
    ),
    case(
        "c10-instance-norm-with-running-statistics",
        lambda: nn.Sequential(
            conv(3, 4), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        ),
        image,
        Expect(None, ops={"native_batch_norm": 0}),
        "in eval mode it is a batch norm",
    ),
    case(
        "c10-instance-norm",
        lambda: nn.Sequential(conv(3, 4), nn.InstanceNorm2d(4, affine=True)),
        image,
        Expect(0),
        "its statistics are those of the value",
    ),
)


def updates_mean(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    self.b.running_mean.lerp_(y.mean((0, 2, 3)), 0.1)
    result: Tensor = self.b(y)
    return result


BESIDE = (
    case(
        "c11-statistics-updated-in-forward",
        lambda: pair(updates_mean),
        image,
        Expect(0, ("written-constants",)),
        "each call changes what the next one reads",
        cites=("pytorch#121184",),
        watch=("b.running_mean",),
        grad_modes=(False,),  # torch refuses to write such a buffer with gradients
    ),
    case(
        "c13-norm-after-activation-before-conv",
        lambda: nn.Sequential(conv(3, 4), nn.ReLU(), norm(4), conv(4, 4, 1)),
        image,
        Expect(1),
        "it goes into the convolution after it",
        cites=("glow#5892", "tflite-micro#1651"),
    ),
    case(
        "c13-norm-after-activation",
        lambda: nn.Sequential(conv(3, 4), nn.SiLU(), norm(4)),
        image,
        Expect(0, ("no-linear-producer",)),
        "there is no convolution after it",
        cites=("glow#5868",),
    ),
    case(
        "c14-norm-after-norm",
        lambda: nn.Sequential(conv(3, 4), norm(4), norm(4, affine=False)),
        image,
        Expect(2),
        "the second one must not be dropped",
    ),
    case(
        "c14-norm-after-identity-and-dropout",
        lambda: nn.Sequential(conv(3, 4), nn.Identity(), nn.Dropout2d(0.5), norm(4)),
        image,
        Expect(1),
        "neither does anything in eval mode",
    ),
    case(
        "c14-same-norm-twice-in-a-row",
        lambda: pair(lambda s, x: s.b(s.b(s.c(x)))),
        image,
        Expect(2),
        "two call sites of one norm",
    ),
)

CASES = (*FUNCTIONAL, *SUBCLASSES, *BESIDE)
