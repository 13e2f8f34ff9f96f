"""Read a node as a call of a known operation, whatever its spelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from bnfuse.graph.hooks import is_hooked
from bnfuse.graph.program import Constant
from bnfuse.ops.binding import bind, names_of
from bnfuse.ops.plain import MISSING, behaves_as
from bnfuse.ops.table import WEIGHTED, Kind, Operation
from bnfuse.ops.table_activations import ACTIVATIONS
from bnfuse.ops.table_layout import LAYOUT
from bnfuse.ops.table_picking import PICKING
from bnfuse.ops.table_values import VALUE_OPERATIONS

if TYPE_CHECKING:
    from bnfuse.graph.program import Program

OPERATIONS = (*WEIGHTED, *VALUE_OPERATIONS, *ACTIVATIONS, *LAYOUT, *PICKING)
"""Every operation the passes know, in no particular order."""
_OF_LISTS = (Kind.CONCATENATION, Kind.STACK)
_OF_MODES = (Kind.BATCH_NORM, Kind.DROPOUT)  # whose passes say why they decline
_BY_MODULE = {module: row for row in OPERATIONS for module in row.modules}
_BY_FUNCTION = {function: row for row in OPERATIONS for function in row.functions}
_BY_METHOD = {method: row for row in OPERATIONS for method in row.methods}


@dataclass(frozen=True, slots=True)
class Call:
    """One call site of a known operation, in canonical form.

    Attributes:
        kind: What the operation is to the algebra.
        node: The node of the graph.
        name: The qualified name of the layer; for a function call that of the layer whose tensors
            it reads, or whose forward makes it.
        input: The value it is applied to; the first of several.
        operands: All values it is applied to, where one may be a plain number.
        constants: The tensors it reads: a Constant, a node where the tensor is computed in the
            graph, or None where there is none.
        options: Its plain arguments; a node where one is computed in the graph.
        hooked: Whether the user's own code runs around the call.
        spelling: The name of the layer's class, or of the function or method.
    """

    kind: Kind
    node: fx.Node
    name: str
    input: fx.Node
    operands: tuple[Any, ...]
    constants: dict[str, Constant | fx.Node | None]
    options: dict[str, Any]
    hooked: bool
    spelling: str

    @property
    def layers(self) -> tuple[str, ...]:
        """The one layer the call is of."""
        return (self.name,)

    @property
    def ranks(self) -> tuple[tuple[fx.Node, int], ...]:
        """None: the call takes what it is given."""
        return ()

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The one operation it is."""
        return (self.node,)

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
    def is_broadcast(self) -> bool:
        """Whether a bound that the graph computes may give a clamp's result more axes."""
        return self.kind is Kind.CLAMP and bool(self.computed)

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
        """Return a tensor the model owns, or None where that is none or the graph computes it."""
        constant = self.owned.get(name)
        return constant.tensor if constant and isinstance(constant.tensor, Tensor) else None


def read_call(program: Program, node: fx.Node) -> Call | None:
    """Return the canonical form of a call site, or None where the operation is not known."""
    readings = program.readings
    if readings is None:
        return _read(program, node)
    if node not in readings:
        readings[node] = _read(program, node)
    return readings[node]


def _read(program: Program, node: fx.Node) -> Call | None:
    if node.op == "call_module":
        return _read_module(program, node)
    if node.op == "call_function" and node.target in _BY_FUNCTION:
        row = _BY_FUNCTION[node.target]
        return _remembered(program, node, row, row.functions[node.target])
    if node.op == "call_method" and node.target in _BY_METHOD:
        row = _BY_METHOD[str(node.target)]
        return _remembered(program, node, row, row.methods[str(node.target)])
    return None


def _remembered(
    program: Program, node: fx.Node, row: Operation, names: tuple[str, ...]
) -> Call | None:
    """Read a call as before, as long as it is the same; where it reads no tensor by a path.

    A node that is changed is given other arguments: those it has are never written.
    """
    if row.constants:  # another tensor may stand at the path by now
        return _read_operator(program, node, row, names)
    known = program.calls.get(node)
    now = (node.target, node.args, node.kwargs)
    if known is not None and all(old is new for old, new in zip(known[0], now, strict=True)):
        return known[1]
    call = _read_operator(program, node, row, names)
    program.calls[node] = now, call
    return call


def _read_module(program: Program, node: fx.Node) -> Call | None:
    path = str(node.target)
    module = program.module(path)
    known = behaves_as(module, _BY_MODULE)
    value = node.args[0] if node.args else node.kwargs.get("input")
    if known is None or not isinstance(value, fx.Node):
        return None
    row = _BY_MODULE[known]
    if known.__name__.startswith("Instance") and not isinstance(module.running_mean, Tensor):
        return None  # it normalizes with its input's own statistics
    constants: dict[str, Constant | fx.Node | None] = {}
    for name in row.constants:
        tensor: Any = getattr(module, name, MISSING)
        constants[name] = None if tensor is None else Constant(f"{path}.{name}", tensor)
    given = {name: getattr(module, name, row.options[name]) for name in row.options}
    if row.kind is Kind.BATCH_NORM:  # what such a layer lacks it cannot have a default for
        given = {name: getattr(module, name, None) for name in row.options}
    hooked, spelling = is_hooked(module), known.__name__
    return Call(row.kind, node, path, value, (value,), constants, given, hooked, spelling)


def _read_operator(
    program: Program, node: fx.Node, row: Operation, names: tuple[str, ...]
) -> Call | None:
    given = bind(names, node)
    known = {*names_of(names), *row.inputs, *row.constants, *row.options}
    is_told = given.keys() <= known
    if row.kind is not Kind.ACTIVATION and not is_told:
        return None
    operands = _operands(given, row)
    if row.kind in _OF_LISTS and not isinstance(given.get(row.inputs[0]), list | tuple):
        return None  # one value that is a list when the graph runs
    if row.kind.is_broadcast and any(operand is None for operand in operands):
        return None  # where(condition) lists places
    value = next((operand for operand in operands if isinstance(operand, fx.Node)), None)
    if value is None:
        return None
    constants = {name: _constant(program, given.get(name)) for name in row.constants}
    options = {name: given.get(name, default) for name, default in row.options.items()}
    if row.kind not in _OF_MODES and _is_flag_computed(row, options):
        return None
    name = _owner(constants) or layer_name(node)
    spelling = str(getattr(node.target, "__name__", node.target))
    return Call(row.kind, node, name, value, operands, constants, options, False, spelling)


def _is_flag_computed(row: Operation, options: dict[str, Any]) -> bool:
    """Whether the graph computes what is to be told by yes or no, such as ``keepdim``."""
    flags = [name for name, default in row.options.items() if isinstance(default, bool)]
    return any(isinstance(options[name], fx.Node) for name in flags)


def _operands(given: dict[str, Any], row: Operation) -> tuple[Any, ...]:
    """Return the values of a call: those named in the row, or those in the list it takes."""
    first = given.get(row.inputs[0])
    if isinstance(first, list | tuple):
        return tuple(first)
    return tuple(given.get(name) for name in row.inputs)


def argument_names(node: fx.Node) -> tuple[str, ...]:
    """Return the names of a known function's arguments, in order."""
    return _BY_FUNCTION[node.target].functions[node.target]


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
