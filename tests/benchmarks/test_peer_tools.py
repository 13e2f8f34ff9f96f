"""Every tool folds the plainest case, and every counter sees a batch norm that is left."""

from __future__ import annotations

import pytest

from benchmarks.peer_judge import judged
from benchmarks.peer_tools import TOOLS
from tests.conformance.collection import CASES

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_fold_is_told(tool: str) -> None:
    found = judged(TOOLS[tool], BY_NAME["table-conv2d-norm"])
    assert found == {"outcome": "folded", "norms": [1, 0]}


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "bnfuse"])  # which folds it
def test_a_batch_norm_that_is_left_is_told(tool: str) -> None:
    found = judged(TOOLS[tool], BY_NAME["table-norm-linear"])
    assert found == {"outcome": "kept", "norms": [1, 1]}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_batch_norm_behind_an_activation_still_runs(tool: str) -> None:
    """Also where onnxruntime makes a convolution of it."""
    found = judged(TOOLS[tool], BY_NAME["table-conv-relu-norm"])
    assert found == {"outcome": "kept", "norms": [1, 1]}


@pytest.mark.parametrize("tool", ["fx", "trace", "inductor", "onnxruntime", "bnfuse"])
def test_affines_written_by_hand_are_counted(tool: str) -> None:
    """One that is not folded still multiplies."""
    found = judged(TOOLS[tool], BY_NAME["b4-constant-along-width"])
    assert (found["outcome"], found["norms"]) == ("kept", [0, 0])


def test_a_graph_compiled_anew_at_each_call_is_counted_once() -> None:
    found = judged(TOOLS["inductor"], BY_NAME["state-call-counter"])
    assert found["norms"] == [1, 0]


def test_a_batch_norm_between_graphs_is_counted() -> None:
    """TorchScript inside a model is no part of dynamo's graphs."""
    found = judged(TOOLS["inductor"], BY_NAME["hook-traced-part"])
    assert found == {"outcome": "kept", "norms": [2, 2]}
