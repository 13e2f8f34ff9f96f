"""The captures of the modules of one model, each made once.

Where no trace can follow a forward, its children are looked at one by one: which can be traced, and
which of them stay calls around which the whole is captured. What that shows of a module is what is
needed of it later, and it holds for a copy of the module as well that shares its tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from bnfuse.capture.capture import Capture, Obstacle, capture
from bnfuse.graph.part import part_forward

if TYPE_CHECKING:
    from collections.abc import Iterator

_Key = tuple[int, frozenset[str]]
_NONE: frozenset[str] = frozenset()


class Captures:
    """Captures modules, and remembers what came of it.

    Args:
        by_reference: Identities of modules that are the caller's own.
    """

    def __init__(self, by_reference: frozenset[int]) -> None:
        self._by_reference = by_reference
        self._made: dict[_Key, Capture | str] = {}
        self._traceable: dict[int, bool] = {}
        self._opaque_below: dict[int, frozenset[str]] = {}
        self._origins: dict[int, tuple[int, nn.Module]] = {}  # with the copy: it keeps its identity

    def take(self, module: nn.Module) -> Capture | str:
        """Return a capture of a module, the parts inside that no trace can follow one call each.

        It is the caller's to change: the next one is another.
        """
        captured = self._taken(module, _NONE)
        if isinstance(captured, str) and (opaque := self.untraceable(module)):
            around = self._taken(module, opaque)
            return captured if isinstance(around, str) else around
        return captured

    def untraceable(self, module: nn.Module) -> frozenset[str]:
        """Return the paths of the smallest modules inside whose own forward no trace can follow."""
        key = self._origin(module)
        if key not in self._opaque_below:
            self._opaque_below[key] = self._changing(module) or self._below(module)
        return self._opaque_below[key]

    def _changing(self, module: nn.Module) -> frozenset[str]:
        """Return those paths where all that a trace of the module found is what they change.

        Such a trace went through to the end, so it need not be repeated for each part alone: with
        calls of those that change themselves it has to find nothing more. Empty where it does.
        """
        known = self._made.get((self._origin(module), _NONE))
        found: set[str] = set()
        for path in _outermost(known.changed if isinstance(known, Obstacle) else _NONE):
            child = module.get_submodule(path)
            if not self._is_open(module, path) or self._is_traceable(child):
                return _NONE
            inner = self.untraceable(child)
            is_inside = inner and isinstance(self._known(child, inner), Capture)
            found |= {f"{path}.{name}" for name in inner} if is_inside else {path}
        opaque = frozenset(found)
        return opaque if opaque and isinstance(self._known(module, opaque), Capture) else _NONE

    def _is_open(self, module: nn.Module, path: str) -> bool:
        """Whether a path leads to a module inside, past no part that is not to be looked into."""
        names = path.split(".") if path else []
        steps = [module.get_submodule(".".join(names[:n])) for n in range(1, len(names) + 1)]
        return bool(steps) and not any(map(self._is_closed, steps))

    def _is_closed(self, module: nn.Module) -> bool:
        is_own = is_torch_leaf(module) or id(module) in self._by_reference
        return is_own or part_forward(module) is not None

    def _below(self, module: nn.Module) -> frozenset[str]:
        """Return those paths, each child looked at alone."""
        found: set[str] = set()
        for name, child in module.named_children():
            if self._is_closed(child):
                continue
            is_container = type(child).forward is nn.Module.forward  # it has none
            if not is_container and self._is_traceable(child):
                continue
            inner = self.untraceable(child)
            is_inside = inner and (is_container or isinstance(self._known(child, inner), Capture))
            if is_inside:
                found |= {f"{name}.{path}" for path in inner}
            elif not is_container:
                found.add(name)
        return frozenset(found)

    def note_copy(self, module: nn.Module, copied: nn.Module) -> None:
        """Note that a tree is a copy of another, with its tensors: what is known holds for it."""
        mine, theirs = list(module.modules()), list(copied.modules())
        if self._made and list(map(type, mine)) == list(map(type, theirs)):
            pairs = zip(mine, theirs, strict=True)
            self._origins |= {id(b): (self._origin(a), b) for a, b in pairs}

    def trees(self) -> Iterator[nn.Module]:
        """Yield the module trees of the captures that nobody has taken yet."""
        for captured in self._made.values():
            if isinstance(captured, Capture):
                yield captured.program.root

    def _is_traceable(self, module: nn.Module) -> bool:
        key = self._origin(module)
        if key not in self._traceable:
            self._traceable[key] = isinstance(self._known(module, _NONE), Capture)
        return self._traceable[key]

    def _known(self, module: nn.Module, opaque: frozenset[str]) -> Capture | str:
        """Return a capture to be looked at."""
        key = self._origin(module), opaque
        if key not in self._made:
            self._made[key] = capture(module, self._by_reference, opaque)
            self._origins.setdefault(id(module), (id(module), module))
        return self._made[key]

    def _taken(self, module: nn.Module, opaque: frozenset[str]) -> Capture | str:
        """Return a capture to be changed."""
        if any(part_forward(inner) for inner in module.modules()):  # since it was captured
            return capture(module, self._by_reference, opaque)
        captured = self._known(module, opaque)
        if isinstance(captured, Capture):
            del self._made[self._origin(module), opaque]
        return captured

    def _origin(self, module: nn.Module) -> int:
        return self._origins[id(module)][0] if id(module) in self._origins else id(module)


def _outermost(paths: frozenset[str]) -> list[str]:
    """Return the paths that lie inside none of the others."""
    return [p for p in sorted(paths) if not any(p.startswith(f"{o}.") for o in paths)]


def is_torch_leaf(module: nn.Module) -> bool:
    """Whether a module is one of PyTorch's own layers, or TorchScript, with nothing to trace."""
    if isinstance(module, torch.jit.ScriptModule):
        return True
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    is_own = type(module).__module__.startswith(("torch.nn.", "torch.ao."))
    return is_own and type(module) is not nn.Module and not isinstance(module, containers)
