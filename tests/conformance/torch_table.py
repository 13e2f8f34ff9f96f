"""Layers before and after a batch norm: what tools that fold PyTorch models were measured on."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Expect, case
from tests.conformance.models import block, conv, given, image, norm, pair, sample

LINEAR_ON_THREE_AXES = (
    case(
        "table-linear-on-n-l-f-norm-over-l-equal-sizes",
        lambda: nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)),
        given((2, 7, 5)),
        Expect(0, ("other-axis",)),
        "the sizes agree and the axes do not",
        cites=("torchao#4116",),
        sized=True,
        may_refuse=True,
    ),
    case(
        "table-linear-on-four-axes-norm2d-square",
        lambda: nn.Sequential(nn.Linear(4, 4), norm(4)),
        given((2, 4, 3, 4)),
        Expect(0, ("other-axis",)),
        "the linear layer writes the last axis, the norm reads axis 1",
    ),
)


def legacy_weight_norm() -> nn.Module:
    """Apply the deprecated weight norm, whose weight is computed in a hook before the forward."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.weight_norm(conv(3, 4)), norm(4))


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose kernels are standardized at each call."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch gives it
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        std = self.weight.std((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (std + 1e-5)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding)


CONVOLUTIONS = (
    case(
        "table-conv1d-norm",
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)),
        given((2, 3, 9)),
        Expect(1),
        "the plain pair on one spatial axis",
    ),
    case(
        "table-conv3d-norm",
        lambda: nn.Sequential(nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4)),
        given((2, 2, 3, 4, 5)),
        Expect(1),
        "the plain pair on three spatial axes",
    ),
    case("table-conv2d-norm", block, image, Expect(1), "the plain pair"),
    case(
        "table-conv2d-norm-without-affine",
        lambda: nn.Sequential(conv(3, 4), norm(4, affine=False)),
        image,
        Expect(1),
        "weight and bias are None",
        cites=("pytorch#72049", "pytorch#122183"),
    ),
    case(
        "table-norm-without-running-statistics",
        lambda: nn.Sequential(conv(3, 4), norm(4, track_running_stats=False)),
        image,
        Expect(0, ("batch-statistics",)),
        "it uses the statistics of the batch in eval mode too",
        cites=("pytorch#71259",),
    ),
    case(
        "table-sync-batch-norm",
        lambda: nn.Sequential(conv(3, 4), nn.SyncBatchNorm(4)),
        image,
        Expect(1),
        "in eval mode it is a batch norm",
    ),
    case(
        "table-reflect-padding",
        lambda: block(padding=2, padding_mode="reflect"),
        image,
        Expect(1),
        "padding comes before the weights, so that its mode is no obstacle",
    ),
    case(
        "table-same-padding",
        lambda: nn.Sequential(conv(3, 4, (2, 4), padding="same"), norm(4)),
        image,
        Expect(1),
        "padding is a word, and even kernels pad one side more",
    ),
    case(
        "table-transposed-more-outputs",
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2), norm(4)),
        image,
        Expect(1),
        "output channels stand on axis 1 of the weight",
    ),
    case(
        "table-transposed-square",
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 3, 3), norm(3)),
        image,
        Expect(1),
        "a check of sizes cannot see the wrong axis",
    ),
    case(
        "table-transposed-two-groups",
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), norm(6)),
        given((2, 4, 5, 6)),
        Expect(1),
        "the weight is (inputs, outputs / groups, ...)",
        cites=("pytorch#180995", "pytorch#184076"),
    ),
    case(
        "table-transposed-depthwise",
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 3, groups=4), norm(4)),
        given((2, 4, 5, 6)),
        Expect(1),
        "axis 1 of the weight has size 1",
        cites=("AIMET#284",),
    ),
)

LINEARS = (
    case(
        "table-linear-norm1d",
        lambda: nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)),
        given((4, 5)),
        Expect(1),
        "the plain pair of a fully connected network",
    ),
    case(
        "table-linear-norm1d-without-affine",
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)),
        given((3, 4)),
        Expect(1),
        "weight and bias are None",
        cites=("pytorch#72049", "pytorch#122183"),
    ),
    *LINEAR_ON_THREE_AXES,
)

WEIGHTS = (
    case(
        "table-weight-norm-parametrization",
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(conv(3, 4)), norm(4)),
        image,
        Expect(1),
        "the weight is computed from two parameters",
    ),
    case(
        "table-weight-norm-hook",
        legacy_weight_norm,
        image,
        Expect(1),
        "the weight is an attribute that a hook writes before each call",
    ),
    case(
        "table-weight-standardized-subclass",
        lambda: nn.Sequential(StandardizedConv2d(3, 4, 3), norm(4)),
        image,
        Expect(1),
        "the raw weight would cancel the scale, the computed one takes it",
    ),
    case(
        "table-multiplication-along-width-of-equal-size",
        lambda: pair(lambda s, x: s.c(x) * s.k, k=sample(1, 1, 1, 4)),
        given((2, 3, 6, 6)),
        Expect(0),
        "width and channels have one size, and the factor is per column",
    ),
)


CASES = (
    *CONVOLUTIONS,
    *LINEARS,
    *WEIGHTS,
)
