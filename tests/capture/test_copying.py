"""The caller's model is copied, never touched."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.capture import copy_model
from bnfuse.errors import RequestError
from tests.support import noise, ready, relative_error


def test_nothing_is_shared_and_flags_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    model[1].train()
    copied = copy_model(model).model
    assert isinstance(copied, nn.Sequential)
    assert copied.get_parameter("0.weight").data_ptr() != model.get_parameter("0.weight").data_ptr()
    assert copied[1].training
    assert not copied[0].training
    assert model[0].weight.requires_grad
    assert not copied[0].weight.requires_grad


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_old_weight_norm_can_be_copied() -> None:
    """Its computed weight refuses ``copy.deepcopy``."""
    model = torch.nn.utils.weight_norm(nn.Linear(2, 2)).eval()
    x = torch.randn(1, 2)
    assert torch.equal(copy_model(model).model(x), model(x))


def test_tied_parameters_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    copied = copy_model(model).model
    assert isinstance(copied, nn.Sequential)
    assert copied[1].weight is copied[0].weight


def test_an_attribute_that_refuses_is_shared() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    vars(model[0])["lock"] = threading.Lock()
    copied = copy_model(model)
    assert copied.by_reference == frozenset()
    assert copied.model.get_submodule("0").lock is model[0].lock
    assert copied.model.get_parameter("0.weight") is not model.get_parameter("0.weight")


class Refusing(nn.Module):
    """Refuses to be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)

    def __deepcopy__(self, memo: object) -> Refusing:
        raise TypeError("one of a kind")


def test_a_module_that_refuses_is_the_caller_s_own_and_stays_as_it_is() -> None:
    model = ready(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), Refusing()))
    before = copy.copy(vars(model[2]))
    fused = bnfuse.optimize(model)
    assert relative_error(fused(noise(1, 3, 4, 4)), model(noise(1, 3, 4, 4))) < 1e-12
    assert vars(model[2]) == before
    assert all(parameter.requires_grad for parameter in model[2].parameters())
    report = bnfuse.report(fused)
    assert [row.name for row in report.folded] == ["1"]
    assert [(row.name, row.reason) for row in report.kept] == [("2.norm", "not-copyable")]


class CopiesToItself(nn.Module):
    """Is its own copy."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))

    def __deepcopy__(self, memo: object) -> CopiesToItself:
        return self


def test_a_module_that_copies_to_itself_is_the_caller_s_own() -> None:
    alone = ready(CopiesToItself())
    model = nn.Sequential(alone).eval()
    fused = bnfuse.optimize(model)
    assert all(parameter.requires_grad for parameter in alone.parameters())
    assert type(alone.norm) is nn.BatchNorm2d
    x = noise(1, 3, 4, 4)
    assert torch.equal(fused(x), model(x))
    assert [row.reason for row in bnfuse.report(fused).kept] == ["not-copyable"]


@pytest.mark.parametrize("model", [CopiesToItself(), Refusing()])
def test_a_model_that_cannot_be_copied_at_all_is_refused(model: nn.Module) -> None:
    before = dict(vars(model.eval()))
    with pytest.raises(
        RequestError, match="cannot be copied, and the model given is never changed"
    ):
        bnfuse.optimize(model)
    assert vars(model) == before


def test_nesting_too_deep_to_copy_is_a_request_error() -> None:
    model: nn.Module = nn.ReLU().eval()
    for _ in range(400):
        model = nn.Sequential(model)
    with pytest.raises(RequestError, match="nested too deep to be copied"):
        copy_model(model)


class Bare(torch.Tensor):
    """Takes part in operations, and its copies are of another class."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # the signature is torch's
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def holding(tensor: torch.Tensor) -> nn.Module:
    """Return a layer that holds a tensor."""
    layer = nn.ReLU().eval()
    layer.register_buffer("held", tensor)
    return layer


@pytest.mark.filterwarnings("ignore:Sparse .* support is in beta state:UserWarning")
def test_tensors_that_refuse_are_copied_by_value() -> None:
    sparse = nn.Parameter(torch.eye(2).to_sparse_csr())
    result = torch.ones(2, requires_grad=True) * 2
    model = nn.Sequential(holding(result), nn.ReLU())
    model[1].register_parameter("sparse", sparse)
    copied = copy_model(model).model
    mine = copied.get_parameter("1.sparse")
    assert isinstance(mine, nn.Parameter)
    assert not mine.requires_grad
    assert torch.equal(mine.to_dense(), torch.eye(2))
    assert mine.values().data_ptr() != sparse.values().data_ptr()
    assert torch.equal(copied.get_buffer("0.held"), result)
    assert copied.get_buffer("0.held").data_ptr() != result.data_ptr()


@pytest.mark.filterwarnings("ignore:Sparse .* support is in beta state:UserWarning")
@pytest.mark.parametrize("example", [None, (noise(1, 3, 4, 4),)], ids=["bare", "example"])
@pytest.mark.parametrize(
    "held", [torch.eye(2).to_sparse_csr, lambda: torch.ones(2).as_subclass(Bare)]
)
def test_an_attribute_that_refuses_hinders_no_fold(held: Any, example: Any) -> None:
    model = ready(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    vars(model[0])["held"] = held()
    fused = bnfuse.optimize(model, example)
    assert len(bnfuse.report(fused).folded) == 1
    assert type(fused.get_submodule("0").held) is type(model[0].held)


def test_a_tensor_without_a_copy_keeps_its_layer_as_it_is() -> None:
    held = torch.ones(2).as_subclass(Bare)
    model = nn.Sequential(holding(held), nn.Linear(2, 2)).eval()
    copied = copy_model(model)
    assert copied.by_reference == {id(model[0])}
    assert copied.model.get_submodule("0") is model[0]
    with pytest.raises(
        RequestError, match=r"^ReLU cannot be copied because of 'held', a Bare, and"
    ):
        bnfuse.optimize(holding(held))
