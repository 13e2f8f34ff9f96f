"""What a layer made of a weight is made once, and returned for the same arguments alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.regions.convolution import LAYERS, AllGroupsAtOnce
from bnfuse.regions.layers import Layers
from tests.support import noise

X, W, B = noise(2, 3, 5, 6), noise(4, 3, 3, 3, seed=1), noise(4, seed=2)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list of the functions that are computed while a test runs."""
    found: list[Any] = []
    honest = AllGroupsAtOnce.__torch_function__

    def noted(self: Any, func: Any, *rest: Any) -> Any:
        found.extend([func] if func in LAYERS else [])
        return honest(self, func, *rest)

    monkeypatch.setattr(AllGroupsAtOnce, "__torch_function__", noted)
    return found


def test_the_same_call_is_computed_once(computed: list[Any]) -> None:
    layers, wanted = Layers(), F.conv2d(X, W, B, padding=1)
    layers.note(W)
    with layers:
        first = F.conv2d(X.clone(), W, B.clone(), padding=1)
        first.zero_()  # as an activation in place may write it
        again = torch.conv2d(input=X.clone(), weight=W, bias=B, padding=1)
        other = F.conv2d(X, W.clone(), B, padding=1)
    assert torch.equal(again, wanted)
    assert torch.equal(other, wanted)
    assert len(computed) == 2  # another weight is another one, even if it is equal


OTHERS: dict[str, Any] = {
    "input": lambda: F.conv2d(X + 1e-12, W, B, padding=1),
    "input laid out otherwise": lambda: F.conv2d(
        X.contiguous(memory_format=torch.channels_last), W, B, padding=1
    ),
    "input in another dtype": lambda: F.conv2d(X.float().double(), W, B, padding=1),
    "bias": lambda: F.conv2d(X, W, B + 1e-12, padding=1),
    "no bias": lambda: F.conv2d(X, W, padding=1),
    "option": lambda: F.conv2d(X, W, B, padding=2),
    "stride": lambda: F.conv2d(X, W, B, 2, 1),
    "function": lambda: F.linear(noise(2, 3), W[:, :, 0, 0]),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
def test_another_call_is_computed(other: Any, computed: list[Any]) -> None:
    layers, wanted = Layers(), other()
    layers.note(W)
    with layers:
        F.conv2d(X, W, B, padding=1)
        got = other()
    assert torch.equal(got, wanted)
    assert len(computed) == 2


def test_what_is_written_later_does_not_count() -> None:
    layers, x = Layers(), X.clone()
    layers.note(W)
    with layers:
        F.conv2d(x, W)
        x.mul_(2)
        assert torch.equal(F.conv2d(x, W), F.conv2d(2 * X, W.clone()))


def test_what_is_forgotten_or_was_not_noted_is_computed(computed: list[Any]) -> None:
    layers = Layers()
    with layers:
        F.conv2d(X, W)
        F.conv2d(X, W)
        layers.note(W)
        F.conv2d(X, W)
        layers.forget()
        F.conv2d(X, W)
    assert len(computed) == 4


def test_by_rows_of_another_weight() -> None:
    layers, rough = Layers(), W.float()
    layers.note(rough, lambda rows: W[rows])
    with layers:
        first, again = F.conv2d(X, rough, B), F.conv2d(X, rough, B)
    assert torch.equal(first, again)
    assert torch.allclose(first, F.conv2d(X, W, B), rtol=1e-14, atol=1e-14)
