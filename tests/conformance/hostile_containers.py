"""Inputs and outputs that are no plain tensors."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.conformance.case import Call, Expect
from tests.conformance.hostile_arguments import NOT_CAPTURED, argument, x
from tests.conformance.models import given, image, net, norm, sample


class Pair(NamedTuple):
    """Two tensors by name."""

    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class Batch:
    """Two tensors by name, and a word."""

    left: Tensor
    right: Tensor
    name: str = "batch"


class Record(OrderedDict[str, Any]):
    """A dictionary whose keys are attributes as well."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


CONTAINERS = (
    argument("list", lambda s, v: s.b(s.c(v[0])) + s.b(s.c(v[1])), "two call sites",
             inputs=lambda: ([x(), x(2)],), expect=Expect(2)),
    argument("dictionary", lambda s, v: {"out": s.b(s.c(v["image"])), "in": v["image"]},
             "the input comes back as it is", inputs=lambda: ({"image": x()},)),
    argument("named-tuple", lambda s, v: Pair(s.b(s.c(v.left)), v.right),
             "in and out by name", inputs=lambda: (Pair(x(), x(2)),)),
    argument("data-class", lambda s, v: Batch(s.b(s.c(v.left)), v.right.sum(), "out"),
             "in and out by name", inputs=lambda: (Batch(x(), x(2)),)),
    argument("ordered-dictionary", lambda s, v: OrderedDict(b=s.b(s.c(v)), a=v.mean()),
             "the order of the keys"),
    argument("subclass-of-dictionary", lambda s, v: Record(out=s.b(s.c(v)), n=3),
             "the type of the result"),
    argument("default-dictionary", lambda s, v: defaultdict(list, out=[s.b(s.c(v))]),
             "its type takes another first argument", also_right=(NOT_CAPTURED,)),
    argument("nested", lambda s, v: [(s.b(s.c(v)), None), {"k": [1, 2.5, "w", True]}, ()],
             "lists stay lists, tuples tuples"),
    argument("nothing", lambda s, v: (s.b(s.c(v)), None)[1], "the result is None"),
    argument("size", lambda s, v: (s.b(s.c(v)), v.shape, v.shape[0], v.dtype), "sizes come back"),
    argument("returns-its-input", lambda _, v: v, "the very tensor",
             make=lambda: net(lambda _, v: v, b=norm(3)), expect=Expect(0)),
    argument("returns-its-input-beside", lambda s, v: (v, s.b(s.c(v)), v), "one tensor twice"),
    argument("unpacked", lambda s, v: (lambda v, w: s.b(s.c(v)) * s.b(s.c(w)))(*v),
             "a tuple of unknown length is unpacked", inputs=lambda: ((x(), x(2)),),
             expect=Expect(0, ("not-captured",)), also_right=(Expect(2),)),
    argument("unused", lambda s, v, _: s.b(s.c(v)), "an input that nothing reads",
             inputs=given((2, 3, 6, 7), (1,))),
    argument("integers", lambda s, v: s.b(s.c(v.to(torch.float64) / 255)), "pixels as bytes",
             inputs=lambda: (torch.arange(252, dtype=torch.uint8).view(2, 3, 6, 7),)),
    argument("empty-batch-and-other-sizes", lambda s, v: s.b(s.c(v)),
             "no size is taken for granted",
             Call((x()[:0],)), Call((sample(1, 3, 3, 3),)), Call((sample(5, 3, 9, 4),)),
             inputs=image),
)  # fmt: skip


CASES = (*CONTAINERS,)
