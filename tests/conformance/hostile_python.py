"""Python around the layers: lists of modules, properties, early returns, errors, other readers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.conformance.case import Call, Case, Expect, case
from tests.conformance.models import block, conv, given, image, net, norm, pair, sample

NOT_CAPTURED = Expect(0, ("not-captured",))


class WithProperties(nn.Module):
    """Reads its parts through properties."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"conv": conv(3, 4), "norm": norm(4)})
        self.raw = nn.Parameter(torch.zeros(()))

    @property
    def scale(self) -> Tensor:
        return self.raw.exp()

    @property
    def convolution(self) -> Any:
        return self.parts["conv"]

    def normalized(self, x: Tensor) -> Tensor:
        result: Tensor = self.parts["norm"](self.convolution(x))
        return result

    def forward(self, x: Tensor) -> Tensor:
        return self.normalized(x) * self.scale


class Guarded(nn.Module):
    """Answers for attributes that it does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = block()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)
        return result


class Inherited(WithProperties):
    """Calls the forward of its base class."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


def by_list(self: Any, x: Tensor) -> list[Tensor]:
    taken = []
    for number, (layer, after) in enumerate(zip(self.convs, self.norms, strict=True)):
        x = after(layer(x))
        if number % 2 == 0:
            taken.append(x)
        x = x.relu()
    return taken


def early(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    if self.simple:
        return y
    raise AssertionError("never reached")


def checks_channels(self: Any, x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        raise ValueError(f"3 channels are needed, not {x.shape[1]}")
    result: Tensor = self.block(x)
    return result


def asserts_rank(self: Any, x: Tensor) -> Tensor:
    torch._assert(x.ndim == 4, "a batch of images is needed")
    result: Tensor = self.b(self.c(x))
    return result


def asserts_in_python(self: Any, x: Tensor) -> Tensor:
    assert x.dim() == 4, "a batch of images is needed"
    assert x.size(2) % 2 == 0
    result: Tensor = self.block(x)
    return result


def unpacks_shape(self: Any, x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    y: Tensor = self.b(self.c(x))
    return y.reshape(n, 4, (h - 2) * (w - 2)).transpose(1, 2)


def dtype_decides(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.block(x)
    return y.float() if x.dtype == torch.float64 else y


def catches(self: Any, x: Tensor) -> Tensor:
    try:
        result: Tensor = self.block(x)
    except RuntimeError:
        result = self.block(x[:, :3])
    return result


def recursive(self: Any, x: Tensor, depth: int = 2) -> Tensor:
    y: Tensor = self.b(self.c(x))
    return y if depth == 0 else y + self.forward(x, depth - 1)


def sorted_names(self: Any, x: Tensor) -> Tensor:
    for _, layer in sorted(self.block.named_children(), reverse=False):
        x = layer(x)
    return x


def python(name: str, make: Any, why: str, expect: Expect, *others: Expect, **rest: Any) -> Case:
    return case(
        f"python-{name}", make, rest.pop("inputs", image), expect, why, also_right=others, **rest
    )


def with_block(forward: Any, **options: Any) -> Any:
    return lambda: net(forward, block=block(**options))


def lists() -> nn.Module:
    return net(
        by_list,
        convs=nn.ModuleList(conv(3 if n == 0 else 4, 4) for n in range(3)),
        norms=nn.ModuleList(norm(4) for _ in range(3)),
    )


def call_with(*shape: int) -> Any:
    return lambda: (Call((sample(*shape),)),)


ORGANIZATION = (
    python("lists-of-modules", lists, "layers are paired while running", Expect(3),
           inputs=given((1, 3, 9, 9))),
    python("slice-of-a-sequential", lambda: net(lambda s, x: s.all[1:](s.all[0](x)),
           all=nn.Sequential(*block(), nn.ReLU())), "a slice is a new module", Expect(1)),
    python("children-by-name", with_block(sorted_names), "the order is computed", Expect(1)),
    python("properties", WithProperties, "properties compute at each call", Expect(1)),
    python("inherited-forward", Inherited, "super().forward", Expect(1)),
    python("answers-for-missing-attributes", Guarded, "every name can be asked for", Expect(1)),
    python("early-return", lambda: pair(early, simple=True), "an attribute decides", Expect(1)),
    python("recursive-forward", lambda: pair(recursive), "three call sites of one pair", Expect(3)),
    python("shape-unpacked", lambda: pair(unpacks_shape), "sizes are numbers", Expect(1),
           more=call_with(1, 3, 8, 5)),
)  # fmt: skip

ERRORS = (
    python("raises-for-other-channels", with_block(checks_channels), "the check is the model's own",
           Expect(1), more=call_with(2, 4, 6, 7)),
    python("asserts-the-rank", lambda: pair(asserts_rank), "an assertion that tracing keeps",
           Expect(1), more=call_with(3, 6, 7)),
    python("asserts-in-python", with_block(asserts_in_python), "an assertion that tracing loses",
           Expect(1), more=call_with(2, 3, 5, 7)),
    python("raises-in-a-layer", block, "torch raises for a wrong number of channels", Expect(1),
           more=call_with(2, 5, 6, 7)),
    python("catches-what-a-layer-raises", with_block(catches), "an error is a way to ask",
           Expect(1), Expect(2), NOT_CAPTURED, more=call_with(2, 4, 6, 7), once=False),
    python("dtype-decides", with_block(dtype_decides), "the type of the input is asked", Expect(1)),
)  # fmt: skip


CASES = (
    *ORGANIZATION,
    *ERRORS,
)
