"""Quantized, incomplete and hand-made layers in a model: kept with a reason, or refused by name."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import RequestError
from bnfuse.zoo import randomize_statistics
from tests.conformance.snapshot import snapshot
from tests.support import noise, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max:UserWarning"),
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning"),
]
X = noise(2, 3, 4, 4).float()
# Imported by name, since they are not typed.
quantization = import_module("torch.ao.quantization")
quantized = import_module("torch.ao.nn.quantized")
intrinsic, qat = (import_module(f"torch.ao.nn.intrinsic{part}") for part in ("", ".qat"))


def conv(inputs: int = 3) -> nn.Module:
    return nn.Conv2d(inputs, 4, 1)


def norm() -> nn.Module:
    return randomize_statistics(nn.BatchNorm2d(4))


def quantized_norm() -> nn.Module:
    to_int8 = quantized.Quantize(torch.tensor([0.1]), torch.tensor([0]), torch.quint8)
    return nn.Sequential(to_int8, quantized.BatchNorm2d(3), quantized.DeQuantize())


def dynamic_linear() -> nn.Module:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.BatchNorm1d(4))
    return quantization.quantize_dynamic(randomize_statistics(layers).eval(), {nn.Linear})


def fake_quantized() -> nn.Module:
    model = nn.Sequential(conv(), quantization.FakeQuantize(), norm(), conv(4), norm()).train()
    model(X)
    return model


def quantization_aware() -> nn.Module:
    config = quantization.get_default_qat_qconfig("fbgemm")
    trained = randomize_statistics(qat.ConvBn2d(3, 4, 1, qconfig=config))
    model = nn.Sequential(trained, conv(4), norm()).train()
    model(X)
    return model


def observed() -> nn.Module:
    model = nn.Sequential(conv(), norm(), nn.ReLU()).eval()
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    return quantization.prepare(model)


def containers() -> nn.Module:
    second = intrinsic.ConvBnReLU2d(conv(4), norm(), nn.ReLU())
    return nn.Sequential(intrinsic.ConvBn2d(conv(), norm()), second)


class ComplexNorm(nn.Module):
    """Normalizes real and imaginary parts apart, as complex networks do by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.real, self.imaginary = norm(), norm()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.real(z.real.contiguous()) + self.imaginary(z.imag.contiguous())


class Complex(nn.Module):
    """A convolution with complex weights before such a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1, dtype=torch.complex64), ComplexNorm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x.to(torch.complex64)))


class Lists(nn.Module):
    """Weights in a ParameterList and a ParameterDict."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(4, 3, 1, 1), torch.randn(4)])
        self.table = nn.ParameterDict({"next": torch.randn(4, 4, 1, 1)})
        self.first, self.second = norm(), norm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(nn.functional.conv2d(x, self.weights[0], self.weights[1]))
        return self.second(nn.functional.conv2d(y, self.table["next"]))


class Float8(nn.Module):
    """A weight stored in eight bits and widened at each call."""

    def __init__(self) -> None:
        super().__init__()
        narrow = torch.randn(4, 48).to(torch.float8_e4m3fn)
        self.weight = nn.Parameter(narrow, requires_grad=False)
        self.norm = randomize_statistics(nn.BatchNorm1d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(nn.functional.linear(x.flatten(1), self.weight.to(x.dtype)))


def no_features() -> nn.Module:
    layers = (nn.Flatten(), nn.Linear(48, 0), nn.Linear(0, 4), nn.BatchNorm1d(4))
    return randomize_statistics(nn.Sequential(*layers))


BOTH = ["no-linear-producer"] * 2
NOT_CAPTURED = ["not-captured"] * 2
RUNNING: dict[str, tuple[Callable[[], nn.Module], int, list[str], int, list[str]]] = {
    "quantized norm": (quantized_norm, 0, ["odd-constants"], 0, ["odd-constants"]),
    "dynamic": (dynamic_linear, 0, BOTH[:1], 0, BOTH[:1]),
    "fake quantized": (fake_quantized, 0, NOT_CAPTURED, 0, NOT_CAPTURED),
    "quantization aware": (quantization_aware, 1, NOT_CAPTURED[:1], 1, NOT_CAPTURED[:1]),
    "observed": (observed, 0, ["hooked"], 0, ["hooked"]),
    "containers": (containers, 2, [], 2, []),
    "complex": (Complex, 0, BOTH, 0, BOTH),
    "lists": (Lists, 2, [], 2, []),
    "float8": (Float8, 0, ["computed-constants"], 0, ["computed-constants"]),
    "no features between": (no_features, 1, [], 1, []),
}


@pytest.mark.parametrize("with_example", [False, True], ids=["bare", "example"])
@pytest.mark.parametrize("name", RUNNING)
def test_runs_as_before(name: str, with_example: bool) -> None:
    build, bare, kept_bare, sized, kept_sized = RUNNING[name]
    torch.manual_seed(0)
    model = build().eval()
    before = snapshot(model)
    fused = bnfuse.optimize(model, (X,) if with_example else None)
    report = bnfuse.report(fused)
    outcome = (len(report.folded), [row.reason for row in report.kept])
    assert outcome == ((sized, kept_sized) if with_example else (bare, kept_bare))
    assert snapshot(model) == before
    unfused = copy.deepcopy(model)  # observers note what they see
    with torch.no_grad():
        for scale in (1.0, 2.0):
            assert relative_error(fused(scale * X), unfused(scale * X)) <= 1e-5


def test_observers_of_a_folded_model_note_what_the_unfused_ones_do() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(conv(), norm(), nn.Conv2d(4, 3, 1)), quantization_aware())
    model.eval()
    fused = bnfuse.optimize(model, (X,))
    assert bnfuse.report(fused).folded
    with torch.no_grad():
        for scale in (1.0, 3.0):
            fused(scale * X), model(scale * X)
    got, wanted = fused.state_dict(), model.state_dict()
    observed = [key for key in wanted if key.startswith("1.0.")]
    assert observed
    assert all(torch.equal(got[key], wanted[key]) for key in observed)


