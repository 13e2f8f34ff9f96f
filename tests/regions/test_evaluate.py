"""Evaluation: in float64, with what the weights were rounded from, and nothing changed by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn

from bnfuse.affine import round_once
from bnfuse.affine.rounding import as_parameter
from bnfuse.regions.evaluate import Evaluator, nudged
from bnfuse.regions.scratch import Scratch
from tests.regions.support import One, traced
from tests.support import noise

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def evaluated(model: nn.Module, x: torch.Tensor, **options: Any) -> Any:
    """Run all of a model's graph, and return what it returns."""
    program, nodes = traced(model)
    inside = [n for n in nodes.values() if n.op not in ("placeholder", "output")]
    with torch.no_grad():
        values = Evaluator(program, **options).run(inside, {nodes["x"]: x})
    return fx.node.map_arg(nodes["output"].args[0], values.__getitem__)


@pytest.mark.parametrize("dtype", DTYPES)
def test_layers_and_constants_of_any_dtype_compute_in_float64(dtype: torch.dtype) -> None:
    model = One(lambda m, x: m.a(x) * m.scale, a=nn.Conv2d(3, 4, 3), scale=noise(4, 1, 1))
    model = model.to(dtype)
    x = noise(2, 3, 5, 6)
    got = evaluated(model, x)
    assert got.dtype is torch.float64
    with torch.no_grad():
        wanted = model.double()(x)  # exact: every dtype is part of float64
    assert torch.allclose(got, wanted, rtol=1e-13, atol=1e-13)


def test_a_rounded_weight_stands_for_what_it_was() -> None:
    exact = noise(4, 3)
    rounded = round_once(exact, torch.zeros(4, 3, dtype=torch.float16))
    assert rounded is not None
    layer = nn.Linear(3, 4, bias=False)
    layer.weight = as_parameter(rounded)
    x = noise(2, 3)
    got = evaluated(One(lambda m, x: m.a(x), a=layer), x)
    assert torch.allclose(got, x @ exact.t(), rtol=1e-14, atol=1e-14)
    assert not torch.allclose(got, x @ rounded.double().t(), rtol=1e-5)


CASTS = {
    "float": lambda x: x.float(),
    "half": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "to": lambda x: x.to(torch.float32),
    "to by name": lambda x: x.to(dtype=torch.float16),
    "sum": lambda x: torch.sum(x, 0, dtype=torch.float32),
    "several": lambda x: torch.stack([x.half(), x.float()]),
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=list(CASTS))
def test_conversions_stay_in_float64(cast: Any) -> None:
    x = noise(3, 4)
    got = evaluated(One(lambda m, x: cast(x)), x)
    assert got.dtype is torch.float64
    assert torch.allclose(got, cast(x).double(), rtol=1e-2, atol=1e-2)
    assert not torch.equal(got, cast(x).double())  # which has been rounded


def test_conversions_to_whole_numbers_are_made() -> None:
    got = evaluated(One(lambda m, x: x.to(torch.int64)), noise(9) * 9)
    assert torch.equal(got, (noise(9) * 9).long())


@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_own_dtypes_where_that_is_asked_for(dtype: torch.dtype) -> None:
    model = One(lambda m, x: (m.weight / 3 + x, m.weight.half()), weight=noise(7).to(dtype))
    got, cast = evaluated(model, torch.zeros(7, dtype=dtype), is_exact=False)
    assert got.dtype is dtype
    assert torch.equal(got, noise(7).to(dtype) / 3)
    assert cast.dtype is torch.float16


@pytest.mark.parametrize("by", [1e-3, -1e-3, 2.0**-50])
def test_nudged_by_the_amount_asked_for_at_most(by: float) -> None:
    tensor = noise(2000)
    change = (nudged(tensor, by) - tensor) / tensor
    assert 0.9 * abs(by) < float(change.abs().max()) <= abs(by) * (1 + 1e-9) + 2.0**-53
    assert float(change.min()) < 0 < float(change.max())


def test_opposite_nudges_go_opposite_ways() -> None:
    tensor, moved = torch.ones(99, dtype=torch.float64), []
    for by in (1e-3, -1e-3):
        torch.manual_seed(3)
        moved.append(nudged(tensor, by))
    assert torch.allclose(moved[0] + moved[1], 2 * tensor, rtol=1e-14)


def test_without_a_nudge_a_tensor_is_itself() -> None:
    tensor = noise(3)
    assert nudged(tensor, 0.0) is tensor


