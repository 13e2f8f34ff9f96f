"""Verification of models, and that it can fail."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import RequestError, VerificationError
from tests.support import noise, sequential

if TYPE_CHECKING:
    from collections.abc import Callable


def two_blocks() -> nn.Module:
    """Two convolutions with batch norms, in float32."""
    return sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.BatchNorm2d(8),
    ).float()


def x32(*shape: int) -> torch.Tensor:
    return noise(*shape).float()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_an_honest_fold_passes(dtype: torch.dtype) -> None:
    model, x = two_blocks().to(dtype), x32(2, 3, 9, 9).to(dtype)
    outcome = bnfuse.verify(model, bnfuse.optimize(model), (x,))
    assert outcome.passed
    assert outcome.input_sets == 3
    assert outcome.reference == "unfused model in float64"
    assert outcome.raise_if_failed() is outcome


def scale_weight(module: nn.Module) -> None:
    module.get_parameter("3.weight").data[2] *= 1.01


def swap_channels(module: nn.Module) -> None:
    weight = module.get_parameter("3.weight").data
    weight[[2, 3]] = weight[[3, 2]]


def drop_bias(module: nn.Module) -> None:
    module.get_parameter("3.bias").data[2] = 0.0


@pytest.mark.parametrize("harm", [scale_weight, swap_channels, drop_bias])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_small_wrong_fails(harm: Callable[[nn.Module], None], dtype: torch.dtype) -> None:
    model, x = two_blocks().to(dtype), x32(2, 3, 9, 9).to(dtype)
    fused = bnfuse.optimize(model)
    harm(fused)
    outcome = bnfuse.verify(model, fused, (x,))
    assert not outcome.passed
    with pytest.raises(VerificationError, match="Sequential is not equal to the unfused model"):
        outcome.raise_if_failed()


def test_neither_model_is_changed() -> None:
    model = two_blocks()
    fused = bnfuse.optimize(model)
    before = copy.deepcopy((model.state_dict(), fused.state_dict()))
    bnfuse.verify(model, fused, (x32(2, 3, 9, 9),))
    for state, module in zip(before, (model, fused), strict=True):
        assert all(torch.equal(value, module.state_dict()[key]) for key, value in state.items())
    assert model.get_parameter("0.weight").dtype is torch.float32


def test_the_random_state_of_the_caller_is_kept() -> None:
    model = two_blocks()
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    bnfuse.verify(model, bnfuse.optimize(model), (x32(1, 3, 9, 9),))
    assert torch.equal(torch.rand(1), wanted)


class ForcesHalf(nn.Module):
    """Casts to float32 in forward, so that no float64 reference of it can run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x.float()))


def test_a_model_that_forces_its_precision_is_its_own_reference() -> None:
    from bnfuse.zoo import randomize_statistics

    model = randomize_statistics(ForcesHalf()).eval()
    fused = bnfuse.optimize(model)
    outcome = bnfuse.verify(model, fused, (x32(1, 3, 6, 6),))
    assert outcome.passed
    assert outcome.reference == "unfused model in its own precision"
    fused.get_parameter("conv.bias").data += 0.1
    assert not bnfuse.verify(model, fused, (x32(1, 3, 6, 6),)).passed


def test_inputs_the_model_does_not_accept() -> None:
    model = two_blocks()
    with pytest.raises(RequestError, match="Sequential cannot run on the example inputs"):
        bnfuse.verify(model, model, (x32(1, 4, 9, 9),))


def test_a_candidate_that_is_neither_module_nor_file() -> None:
    text = (
        "verify compares a module or an exported file with the model and got 3: "
        "pass what bnfuse.optimize returned, or the path of an exported file."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(text)}$"):
        bnfuse.verify(two_blocks(), 3, (x32(1, 3, 9, 9),))  # type: ignore[arg-type]  # on purpose


def test_a_single_tensor_stands_for_one_argument() -> None:
    model = two_blocks()
    assert bnfuse.verify(model, bnfuse.optimize(model), x32(1, 3, 9, 9)).passed  # type: ignore[arg-type]  # accepted for comfort


def test_the_text_names_device_and_errors() -> None:
    outcome = bnfuse.verify(two_blocks(), two_blocks(), (x32(1, 3, 9, 9),))
    assert str(outcome).startswith("Sequential is equal to the unfused model in float64 on ")
    assert "unfused model's own" in str(outcome)
    assert outcome.to_dict()["passed"] is True


def test_optimize_checks_itself_with_example_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of the algebra is caught end to end, and the model comes back unfused."""
    from bnfuse.moves import weights
    from bnfuse.ops import absorb_after

    model, x = two_blocks(), x32(1, 3, 9, 9)
    honest = absorb_after
    monkeypatch.setattr(
        weights, "absorb_after", lambda *args: tuple(t * 1.01 for t in honest(*args))
    )
    unfused = bnfuse.optimize(model, (x,))
    assert torch.allclose(unfused(x), model(x), rtol=1e-5, atol=1e-5)
    assert [row.reason for row in bnfuse.report(unfused).kept] == ["check-failed"] * 2
    wrong = bnfuse.optimize(model, (x,), validate=False)
    assert not torch.allclose(wrong(x), model(x), rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_gpu(dtype: torch.dtype) -> None:
    model = two_blocks().to(dtype)
    outcome = bnfuse.verify(model, bnfuse.optimize(model), (x32(2, 3, 9, 9).to(dtype),))
    assert outcome.passed
    assert outcome.device.startswith("cuda")


class Counting(nn.Module):
    """Scales by how often it ran, in float32 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = nn.Buffer(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype is not torch.float32:
            raise TypeError("float32 alone")
        self.calls.add_(1)
        return x * self.calls


def test_the_runs_that_measure_rounding_do_not_advance_the_reference() -> None:
    model = Counting().eval()
    assert bnfuse.verify(model, copy.deepcopy(model), (torch.randn(2, 3),)).passed
    assert not model.calls.any()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_examples_of_other_kinds_are_used_as_they_are() -> None:
    nested = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(3, 4)])
    layer = nn.Linear(4, 4).eval()
    for example in (nested, torch.eye(4).to_sparse()):
        assert bnfuse.verify(layer, copy.deepcopy(layer), (example,)).passed
    model = nn.Sequential(Widening(), nn.Linear(4, 4)).eval()
    narrow = torch.randn(2, 4).to(torch.float8_e4m3fn)
    assert bnfuse.verify(model, copy.deepcopy(model), (narrow,)).passed


class Widening(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


def test_a_long_error_of_the_model_is_cut_to_its_first_line() -> None:
    with pytest.raises(RequestError, match=r"^Conv2d cannot run on the example inputs .*[^\n]*$"):
        bnfuse.verify(nn.Conv2d(1, 1, 1).eval(), nn.Identity(), (None,))


def test_a_model_of_several_dtypes_takes_the_inputs_it_always_took() -> None:
    model = sequential(nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).half()
    model.get_submodule("0").float()  # it stays, and its tensors come first in the fused model
    model.register_parameter("first", nn.Parameter(torch.ones(1, dtype=torch.float16)))
    fused = bnfuse.optimize(model.eval())
    assert len(bnfuse.report(fused).folded) == 1
    assert bnfuse.verify(model, fused, (x32(2, 3, 5, 5).half(),)).passed
