"""Folding a batch norm into what feeds it: fires, numbers, graph, idempotence."""

from __future__ import annotations

import textwrap
from typing import Literal

import pytest
import torch
from torch import nn

import bnfuse
from tests.support import noise, optimized_checked, ready, sequential

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4], ids="groups{}".format)
@pytest.mark.parametrize("bias", [True, False], ids="bias={}".format)
@pytest.mark.parametrize("affine", [True, False], ids="affine={}".format)
@pytest.mark.parametrize("layers", [CONV, TRANSPOSED], ids=["conv", "transposed"])
def test_folds_behind_convolutions(
    dims: int, groups: int, bias: bool, affine: bool, layers: dict[int, type[nn.Module]]
) -> None:
    conv = layers[dims](4, 8, 3, groups=groups, bias=bias)
    model = sequential(conv, NORM[dims](8, affine=affine))
    report = optimized_checked(model, noise(2, 4, *[5] * dims))
    assert [(row.name, row.into, row.by) for row in report.folded] == [("1", "0", "fold-affine")]
    assert not report.kept


@pytest.mark.parametrize("bias", [True, False], ids="bias={}".format)
@pytest.mark.parametrize("affine", [True, False], ids="affine={}".format)
def test_folds_behind_a_linear_layer(bias: bool, affine: bool) -> None:
    """pytorch#122183: ``affine=False`` behind a linear layer raised a TypeError."""
    model = sequential(nn.Linear(5, 7, bias=bias), nn.BatchNorm1d(7, affine=affine))
    assert len(optimized_checked(model, noise(3, 5)).folded) == 1


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_do_not_matter_behind_a_convolution(
    mode: Literal["reflect", "replicate", "circular"],
) -> None:
    model = sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode), nn.BatchNorm2d(4))
    assert len(optimized_checked(model, noise(1, 3, 5, 5)).folded) == 1


def test_folds_two_norms_in_a_row() -> None:
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    assert len(optimized_checked(model, noise(1, 3, 5, 5)).folded) == 2


def test_folds_behind_identities_and_dropout_that_is_off() -> None:
    model = sequential(
        nn.Conv2d(3, 4, 3), nn.Identity(), nn.BatchNorm2d(4), nn.Dropout(), nn.BatchNorm2d(4)
    )
    assert len(optimized_checked(model, noise(1, 3, 5, 5)).folded) == 2


def test_folds_functional_calls_of_both_spellings() -> None:
    """pytorch#122070: ``F.batch_norm`` on buffers of the model."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            conv, norm = self.conv, self.norm
            y = nn.functional.conv2d(input=x, weight=conv.weight, bias=conv.bias, padding=1)
            y = nn.functional.batch_norm(
                y, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.1, 1e-3
            )
            y = nn.functional.conv2d(y, norm.weight.view(1, 4, 1, 1) * x.mean())
            mean, var = norm.get_buffer("running_mean")[:1], norm.get_buffer("running_var")[:1]
            return torch.batch_norm(y, None, None, mean, var, False, 0.1, 1e-3, False)

    report = optimized_checked(ready(Functional()), noise(1, 3, 5, 5))
    assert [row.into for row in report.folded] == ["conv"]
    assert [row.reason for row in report.kept] == ["computed-constants"]


class Shared(nn.Module):
    """One convolution at two call sites, with another norm behind each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.conv(self.first(self.conv(x)))) + self.conv(x)


def test_each_call_site_gets_constants_of_its_own() -> None:
    """pytorch#104593: folding one use of a shared convolution changed the others."""
    report = optimized_checked(ready(Shared()), noise(1, 3, 5, 5))
    assert [row.into for row in report.folded] == ["conv_2", "conv_3"]
    assert report.extra_bytes == 2 * 3 * 3 * 9 * 8


def test_one_norm_at_two_call_sites_is_folded_at_both() -> None:
    """pytorch#124286: a module traced twice was folded twice."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(self.norm(self.conv(x))))

    report = optimized_checked(ready(Twice()), noise(1, 3, 4, 4))
    assert [(row.name, row.site) for row in report.folded] == [("norm", "norm"), ("norm", "norm_1")]


def test_the_graph_afterwards() -> None:
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    fused = bnfuse.optimize(model)
    assert isinstance(fused, torch.fx.GraphModule)
    wanted = """\
        graph():
            %input_1 : [num_users=1] = placeholder[target=input]
            %_0 : [num_users=1] = call_module[target=0](args = (%input_1,), kwargs = {})
            %_2 : [num_users=1] = call_module[target=2](args = (%_0,), kwargs = {})
            return _2"""
    assert str(fused.graph) == textwrap.dedent(wanted)
    assert list(fused.state_dict()) == ["0.weight", "0.bias"]


def test_a_second_time_changes_nothing() -> None:
    fused = bnfuse.optimize(ready(Shared()))
    again = bnfuse.optimize(fused)
    assert isinstance(again, torch.fx.GraphModule)
    assert isinstance(fused, torch.fx.GraphModule)
    assert [(n.op, n.target) for n in again.graph.nodes] == [
        (n.op, n.target) for n in fused.graph.nodes
    ]
    assert again.state_dict().keys() == fused.state_dict().keys()
    assert all(torch.equal(again.state_dict()[k], v) for k, v in fused.state_dict().items())
    assert bnfuse.report(again) == bnfuse.report(fused)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_with_float32_statistics_stays_in_half(dtype: torch.dtype) -> None:
    """pytorch#99696: the layer in half precision, its batch norm in float32."""
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model[0].to(dtype)
    model[1].float()
    x = noise(1, 3, 5, 5).to(dtype)
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 1
    assert fused(x).dtype is model(x).dtype is dtype
    assert bnfuse.verify(model, fused, (x,)).passed
