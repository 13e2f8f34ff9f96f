"""Half precision: folded from the values as they are, in float64, and rounded once."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from bnfuse.affine import Affine
from bnfuse.errors import RequestError
from tests.support import noise, ready, relative_error


class Reading(nn.Module):
    """A model that adds up what its tensors of other dtypes come to."""

    def __init__(self, inner: nn.Module, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.inner = inner
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        parts = (self.get_buffer(name) for name in ("count", "phase", "mask"))
        made: Tensor = self.inner(x) + sum(part.real.sum() for part in parts)
        return made


HALVES = [torch.float16, torch.bfloat16]


def net(depth: int = 4) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()]
    torch.manual_seed(0)
    return ready(nn.Sequential(*layers)).float()


def folded_exactly(conv: nn.Conv2d, *norms: nn.BatchNorm2d) -> torch.Tensor:
    """Return the weight with norms folded in, float64."""
    weight = conv.weight.detach().double()
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        affine = Affine.of_batch_norm(
            norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps
        )
        weight = affine.scale.view(-1, 1, 1, 1) * weight
    return weight


@pytest.mark.parametrize("dtype", HALVES)
def test_the_weights_are_rounded_once_from_float32(dtype: torch.dtype) -> None:
    model = net()
    fused = bnfuse.optimize(model, dtype=dtype)
    assert len(bnfuse.report(fused).folded) == 4
    assert {tensor.dtype for tensor in fused.state_dict().values()} == {dtype}
    wanted = folded_exactly(model[0], model[1])  # type: ignore[arg-type]  # by their places
    assert torch.equal(fused.get_parameter("0.weight"), wanted.to(dtype))
    assert model[0].weight.dtype is torch.float32


@pytest.mark.parametrize("dtype", HALVES)
def test_a_model_in_half_is_folded_twice_and_rounded_once(dtype: torch.dtype) -> None:
    conv, norms = nn.Conv2d(5, 5, 3), [nn.BatchNorm2d(5) for _ in range(2)]
    model = ready(nn.Sequential(conv, *norms)).to(dtype)
    fused = bnfuse.optimize(model)
    wanted = folded_exactly(conv, *norms)
    assert torch.equal(fused.get_parameter("0.weight"), wanted.to(dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_it_errs_no_more_than_the_model_converted(dtype: torch.dtype) -> None:
    model, x = net(3), noise(4, 6, 16, 16)
    exact = copy.deepcopy(model).double()(x)
    fused = bnfuse.optimize(model, dtype=dtype)
    converted = copy.deepcopy(model).to(dtype)
    errors = [(m(x.to(dtype)).double() - exact).square().mean() for m in (fused, converted)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("dtype", HALVES)
def test_it_is_verified_against_the_model_as_it_is(dtype: torch.dtype) -> None:
    model, x = net(), noise(2, 6, 9, 9).float()
    fused = bnfuse.optimize(model, (x,), dtype=dtype)
    assert len(bnfuse.report(fused).folded) == 4
    assert bnfuse.verify(model, fused, (x,)).passed
    with torch.no_grad():
        fused.get_parameter("3.bias").add_(1.0)
    assert not bnfuse.verify(model, fused, (x,)).passed


def test_what_overflows_stays() -> None:
    model = net(1)
    with torch.no_grad():
        model.get_parameter("1.weight").fill_(3e5)
    made = bnfuse.report(bnfuse.optimize(model, dtype=torch.float16))
    assert [row.reason for row in made.kept] == ["overflow"]
    assert len(bnfuse.report(bnfuse.optimize(model, dtype=torch.bfloat16)).folded) == 1


def hostile(gamma: float, variance: float, mean: float) -> nn.Sequential:
    """Return a model with a norm whose tensors are at the borders of half precision."""
    model = net(1)
    with torch.no_grad():
        model.get_parameter("1.weight").mul_(gamma)
        model.get_buffer("1.running_var").fill_(variance)
        model.get_buffer("1.running_mean").mul_(mean)
    return model


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 1e-8, 1e3])
def test_what_was_finite_stays_finite(dtype: torch.dtype, gamma: float, *, is_stored: bool) -> None:
    x = noise(2, 6, 9, 9).to(dtype)
    for variance, mean in product([0.0, 1e-8, 1e5, 1e30], [1.0, 1e4]):
        model = hostile(gamma, variance, mean)
        unfused = copy.deepcopy(model).to(dtype)
        given = unfused if is_stored else model
        fused = bnfuse.optimize(given, dtype=None if is_stored else dtype)
        with torch.no_grad():
            wanted, got = unfused(x), fused(x)
        assert torch.isfinite(got[torch.isfinite(wanted)]).all()


def test_what_is_too_small_to_be_precise_stays() -> None:
    model = net(1)
    with torch.no_grad():
        model.get_parameter("1.weight").mul_(1e-6)
    made = bnfuse.report(bnfuse.optimize(model, dtype=torch.float16))
    assert [row.reason for row in made.kept] == ["overflow"]
    assert len(bnfuse.report(bnfuse.optimize(model, dtype=torch.bfloat16)).folded) == 1
    with torch.no_grad():
        model.get_parameter("1.weight")[0] = 1.0  # beside it the others do not count
    assert len(bnfuse.report(bnfuse.optimize(model, dtype=torch.float16)).folded) == 1


def test_what_is_no_floating_point_number_stays_what_it_is() -> None:
    model = net(1)
    kept = {"count": torch.arange(3), "phase": torch.tensor([50 + 1j]), "mask": torch.ones(2) > 0}
    for name, tensor in kept.items():
        model[1].register_buffer(name, tensor)
    fused = bnfuse.optimize(model, dtype=torch.float16, skip=("1",))
    assert all(torch.equal(fused.get_buffer(f"1.{n}"), tensor) for n, tensor in kept.items())
    assert fused.get_parameter("0.weight").dtype is torch.float16
    reading, x = Reading(net(1), kept).eval(), noise(2, 6, 9, 9)
    made = bnfuse.optimize(reading, dtype=torch.bfloat16)(x.bfloat16())
    assert made.dtype is torch.bfloat16
    assert relative_error(made, reading(x.float())) < 0.02


def test_tied_weights_stay_tied_and_whole_numbers_stay_whole() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    model[2].weight = model[0].weight
    skipped = bnfuse.optimize(model, dtype=torch.float16, skip=("3",))
    assert skipped.get_parameter("0.weight") is skipped.get_parameter("2.weight")
    assert skipped.get_buffer("3.num_batches_tracked").dtype is torch.int64


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, "float16"])
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(RequestError, match=r"^dtype is .*: pass torch.float16 or"):
        bnfuse.optimize(net(1), dtype=dtype)