def test_nudged_constants_change_the_result_a_little() -> None:
    model, x = One(lambda m, x: m.a(x), a=nn.Linear(3, 4)), noise(2, 3)
    plain, moved = evaluated(model, x), evaluated(model, x, nudge=1e-6)
    assert not torch.equal(plain, moved)
    assert torch.allclose(plain, moved, rtol=1e-4)


def test_a_constant_read_twice_is_nudged_once() -> None:
    got = evaluated(
        One(lambda m, x: x * m.scale - x * m.scale, scale=noise(9)), noise(9), nudge=0.1
    )
    assert torch.equal(got, torch.zeros_like(got))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_modules_stay_as_they_are(dtype: torch.dtype) -> None:
    """A layer in training mode writes statistics, which are not to be the model's."""
    model = One(
        lambda m, x: m.b(m.a(x)) * m.scale,
        a=nn.Conv2d(3, 4, 1),
        b=nn.BatchNorm2d(4),
        scale=noise(1),
    ).to(dtype)
    program, nodes = traced(model)
    model.get_submodule("b").train()
    tensors = [*model.parameters(), *model.buffers()]
    values = [tensor.clone() for tensor in tensors]
    inside = [n for n in nodes.values() if n.op not in ("placeholder", "output")]
    Evaluator(program).run(inside, {nodes["x"]: noise(2, 3, 5, 5)})
    assert all(
        a is b for a, b in zip([*model.parameters(), *model.buffers()], tensors, strict=True)
    )
    assert all(torch.equal(a, b) for a, b in zip(tensors, values, strict=True))


def test_a_constant_that_the_forward_writes_stays_as_it_is() -> None:
    model = One(lambda m, x: m.count.add_(x), count=torch.zeros(1, dtype=torch.float64))
    assert float(evaluated(model, torch.ones(1, dtype=torch.float64))) == 1
    assert float(model.get_buffer("count")) == 0


def test_weights_on_another_device_are_brought_to_the_inputs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the inputs are is patched here, so that no other device is needed."""
    elsewhere = torch.device("meta")
    monkeypatch.setattr("bnfuse.regions.evaluate._CPU", elsewhere)
    model = One(lambda m, x: torch.zeros(2, device=torch.device("cpu")) + m.scale, scale=noise(2))
    assert evaluated(model, noise(2)).device == elsewhere
    whole = One(lambda m, x: m.count, count=torch.ones(2, dtype=torch.int64))
    assert evaluated(whole, noise(2)).device == elsewhere


def test_whatever_an_operation_raises_is_raised() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        evaluated(One(lambda m, x: m.a(x), a=nn.Linear(3, 4)), noise(2, 5))


def large() -> tuple[Any, Any, Any, fx.Node]:
    """Return an evaluator, a layer, and the nodes of the layer and of its input."""
    layer = nn.Linear(400, 400, bias=False)  # large enough to be kept
    program, nodes = traced(One(lambda m, x: m.a(x), a=layer))
    return Evaluator(program, scratch=Scratch()), layer, nodes["a"], nodes["x"]


@torch.no_grad()
def test_a_layer_that_is_the_same_again_computes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, _, call, x = large()
    first = evaluator.run([call], {x: noise(2, 400)})[call]
    monkeypatch.setattr(Scratch, "widened", lambda *_: pytest.fail("made again"))
    evaluator.again([call])
    assert torch.equal(evaluator.run([call], {x: noise(2, 400)})[call], first)


@torch.no_grad()
@pytest.mark.parametrize("how", ["replaced", "written"])
def test_a_layer_with_another_weight_computes_again(how: str) -> None:
    evaluator, layer, call, x = large()
    first = evaluator.run([call], {x: noise(2, 400)})[call]
    if how == "written":
        layer.weight[3] += 1
    else:
        layer.weight = nn.Parameter(2 * layer.weight)
    evaluator.again([call])
    second = evaluator.run([call], {x: noise(2, 400)})[call]
    wanted = noise(2, 400) @ layer.weight.double().t()
    assert torch.allclose(second, wanted, rtol=1e-12, atol=1e-12)
    assert not torch.equal(second, first)


def test_layers_with_a_tied_weight_are_called_as_any_module() -> None:
    layer = nn.Linear(3, 3, bias=False)
    layer.register_parameter("other", layer.get_parameter("weight"))
    got = evaluated(One(lambda m, x: m.a(x), a=layer), noise(2, 3))
    assert torch.allclose(got, noise(2, 3) @ layer.weight.double().t(), rtol=1e-14, atol=1e-14)
