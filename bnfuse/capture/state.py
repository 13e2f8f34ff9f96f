"""The Python state of a model's modules at one moment, and what has changed since."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

_MUTABLE = (list, dict, set)
_IMMUTABLE = frozenset({int, float, bool, str, type(None)})
CONSTANT_PREFIX = "_tensor_constant"
"""How torch.fx names tensors that a forward makes while it is traced; it sets them itself."""


@dataclass(frozen=True, slots=True)
class ModuleState:
    """The attributes of all modules of a model at one moment.

    Attributes:
        attributes: For each module its name, itself, a shallow copy of its ``__dict__``, and what
            can change without being set: shallow copies of lists, dictionaries and sets, and the
            version counters of tensors.
    """

    attributes: tuple[tuple[str, nn.Module, dict[str, Any], dict[str, Any]], ...]

    @classmethod
    def of(cls, root: nn.Module) -> ModuleState:
        """Take down the state of ``root`` and everything below it."""
        held = _remembering()
        return cls(
            tuple(
                (name, module, dict(vars(module)), {k: held(v) for k, v in vars(module).items()})
                for name, module in root.named_modules()
                if not isinstance(module, torch.jit.ScriptModule)  # keeps caches in attributes
            )
        )

    def changes(self) -> list[str]:
        """Say what differs now from what was taken down, a clause each."""
        found = []
        held_now = _remembering()
        for name, module, before, held in self.attributes:
            prefix = f"{name}." if name else ""
            now = vars(module)
            for key in {**before, **now}:
                if key.startswith(CONSTANT_PREFIX):
                    continue
                if key not in now or key not in before or now[key] is not before[key]:
                    found.append(f"sets {prefix}{key}")
                elif not _same(held_now(now[key]), held[key]):
                    found.append(f"changes {prefix}{key}")
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
        if id(value) not in found:
            found[id(value)] = _held(value)
        return found[id(value)]

    return held


def _held(value: Any, depth: int = 4) -> Any:
    """Return what tells whether a value, or something it holds, was changed in place.

    Looks into lists, dictionaries, sets, tuples, queues and objects with attributes.
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
    return [(part, _held(part, depth - 1)) for part in parts]


def _same(now: Any, before: Any) -> bool:
    """Whether what was held is what is held now, object by object."""
    if isinstance(now, list) and isinstance(before, list):
        return len(now) == len(before) and all(
            mine is theirs and (inside is was or _same(inside, was))
            for (mine, inside), (theirs, was) in zip(now, before, strict=True)
        )
    return bool(now == before)
