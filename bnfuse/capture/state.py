"""The Python state of a model's modules at one moment, and what has changed since."""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from dataclasses import dataclass
from operator import is_
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

_MUTABLE = (list, dict, set)
_IMMUTABLE = frozenset({int, float, bool, str, type(None)})
_TABLES = frozenset({dict, OrderedDict, set})
_NOTHING: tuple[list[Any], list[Any]] = ([], [])
"""What an empty table holds, as most of a module's are."""
CONSTANT_PREFIX = "_tensor_constant"
"""How torch.fx names tensors that a forward makes while it is traced; it sets them itself."""


class Change(NamedTuple):
    """What has become of an attribute.

    Attributes:
        what: "sets" or "changes".
        module: The path of the module that has it.
        name: Its name.
    """

    what: str
    module: str
    name: str

    def __str__(self) -> str:
        """Return it as a clause.

        >>> str(Change("sets", "layer1.0", "calls"))
        'sets layer1.0.calls'
        """
        return f"{self.what} {self.module}.{self.name}" if self.module else f"{self[0]} {self[2]}"


@dataclass(frozen=True, slots=True)
class ModuleState:
    """The attributes of all modules of a model at one moment.

    Attributes:
        attributes: For each module its name, itself, a shallow copy of its ``__dict__``, and for
            what can change without being set how that shows: see ``_held``.
    """

    attributes: tuple[tuple[str, nn.Module, dict[str, Any], dict[str, Any]], ...]

    @classmethod
    def of(cls, root: nn.Module) -> ModuleState:
        """Take down the state of ``root`` and everything below it."""
        held = _remembering()
        return cls(
            tuple(
                (name, module, dict(vars(module)), _each(held, vars(module)))
                for name, module in root.named_modules()
                if not isinstance(module, torch.jit.ScriptModule)  # keeps caches in attributes
            )
        )

    def changes(self) -> list[Change]:
        """Return what differs now from what was taken down."""
        found = []
        held_now = _remembering()
        for name, module, before, held in self.attributes:
            now = vars(module)
            # Most modules are as they were, and what cannot change inside needs no second look.
            is_set = list(now) != list(before) or not all(map(is_, now.values(), before.values()))
            for key in {**before, **now} if is_set else held:
                if key.startswith(CONSTANT_PREFIX):
                    continue
                if key not in now or key not in before or now[key] is not before[key]:
                    found.append(Change("sets", name, key))
                elif not _same(held_now(now[key]), held.get(key)):
                    found.append(Change("changes", name, key))
        return found


@dataclass(frozen=True, slots=True)
class OutsideState:
    """Lists, dictionaries and sets that forwards reach outside their modules, and their contents.

    They are the caller's own, not copies, so they are put back as they were.

    Attributes:
        held: For each its name, itself, and a shallow copy.
    """

    held: tuple[tuple[str, Any, Any], ...]

    @classmethod
    def of(cls, root: nn.Module) -> OutsideState:
        """Take down what stands in the modules' classes and in the globals their methods name."""
        found: dict[int, tuple[str, Any]] = {}
        for owner in {ancestor for module in root.modules() for ancestor in type(module).__mro__}:
            if owner.__module__.partition(".")[0] in ("torch", "builtins"):
                continue
            for name, value in vars(owner).items():
                if type(value) in _MUTABLE:
                    found[id(value)] = (f"{owner.__name__}.{name}", value)
                for used in getattr(getattr(value, "__code__", None), "co_names", ()):
                    reached = value.__globals__.get(used)
                    if type(reached) in _MUTABLE:
                        found[id(reached)] = (used, reached)
        return cls(tuple((name, value, copy.copy(value)) for name, value in found.values()))

    @classmethod
    def of_run(cls, scopes: dict[CodeType, dict[str, Any]]) -> OutsideState:
        """Take down what stands in the globals that functions name, which have been run."""
        found: dict[int, tuple[str, Any]] = {}
        for code, scope in scopes.items():
            for used in code.co_names:
                if type(scope.get(used)) in _MUTABLE:
                    found[id(scope[used])] = (used, scope[used])
        return cls(tuple((name, value, copy.copy(value)) for name, value in found.values()))

    def restore(self) -> list[str]:
        """Put the contents back, and return the names of what had changed."""
        changed = []
        for name, value, before in self.held:
            if not _same(_held(value), _held(before)):
                changed.append(name)
                value.clear()
                value.extend(before) if isinstance(value, list) else value.update(before)
        return changed


def _remembering() -> Callable[[Any], Any]:
    """Return ``_held`` that looks once into what many modules hold, such as a configuration."""
    found: dict[int, Any] = {}

    def held(value: Any) -> Any:
        if type(value) in _IMMUTABLE:
            return None
        if type(value) in _TABLES and not value:
            return _NOTHING
        if id(value) not in found:
            found[id(value)] = _held(value)
        return found[id(value)]

    return held


def _each(held: Callable[[Any], Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """Return what is held by those attributes that can change inside."""
    found = ((key, held(value)) for key, value in attributes.items())
    return {key: inside for key, inside in found if inside is not None}


def _held(value: Any, depth: int = 4) -> Any:
    """Return what tells whether a value, or something it holds, was changed in place.

    Looks into lists, dictionaries, sets, tuples, queues and objects with attributes.

    Returns:
        The version of a tensor; for what holds others those, and what tells of each that is not of
        a plain type; None for what cannot change.
    """
    if type(value) in _IMMUTABLE:
        return None
    if isinstance(value, torch.Tensor):
        return value._version if not value.is_inference() else 0
    if depth == 0 or isinstance(value, nn.Module | type | ModuleType):
        return None
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | deque):
        parts = list(value)
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    return parts, [_held(part, depth - 1) for part in parts if type(part) not in _IMMUTABLE]


def _same(now: Any, before: Any) -> bool:
    """Whether what was held is what is held now, object by object."""
    if now is before:
        return True
    if not (isinstance(now, tuple) and isinstance(before, tuple)):
        return bool(now == before)
    (parts, inside), (old_parts, old_inside) = now, before
    is_same = len(parts) == len(old_parts) and all(map(is_, parts, old_parts))
    return is_same and all(map(_same, inside, old_inside))
