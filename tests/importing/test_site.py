"""What the rules of conversion can ask about a node."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bnfuse.errors import RequestError
from bnfuse.importing.builder import Builder
from bnfuse.importing.shapes import Type
from bnfuse.importing.site import Site
from bnfuse.importing.sizes import Sizes

FLOAT = torch.float32


def site(*inputs: Any, types: dict[str, Type] | None = None, **attributes: Any) -> Site:
    """Return a node; text stands for an input of the graph of that name."""
    builder = Builder()
    values = [builder.graph.placeholder(v) if isinstance(v, str) else v for v in inputs]
    return Site(
        name="pick",
        kind="Gather",
        opset=20,
        inputs=tuple(values),
        names=tuple(v if isinstance(v, str) else f"c{i}" for i, v in enumerate(inputs)),
        outputs=("y",),
        attributes=attributes,
        types=types or {},
        builder=builder,
    )


def test_errors_name_operator_and_node() -> None:
    error = site("x").error("it is odd")
    assert str(error) == (
        "bnfuse cannot convert the operator Gather of the node 'pick': it is odd."
    )


def test_inputs_that_are_missing() -> None:
    given = site("x", None)
    assert (given.has(0), given.has(1), given.has(2)) == (True, False, False)
    assert given.optional(1) is None
    with pytest.raises(RequestError, match="its input 1 is missing"):
        given.value(1)


def test_constants_without_axes_are_numbers_beside_values() -> None:
    number = torch.tensor(0.5)
    assert site("x", number).operand(1) == 0.5
    assert site(number, number).operand(1) is number
    assert isinstance(site("x", torch.ones(1)).operand(1), torch.Tensor)


def test_whole_numbers() -> None:
    given = site("x", torch.tensor([1, 2]), Sizes((3, Builder().graph.placeholder("n"))), "y")
    assert given.ints(1) == [1, 2]
    assert given.sizes(2)[0] == 3
    for index in (0, 2, 3, 4):
        with pytest.raises(RequestError, match=f"its input {index} is computed"):
            given.ints(index)
    with pytest.raises(RequestError, match="its input 3 depends on data"):
        given.sizes(3)


def test_numbers() -> None:
    given = site("x", torch.tensor([0.5]), torch.ones(2))
    assert given.number(1, 1.0) == 0.5
    assert given.number(7, 1.0) == 1.0
    for index in (0, 2):
        with pytest.raises(RequestError, match=f"its input {index} is computed and must be"):
            given.number(index, 1.0)


def test_axes_come_from_the_input_or_the_attribute() -> None:
    assert site("x", torch.tensor([1])).axes() == [1]
    assert site("x", axes=[2]).axes() == [2]
    assert site("x").axes() is None


def test_sizes_of_inputs() -> None:
    types = {"x": Type(FLOAT, (None, 3)), "odd": Type(FLOAT, None)}
    given = site("x", torch.ones(2, 5), "odd", "unheard of", types=types)
    assert given.dims(0) == (None, 3)
    assert (given.rank(0), given.size(0, 1), given.fixed_size(1, -1)) == (2, 3, 5)
    assert isinstance(given.size(0, 0), torch.fx.Node)
    assert (given.dtype(0), given.dtype(1), given.dtype(3)) == (FLOAT, FLOAT, None)
    with pytest.raises(RequestError, match="the size of axis 0 of its input 0 is open"):
        given.fixed_size(0, 0)
    for index in (2, 3):
        with pytest.raises(RequestError, match=f"does not tell how many axes its input {index}"):
            given.rank(index)


def test_sizes_as_an_input() -> None:
    given = site(Sizes((2, 3)), Sizes((2,), is_scalar=True))
    assert (given.dims(0), given.dims(1), given.dtype(0)) == ((2,), (), torch.int64)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("x", "a.0.weight", "a.0.bias"), "a.0"),
        (("x", "onnx::Conv_1", "a.0.bias"), "a.0"),
        (("x", "c", "c", "bn.running_mean"), "bn"),
        (("a.weight", "onnx::Conv_1"), "pick"),
        (("x", ".weight"), "pick"),
    ],
)
def test_layers_are_named_like_their_weights(names: tuple[str, ...], wanted: str) -> None:
    given = Site("pick", "Conv", 20, (), names, ("y",), {}, {}, Builder())
    assert given.layer_name() == wanted
