"""State that a forward changes or that cannot be copied."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import block, image, net, pair

NOT_CAPTURED = Expect(0, ("not-captured",))


def counting(self: Any, x: Tensor) -> Tensor:
    self.calls += 1
    result: Tensor = self.b(self.c(x)) * self.calls
    return result


def counting_aside(self: Any, x: Tensor) -> Tensor:
    self.calls += 1
    result: Tensor = self.b(self.c(x))
    return result


def counting_around_block(self: Any, x: Tensor) -> Tensor:
    self.calls += 1
    result: Tensor = self.block(x) + self.calls
    return result


def keeps_last(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    self.last = y.sum()
    return y


def keeps_history(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    self.history.append(y.sum())
    return y


def keeps_table(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    self.table["sum"] = y.sum()
    return y


def reads_cache(self: Any, x: Tensor) -> Tensor:
    if "scale" not in self.table:
        self.table["scale"] = x.mean()
    result: Tensor = self.b(self.c(x)) * self.table["scale"]
    return result


def lazily_made(self: Any, x: Tensor) -> Tensor:
    if self.grid is None:
        self.grid = torch.arange(4.0, dtype=torch.float64).view(4, 1, 1)
    result: Tensor = self.b(self.c(x)) + self.grid
    return result


def flips_mode(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.b(self.c(x)) * self.sign
    self.sign = -self.sign
    return result


def buffer_counter(self: Any, x: Tensor) -> Tensor:
    self.steps.add_(1)
    result: Tensor = self.b(self.c(x)) * self.steps
    return result


def buffer_counter_operator(self: Any, x: Tensor) -> Tensor:
    self.steps += 1
    result: Tensor = self.b(self.c(x)) * self.steps
    return result


def buffer_replaced(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    self.steps = 0.5 * self.steps + y.mean()
    return torch.add(y, self.steps)


def buffer_copied(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    self.steps.copy_(y.mean())
    return y


def weight_written(self: Any, x: Tensor) -> Tensor:
    self.c.weight.data.mul_(0.5)
    result: Tensor = self.b(self.c(x))
    return result


def weight_written_through_view(self: Any, x: Tensor) -> Tensor:
    self.c.weight.detach().view(-1)[:3].zero_()
    result: Tensor = self.b(self.c(x))
    return result


def bias_replaced(self: Any, x: Tensor) -> Tensor:
    self.c.bias.data = x.mean((0, 2, 3)).new_ones(4)
    result: Tensor = self.b(self.c(x))
    return result


def norm_switched(self: Any, x: Tensor) -> Tensor:
    self.b.train()
    y: Tensor = self.b(self.c(x))
    self.b.eval()
    return y


def module_made(self: Any, x: Tensor) -> Tensor:
    layer = nn.AvgPool2d(2)
    result: Tensor = layer(self.b(self.c(x)))
    return result


def state(name: str, forward: Any, why: str, expect: Expect, *others: Expect, **rest: Any) -> Case:
    parts = rest.pop("parts", {})
    return case(
        f"state-{name}",
        rest.pop("make", lambda: pair(forward, **{k: v() for k, v in parts.items()})),
        image,
        expect,
        why,
        also_right=others,
        **rest,
    )


def zero() -> Tensor:
    return torch.zeros(())


ATTRIBUTES = (
    state("call-counter", counting, "the number of the call is in the result", NOT_CAPTURED,
          parts={"calls": lambda: 0}, watch=("calls",)),
    state("call-counter-aside", counting_aside, "the number of the call is looked up later",
          NOT_CAPTURED, Expect(1), parts={"calls": lambda: 0}, watch=("calls",)),
    state("call-counter-around-a-block", counting_around_block, "the block can be traced",
          Expect(1), make=lambda: net(counting_around_block, block=block(), calls=0),
          watch=("calls",)),
    state("keeps-the-last-value", keeps_last, "an attribute is made at each call", NOT_CAPTURED,
          Expect(1), watch=("last",)),
    state("keeps-a-history", keeps_history, "a list grows with each call", NOT_CAPTURED, Expect(1),
          parts={"history": list}, watch=("history",)),
    state("keeps-a-table", keeps_table, "an entry is made at each call", NOT_CAPTURED, Expect(1),
          parts={"table": dict}, watch=("table",)),
    state("computes-on-first-call", reads_cache, "the first input decides about all later ones",
          NOT_CAPTURED, Expect(1), parts={"table": dict}),
    state("makes-on-first-call", lazily_made, "a tensor is made when it is first needed",
          NOT_CAPTURED, Expect(1), parts={"grid": lambda: None}),
    state("changes-its-sign", flips_mode, "every second call differs", NOT_CAPTURED,
          parts={"sign": lambda: 1}, watch=("sign",)),
    state("switches-its-norm", norm_switched, "training mode for the time of one call",
          Expect(0, ("training-mode",)), NOT_CAPTURED),
    state("makes-a-module", module_made, "a layer that is in no tree", Expect(1), NOT_CAPTURED),
)  # fmt: skip

BUFFERS = (
    state("buffer-added-to", buffer_counter, "a counter in the state dict", Expect(1),
          parts={"steps": zero}, watch=("steps",)),
    state("buffer-added-to-by-operator", buffer_counter_operator, "`+=` assigns as well",
          NOT_CAPTURED, Expect(1), parts={"steps": zero}, watch=("steps",)),
    state("buffer-replaced", buffer_replaced, "a moving average", NOT_CAPTURED, Expect(1),
          parts={"steps": zero}, watch=("steps",), grad_modes=(False,)),
    state("buffer-copied-into", buffer_copied, "nothing reads it but the caller", Expect(1),
          parts={"steps": zero}, watch=("steps",), grad_modes=(False,)),
    state("weight-written", weight_written, "smaller at each call",
          Expect(0, ("written-constants",)), NOT_CAPTURED, watch=("c.weight",)),
    state("weight-written-through-a-view", weight_written_through_view, "some of it becomes zero",
          Expect(0, ("written-constants",)), NOT_CAPTURED, watch=("c.weight",)),
    state("bias-replaced", bias_replaced, "another tensor under the same name",
          NOT_CAPTURED, Expect(0, ("written-constants",))),
)  # fmt: skip


CASES = (
    *ATTRIBUTES,
    *BUFFERS,
)
