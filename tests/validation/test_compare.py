"""The comparison of outputs, and that it can fail."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch

from bnfuse.validation.compare import OutputComparison, tolerance

ULP = torch.finfo(torch.float32).eps
EXACT = torch.tensor([[1.0, -2.0], [0.5, 0.0]], dtype=torch.float64)


def outcome(
    candidate: Any, exact: Any = EXACT, rounded: Any = None, structured: bool = True
) -> tuple[bool, str]:
    """Compare one set of outputs; return whether it passed and the first complaint."""
    comparison = OutputComparison(ULP, structured)
    if rounded is None:
        rounded = torch.utils._pytree.tree_map(lambda t: t.float(), exact)
    comparison.add(exact=exact, rounded=rounded, candidate=candidate)
    rows = comparison.outcome(1.0)
    return all(row.passed for row in rows), rows[0].complaint


def test_equal_passes() -> None:
    assert outcome(EXACT.float()) == (True, "")


@pytest.mark.parametrize(("ulps", "passes"), [(15, True), (17, False)])
def test_sixteen_units_in_the_last_place_pass_and_no_more(ulps: int, passes: bool) -> None:
    # The largest value is 2, so a unit in its last place is twice that of 1.
    nudged = EXACT + torch.tensor([[0.0, ulps * 2 * ULP], [0.0, 0.0]], dtype=torch.float64)
    assert outcome(nudged.float())[0] is passes


@pytest.mark.parametrize(("factor", "passes"), [(3.9, True), (4.1, False)])
def test_four_times_the_own_error_passes_and_no_more(factor: float, passes: bool) -> None:
    rounded, candidate = EXACT.clone(), EXACT.clone()
    rounded[0, 0] += 1e-3
    candidate[1, 1] -= factor * 1e-3
    assert outcome(candidate.float(), rounded=rounded.float())[0] is passes


@pytest.mark.parametrize(
    ("candidate", "complaint"),
    [
        (EXACT.float()[:1], "shape (1, 2) instead of (2, 2)"),
        (EXACT, "torch.float64 instead of torch.float32"),
        (EXACT.float() * float("nan"), "not finite where the reference is"),
        (EXACT.float() / 0, "not finite where the reference is"),
        (3, "a int instead of a tensor"),
    ],
)
def test_what_is_wrong_apart_from_values(candidate: Any, complaint: str) -> None:
    assert outcome(candidate) == (False, complaint)


def test_containers_have_to_agree() -> None:
    passed, complaint = outcome({"out": EXACT.float()}, OrderedDict(out=EXACT))
    assert not passed
    assert "instead of" in complaint


def test_without_structure_only_the_tensors_count() -> None:
    """An exported file returns a list of tensors, whatever the model returned."""
    exact = OrderedDict(out=EXACT, name="kept")
    rounded = OrderedDict(out=EXACT.float(), name="kept")
    assert outcome([EXACT.float()], exact, rounded, structured=False) == (True, "")
    assert outcome([], exact, rounded, structured=False) == (False, "missing")
    assert not outcome([EXACT.float() + 1], exact, rounded, structured=False)[0]


def test_values_that_are_no_tensors_have_to_be_equal() -> None:
    exact, rounded = (EXACT, 3), (EXACT.float(), 3)
    assert outcome((EXACT.float(), 3), exact, rounded)[0]
    assert not outcome((EXACT.float(), 4), exact, rounded)[0]


def test_where_the_reference_is_not_finite_nothing_is_asked() -> None:
    exact = torch.tensor([1.0, float("inf")], dtype=torch.float64)
    assert outcome(torch.tensor([1.0, 5.0]), exact)[0]
    assert not outcome(torch.tensor([2.0, 5.0]), exact)[0]


def test_a_reference_without_finite_values_proves_nothing() -> None:
    exact = torch.full((2,), float("nan"), dtype=torch.float64)
    assert outcome(exact.float(), exact) == (False, "the reference has no finite value")


def test_complex_outputs() -> None:
    exact = torch.complex(EXACT, -EXACT)
    rounded = exact.to(torch.complex64)
    assert outcome(rounded, exact, rounded)[0]
    assert not outcome(rounded.conj().resolve_conj(), exact, rounded)[0]


def test_tolerance_of_an_output_that_is_zero() -> None:
    assert tolerance(own_error=0.0, scale=0.0, ulp=ULP) == 0.0


@pytest.mark.filterwarnings("ignore:Sparse .* support is in beta state:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize(
    "convert",
    [
        torch.Tensor.to_sparse,
        torch.Tensor.to_sparse_csr,
        lambda t: torch.nested.nested_tensor([t, t[:1]]),
        lambda t: torch.nested.nested_tensor([t, t[:1]], layout=torch.jagged),
    ],
    ids=["sparse", "csr", "nested", "jagged"],
)
def test_other_layouts_are_compared_by_value(convert: Any) -> None:
    exact, same, other = (convert(t) for t in (EXACT, EXACT.float(), EXACT.float() + 1))
    assert outcome(same, exact, same) == (True, "")
    assert outcome(other, exact, same) == (False, "")
    passed, complaint = outcome(EXACT.float(), exact, same)
    assert not passed
    assert "instead of" in complaint


def test_conjugated_outputs_are_compared() -> None:
    exact = torch.complex(EXACT, EXACT + 1)
    assert outcome(exact.conj(), exact.conj(), exact.conj())[0]
    assert not outcome(exact, exact.conj(), exact.conj())[0]


def test_outputs_without_values_are_compared_in_kind() -> None:
    exact, same = EXACT.to("meta"), EXACT.float().to("meta")
    assert outcome(same, exact, same) == (True, "")
    assert outcome(EXACT.float(), exact, same) == (False, "on cpu instead of meta")
