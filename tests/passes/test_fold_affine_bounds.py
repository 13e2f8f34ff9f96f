"""A batch norm before an activation that gets bounds for each channel: it fires, it declines."""

from __future__ import annotations

import copy
import pickle
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.optimizer import rewritten
from bnfuse.passes import ONNX_PIPELINE
from tests.moves.support import checked, clamps, preactivated
from tests.support import noise, optimized_checked, ready, relative_error, sequential

if TYPE_CHECKING:
    from torch import Tensor

X = noise(2, 4, 7, 6)


def test_the_graph() -> None:
    fused = bnfuse.optimize(preactivated(lambda m, x: m.act(x)))
    code = str(fused.code)
    assert code[code.index("def forward") :].strip() == textwrap.dedent("""\
        def forward(self, x):
            sigmoid = x.sigmoid()
            cat = torch.cat([sigmoid, x], 1);  sigmoid = x = None
            act = self.act(cat);  cat = None
            head = self.head(act);  act = None
            return head""")
    (clamp,) = clamps(fused)
    assert fused.act is clamp
    assert clamp.shift is None


def test_all_readers_take_it() -> None:
    def run(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        y = m.act(m.norm(x.sigmoid()))
        return m.head(y), m.linear(y.mean((2, 3)))

    model = preactivated(lambda m, x: x)
    model.norm, model.run = ready(nn.BatchNorm2d(4)), run
    model.head, model.linear = ready(nn.Conv2d(4, 3, 1)), ready(nn.Linear(4, 3))
    fused, report = checked(model, X)
    assert [row.into for row in report.folded] == ["head, linear"]
    assert len(clamps(fused)) == 1


def test_an_activation_of_several_calls() -> None:
    """One call gets a clamp of its own; the other goes on calling the layer."""

    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(m.act(m.norm(torch.cat([m.act(x), x], 1))))

    model = preactivated(lambda m, x: x)
    model.run = run
    fused = checked(model, X)[0]
    assert len(clamps(fused)) == 1
    assert isinstance(fused.act, nn.ReLU)


def test_a_fold_up_leaves_the_activation() -> None:
    model = sequential(
        nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)
    )
    fused, report = bnfuse.optimize(model), optimized_checked(model, X)
    assert [row.into for row in report.folded] == ["0"]
    assert not clamps(fused)


@pytest.mark.parametrize("name", ["norm", "act", "head"])
def test_layers_that_are_skipped(name: str) -> None:
    fused = bnfuse.optimize(preactivated(lambda m, x: m.act(x)), skip=(name,))
    assert [row.reason for row in bnfuse.report(fused).kept] == ["skipped"]
    assert not clamps(fused)


def test_bounds_that_do_not_fit_half_precision() -> None:
    model = preactivated(lambda m, x: m.act(x)).float()
    with torch.no_grad():
        model.norm.weight[0], model.norm.bias[0] = 1e-4, 1.0
    kept = bnfuse.report(bnfuse.optimize(model, dtype=torch.float16)).kept
    assert [row.reason for row in kept] == ["overflow"]
    assert not bnfuse.report(bnfuse.optimize(model, dtype=torch.bfloat16)).kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_under_norms_of_float32(dtype: torch.dtype) -> None:
    model = preactivated(lambda m, x: m.act(x)).to(dtype)
    model.norm.float()
    fused, x = bnfuse.optimize(model), X.to(dtype)
    assert len(clamps(fused)) == 1
    with torch.no_grad():
        wanted, got = copy.deepcopy(model).double()(x.double()), fused(x)
    assert got.dtype is dtype
    assert relative_error(got.double(), wanted) < 16 * torch.finfo(dtype).eps


def test_the_result_is_cast_copied_pickled_and_laid_out_channels_last() -> None:
    layers = (nn.Sigmoid(), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 1))
    model = sequential(*layers).float()
    fused, x = bnfuse.optimize(model), X.float()
    wanted = model(x)
    for other in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused)), fused.double().float()):
        assert relative_error(other(x), wanted) < 1e-5
        assert relative_error(other(x.contiguous(memory_format=torch.channels_last)), wanted) < 1e-5
    assert {"2.min", "2.max"} <= fused.state_dict().keys()
    assert relative_error(torch.export.export(fused, (x,)).module()(x), wanted) < 1e-5


def test_gradients_of_the_input() -> None:
    model = preactivated(lambda m, x: m.act(x))
    fused, x, y = bnfuse.optimize(model), X.clone().requires_grad_(), X.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(model(x).square().sum(), x)
    (got,) = torch.autograd.grad(fused(y).square().sum(), y)
    assert relative_error(got, wanted) < 1e-12


@pytest.mark.parametrize(
    ("sign", "is_padded", "kept"), [(1, False, 0), (0, False, 1), (1, True, 1)]
)
def test_one_operation_in_the_place_of_two_in_files(sign: int, is_padded: bool, kept: int) -> None:
    """ONNX Runtime is faster with one bound than with a batch norm and a relu, slower with two."""
    head = nn.Conv2d(4, 3, 3, padding=int(is_padded))
    model = sequential(nn.Sigmoid(), nn.BatchNorm2d(4), nn.ReLU(), head)
    if sign:
        model.get_submodule("1").get_parameter("weight").data.abs_()
    fused = rewritten(model, pipeline=ONNX_PIPELINE)
    assert [row.reason for row in bnfuse.report(fused).kept] == ["slow-clamp"] * kept
    assert relative_error(fused(X), model(X)) < 1e-12
    assert not bnfuse.explain(model).kept


def test_what_folds_nowhere_has_its_own_reason_in_files() -> None:
    model = sequential(nn.Sigmoid(), nn.BatchNorm2d(4), nn.ELU(), nn.Conv2d(4, 3, 3))
    (kept,) = bnfuse.report(rewritten(model, pipeline=ONNX_PIPELINE)).kept
    (plain,) = bnfuse.explain(model).kept
    assert (kept.reason, kept.why) == (plain.reason, plain.why)


@pytest.mark.parametrize("gamma", [1e-2, 1e-6, -1e-6])
def test_nearly_dead_channels_in_half_precision(gamma: float) -> None:
    """A bound that half precision cannot hold would lose what the scale behind it takes back."""
    norm = nn.BatchNorm2d(4)
    nn.init.constant_(norm.weight, gamma)
    nn.init.constant_(norm.bias, -1.0)
    model = nn.Sequential(norm, nn.ReLU(), nn.Conv2d(4, 3, 1)).eval().requires_grad_(False)
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    wanted = model(x)
    fused = bnfuse.optimize(model).half()
    assert float((fused(x.half()).float() - wanted).abs().max()) < 5e-3
