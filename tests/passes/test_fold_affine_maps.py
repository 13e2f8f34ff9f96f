"""A shift before zero padding becomes a map: numbers, price, graph, later uses."""

from __future__ import annotations

import copy
import pickle
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from tests.support import noise, optimized_checked, relative_error, sequential

if TYPE_CHECKING:
    from pathlib import Path

CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {
    1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d
}  # fmt: skip
NORM: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
X = noise(2, 4, 7, 6)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False], ids="bias={}".format)
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": 2, "stride": 2, "dilation": 2},
        {"padding": 1, "groups": 2},
        {"padding": "same", "kernel_size": 4},
        {"padding": 3, "kernel_size": 2, "stride": 3, "groups": 4},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
def test_before_convolutions(dims: int, bias: bool, options: dict[str, Any]) -> None:
    conv = CONV[dims](4, 4, **{"kernel_size": 3, "bias": bias, **options})
    model = sequential(NORM[dims](4), conv, nn.ReLU(inplace=True))
    report = optimized_checked(model, noise(2, 4, *[7] * dims))
    assert [(row.name, row.into) for row in report.folded] == [("0", "1")]
    fused = bnfuse.optimize(model)
    for size in (6, 9):
        x = noise(1, 4, *[size] * dims)
        assert relative_error(fused(x), model(x)) < 1e-12


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1, "dilation": 2, "groups": 2},
        {"stride": 2, "output_padding": 1, "padding": 1},
    ],
    ids=str,
)
def test_before_transposed_convolutions(dims: int, options: dict[str, Any]) -> None:
    outputs = 4 if "stride" not in options else 1
    model = sequential(NORM[dims](4), TRANSPOSED[dims](4, outputs, 3, **options))
    pays = outputs * options.get("stride", 1) ** dims <= 8
    assert len(optimized_checked(model, noise(2, 4, *[5] * dims)).folded) == pays


def test_who_asks_for_the_shape_asks_the_sum() -> None:
    """Else the convolution could not be fused with the sum."""
    model = sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    model.append(Rows())
    fused, report = bnfuse.optimize(model.float()), bnfuse.report(bnfuse.optimize(model))
    assert len(report.folded) == 2
    assert [row.into for row in bnfuse.report(fused).fused] == ["1"]


class Rows(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.reshape(x.size(0), x.size(1), -1)


@pytest.mark.parametrize(("outputs", "stride"), [(9, 1), (33, 2)], ids=str)
def test_declined_where_it_costs_more(outputs: int, stride: int) -> None:
    model = sequential(nn.BatchNorm2d(4), nn.Conv2d(4, outputs, 3, stride, padding=1))
    report = optimized_checked(model, X)
    assert not report.folded
    model = sequential(nn.BatchNorm2d(4), nn.Conv2d(4, outputs - 1, 3, stride, padding=1))
    assert len(optimized_checked(model, X).folded) == 1
    behind = sequential(
        nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, outputs, 3, padding=1)
    )
    assert len(optimized_checked(behind, X).kept) == 1


def model_with_map() -> nn.Sequential:
    """A norm before a padded convolution."""
    return sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))


def test_the_graph_afterwards() -> None:
    fused = bnfuse.optimize(model_with_map())
    assert isinstance(fused, torch.fx.GraphModule)
    shown = str(fused.graph)
    assert textwrap.dedent(
        """\
            %_1 : [num_users=1] = call_module[target=1](args = (%input_1,), kwargs = {})
            %_1_border : [num_users=1] = call_module[target=1_border](args = (%input_1,), kwargs = {})
            %add : [num_users=1] = call_function[target=operator.add](args = (%_1, %_1_border), kwargs = {})
            return add"""  # noqa: E501 - as torch prints it
    ) in textwrap.dedent(shown.partition("\n")[2])
    assert list(fused.state_dict()) == ["1.weight", "1.bias", "1_border.kernel"]
    again = bnfuse.optimize(fused)
    assert str(again.graph) == shown
    assert bnfuse.report(again) == bnfuse.report(fused)


def test_later_uses(tmp_path: Path) -> None:
    model = model_with_map()
    fused = bnfuse.optimize(model)
    copies = [copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))]
    copies += [torch.export.export(fused, (X,)).module(), torch.compile(fused, backend="eager")]
    loaded = copy.deepcopy(fused)
    loaded(X)
    with torch.no_grad():
        for tensor in loaded.parameters():
            tensor.zero_()
    assert loaded(X).abs().max() == 0
    loaded.load_state_dict(fused.state_dict())
    assert all(relative_error(one(X), model(X)) < 1e-12 for one in [*copies, loaded])
    assert relative_error(copy.deepcopy(fused).half()(X.half()).double(), model(X)) < 0.05
    fused, model = fused.float(), model.float()
    assert relative_error(fused(X.float()), model(X.float())) < 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        assert fused(X.float()).dtype is model(X.float()).dtype


def test_a_result_with_a_map_is_captured_whole_again() -> None:
    model = sequential(nn.Tanh(), nn.BatchNorm2d(9), nn.Conv2d(9, 5, 3, padding=1), nn.Tanh())
    fused = bnfuse.optimize(model)
    again = bnfuse.optimize(fused)
    assert isinstance(again, torch.fx.GraphModule)
    assert bnfuse.report(again) == bnfuse.report(fused)
