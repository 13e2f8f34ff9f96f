"""Arguments that choose what the forward does: defaults, flags, containers, types."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.conformance.case import Call, Case, Expect, case
from tests.conformance.models import block, net, pair, sample

NOT_CAPTURED = Expect(0, ("not-captured",))
FOLDED_OR_NOT = (Expect(1),)


def x(seed: int = 1) -> Tensor:
    return sample(2, 3, 6, 7, seed=seed)


def masked(self: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    y: Tensor = self.b(self.c(x))
    if mask is None:
        return y
    return y * mask


def two_optional(self: Any, x: Tensor, y: Tensor | None = None, *, z: Any = None) -> Any:
    out = self.b(self.c(x))
    if y is not None:
        out = out + self.b(self.c(y))
    return out if z is None else (out, z)


def flagged(self: Any, x: Tensor, return_features: bool = False) -> Any:
    y: Tensor = self.b(self.c(x))
    return (y.mean((2, 3)), y) if return_features else y.mean((2, 3))


def keyword_only(self: Any, x: Tensor, *, double: bool = False, mode: str = "sum") -> Tensor:
    y: Tensor = self.b(self.c(x))
    y = y.sum(1) if mode == "sum" else y.amax(1)
    return 2 * y if double else y


def required_keyword(self: Any, x: Tensor, *, gain: Tensor) -> Tensor:
    result: Tensor = self.b(self.c(x)) * gain
    return result


def any_number(self: Any, *inputs: Tensor) -> Tensor:
    result: Tensor = self.b(self.c(torch.cat(inputs)))
    return result


def any_number_to_block(self: Any, *inputs: Tensor, **options: Any) -> Tensor:
    result: Tensor = self.block(torch.cat(inputs)) * options.get("gain", 1.0)
    return result


def any_keywords(self: Any, x: Tensor, **options: Any) -> Tensor:
    result: Tensor = self.b(self.c(x)) * options.get("gain", 1.0)
    return result


def tensor_or_dict(self: Any, x: Any) -> Tensor:
    if isinstance(x, dict):
        x = x["image"]
    result: Tensor = self.b(self.c(x))
    return result


def not_a_tensor(self: Any, x: Any) -> Tensor:
    if not isinstance(x, Tensor):
        x = torch.stack(list(x))
    result: Tensor = self.b(self.c(x))
    return result


def single_or_list(self: Any, x: Any) -> Any:
    if torch.is_tensor(x):
        return self.b(self.c(x))
    return [self.b(self.c(one)) for one in x]


def checked_type(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    return y if type(x) is Tensor else -y


def rank_changes(self: Any, x: Tensor) -> Tensor:
    if x.dim() == 3:
        return self.b(self.c(x[None]))[0]
    result: Tensor = self.b(self.c(x))
    return result


def list_default(self: Any, x: Tensor, sizes: Any = (2, 3)) -> Tensor:
    result: Tensor = self.b(self.c(x)).sum(sizes)
    return result


def number(self: Any, x: Tensor, gain: float = 1.0, times: int = 1) -> Tensor:
    y: Tensor = self.b(self.c(x))
    for _ in range(times):
        y = y * gain
    return y


def names_of_builtins(self: Any, input: Tensor, type: Any = None, len: int = 0) -> Tensor:  # noqa: A002 - the point of it
    result: Tensor = self.b(self.c(input)) + len
    return result if type is None else result.to(type)


def positional_only(this: Any, value: Tensor, /, gain: float = 2.0) -> Tensor:
    result: Tensor = this.b(this.c(value)) * gain
    return result


def argument(
    name: str, forward: Any, why: str, *more: Call, expect: Expect | None = None, **rest: Any
) -> Case:
    """Return the case of a pair whose forward takes arguments in its own way."""
    return case(
        f"argument-{name}",
        rest.pop("make", lambda: pair(forward)),
        rest.pop("inputs", lambda: (x(),)),
        expect or Expect(1),
        why,
        more=lambda: tuple(Call(_fresh(c.args), _fresh(c.kwargs)) for c in more),
        **rest,
    )


def _fresh(value: Any) -> Any:
    """Return arguments with tensors of their own."""
    import copy

    return copy.deepcopy(value)


GAIN = {"gain": sample(1, seed=5)}

OPTIONAL = (
    argument("none-by-default", masked, "a graph of the default is not a graph of the mask",
             Call((x(),), {"mask": None}), Call((x(), sample(4, 1, 1))), Call((x(),))),
    argument("two-optional", two_optional, "three ways to call it",
             Call((x(), x(2))), Call((x(),), {"z": 3}), Call((x(), None), {"z": sample(2)})),
    argument("flag-changes-the-structure", flagged, "one flag, two kinds of output",
             Call((x(), True)), Call((x(),), {"return_features": True}), Call((x(), False))),
    argument("keyword-only", keyword_only, "flags that have no position",
             Call((x(),), {"double": True}), Call((x(),), {"mode": "max"}),
             Call((x(),), {"mode": "sum", "double": False})),
    argument("keyword-only-required", required_keyword, "a tensor that has no position",
             Call((x(),), {"gain": sample(4, 1, 1)}), kwargs=lambda: _fresh(GAIN)),
    argument("numbers", number, "values that shape the graph",
             Call((x(), 0.5)), Call((x(), 0.5, 3)), Call((x(),), {"times": 0})),
    argument("tuple-by-default", list_default, "a default that is no literal of a graph",
             Call((x(), (1,))), expect=NOT_CAPTURED, also_right=FOLDED_OR_NOT),
    argument("names-of-builtins", names_of_builtins, "generated code must not trip over names",
             Call((x(),), {"len": 2}), Call((x(), torch.float32))),
    argument("called-by-keyword", masked, "the first argument by its name",
             Call((), {"x": x()}), inputs=tuple, kwargs=lambda: {"x": x()}),
    argument("positional-only", positional_only, "self has another name",
             Call((x(), 3.0)), Call((x(),), {"gain": 3.0})),
    argument("given-again-at-its-default", flagged, "equal to the default, and of another type",
             Call((x(), 0)), Call((x(), 1))),
    argument("missing", masked, "what is missing is told by a TypeError", Call(())),
    argument("too-many", masked, "what is too much, too", Call((x(), None, 3)),
             Call((x(),), {"unknown": 1})),
)  # fmt: skip

VARIADIC = (
    argument("any-number", any_number, "as many inputs as the caller likes",
             Call((x(), x(2))), expect=NOT_CAPTURED, also_right=FOLDED_OR_NOT),
    argument("any-number-to-a-block", any_number_to_block, "the block can be traced",
             Call((x(), x(2)), {"gain": 2.0}),
             make=lambda: net(any_number_to_block, block=block())),
    argument("any-keywords", any_keywords, "options without a declaration",
             Call((x(),), {"gain": 2.0}), expect=NOT_CAPTURED, also_right=FOLDED_OR_NOT),
)  # fmt: skip

TYPES = (
    argument("tensor-or-dictionary", tensor_or_dict, "while tracing, nothing is a dict",
             Call(({"image": x()},)), also_right=(NOT_CAPTURED,)),
    argument("not-a-tensor", not_a_tensor, "while tracing, nothing is a tensor either",
             Call(([sample(3, 6, 7), sample(3, 6, 7, seed=2)],)),
             expect=NOT_CAPTURED, also_right=FOLDED_OR_NOT),
    argument("single-or-list", single_or_list, "torch.is_tensor asks the type as well",
             Call(([x(), x(2)],)), expect=NOT_CAPTURED,
             also_right=(Expect(1), Expect(2))),
    argument("exact-type", checked_type, "the type is compared, not asked",
             Call((nn.Parameter(x()),)), expect=NOT_CAPTURED, also_right=FOLDED_OR_NOT),
    argument("rank-changes", rank_changes, "an image or a batch of images",
             Call((sample(3, 6, 7),)), expect=NOT_CAPTURED, also_right=(Expect(1), Expect(2))),
)  # fmt: skip


CASES = (
    *OPTIONAL,
    *VARIADIC,
    *TYPES,
)
