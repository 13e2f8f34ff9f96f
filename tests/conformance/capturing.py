"""Models that tracing finds hard, and what is owed to them all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Call, Expect, case
from tests.conformance.models import block, given, image, net, pair, sample

NOT_CAPTURED = Expect(0, ("not-captured",))


@dataclass
class ClassifierOutput:
    """What a model of a library returns."""

    logits: Tensor
    features: Tensor | None = None


def signed() -> tuple[Call, ...]:
    """Return calls that take either branch of a test on the sum."""
    return tuple(Call((sample(2, 3, 6, 7) + shift,)) for shift in (-5.0, 5.0))


def checked_and_branched(self: Any, x: Tensor) -> Tensor:
    if x.shape[-1] != self.size:
        raise ValueError(x.shape)
    y: Tensor = self.b(self.c(x))
    return y if y.sum() > 0 else -y


def branch_after_block(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.block(x)
    if y.mean() > 0:
        y = self.other(y)
    return y


def refine_until_small(self: Any, x: Tensor) -> Tensor:
    for _ in range(int(x.abs().sum().item()) % 3 + 1):
        x = self.block(x)
    return x


def library_forward(
    self: Any, x: Tensor, labels: Tensor | None = None, return_dict: bool | None = None
) -> Any:
    features = self.encoder(x)
    logits = self.head(features.mean((2, 3)))
    if labels is not None:
        return F.mse_loss(logits, labels), logits
    if return_dict is False:
        return (logits, features)
    return ClassifierOutput(logits=logits, features=features)


def library_model() -> nn.Module:
    return net(library_forward, encoder=block(), head=nn.Linear(4, 2))


UNTRACEABLE = (
    case(
        "e1-shape-check-and-branch-on-data",
        lambda: pair(checked_and_branched, size=7),
        image,
        NOT_CAPTURED,
        "a norm called by an untraceable forward itself",
        cites=("pytorch#87777", "transformers#19870", "IPEX#250"),
        more=lambda: (*signed(), Call((sample(1, 3, 6, 6),))),
    ),
    case(
        "e1-branch-on-data-after-a-block",
        lambda: net(branch_after_block, block=block(), other=block(4, 4)),
        image,
        Expect(2),
        "the blocks can be traced, whatever their owner does",
        cites=("pytorch#87777", "IPEX#500"),
        more=signed,
        once=False,
    ),
    case(
        "e1-as-many-calls-as-the-data-say",
        lambda: net(refine_until_small, block=block(3, 3, padding=1)),
        image,
        Expect(1),
        "one block, called in a loop",
        more=signed,
        once=False,
    ),
    case(
        "e1-blocks-inside-untraceable-inside-traceable",
        lambda: nn.Sequential(
            block(),
            net(branch_after_block, block=block(4, 4, padding=1), other=block(4, 4)),
            block(4, 2),
        ),
        given((2, 3, 9, 9)),
        Expect(4),
        "one odd layer costs that layer",
        once=False,
    ),
    case(
        "e1-model-of-a-library",
        library_model,
        image,
        Expect(1),
        "optional labels, a flag, a data class as the output",
        cites=("pytorch#87777",),
        more=lambda: (
            Call((sample(2, 3, 6, 7), sample(2, 2))),
            Call((sample(2, 3, 6, 7),), {"return_dict": False}),
            Call((sample(2, 3, 6, 7),), {"labels": None, "return_dict": True}),
        ),
    ),
)


CASES = (*UNTRACEABLE,)
