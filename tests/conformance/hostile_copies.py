"""Models with parts that refuse to be copied, or that are copied wrongly."""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor, nn

from tests.conformance.case import Expect
from tests.conformance.hostile_state import NOT_CAPTURED, state
from tests.conformance.models import block, conv, image, net, norm


def lock(model: Any) -> None:
    model.lock = threading.Lock()


def generator(model: Any) -> None:
    model.numbers = (n for n in range(3))


def locked(self: Any, x: Tensor) -> Tensor:
    with self.lock:
        result: Tensor = self.b(self.c(x))
    return result


def cyclic(model: Any) -> None:
    model.b.__dict__["owner"] = [model]


def computed_tensor(model: Any) -> None:
    """Keep a result of a differentiable operation, which refuses to be deep-copied."""
    model.penalty = model.c.weight.square().sum()


def refuses(model: Any) -> None:
    model.part = Refusing()


class Refusing:
    """Refuses to be copied."""

    def __deepcopy__(self, memo: Any) -> Refusing:
        raise TypeError("cannot be copied")


class RefusingBlock(nn.Sequential):
    """A module that refuses to be copied."""

    def __deepcopy__(self, memo: Any) -> RefusingBlock:
        raise TypeError("cannot be copied")


UNCOPYABLE = (
    state("lock", lambda s, x: s.b(s.c(x)), "locks cannot be copied", Expect(1), then=lock),
    state("lock-held-in-forward", locked, "locks cannot be copied", Expect(1), NOT_CAPTURED,
          then=lock),
    state("generator", lambda s, x: s.b(s.c(x)), "generators cannot be copied", Expect(1),
          then=generator),
    state("thread-local", lambda s, x: s.b(s.c(x)), "nor can what belongs to a thread", Expect(1),
          then=lambda model: setattr(model, "local", threading.local())),
    state("object-that-refuses", lambda s, x: s.b(s.c(x)), "an object that refuses", Expect(1),
          then=refuses),
    state("computed-tensor", lambda s, x: s.b(s.c(x)) + s.penalty, "tensors with a history refuse",
          Expect(1), then=computed_tensor),
    state("knows-its-owner", lambda s, x: s.b(s.c(x)), "a cycle in the tree", Expect(1),
          then=cyclic),
    state("requires-no-gradient", lambda s, x: s.b(s.c(x)), "some parameters are frozen", Expect(1),
          then=lambda model: model.c.requires_grad_(False)),
    state("has-gradients", lambda s, x: s.b(s.c(x)), "gradients are left from training", Expect(1),
          then=lambda model: model(*image()).sum().backward()),
    state("unused-norm", lambda s, x: s.c(x), "registered and never called", Expect(0)),
    state("norm-called-for-nothing", lambda s, x: (s.b(s.c(x)), x)[1], "nobody reads the result",
          Expect(1), Expect(0, ("no-linear-producer",))),
    state("block-that-refuses", lambda _, x: x, "a part that cannot be copied is kept as it is",
          Expect(1, ("not-copyable",)), by_reference=True,
          make=lambda: nn.Sequential(RefusingBlock(*block()), nn.ReLU(), block(4, 4))),
    state("one-layer-two-names", lambda _, x: x, "one layer, two names", Expect(2),
          make=lambda: _aliased()),
)  # fmt: skip


def _aliased() -> nn.Module:
    layer = norm(4)
    return net(lambda s, x: s.b(s.c(x)) + s.again(s.c2(x)), c=conv(3, 4), c2=conv(3, 4), b=layer,
               again=layer)  # fmt: skip


CASES = (*UNCOPYABLE,)
