"""The judge of other tools: it notices a wrong one, and blames none for what it cannot help."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.peer_judge import expects_fold, judged
from benchmarks.peer_made import Made, Tool
from benchmarks.peer_tools import eager_ops
from tests.conformance.case import Call, Case
from tests.conformance.collection import CASES

BY_NAME = {case.name: case for case in CASES}
PLAIN = BY_NAME["table-conv2d-norm"]


def tool(
    change: Callable[[Any, nn.Module], object] = lambda copied, given: None, **kw: Any
) -> Tool:
    """Return a tool that copies the model, and does something to the copy or to the model."""

    def make(model: nn.Module, call: Call) -> Made:
        copied = copy.deepcopy(model)
        change(copied, model)
        return Made(copied, eager_ops(copied), state=copied)

    return Tool(title="a tool", make=make, counted="", **kw)


def outcome(change: Any, case: Case = PLAIN, **kw: Any) -> dict[str, Any]:
    return judged(tool(change, **kw), case)


def nothing(copied: Any, given: Any) -> None:
    pass


def scale(copied: Any, given: Any) -> None:
    copied[0].weight.data *= 1 + 1e-7


def drop_hooks(copied: Any, given: Any) -> None:
    copied[0]._forward_hooks.clear()


def give_up(copied: Any, given: Any) -> None:
    raise NotImplementedError("no such model")


def give_up_later(copied: Any, given: Any) -> None:
    copied.forward = lambda x: give_up(x, x)


def touch(copied: Any, given: Any) -> None:
    given[0].weight.data *= 2


def warn_and_scale(copied: Any, given: Any) -> None:
    warnings.warn("this may be wrong", UserWarning, stacklevel=1)
    scale(copied, given)


def test_a_tool_that_does_nothing_is_right() -> None:
    assert outcome(nothing) == {"outcome": "kept", "norms": [1, 1]}


def test_a_small_deviation_is_wrong() -> None:
    found = outcome(scale)
    assert (found["outcome"], found["values"]) == ("wrong", True)
    assert "call 0: output is off by" in found["detail"]
    assert "warned" not in found


def test_the_same_deviation_is_within_the_noise_of_float32() -> None:
    assert outcome(scale, single=True)["outcome"] == "kept"


def scale_more(copied: Any, given: Any) -> None:
    copied[0].weight.data *= 1.001


def test_a_larger_one_is_wrong_in_float32_too() -> None:
    found = outcome(scale_more, single=True)
    assert (found["outcome"], found["values"]) == ("wrong", True)


def test_a_warning_is_kept_with_the_wrong_result() -> None:
    assert outcome(warn_and_scale)["warned"] == ["this may be wrong"]


def test_a_hook_that_no_longer_runs_is_an_effect_lost() -> None:
    found = outcome(drop_hooks, BY_NAME["hook-that-records-on-the-conv"])
    assert (found["outcome"], found["values"]) == ("wrong", False)
    assert "state 0.seen" in found["detail"]


def test_a_hook_that_changes_the_value_is_missed_in_the_values() -> None:
    assert outcome(drop_hooks, BY_NAME["hook-on-the-conv"])["values"] is True


@pytest.mark.parametrize("change", [give_up, give_up_later])
def test_raising_is_refusing(change: Any) -> None:
    found = outcome(change)
    assert found == {"outcome": "refused", "detail": "NotImplementedError: no such model"}


def test_raising_because_of_how_a_case_is_written_does_not_count() -> None:
    assert outcome(give_up, unfair=("no such model",))["outcome"] == "not comparable"


def test_changing_the_given_model_is_noticed() -> None:
    assert outcome(touch)["outcome"] == "original changed"


def test_other_random_numbers_are_no_fault() -> None:
    case = BY_NAME["value-dropout-in-training-mode"]
    spoiled = {"change": lambda copied, given: copied.register_forward_pre_hook(draw)}
    assert outcome(**spoiled, case=case)["outcome"] == "wrong"
    assert outcome(**spoiled, case=case, own_random=True)["outcome"] == "not comparable"


def draw(module: nn.Module, args: Any) -> None:
    torch.rand(1)


def test_cases_with_something_to_fold() -> None:
    assert expects_fold(PLAIN)
    assert expects_fold(BY_NAME["onnx-conv-times-scalar"])
    assert not expects_fold(BY_NAME["table-conv-relu-norm"])
