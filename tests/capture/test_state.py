"""Changes of a model's Python state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bnfuse.capture.state import ModuleState


class Holder(nn.Module):
    """Holds one of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.inner: Any = nn.Linear(2, 2)
        self.items, self.table, self.names = [1], {"a": 1}, {"x"}
        self.count, self.plain = 1000, torch.zeros(2)
        self.register_buffer("calls", torch.zeros(1))


def add_to(holder: Any, what: str) -> None:
    """Change one thing."""
    actions: dict[str, Callable[[], object]] = {
        "items": lambda: holder.items.append(2),
        "table": lambda: holder.table.update(a=2),
        "names": lambda: holder.names.add("y"),
        "plain": lambda: holder.plain.add_(1),
        "count": lambda: setattr(holder, "count", 1001),
        "fresh": lambda: setattr(holder, "fresh", 1),
        "inner.extra": lambda: setattr(holder.inner, "extra", 1),
        "inner._parameters": lambda: setattr(holder.inner, "bias", None),
        "_modules": lambda: setattr(holder, "inner", nn.ReLU()),
    }
    actions[what]()


@pytest.mark.parametrize(
    ("what", "clause"),
    [
        ("items", "changes items"),
        ("table", "changes table"),
        ("names", "changes names"),
        ("plain", "changes plain"),
        ("count", "sets count"),
        ("fresh", "sets fresh"),
        ("inner.extra", "sets inner.extra"),
        ("inner._parameters", "changes inner._parameters"),
        ("_modules", "changes _modules"),
    ],
)
def test_every_change_is_found(what: str, clause: str) -> None:
    holder = Holder()
    state = ModuleState.of(holder)
    assert state.changes() == []
    add_to(holder, what)
    assert list(map(str, state.changes())) == [clause]


def test_what_torch_fx_sets_itself_does_not_count() -> None:
    holder = Holder()
    state = ModuleState.of(holder)
    vars(holder)["_tensor_constant0"] = torch.ones(1)
    assert state.changes() == []
