"""One node of a file, as the rules that convert it see it."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from bnfuse.errors import RequestError
from bnfuse.importing.sizes import Size, Sizes, as_sizes
from bnfuse.importing.tensors import dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnfuse.importing.builder import Builder
    from bnfuse.importing.shapes import Type

Operand = Tensor | fx.Node
"""A constant, or what a node of the graph computes."""
Value = Operand | Sizes
"""What a name in a file stands for."""
_LAYER_SUFFIXES = (".weight", ".running_mean", ".bias")


@dataclass(frozen=True, slots=True)
class Site:
    """A node of a file, with what its inputs stand for.

    Attributes:
        name: What the file calls the node.
        kind: Its operator, such as ``Conv``.
        opset: The version of the operators that the file asks for.
        inputs: The values it is given; None for one left out.
        names: What the file calls them.
        outputs: What the file calls its results.
        attributes: Its attributes.
        types: The types of all values of the file, as far as they are known.
        builder: What the graph is made with.
    """

    name: str
    kind: str
    opset: int
    inputs: tuple[Value | None, ...]
    names: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    types: Mapping[str, Type]
    builder: Builder

    def error(self, why: str) -> RequestError:
        """Return an error about this node; ``why`` is a clause without a full stop."""
        return RequestError(
            f"bnfuse cannot convert the operator {self.kind} of the node {self.name!r}: {why}."
        )

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Operand:
        """Return an input that must be given, as a tensor."""
        given = self.inputs[index] if index < len(self.inputs) else None
        if given is None:
            raise self.error(f"its input {index} is missing")
        return self.builder.as_tensor(given) if isinstance(given, Sizes) else given

    def optional(self, index: int) -> Operand | None:
        """Return an input that may be left out."""
        return self.value(index) if self.has(index) else None

    def known(self, index: int) -> Tensor | None:
        """Return an input that is a constant, else None."""
        given = self.inputs[index] if index < len(self.inputs) else None
        return given if isinstance(given, Tensor) else None

    def operand(self, index: int) -> Operand | float | int | bool:
        """Return an input of an operation on elements: a constant without axes as a number."""
        given = self.value(index)
        if isinstance(given, Tensor) and given.ndim == 0 and not self.is_constant:
            number: float | int | bool = given.item()
            return number
        return given

    @property
    def is_constant(self) -> bool:
        """Whether all it is given is known."""
        return all(value is None or isinstance(value, Tensor) for value in self.inputs)

    def ints(self, index: int) -> list[int]:
        """Return an input of whole numbers that must be constant, such as axes."""
        given = as_sizes(self.inputs[index]) if index < len(self.inputs) else None
        entries = given.entries if given is not None else ()
        numbers = [entry for entry in entries if isinstance(entry, int)]
        if given is None or len(numbers) < len(entries):
            raise self.error(f"its input {index} is computed from the data and must be constant")
        return numbers

    def sizes(self, index: int) -> list[Size]:
        """Return an input of whole numbers that may be computed from shapes."""
        given = as_sizes(self.inputs[index]) if index < len(self.inputs) else None
        if given is None:
            raise self.error(f"its input {index} depends on data, not on shapes alone")
        return list(given.entries)

    def number(self, index: int, default: float) -> float:
        """Return an input that must be one constant number."""
        if not self.has(index):
            return default
        given = self.known(index)
        if given is None or given.numel() != 1:
            raise self.error(f"its input {index} is computed and must be a constant number")
        return given.reshape(()).item()

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def axes(self, index: int = 1) -> list[int] | None:
        """Return axes, which later opsets give as an input; None where none are given."""
        if self.has(index):
            return self.ints(index)
        axes = self.attribute("axes", None)
        return None if axes is None else [int(axis) for axis in axes]

    def dims(self, index: int) -> tuple[int | None, ...] | None:
        """Return the sizes of an input's axes, None for an open one, or for an unknown rank."""
        given = self.inputs[index]
        if isinstance(given, Tensor):
            return tuple(given.shape)
        if isinstance(given, Sizes):
            return () if given.is_scalar else (len(given.entries),)
        found = self.types.get(self.names[index])
        return None if found is None else found.dims

    def rank(self, index: int) -> int:
        """Return how many axes an input has."""
        dims = self.dims(index)
        if dims is None:
            raise self.error(f"the file does not tell how many axes its input {index} has")
        return len(dims)

    def size(self, index: int, axis: int) -> Size:
        """Return the size of an axis of an input: a number where the file fixes it."""
        given = self.value(index)
        if isinstance(given, Tensor):
            return given.shape[axis]
        found = self.size_of(self.names[index], axis)
        return self.builder.size(given, axis) if found is None else found

    def size_of(self, name: str, axis: int) -> Size | None:
        """Return the size of an axis of a value of the file, None where the file does not tell.

        That is a number, or the node that reads the size of an input which it always has.
        """
        known = self.types.get(name)
        if known is None or known.dims is None:
            return None
        if known.dims[axis] is not None:
            return known.dims[axis]
        multiple = known.multiples[axis] if known.multiples else None
        if multiple is None or multiple.factor != 1:
            return None
        return self.builder.size(self.builder.arguments[multiple.name], 0)

    def fixed_size(self, index: int, axis: int) -> int:
        """Return the size of an axis that the file must fix."""
        found = self.size(index, axis)
        if not isinstance(found, int):
            raise self.error(f"the size of axis {axis} of its input {index} is open")
        return found

    def dtype(self, index: int) -> torch.dtype | None:
        """Return the dtype of an input, None where it is not known."""
        given = self.inputs[index]
        if isinstance(given, Tensor):
            return given.dtype
        if isinstance(given, Sizes):
            return torch.int64
        found = self.types.get(self.names[index])
        return None if found is None else found.dtype

    def target_dtype(self) -> torch.dtype:
        """Return the dtype that the attribute ``to`` names."""
        return dtype_of(self.attribute("to", 0), f"the node {self.name!r}")

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Operand:
        """Call a function, at once or in the graph."""
        result: Operand = self.builder.call(function, *args, **kwargs)
        return result

    def several(self, count: int, function: Callable[..., Any], *args: Any) -> tuple[Operand, ...]:
        """Call a function that returns so many tensors."""
        made = self.builder.call(function, *args)
        return tuple(self.call(operator.getitem, made, index) for index in range(count))

    def method(self, name: str, given: Operand, *args: Any) -> Operand:
        """Call a method, at once or in the graph."""
        result: Operand = self.builder.method(name, given, *args)
        return result

    def layer(self, module: nn.Module, given: Operand) -> Operand:
        """Call a layer, named like its weights in the file, or else like the node."""
        result: Operand = self.builder.layer(module.eval(), self.layer_name(), given)
        return result

    def layer_name(self) -> str:
        """Return what the layer is called by whoever wrote its weights, or else the node.

        ``layer1.0.bn1`` where an input is ``layer1.0.bn1.weight``.
        """
        for name in self.names[1:]:
            for suffix in _LAYER_SUFFIXES:
                if name.endswith(suffix) and name != suffix:
                    return name.removesuffix(suffix)
        return self.name
