"""Read a node as a call of a known operation, whatever its spelling."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from bnfuse.graph.hooks import is_hooked
from bnfuse.graph.program import Constant
from bnfuse.ops.plain import MISSING, behaves_as, oddity
from bnfuse.ops.table import OPERATIONS, Kind, Operation

if TYPE_CHECKING:
    from bnfuse.graph.program import Program

_BY_MODULE = {module: row for row in OPERATIONS for module in row.modules}
_BY_FUNCTION = {function: row for row in OPERATIONS for function in row.functions}


@dataclass(frozen=True, slots=True)
class Call:
    """One call site of a known operation, in canonical form.

    Attributes:
        kind: What the operation is to the algebra.
        node: The node of the graph.
        name: The qualified name of the layer; for a function call that of the layer whose tensors
            it reads, or whose forward makes it.
        input: The value it is applied to.
        constants: The tensors it reads: a Constant, a node where the tensor is computed in the
            graph, or None where there is none.
        options: Its plain arguments; a node where one is computed in the graph.
        hooked: Whether the user's own code runs around the call.
    """

    kind: Kind
    node: fx.Node
    name: str
    input: fx.Node
    constants: dict[str, Constant | fx.Node | None]
    options: dict[str, Any]
    hooked: bool

    @property
    def layers(self) -> tuple[str, ...]:
        """The one layer the call is of."""
        return (self.name,)

    @property
    def is_module(self) -> bool:
        """Whether the call is spelled as a module."""
        return self.node.op == "call_module"

    @property
    def computed(self) -> list[str]:
        """The names of tensors and options that the graph computes."""
        everything = {**self.constants, **self.options}
        return [name for name, value in everything.items() if isinstance(value, fx.Node)]

    @property
    def odd(self) -> list[str]:
        """What no fold can read of its tensors and plain arguments, a clause each."""
        found = [f"{c.path} is {what}" for c in self.owned.values() if (what := oddity(c.tensor))]
        if self.kind.is_linear and self.constants["weight"] is None:
            found.append(f"{self.name}.weight is None")
        found += [f"{self.name}.{k} is no number" for k, v in self.options.items() if _is_odd(v)]
        if self.kind is Kind.BATCH_NORM and not found:
            found += _odd_shapes(list(self.owned.values()))
        return found

    @property
    def owned(self) -> dict[str, Constant]:
        """The tensors that the model owns, by argument name."""
        return {k: v for k, v in self.constants.items() if isinstance(v, Constant)}

    @property
    def weight(self) -> Tensor:
        """The weight of a linear operation.

        Raises:
            KeyError: The graph computes it; ask ``computed`` first.
        """
        return self.owned["weight"].tensor

    def tensor(self, name: str) -> Tensor | None:
        """Return a tensor the model owns, or None where there is none or the graph computes it."""
        constant = self.owned.get(name)
        return None if constant is None else constant.tensor


def read_call(program: Program, node: fx.Node) -> Call | None:
    """Return the canonical form of a call site, or None where the operation is not known."""
    if node.op == "call_module":
        return _read_module(program, node)
    if node.op == "call_function" and node.target in _BY_FUNCTION:
        return _read_function(program, node)
    return None


def _read_module(program: Program, node: fx.Node) -> Call | None:
    path = str(node.target)
    module = program.module(path)
    known = behaves_as(module, _BY_MODULE)
    row = _BY_MODULE.get(known) if known else None
    value = node.args[0] if node.args else node.kwargs.get("input")
    if row is None or not isinstance(value, fx.Node):
        return None
    constants: dict[str, Constant | fx.Node | None] = {}
    for name in row.constants:
        tensor: Any = getattr(module, name, MISSING)
        constants[name] = None if tensor is None else Constant(f"{path}.{name}", tensor)
    options = {name: getattr(module, name, None) for name in row.options}
    return Call(row.kind, node, path, value, constants, options, is_hooked(module))


def _read_function(program: Program, node: fx.Node) -> Call | None:
    row = _BY_FUNCTION[node.target]
    given = _bind(row, node)
    value = given.get("input")
    if not isinstance(value, fx.Node):
        return None
    constants = {name: _constant(program, given.get(name)) for name in row.constants}
    options = {name: given.get(name, default) for name, default in row.options.items()}
    name = _owner(constants) or layer_name(node)
    return Call(row.kind, node, name, value, constants, options, hooked=False)


def _is_odd(option: Any) -> bool:
    """Whether a plain argument is neither a number nor computed in the graph."""
    if isinstance(option, Tensor):
        return option.numel() != 1
    return not isinstance(option, Real | fx.Node)


def _odd_shapes(constants: list[Constant]) -> list[str]:
    """Say which tensors of a batch norm do not hold one number for each channel."""
    channels = max((c.tensor.numel() for c in constants), default=0)
    odd = [c for c in constants if c.tensor.shape != (channels,)]
    return [f"{c.path} has the shape {tuple(c.tensor.shape)}" for c in odd]


def _bind(row: Operation, node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a function call by name."""
    bound = dict(zip(row.functions[node.target], node.args, strict=False))
    return {**bound, **node.kwargs}


def _constant(program: Program, value: Any) -> Constant | fx.Node | None:
    """Return the tensor that a ``get_attr`` node reads, or the node that computes one."""
    if not isinstance(value, fx.Node):
        return None
    if value.op == "get_attr":
        tensor = program.tensor(str(value.target))
        if tensor is not None:
            return Constant(str(value.target), tensor)
    return value


def _owner(constants: dict[str, Constant | fx.Node | None]) -> str:
    """Return the layer that holds the first tensor of a call; empty where the root does."""
    paths = [value.path for value in constants.values() if isinstance(value, Constant)]
    return paths[0].rpartition(".")[0] if paths else ""


def layer_name(node: fx.Node) -> str:
    """Return the qualified name of the module whose forward made the call, else the node's name."""
    stack = node.meta.get("nn_module_stack")
    if stack:
        entry = list(stack.values())[-1]
        return str(entry[0])
    return node.name
