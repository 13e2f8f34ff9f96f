"""A tree of modules is copied as ``copy.deepcopy`` copies it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bnfuse.capture.deepcopy import deepcopy
from bnfuse.graph.border import BorderMap

if TYPE_CHECKING:
    from collections.abc import Callable


class Holder(nn.Module):
    """Holds one of everything, some of it twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Dropout())
        self.again = self.inner[0]
        self.tied = nn.Conv2d(2, 2, 1, bias=False)
        self.tied.register_parameter("weight", self.inner.get_parameter("0.weight"))
        self.register_buffer("left_out", torch.ones(2), persistent=False)
        shared: dict[str, Any] = {"a": [1, {2}], "b": (torch.ones(1), "x")}
        vars(self.inner[0])["table"] = vars(self.inner[1])["table"] = shared
        vars(self)["parent"] = (self, {3, 4}, OrderedDict(a=1))
        self.kind, self.function = nn.ReLU, torch.relu
        self.inner.register_forward_hook(_hook)


class Own(nn.Module):
    """Has a way of its own to be copied."""

    copies = 0

    def __deepcopy__(self, memo: object) -> Own:
        type(self).copies += 1
        return self


class Slotted(nn.Module):
    """Holds a value in a slot."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        super().__init__()
        self.value = [1]


class Listed(nn.Module, list[Any]):
    """Is a list as well."""

    __hash__ = nn.Module.__hash__  # type: ignore[assignment]  # lists have none


class Delegating(nn.Module):
    """Answers for what it holds, as wrappers do."""

    def __init__(self) -> None:
        super().__init__()
        self.own = Own()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("own"), name)


def _hook(*_: object) -> None:
    """Do nothing."""


def shape_of(value: Any, seen: dict[int, int]) -> Any:
    """Return what an object is made of: classes, values, and which parts are one object."""
    if isinstance(value, int | float | str | type | None):
        return value
    if id(value) in seen:
        return "seen", seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, torch.Tensor):
        return type(value), value.tolist(), value.requires_grad
    if isinstance(value, dict):
        inside: Any = [(key, shape_of(v, seen)) for key, v in value.items()]
    elif isinstance(value, list | tuple):
        inside = [shape_of(v, seen) for v in value]
    elif isinstance(value, set):
        inside = sorted(value)
    else:
        inside = [(key, shape_of(v, seen)) for key, v in getattr(value, "__dict__", {}).items()]
    return type(value), inside


@pytest.mark.parametrize(
    "make", [Holder, Slotted, Listed, lambda: nn.Sequential(Own(), nn.ReLU()), Delegating]
)
def test_the_same_as_the_standard_way(make: Callable[[], nn.Module]) -> None:
    model = make()
    mine, standard = deepcopy(model, {}), copy.deepcopy(model)
    assert shape_of(mine, {}) == shape_of(standard, {})
    assert shape_of(mine, {}) == shape_of(model, {}) or not isinstance(model, Holder)


def test_nothing_that_can_change_is_shared() -> None:
    model = Holder()
    copied = deepcopy(model, {})
    mine = {id(value) for inner in copied.modules() for value in vars(inner).values()}
    for inner in model.modules():
        for value in (inner, *vars(inner).values()):
            can_change = isinstance(value, dict | set | list | nn.Module | torch.Tensor)
            assert not (can_change and id(value) in mine)
    assert copied.parent[0] is copied
    pointers = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert pointers.isdisjoint(tensor.data_ptr() for tensor in copied.state_dict().values())


def test_what_is_in_the_memo_is_not_copied() -> None:
    model = Holder()
    memo = {id(t): t for t in (*model.parameters(), *model.buffers())}
    copied = deepcopy(model, memo)
    assert copied.inner[0].weight is model.inner[0].weight
    assert copied.left_out is model.left_out


def test_ways_of_its_own_are_taken() -> None:
    before = Own.copies
    deepcopy(nn.Sequential(Own()), {})
    alone = nn.ReLU()
    vars(alone)["__deepcopy__"] = lambda _: "copied"
    assert (Own.copies, deepcopy(alone, {})) == (before + 1, "copied")
    kept = BorderMap(torch.ones(2, 1, 3, 3), {"padding": 1})
    kept(torch.ones(1, 1, 4, 4))
    assert deepcopy(nn.Sequential(kept), {})[0]._kept == {}  # as its __getstate__ has it


def test_a_table_with_attributes_keeps_them() -> None:
    model = nn.ReLU()
    table: Any = model._forward_hooks
    table.note = [1]
    copied: Any = deepcopy(model, {})._forward_hooks
    assert copied.note == [1]
    assert copied.note is not table.note
