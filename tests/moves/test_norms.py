"""An affine absorbed by the weight of a norm, or by the table of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.moves.support import Model, checked, image, operations, settled
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[Any, Tensor], Any]


def scaled(run: Run, size: int | tuple[int, ...], **layers: nn.Module) -> Model:
    """Return a model that multiplies with a constant, of both signs, and adds it."""
    shape = (size,) if isinstance(size, int) else size
    return ready(Model(lambda m, x: run(m, x) * m.c + m.c, c=torch.zeros(shape), **layers))


def is_folded(model: Model, x: Tensor) -> bool:
    fused, _ = checked(model, x)
    return not {"mul", "add"} & {*operations(fused)}


LAYER: dict[str, Run] = {
    "layer": lambda m, x: m.op(x),
    "function": lambda m, x: F.layer_norm(x, (6,), m.op.weight, m.op.bias, m.op.eps),
    "torch-function": lambda m, x: torch.layer_norm(x, [6], m.op.weight, bias=m.op.bias),
    "function-without-bias": lambda m, x: F.layer_norm(x, (6,), weight=m.op.weight),
}


@pytest.mark.parametrize("name", LAYER)
def test_layer_norms(name: str) -> None:
    assert is_folded(scaled(LAYER[name], 6, op=nn.LayerNorm(6)), noise(2, 5, 6))


def test_a_layer_norm_without_a_bias_gets_one() -> None:
    model = scaled(lambda m, x: m.op(x), 6, op=nn.LayerNorm(6, bias=False))
    assert is_folded(model, noise(2, 6))
    model.run = lambda m, x: m.op(x) * m.c
    fused, _ = checked(model, noise(2, 6))
    assert fused.get_submodule("op").bias is None


@pytest.mark.parametrize(
    ("shape", "is_own"), [((6,), True), ((6, 6), True), ((6, 1), True), ((3, 1, 1), False)]
)
def test_the_last_axes_of_a_layer_norm(shape: tuple[int, ...], is_own: bool) -> None:
    model = scaled(lambda m, x: m.op(m.a(x)), shape, a=nn.BatchNorm2d(3), op=nn.LayerNorm((6, 6)))
    assert is_folded(model, image()) == is_own


def test_another_axis_of_a_layer_norm() -> None:
    layers = {"op": nn.LayerNorm(6), "norm": nn.BatchNorm2d(3)}
    assert settled(ready(Model(lambda m, x: m.norm(m.op(x)), **layers)), image()) == 0


NONE: dict[str, tuple[Run, nn.Module]] = {
    "no-weight": (lambda m, x: m.op(x), nn.LayerNorm(6, elementwise_affine=False)),
    "weight-computed": (lambda m, x: F.layer_norm(x, (6,), m.op.weight * x[0]), nn.LayerNorm(6)),
    "root-mean-square": (lambda m, x: m.op(x), nn.RMSNorm(6)),
    "hook": (lambda m, x: m.op(x), nn.LayerNorm(6)),
}


@pytest.mark.parametrize("name", NONE)
def test_norms_that_take_none(name: str) -> None:
    run, layer = NONE[name]
    if name == "hook":
        layer.register_forward_hook(lambda _m, _a, out: out + 1)
    assert not is_folded(scaled(run, 6, op=layer), noise(2, 6))


def test_nothing_goes_down_into_a_norm() -> None:
    model = ready(
        Model(lambda m, x: m.op(m.a(x).tanh() * 2), a=nn.Linear(6, 6), op=nn.LayerNorm(6))
    )
    assert "mul" in operations(checked(model, noise(2, 6))[0])


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.op(x),
        lambda m, x: F.rms_norm(x, (6,), m.op.weight),
        lambda m, x: torch.rms_norm(x, (6,), weight=m.op.weight),
    ],
)
def test_a_norm_by_the_root_mean_square_takes_a_scale(run: Run) -> None:
    model = ready(Model(lambda m, x: run(m, x) * m.c, op=nn.RMSNorm(6), c=torch.zeros(6)))
    assert is_folded(model, noise(2, 6))


GROUP: dict[str, Run] = {
    "layer": lambda m, x: m.op(x),
    "function": lambda m, x: F.group_norm(x, 2, m.op.weight, m.op.bias),
    "torch-function": lambda m, x: torch.group_norm(x, 2, m.op.weight, m.op.bias, 1e-5),
}


@pytest.mark.parametrize("name", GROUP)
def test_group_norms(name: str) -> None:
    layers = {"op": nn.GroupNorm(2, 4), "norm": nn.BatchNorm2d(4)}
    model = ready(Model(lambda m, x: m.norm(GROUP[name](m, x)), **layers))
    assert settled(model, image(4)) == 1


def test_another_axis_of_a_group_norm() -> None:
    model = scaled(lambda m, x: m.op(m.a(x)), 6, a=nn.Conv2d(3, 6, 1), op=nn.GroupNorm(2, 6))
    assert not is_folded(model, image())


def test_a_number_behind_a_group_norm() -> None:
    model = ready(Model(lambda m, x: m.op(x) * 2 - 1, op=nn.GroupNorm(2, 4)))
    assert not {"mul", "sub"} & {*operations(checked(model, image(4))[0])}


EMBEDDING: dict[str, tuple[Run, nn.Module]] = {
    "layer": (lambda m, x: m.op(x), nn.Embedding(7, 6)),
    "padded": (lambda m, x: m.op(x), nn.Embedding(7, 6, padding_idx=0)),
    "function": (lambda m, x: F.embedding(x, m.op.weight), nn.Embedding(7, 6)),
    "also-a-head": (lambda m, x: m.op(x), nn.Embedding(7, 6)),
}
IDS = torch.tensor([[0, 3, 6], [1, 0, 5]])


@pytest.mark.parametrize("name", EMBEDDING)
def test_embeddings(name: str) -> None:
    run, layer = EMBEDDING[name]
    model = scaled(run, 6, op=layer)
    if name == "also-a-head":
        model.run = lambda m, x: F.linear((m.op(x) * m.c + m.c).tanh(), m.op.weight)
    assert is_folded(model, IDS)
    assert is_folded(model, IDS[0])


def test_an_embedding_that_writes_its_table() -> None:
    model = scaled(lambda m, x: m.op(x), 6, op=nn.Embedding(7, 6, max_norm=1.0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not is_folded(model, IDS)
    assert not torch.equal(before["op.weight"], model.op.weight)


def test_a_norm_of_the_positions_of_an_embedding() -> None:
    layers = {"op": nn.Embedding(7, 3), "norm": nn.BatchNorm1d(3)}
    assert settled(ready(Model(lambda m, x: m.norm(m.op(x)), **layers)), IDS) == 0
    model = ready(Model(lambda m, x: m.norm(m.op(x.view(2, 3)).transpose(1, 2)), **layers))
    assert settled(model, IDS) == 1
