"""The types and shapes of all values of a file, inferred by onnx, with what depends on the batch.

onnx forgets what an open size is as soon as it is computed with: after ``reshape(x, (-1, 64))`` the
first size is unknown, and after a reshape back as well. So the shapes are inferred three more times
with plain numbers for an open first axis: 1 and two large primes. What is the same three times is
fixed; what is ``k`` times the number three times is ``k`` times the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from math import prod
from typing import TYPE_CHECKING, Any

from bnfuse.importing.tensors import dtype_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

_SMALL = 1024  # elements; shapes and axes are constants of this size
_PRIMES = (10007, 10009, 10037, 10039, 10061, 10067, 10069, 10079)


@dataclass(frozen=True, slots=True)
class Multiple:
    """A size that is a multiple of an open first axis.

    Attributes:
        name: The input whose first axis it is.
        factor: How many times that.
    """

    name: str
    factor: int


@dataclass(frozen=True, slots=True)
class Type:
    """What is known of a value.

    Attributes:
        dtype: Its dtype.
        dims: The size of each axis, None for an open one; None where their number is unknown.
        names: The name of each open axis, empty where it has none.
        multiples: What an open axis is a multiple of, None where that is unknown.
    """

    dtype: torch.dtype
    dims: tuple[int | None, ...] | None
    names: tuple[str, ...] = ()
    multiples: tuple[Multiple | None, ...] = ()

    @property
    def shape(self) -> str:
        """The shape as text, like ``?x3x224x224``."""
        return "x".join("?" if size is None else str(size) for size in self.dims or ()) or "()"


def inferred_types(onnx: Any, proto: Any, target: Path) -> dict[str, Type]:
    """Return the types of all values that are tensors.

    What the file claims about the values inside is left out: it is inferred, not believed.

    Args:
        onnx: The package.
        proto: The file's content.
        target: The file, for errors.

    Raises:
        RequestError: A value has elements of a type that PyTorch does not compute in.
    """
    plain = _skeleton(onnx, proto)
    types = {
        value.name: Type(
            dtype_of(value.type.tensor_type.elem_type, f"the value {value.name!r} of {target}"),
            _dims(value),
            tuple(dim.dim_param for dim in value.type.tensor_type.shape.dim),
        )
        for value in _inferred(onnx, plain)
    }
    batches = _open_batches(proto)
    if not batches or len(set(batches.values())) > len(_PRIMES) // 2:
        return types
    numbers = [dict.fromkeys(batches.values(), 1), *_prime_numbers(batches)]
    tries = [_with_batches(onnx, plain, batches, known) for known in numbers]
    first = {name: next(n for n, b in batches.items() if b == name) for name in batches.values()}
    return {
        name: _refined(known, [one.get(name) for one in tries], numbers, first)
        for name, known in types.items()
    }


def _skeleton(onnx: Any, proto: Any) -> Any:
    """Return the graph with its large constants as inputs, so that inference copies no weights."""
    made = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    made.graph.node.extend(proto.graph.node)
    made.graph.name = proto.graph.name
    large = [t for t in proto.graph.initializer if prod(t.dims) > _SMALL]
    made.graph.initializer.extend(t for t in proto.graph.initializer if prod(t.dims) <= _SMALL)
    named = {tensor.name for tensor in large}
    made.graph.input.extend(given for given in proto.graph.input if given.name not in named)
    for tensor in large:
        made.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    return made


def _inferred(onnx: Any, proto: Any) -> list[Any]:
    """Return the values whose types onnx can tell."""
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    values = (*graph.input, *graph.value_info)
    return [value for value in values if value.type.tensor_type.elem_type]


def _dims(value: Any) -> tuple[int | None, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= 0 else None
        for dim in tensor.shape.dim
    )


def _open_batches(proto: Any) -> dict[str, str]:
    """Return the inputs whose first axis is open, with the name of its size, if need be made up."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    found = {}
    for given in proto.graph.input:
        dims = given.type.tensor_type.shape.dim
        if given.name not in constants and len(dims) and not dims[0].HasField("dim_value"):
            found[given.name] = dims[0].dim_param or f"the first of {given.name}"
    return found


def _prime_numbers(batches: Mapping[str, str]) -> list[dict[str, int]]:
    """Return two numbers for each size."""
    names = list(dict.fromkeys(batches.values()))
    return [
        {name: _PRIMES[2 * place + which] for name, place in zip(names, count(), strict=False)}
        for which in (0, 1)
    ]


def _with_batches(
    onnx: Any, plain: Any, batches: Mapping[str, str], numbers: Mapping[str, int]
) -> dict[str, tuple[int | None, ...] | None]:
    """Return the shapes of all values where the open first axes have these sizes."""
    made = onnx.ModelProto()
    made.CopyFrom(plain)
    for given in made.graph.input:
        if given.name in batches:
            given.type.tensor_type.shape.dim[0].dim_value = numbers[batches[given.name]]
    return {value.name: _dims(value) for value in _inferred(onnx, made)}


def _refined(
    known: Type,
    tries: Sequence[tuple[int | None, ...] | None],
    numbers: Sequence[Mapping[str, int]],
    inputs: Mapping[str, str],
) -> Type:
    """Return a type with what three inferences agree on."""
    shapes = [dims for dims in tries if dims is not None]
    if len(shapes) < len(tries) or len({len(dims) for dims in shapes}) > 1:
        return known
    before = known.dims or (None,) * len(shapes[0])
    if len(before) != len(shapes[0]):
        return known
    dims, multiples = [], []
    for old, sizes in zip(before, zip(*shapes, strict=True), strict=True):
        is_fixed = old is not None or len(set(sizes)) == 1
        dims.append((sizes[0] if old is None else old) if is_fixed else None)
        multiples.append(None if is_fixed else _multiple(sizes, numbers, inputs))
    names = known.names or ("",) * len(dims)
    return replace(known, dims=tuple(dims), names=names, multiples=tuple(multiples))


def _multiple(
    sizes: Sequence[int | None], numbers: Sequence[Mapping[str, int]], inputs: Mapping[str, str]
) -> Multiple | None:
    factor = sizes[0]
    for name, given in inputs.items():
        batch = [one[name] for one in numbers]
        if factor and list(sizes) == [factor * size for size in batch]:
            return Multiple(given, factor)
    return None
