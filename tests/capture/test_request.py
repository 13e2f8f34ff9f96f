"""What optimize refuses before any work."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import bnfuse
from bnfuse.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable


class Scripted(nn.Module):
    """Something to script."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu()


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            [1],
            "optimize takes a torch.nn.Module and got a list: pass the model itself.",
        ),
        (
            nn.Linear,
            (
                "optimize takes a torch.nn.Module and got the class Linear, not an instance of it: "
                "pass the model itself."
            ),
        ),
        (
            nn.Linear(2, 2),
            (
                "Linear is in training mode, where batch norm uses the statistics of each batch: "
                "call model.eval() first."
            ),
        ),
        (
            nn.LazyLinear(2).eval(),
            "'weight' of LazyLinear has no values yet: run the model once on an example input.",
        ),
        (
            nn.Linear(2, 2, device="meta").eval(),
            (
                "'weight' of Linear is on the meta device, without values: "
                "load the weights onto a real device first."
            ),
        ),
        (
            torch.compile(nn.Linear(2, 2).eval(), backend="eager"),
            (
                "the model is wrapped by torch.compile: pass model._orig_mod, "
                "and compile the result if you wish."
            ),
        ),
    ],
    ids=["list", "class", "training", "lazy", "meta", "compiled"],
)
def test_refused_with_the_remedy(model: nn.Module, text: str) -> None:
    with pytest.raises(RequestError, match=f"^{re.escape(text)}$"):
        bnfuse.optimize(model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_is_refused() -> None:
    with pytest.raises(RequestError, match="is TorchScript, whose program is not Python any more"):
        bnfuse.optimize(torch.jit.script(Scripted().eval()))


def test_a_name_in_skip_that_matches_nothing_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).eval()
    with pytest.raises(RequestError, match=r"^skip names '11', and no layer is called that: did"):
        bnfuse.optimize(model, skip=["11"])
    with pytest.raises(RequestError, match=r"write skip=\('1',\)"):
        bnfuse.optimize(model, skip="1")


@pytest.mark.parametrize("skip", ["block.1", "block.0", "block", "*.1", "bloc?.*"])
def test_skip_takes_names_containers_and_patterns(skip: str) -> None:
    model = nn.Sequential()
    model.add_module("block", nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)))
    report = bnfuse.explain(model.eval(), skip=[skip])
    assert [row.reason for row in report.kept] == ["skipped"]


def freed() -> torch.Tensor:
    """Return a tensor whose memory was given back, as sharded weights are between calls."""
    tensor = torch.ones(2)
    tensor.untyped_storage().resize_(0)
    return tensor


def fake() -> torch.Tensor:
    with FakeTensorMode():
        return torch.ones(2)


def test_a_tensor_without_memory_or_values_is_refused() -> None:
    """Reading one ends the process."""
    for tensor, text in (
        (freed(), "'x' of ReLU has no memory, which was freed: gather the weights first."),
        (fake(), "'x' of ReLU is a FakeTensor, without values: make the model outside of"),
    ):
        model = nn.ReLU().eval()
        model.register_buffer("x", tensor)
        with pytest.raises(RequestError, match=f"^{text}"):
            bnfuse.optimize(model)


@pytest.mark.parametrize("make", [lambda: torch.ones(2, device="meta"), freed, fake])
def test_an_example_without_values_is_refused(make: Callable[[], torch.Tensor]) -> None:
    for what in (bnfuse.optimize, bnfuse.explain):
        with pytest.raises(
            RequestError, match=r"^a tensor of the example inputs .*: pass one with"
        ):
            what(nn.ReLU().eval(), [{"x": make()}])


def test_what_is_no_example_is_refused() -> None:
    model: Any = nn.ReLU().eval()
    given: Any = 5
    with pytest.raises(RequestError, match="and got an int and a NoneType: write optimize"):
        bnfuse.optimize(model, given)
    with pytest.raises(RequestError, match="and got a tuple and an int: write optimize"):
        bnfuse.optimize(model, (torch.ones(2),), given)


def test_an_iterator_of_inputs_is_read_once() -> None:
    example: Any = iter((torch.ones(2),))
    assert bnfuse.report(bnfuse.optimize(nn.ReLU().eval(), example)).total == 0
