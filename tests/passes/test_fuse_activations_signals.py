"""Networks of signals, end to end: numbers, layouts, the graph, and what an exporter sees."""

from __future__ import annotations

import copy
import pickle
import textwrap
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from bnfuse.kernels import FusedLayer
from bnfuse.kernels.probe import onednn
from tests.kernels.support import drawn, error, kernels_of
from tests.support import ready

if TYPE_CHECKING:
    from pathlib import Path


class Block(nn.Module):
    """A residual block of a 1-d ResNet, with a projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.a = nn.Conv1d(inputs, outputs, 5, stride, 2, bias=False)
        self.n = nn.BatchNorm1d(outputs)
        self.b = nn.Conv1d(outputs, outputs, 5, 1, 2, bias=False)
        self.m = nn.BatchNorm1d(outputs)
        self.p = nn.Sequential()
        if stride > 1:
            self.p = nn.Sequential(
                nn.Conv1d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm1d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.n(self.a(x)), inplace=True)
        return F.relu(self.m(self.b(y)) + self.p(x))


class Separable(nn.Sequential):
    """A depthwise and a pointwise layer, as in QuartzNet."""

    def __init__(self, inputs: int, outputs: int, taps: int) -> None:
        super().__init__(
            nn.Conv1d(inputs, inputs, taps, padding=taps // 2, groups=inputs, bias=False),
            nn.Conv1d(inputs, outputs, 1, bias=False),
            nn.BatchNorm1d(outputs),
            nn.SiLU(),
        )


class Causal(nn.Module):
    """A layer of a temporal convolutional network: padded on both sides, then cut."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.cut = 2 * dilation
        self.conv = nn.Conv1d(channels, channels, 3, dilation=dilation, padding=self.cut)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x))[:, :, : -self.cut] + x)


def residual() -> nn.Module:
    stem = (nn.Conv1d(2, 16, 15, 2, 7, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2))
    blocks = (Block(16, 16), Block(16, 32, 2))
    end = (nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 5))
    return ready(nn.Sequential(*stem, *blocks, *end)).float().requires_grad_(False)


def separable() -> nn.Module:
    layers = (Separable(2, 32, 33), Separable(32, 32, 25), nn.Conv1d(32, 7, 1))
    return ready(nn.Sequential(*layers)).float().requires_grad_(False)


def causal() -> nn.Module:
    layers = (nn.Conv1d(2, 16, 1), Causal(16, 1), Causal(16, 4), nn.Conv1d(16, 3, 1))
    return ready(nn.Sequential(*layers)).float().requires_grad_(False)


MODELS = {"residual": residual, "separable": separable, "causal": causal}
FUSED = {
    "residual": ["0", "4.a", "4.b", "5.a", "5.b"],
    "separable": ["0.1", "1.1"],
    "causal": [],  # what is cut off stands between
}
"""The layers that do an activation or a sum themselves; the others are packed."""
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}
X = drawn(2, 2, 600)


def layers_of(model: nn.Module) -> list[FusedLayer]:
    return [module for module in model.modules() if isinstance(module, FusedLayer)]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_numbers_and_layout(name: str, dtype: torch.dtype) -> None:
    model = MODELS[name]().to(dtype)
    fused, exact = bnfuse.optimize(model), copy.deepcopy(model).double()
    report = bnfuse.report(fused)
    assert not report.kept
    assert [row.into for row in report.fused] == ([] if dtype is torch.float64 else FUSED[name])
    for x in (X, X[..., 1:], X[:1].expand(3, 2, 600), drawn(2, 600, 2).transpose(1, 2)):
        given = x.to(dtype)
        for _ in range(2):  # by its layers, then by a plan
            got, wanted = fused(given), model(given)
            assert error(got.double(), exact(given.double())) < TOLERANCES[dtype]
            assert got.stride() == wanted.stride()
            assert got.dtype is wanted.dtype


@pytest.mark.parametrize("name", MODELS)
def test_kernels_run(name: str) -> None:
    if not onednn().dtypes:
        pytest.skip("there is no oneDNN")
    fused = bnfuse.optimize(MODELS[name]())
    fused(X)
    convolutions = [one for one in layers_of(fused) if isinstance(one, nn.Conv1d)]
    assert convolutions
    assert all(None not in kernels_of(one).values() for one in convolutions)


@pytest.mark.parametrize("name", MODELS)
def test_copies(name: str) -> None:
    fused = bnfuse.optimize(MODELS[name]())
    wanted = fused(X)
    for other in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert torch.equal(other(X), wanted)
    state = {key: 2 * value for key, value in fused.state_dict().items()}
    fused.load_state_dict(state)
    plain = copy.deepcopy(fused)
    for one in layers_of(plain):
        one.is_plain = True
    assert error(fused(X), plain(X)) < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_exported_as_ordinary_operators(name: str) -> None:
    fused = bnfuse.optimize(MODELS[name]())
    graph = torch.export.export(fused, (X,)).graph
    targets = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert "aten.conv1d.default" in targets
    assert all(target.startswith(("aten.", "<built-in")) for target in targets)


def test_an_onnx_file_has_ordinary_operators(tmp_path: Path) -> None:
    model = residual()
    bnfuse.export_onnx(bnfuse.optimize(model), tmp_path / "model.onnx", (X,))
    file = onnx.load(tmp_path / "model.onnx")
    kinds = {node.op_type for node in file.graph.node}
    assert {"Conv", "Add", "Relu"} <= kinds
    assert {node.domain for node in file.graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (got,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    assert error(torch.from_numpy(got), model(X)) < 1e-5


def test_the_graph() -> None:
    fused: Any = bnfuse.optimize(residual())
    found = [
        f"{node.name}({', '.join(map(str, node.args))}) {said(fused, node)}".strip()
        for node in fused.graph.nodes
        if node.op == "call_module"
    ]
    assert "\n".join(found) + "\n" == textwrap.dedent(
        """\
        _0(input_1) activation=relu contiguous
        _3(_0) MaxPool1d
        _4_a(_3) activation=relu
        _4_b(_4_a, _3) binary=add, activation=relu
        _5_a(_4_b) activation=relu
        _5_p_0(_4_b)
        _5_b(_5_a, _5_p_0) binary=add, activation=relu
        _6(_5_b) AdaptiveAvgPool1d
        _7(_6) Flatten
        _8(_7)
        """
    )


def said(model: nn.Module, node: fx.Node) -> str:
    """Return what a fused layer does beside, and whether its result is contiguous."""
    module = model.get_submodule(str(node.target))
    if not isinstance(module, FusedLayer):
        return type(module).__name__
    return f"{module.epilogue}{' contiguous' if module.returns_contiguous else ''}"
