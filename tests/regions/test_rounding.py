"""What rounding may do to a region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bnfuse.regions.evaluate import Evaluator
from bnfuse.regions.region import region_of
from bnfuse.regions.rounding import NONE, Rounding, rounding_of
from bnfuse.validation.inner import MOST
from tests.regions.support import One, traced
from tests.support import noise

if TYPE_CHECKING:
    from torch import Tensor

X = noise(2, 3)


def rounding(model: nn.Module, x: Tensor) -> tuple[Tensor, Rounding]:
    """Return what a model computes, and what rounding may do to it."""
    program, nodes = traced(model)
    region = region_of(n for n in nodes.values() if n.op not in ("placeholder", "output"))
    inputs = {nodes["x"]: x}
    with torch.no_grad():
        values = Evaluator(program).run(region.nodes, {nodes["x"]: x.clone()})
        return region.outputs_in(values)[0], rounding_of(program, region, inputs, values)


def test_outputs_nearby_are_some_roundings_off() -> None:
    layer = nn.Linear(3, 4)
    value, found = rounding(One(lambda m, x: m.a(x), a=layer), X)
    assert len(found.nearby) == 4
    for (near,) in found.nearby:
        assert 0 < (near - value).abs().max() < 2.0**-48
    assert Rounding() == NONE


@pytest.mark.parametrize("constant", [7.0, MOST, 2 * MOST, float("inf"), float("nan")])
def test_the_largest_value_inside_is_none_of_a_mask(constant: float) -> None:
    def forward(m: Any, x: Tensor) -> Any:
        return m.a(x).relu() + constant - constant

    layer = nn.Linear(3, 3, bias=False)
    layer.weight.data = -torch.eye(3)
    _, found = rounding(One(forward, a=layer), torch.full((2, 3), 3.0, dtype=torch.float64))
    assert found.inner == (constant if constant <= MOST else 3.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_an_operation_that_writes_its_input_leaves_the_inputs(dtype: torch.dtype) -> None:
    x = torch.arange(6).to(dtype)
    value, found = rounding(One(lambda m, x: x.mul_(2)), x)
    assert torch.equal(x, torch.arange(6).to(dtype))
    assert all((near - value).abs().max() < 2.0**-40 for (near,) in found.nearby)
