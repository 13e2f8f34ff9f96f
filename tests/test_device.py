"""The device to run on."""

from __future__ import annotations

import re

import pytest
import torch

from bnfuse.device import chosen_device
from bnfuse.errors import RequestError


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be one GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def refused(device: str, wanted: str) -> None:
    """Check that a device is refused with a message."""
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        chosen_device(device)


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize(
    ("device", "wanted"),
    [(None, "cuda"), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:0", "cuda:0")],
)
def test_named_device_or_the_gpu(device: str | None, wanted: str) -> None:
    assert chosen_device(device) == torch.device(wanted)
    assert chosen_device(torch.device(wanted)) == torch.device(wanted)


@pytest.mark.usefixtures("no_gpu")
def test_processor_where_there_is_no_gpu() -> None:
    assert chosen_device(None) == torch.device("cpu")
    refused("cuda", "there is no CUDA device 'cuda' here: pass device='cpu'.")


@pytest.mark.usefixtures("one_gpu")
def test_gpu_beyond_the_last() -> None:
    refused("cuda:1", "there is no CUDA device 'cuda:1' here: pass device='cpu'.")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "-1"])
def test_unknown_name(device: str) -> None:
    refused(device, f"there is no device {device!r}: pass 'cpu' or 'cuda'.")