def test_mapped_files_are_read_and_not_written(tmp_path: Path) -> None:
    model = nn.Sequential(conv(), norm()).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    before = (tmp_path / "weights.pt").read_bytes()
    model.load_state_dict(torch.load(tmp_path / "weights.pt", mmap=True), assign=True)
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(X), model(X)) <= 1e-5
    assert (tmp_path / "weights.pt").read_bytes() == before


def broken(**attributes: Any) -> nn.Module:
    """Return a convolution and a batch norm with attributes set or, by ..., deleted."""
    model = nn.Sequential(conv(), norm()).eval()
    for key, value in attributes.items():
        layer, _, name = key.partition("_")
        module = model[0] if layer == "conv" else model[1]
        delattr(module, name)
        if value is not ...:
            setattr(module, name, value)
    return model


INTEGERS = nn.Parameter(torch.ones(4, 3, 1, 1, dtype=torch.int64), requires_grad=False)
BROKEN = {
    "0.weight is missing": broken(conv_weight=...),
    "0.weight is None": broken(conv_weight=None),
    "0.weight is a list": broken(conv_weight=[1]),
    "0.weight is sparse_coo": broken(conv_weight=nn.Parameter(torch.ones(4, 3, 1, 1).to_sparse())),
    "0.bias is sparse_coo": broken(conv_bias=nn.Parameter(torch.ones(4).to_sparse())),
    "0.weight is mkldnn": broken(conv_weight=nn.Parameter(torch.ones(4, 3, 1, 1).to_mkldnn())),
    "1.running_var is missing": broken(norm_running_var=...),
    "1.running_mean is sparse_coo": broken(norm_running_mean=torch.zeros(4).to_sparse()),
    "1.eps is no number": broken(norm_eps=None),
    (
        "Sequential: tracing its forward raised AttributeError: 'BatchNorm2d' object has no "
        "attribute 'training'"
    ): broken(norm_training=...),
    "1.weight has the shape (1,)": broken(norm_weight=nn.Parameter(torch.ones(1))),
    "torch.int64 and torch.float32": broken(conv_weight=INTEGERS),
    "torch.float32 and torch.float32, torch.int64": broken(norm_running_mean=torch.arange(4)),
}


@pytest.mark.parametrize("facts", BROKEN)
def test_what_cannot_run_is_kept_with_the_facts(facts: str) -> None:
    report = bnfuse.explain(BROKEN[facts])
    assert not report.folded
    assert [row.why.endswith(f": {facts}.") for row in report.kept] == [True]


def test_every_lazy_and_meta_layer_inside_is_named() -> None:
    lazy, meta = nn.LazyBatchNorm2d(affine=False), nn.Conv2d(4, 4, 1, device="meta")
    for layer, text in (
        (lazy, "'2.running_mean' of Sequential has no values yet: run the model once on an"),
        (nn.LazyConv2d(4, 1), "'2.weight' of Sequential has no values yet"),
        (meta, "'2.weight' of Sequential is on the meta device, without values: load the weights"),
    ):
        model = nn.Sequential(conv(), norm(), layer).eval()
        for what in (bnfuse.optimize, bnfuse.explain):
            with pytest.raises(RequestError, match=f"^{text}"):
                what(model)
