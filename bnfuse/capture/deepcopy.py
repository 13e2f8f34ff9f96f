"""``copy.deepcopy`` for trees of modules, in a third of the time.

A module is some twenty attributes, most of them numbers and empty tables of hooks, and the standard
way takes each of those, and the module, apart and puts it together anew. What is made of built-in
types alone is copied here in one step, and all else is left to ``copy.deepcopy``.
"""

from __future__ import annotations

import copy
import copyreg
from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

_ATOMIC = frozenset({int, float, bool, str, type(None), type, type(lambda: None), type(len)})
_STANDARD = ("__reduce_ex__", "__reduce__", "__getstate__", "__getattr__", "__getattribute__")
_OWN_WAYS = ("__deepcopy__", "__getnewargs__", "__getnewargs_ex__")


def deepcopy(value: Any, memo: dict[int, Any]) -> Any:
    """Return what ``copy.deepcopy`` returns.

    Args:
        value: What to copy.
        memo: What was copied already, by identity, as ``copy.deepcopy`` takes it.
    """
    kind: Any = type(value)
    if kind in _ATOMIC:
        return value
    if id(value) in memo:
        return memo[id(value)]
    way = _WAYS.get(kind)
    if way is not None and not getattr(value, "__dict__", None):
        return way(value, memo)
    is_module = isinstance(value, nn.Module)
    if is_module and _is_standard(kind) and "__deepcopy__" not in value.__dict__:
        return _module(value, memo)
    return copy.deepcopy(value, memo)


def _module(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    memo[id(module)] = copied = type(module).__new__(type(module))
    state = module.__getstate__()  # type: ignore[no-untyped-call]  # torch's
    copied.__setstate__({k: deepcopy(v, memo) for k, v in state.items()})  # type: ignore[no-untyped-call]  # likewise
    return copied


def _table(table: dict[Any, Any], memo: dict[int, Any]) -> dict[Any, Any]:
    copied = memo[id(table)] = type(table)()
    for key, value in table.items():
        copied[deepcopy(key, memo)] = deepcopy(value, memo)
    return copied


def _sequence(sequence: Any, memo: dict[int, Any]) -> Any:
    """Return a copy of a tuple or a set; a tuple of what does not change is its own copy."""
    if not all(type(value) in _ATOMIC for value in sequence):
        return copy.deepcopy(sequence, memo)
    if type(sequence) is set:
        memo[id(sequence)] = sequence = set(sequence)
    return sequence


_WAYS: dict[type, Callable[[Any, dict[int, Any]], Any]] = {
    dict: _table, OrderedDict: _table, tuple: _sequence, set: _sequence,
}  # fmt: skip


@lru_cache(maxsize=1024)
def _is_standard(kind: Any) -> bool:
    """Whether modules of a class are copied by their ``__dict__`` and nothing else."""
    return (
        all(getattr(kind, name) is getattr(nn.Module, name) for name in _STANDARD)
        and not any(hasattr(kind, name) for name in _OWN_WAYS)
        and kind not in copyreg.dispatch_table
        and not copyreg._slotnames(kind)  # type: ignore[attr-defined]  # where copy finds slots
        and not issubclass(kind, list | dict)
    )
