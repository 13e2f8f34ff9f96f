"""A batch norm before an activation that gets bounds for each channel: it fires, it declines."""

from __future__ import annotations

import copy
import pickle
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from bnfuse.graph.clamp import ChannelClamp
from bnfuse.optimizer import rewritten
from bnfuse.passes import ONNX_PIPELINE
from tests.moves.support import Model, checked, operations, settled
from tests.support import noise, optimized_checked, ready, relative_error, sequential

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

X = noise(2, 4, 7, 6)


def preactivated(between: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> Model:
    """Return a model whose batch norm stands between a concatenation and an activation."""
    layers = {"head": nn.Conv2d(8, 5, 1), "linear": nn.Linear(8, 3), "act": nn.ReLU()} | layers

    def run(m: Any, x: Tensor) -> Tensor:
        value = torch.cat([x.sigmoid(), x], 1)
        return m.head(between(m, m.norm(value)))

    return ready(Model(run, norm=nn.BatchNorm2d(8), **layers))


def clamps(model: nn.Module) -> list[ChannelClamp]:
    return [module for module in model.modules() if isinstance(module, ChannelClamp)]


ACTIVATIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "layer": lambda m, x: m.act(x),
    "relu": lambda m, x: F.relu(x),
    "relu-in-place": lambda m, x: F.relu(x, inplace=True),
    "relu_": lambda m, x: x.relu_(),
    "relu6": lambda m, x: F.relu6(x),
    "relu6-in-place": lambda m, x: F.relu6(x, inplace=True),
    "hardtanh": lambda m, x: F.hardtanh(x, -0.3, 2.0),
    "clamp": lambda m, x: x.clamp(0.2, 1),
    "clamp-max": lambda m, x: torch.clamp_max(x, 0.5),
    "twice": lambda m, x: m.act(m.act(x) - 1.0),
    "pooled": lambda m, x: F.avg_pool2d(F.relu(x), 2),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_it_fires(name: str) -> None:
    model = preactivated(ACTIVATIONS[name], act=nn.ReLU(inplace="in-place" in name))
    assert settled(model, X) == 1
    fused = bnfuse.optimize(model)
    assert clamps(fused)
    assert [row.into for row in bnfuse.report(fused).folded] == ["head"]


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


@pytest.mark.parametrize(("sign", "sides"), [(1, {"min"}), (-1, {"max"})])
def test_scales_of_one_sign_leave_one_bound(sign: int, sides: set[str]) -> None:
    model = preactivated(lambda m, x: m.act(x))
    model.norm.weight.data.abs_().mul_(sign)
    (clamp,) = clamps(checked(model, X)[0])
    assert {name for name, bound in clamp._buffers.items() if bound is not None} == sides


@pytest.mark.parametrize("scale", [0.0, 1e-300, -1e-300], ids=str)
@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_dead_channels(scale: float, shift: float) -> None:
    model = preactivated(lambda m, x: m.act(x))
    with torch.no_grad():
        model.norm.weight[::2] = scale
        model.norm.bias[::2] = shift
    assert settled(model, X) == 1


PADDED: dict[str, nn.Module] = {
    "many": nn.Conv2d(8, 40, 3, padding=1),
    "depthwise": nn.Conv2d(8, 8, 3, 2, padding=1, groups=8),
    "transposed": nn.ConvTranspose2d(8, 5, 3, 2, 1),
}


@pytest.mark.parametrize("name", PADDED)
@pytest.mark.parametrize("act", ["layer", "hardtanh"])
def test_zero_padding_leaves_the_shift_with_the_clamp(name: str, act: str) -> None:
    """A padded 0 is the 0 of the unfused model; of a clamp with other bounds as well."""
    model = preactivated(ACTIVATIONS[act], head=PADDED[name])
    with torch.no_grad():
        model.norm.weight[:2] = 0.0
        model.norm.bias[:2] = torch.tensor([-1.0, 1.0])
    fused, report = checked(model, X)
    assert len(report.folded) == 1
    (clamp,) = clamps(fused)
    assert clamp.shift is not None
    assert operations(bnfuse.optimize(fused)) == operations(fused)


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


def both(m: Any, y: Tensor) -> Tensor:
    z = m.act(y)
    return torch.cat([z, y], 1)


def written(m: Any, y: Tensor) -> Tensor:
    z = y.relu_()
    z.add_(1.0)
    return z


def read_again(m: Any, y: Tensor) -> Tensor:
    y.relu_()
    return y


def in_place_on_a_view(m: Any, y: Tensor) -> Tensor:
    y.view(-1).relu_()
    return y


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda *_: None)
    return module


DECLINED: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, nn.Module]]] = {
    "the-norm-is-read-too": (both, {"head": nn.Conv2d(16, 5, 1), "act": nn.ELU()}),
    "something-else-reads-the-activation": (lambda m, y: m.act(y) + F.elu(m.act(y)), {}),
    "an-addition": (lambda m, y: F.relu(y) + y.sigmoid(), {}),
    "written-afterwards": (written, {}),
    "read-under-the-old-name": (read_again, {}),
    "a-view-is-written": (in_place_on_a_view, {}),
    "leaky": (lambda m, y: F.leaky_relu(y, 0.1), {}),
    "elu": (lambda m, y: F.elu(y), {}),
    "bounds-in-the-wrong-order": (lambda m, y: y.clamp(1, -1), {}),
    "a-bound-by-size": (lambda m, y: y.clamp(min=y.shape[0] - 2), {}),
    "hooks": (lambda m, y: m.act(y), {"act": hooked(nn.ReLU())}),
    "not-absorbed": (lambda m, y: m.act(y), {"head": nn.LayerNorm(6)}),
    "dropout-that-is-on": (lambda m, y: F.dropout(m.act(y), 1e-12), {}),
}


@pytest.mark.parametrize("name", DECLINED)
def test_it_declines(name: str) -> None:
    run, layers = DECLINED[name]
    fused, report = checked(preactivated(run, **layers), X)
    assert not report.folded
    assert not clamps(fused)


@pytest.mark.parametrize("name", ["norm", "act", "head"])
def test_layers_that_are_skipped(name: str) -> None:
    fused = bnfuse.optimize(preactivated(lambda m, x: m.act(x)), skip=(name,))
    assert [row.reason for row in bnfuse.report(fused).kept] == ["skipped"]
    assert not clamps(fused)


def test_a_view_that_would_be_refused() -> None:
    """Of a transposed value the norm makes a dense one, of which a view can be taken."""

    def run(m: Any, x: Tensor) -> Tensor:
        y = F.relu(m.norm(x.transpose(1, 2)), inplace=True)
        return m.head(y.view(y.shape[0], -1).view(-1, 4, 7))

    model = ready(Model(run, norm=nn.BatchNorm1d(4), head=nn.Conv1d(4, 3, 1)))
    checked(model, noise(2, 7, 4))
    model.run = lambda m, x: m.head(F.relu(m.norm(x.transpose(1, 2))))
    assert not checked(model, noise(2, 7, 4))[1].kept


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
        model[1].weight.data.abs_()
    fused = rewritten(model, pipeline=ONNX_PIPELINE)
    assert len(bnfuse.report(fused).kept) == kept
    assert relative_error(fused(X), model(X)) < 1e-12
    assert not bnfuse.explain(model).kept
