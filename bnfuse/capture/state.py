"""The Python state of a model's modules at one moment, and what has changed since."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

_MUTABLE = (list, dict, set)
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
        return cls(
            tuple(
                (name, module, dict(vars(module)), {k: _held(v) for k, v in vars(module).items()})
                for name, module in root.named_modules()
                if not isinstance(module, torch.jit.ScriptModule)  # keeps caches in attributes
            )
        )

    def changes(self) -> list[str]:
        """Say what differs now from what was taken down, a clause each."""
        found = []
        for name, module, before, held in self.attributes:
            prefix = f"{name}." if name else ""
            now = vars(module)
            for key in {**before, **now}:
                if key.startswith(CONSTANT_PREFIX):
                    continue
                if key not in now or key not in before or now[key] is not before[key]:
                    found.append(f"sets {prefix}{key}")
                elif not _same(_held(now[key]), held[key]):
                    found.append(f"changes {prefix}{key}")
        return found


def _held(value: Any) -> Any:
    """Return what tells whether a value was changed in place."""
    if isinstance(value, torch.Tensor):
        return value._version if not value.is_inference() else 0
    return copy.copy(value) if type(value) in _MUTABLE else None


def _same(now: Any, before: Any) -> bool:
    """Whether what was held is what is held now, object by object."""
    if isinstance(now, dict):
        return _same(list(now), list(before)) and _same([*now.values()], [*before.values()])
    if isinstance(now, list):
        return len(now) == len(before) and all(a is b for a, b in zip(now, before, strict=True))
    return bool(now == before)
