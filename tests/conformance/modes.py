"""Parameters and modes of batch norms: what is missing, odd, or of another precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import block, conv, given, image, norm


def train(index: int) -> Any:
    """Return what puts one layer of a Sequential into training mode."""
    return lambda model: model[index].train()


def zero_and_negative(model: Any) -> None:
    """Make one scale zero, one negative, and one variance zero."""
    with torch.no_grad():
        model[1].weight[0], model[1].weight[1] = 0.0, -1.5
        model[1].running_var[2] = 0.0


def not_a_number(model: Any) -> None:
    model[1].running_mean[1] = torch.nan


def odd_eps(eps: float) -> Case:
    return case(
        f"c7-eps-{eps}",
        lambda: nn.Sequential(conv(3, 4), norm(4, eps=eps)),
        image,
        Expect(1),
        "the eps of the layer counts, not the usual one",
    )


TRAINING = (
    case(
        "c2-no-running-statistics",
        lambda: nn.Sequential(conv(3, 4), norm(4, track_running_stats=False)),
        image,
        Expect(0, ("batch-statistics",)),
        "the statistics of the batch are used in eval mode too",
        cites=("pytorch#71259",),
    ),
    case(
        "c2-no-running-statistics-beside-an-ordinary-norm",
        lambda: nn.Sequential(block(), norm(4, track_running_stats=False), block(4, 3)),
        image,
        Expect(2, ("batch-statistics",)),
        "one such norm costs itself alone",
    ),
    case(
        "c3-one-norm-in-training-mode",
        block,
        image,
        Expect(0, ("training-mode",)),
        "the model is in eval mode, this layer is not",
        then=train(1),
        watch=("1.running_mean", "1.num_batches_tracked"),
    ),
    case(
        "c3-one-norm-in-training-mode-cumulative",
        lambda: nn.Sequential(conv(3, 4), norm(4, momentum=None)),
        image,
        Expect(0, ("training-mode",)),
        "its momentum depends on how many batches it has seen",
        then=train(1),
        watch=("1.running_mean", "1.num_batches_tracked"),
    ),
    case(
        "c3-one-of-two-norms-in-training-mode",
        lambda: nn.Sequential(conv(3, 4), norm(4), norm(4), conv(4, 3)),
        image,
        Expect(1, ("training-mode",)),
        "the first one folds",
        then=train(2),
    ),
    case(
        "c3-conv-in-training-mode",
        block,
        image,
        Expect(1),
        "the mode of a convolution means nothing",
        then=train(0),
    ),
    case(
        "c3-norm-in-training-mode-without-statistics",
        lambda: nn.Sequential(conv(3, 4), norm(4, track_running_stats=False)),
        image,
        Expect(0, ("training-mode",)),
        "both reasons hold",
        then=train(1),
        also_right=(Expect(0, ("batch-statistics",)),),
    ),
    case(
        "c4-eval-was-forgotten",
        block,
        image,
        Expect(0),
        "statistics of training would be folded",
        cites=("ml-mobileone#8", "RepVGG#9", "RepVGG#100"),
        then=lambda model: model.train(),
        refused=True,
    ),
)

VALUES = (
    case(
        "c1-linear-norm-without-affine",
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)),
        given((3, 4)),
        Expect(1),
        "weight and bias are None",
        cites=("pytorch#72049", "pytorch#122183"),
    ),
    case(
        "c1-transposed-norm-without-affine",
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2, bias=False), norm(4, affine=False)),
        image,
        Expect(1),
        "no bias on either side",
    ),
    case(
        "c1-norm-with-scale-and-no-shift",
        block,
        image,
        Expect(1),
        "only the bias is None",
        then=lambda model: setattr(model[1], "bias", None),
    ),
    case(
        "c5-zero-and-negative-scale",
        block,
        image,
        Expect(1),
        "a scale of zero divides nothing here",
        cites=("lc0#779", "ONE#4773", "TVM#17151"),
        then=zero_and_negative,
    ),
    case(
        "c5-not-a-number",
        block,
        image,
        Expect(0, ("not-finite",)),
        "what is broken stays where it can be seen",
        then=not_a_number,
    ),
    odd_eps(1e-3),
    odd_eps(0.5),
    odd_eps(0.0),
)


CASES = (
    *TRAINING,
    *VALUES,
)
