"""The report: plain data and back, and on its way with the model."""

from __future__ import annotations

import copy
import json
import pickle
import re
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bnfuse
from bnfuse.errors import RequestError
from bnfuse.report import Report, Row
from bnfuse.report.report import ATTRIBUTE, attach
from tests.support import noise, sequential

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = st.text(max_size=8)
ROWS = st.builds(
    Row,
    name=TEXT,
    site=TEXT,
    into=st.none() | TEXT,
    by=st.none() | TEXT,
    error=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    reason=st.none() | TEXT,
    why=TEXT,
    remedy=TEXT,
)
LISTS = st.lists(ROWS, max_size=3).map(tuple)
REPORTS = st.builds(
    Report,
    model=TEXT,
    folded=LISTS,
    merged=LISTS,
    fused=LISTS,
    kept=LISTS,
    name_map=st.dictionaries(TEXT, TEXT, max_size=3),
    extra_bytes=st.integers(min_value=0),
)
COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "to": lambda model: model.to(torch.float32),
    "twice": lambda model: copy.deepcopy(pickle.loads(pickle.dumps(model))),
}


def optimized() -> nn.Module:
    """Return an optimized model with one batch norm folded and one kept."""
    layers = (nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3))
    return bnfuse.optimize(sequential(*layers))


class Untraceable(nn.Module):
    """A model without a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normalized: torch.Tensor = self.bn(x)
        return normalized if float(x.sum()) > 0 else -normalized


@settings(max_examples=50, deadline=None)
@given(REPORTS)
def test_report_survives_json(made: Report) -> None:
    text = json.dumps(made.to_dict())
    assert Report.from_dict(json.loads(text)) == made


@settings(max_examples=50, deadline=None)
@given(REPORTS)
def test_dictionary_holds_what_json_holds(made: Report) -> None:
    plain = made.to_dict()
    assert json.loads(json.dumps(plain)) == plain


@settings(max_examples=50, deadline=None)
@given(REPORTS)
def test_total_counts_every_call_site_once(made: Report) -> None:
    assert made.total == len([*made.folded, *made.merged, *made.kept])


def test_dictionary_is_the_callers_own() -> None:
    made = Report("Net", name_map={"bn": "conv"})
    made.to_dict()["name_map"]["bn"] = "other"
    assert made.name_map == {"bn": "conv"}


def test_report_of_a_small_model_in_full() -> None:
    made = bnfuse.report(optimized())
    error = made.folded[0].error
    assert error is not None
    assert 0 <= error < 1e-14
    assert made == Report(
        "Sequential",
        folded=(Row("1", "_1", into="0", by="fold-affine", error=error),),
        kept=(
            Row(
                "3",
                "_3",
                reason="no-linear-producer",
                why="What 3 normalizes comes from 2 (ReLU), which has no weight to fold into.",
                remedy="Nothing to do: this is a limit of bnfuse today.",
            ),
        ),
        name_map={"1": "0"},
    )


@pytest.mark.parametrize("how", sorted(COPIES))
def test_report_travels(how: str) -> None:
    model = optimized()
    made = bnfuse.report(model)
    moved = COPIES[how](model)
    assert bnfuse.report(moved) == made
    assert moved(noise(1, 2, 4, 4).to(next(moved.parameters()).dtype)).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("how", sorted(COPIES))
def test_report_of_a_model_without_graph_travels(how: str) -> None:
    model = bnfuse.optimize(Untraceable().eval())
    assert [row.reason for row in bnfuse.report(model).kept] == ["not-captured"]
    assert bnfuse.report(COPIES[how](model)) == bnfuse.report(model)


def test_report_is_no_part_of_the_weights() -> None:
    model = optimized()
    assert ATTRIBUTE in vars(model)
    assert [key for key in model.state_dict() if "report" in key] == []


def test_attached_report_is_the_one_returned() -> None:
    model, made = nn.Linear(1, 1), Report("Linear")
    attach(model, made)
    assert bnfuse.report(model) is made


@pytest.mark.parametrize(
    ("model", "name"), [(nn.Linear(1, 1), "Linear"), (nn.Sequential(), "Sequential"), (3, "int")]
)
def test_model_not_optimized_has_no_report(model: nn.Module, name: str) -> None:
    wanted = (
        f"{name} carries no report, it was not made by bnfuse.optimize: "
        "call bnfuse.explain(model) to see what could be done."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        bnfuse.report(model)


def test_attribute_of_the_same_name_is_no_report() -> None:
    model = nn.Linear(1, 1)
    vars(model)[ATTRIBUTE] = {"model": "Linear"}
    with pytest.raises(RequestError, match=r"^Linear carries no report, "):
        bnfuse.report(model)


def test_part_of_an_optimized_model_has_no_report() -> None:
    with pytest.raises(RequestError, match=r"^Conv2d carries no report, "):
        bnfuse.report(optimized().get_submodule("0"))
