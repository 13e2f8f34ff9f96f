"""What optimize refuses before any work."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import RequestError


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
