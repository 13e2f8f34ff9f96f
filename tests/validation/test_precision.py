"""A GPU's shortcuts are off while comparing, and put back."""

from __future__ import annotations

import pytest
import torch

from bnfuse.validation.precision import full_precision


def flags() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def test_flags_are_off_inside_and_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    before = flags()
    with full_precision():
        assert flags() == (False, False)
    assert flags() == before


def test_flags_are_back_after_an_error() -> None:
    before = flags()
    with pytest.raises(ValueError, match="inside"), full_precision():
        raise ValueError("inside")
    assert flags() == before
