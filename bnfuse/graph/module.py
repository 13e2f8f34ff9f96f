"""The module an optimized model is: a ``torch.fx.GraphModule`` with the face of the original."""

from __future__ import annotations

import copy
from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import fx, nn
from torch.fx.graph_module import _format_import_block, _forward_from_src
from torch.package.importer import sys_importer

from bnfuse.errors import BnfuseError
from bnfuse.graph.hooks import FORWARD_HOOKS
from bnfuse.graph.plan import Plans

if TYPE_CHECKING:
    from collections.abc import Callable

# What fx.GraphModule keeps in its __dict__ for itself, beside what every nn.Module has.
_GRAPH_STATE = frozenset({"_graph", "_code", "_lineno_map", "_prologue_start", "_plans"})
_MODULE_TABLES = ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set")


class OptimizedModule(fx.GraphModule):
    """A captured model after optimization.

    Beyond a plain GraphModule it keeps the original's containers with their types, its plain
    attributes and its forward hooks, names the methods that were not captured, and can be copied
    and pickled without losing in-place operations.

    Args:
        root: The module tree the graph's paths refer to; it is taken over, not copied.
        graph: The graph of the forward.
        class_name: The name of the original's class.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, class_name: str) -> None:
        super().__init__(root, graph, class_name)
        for table in _MODULE_TABLES:
            setattr(self, table, getattr(root, table))
        own = set(self.__dict__) | _GRAPH_STATE
        self.__dict__.update({k: v for k, v in root.__dict__.items() if k not in own})
        for table in FORWARD_HOOKS:
            self.__dict__[table] = root.__dict__[table]

    def recompile(self) -> Any:
        """Make the forward of the graph, which runs its kernels straight where it can."""
        code = super().recompile()
        self.__dict__["_plans"] = Plans()
        type(self).forward = _planned(type(self).forward)
        return code

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.release()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's

    def release(self) -> None:
        """Give up what was made of the weights; the next call makes it again."""
        self.__dict__["_plans"].clear()

    def __getattr__(self, name: str) -> Any:
        """Answer for public methods of the original class, which a graph does not hold."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in self.__dict__.get("_uncaptured_methods", ()):
                return NotCaptured(f"{type(self).__name__}.{name}")
            raise

    def __deepcopy__(self, memo: dict[int, Any]) -> OptimizedModule:
        """Copy tensors and graph; attributes, hooks and the report come along."""
        state = {k: v for k, v in self.__dict__.items() if k not in _GRAPH_STATE}
        carrier = _carrier(copy.deepcopy(state, memo))
        graph = fx.Graph()
        graph._tracer_cls = self._graph._tracer_cls
        copied: dict[fx.Node, fx.Node] = {}
        for node in self._graph.nodes:
            copied[node] = graph.node_copy(node, lambda source: copied[source])
        return OptimizedModule(carrier, graph, type(self).__name__)

    def __copy__(self) -> OptimizedModule:
        """Copy the module, sharing tensors, as ``copy.copy`` does for any module."""
        state = {k: v for k, v in self.__dict__.items() if k not in _GRAPH_STATE}
        for table in _MODULE_TABLES:
            state[table] = copy.copy(state[table])
        return OptimizedModule(_carrier(state), self._graph, type(self).__name__)

    def __reduce__(self) -> tuple[Callable[..., OptimizedModule], tuple[Any, ...]]:
        """Pickle the attributes and the forward's source, from which the graph is traced again."""
        code = self._graph.python_code(root_module="self")
        imports = _format_import_block(code.globals, sys_importer)
        state = {k: v for k, v in self.__dict__.items() if k not in _GRAPH_STATE}
        return _from_source, (state, imports + code.src, type(self).__name__)


def _planned(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a forward that runs by a plan where there is one for the call."""

    def run(self: OptimizedModule, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or kwargs:
            return forward(self, *args, **kwargs)
        return self.__dict__["_plans"].run(self, forward, args)

    # Each has code of its own, since torch.compile counts and skips by the code of a function.
    own = FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    return wraps(forward)(own)


class NotCaptured:
    """Stands where calling would not run the optimized graph; calling it says what to do."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Raise: what the name stood for is no longer a program of its own."""
        raise BnfuseError(
            f"{self.what} was not captured, only the forward of the whole model was: "
            "call the optimized model itself, or keep the unfused model for this."
        )


def _carrier(state: dict[str, Any]) -> nn.Module:
    """Return a plain module holding the given attributes."""
    carrier = nn.Module()
    carrier.__dict__.update(state)
    return carrier


def _from_source(state: dict[str, Any], source: str, class_name: str) -> OptimizedModule:
    """Trace the generated source of a graph module again, each call of a module one node."""
    from bnfuse.capture.retrace import retrace  # the tracer names the guards of this package

    carrier = _carrier(state)
    graph = retrace(carrier, _forward_from_src(source, {}))
    return OptimizedModule(carrier, graph, class_name)
