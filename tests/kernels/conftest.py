"""Let tests of the kernels run with the oneDNN that is installed, and without it."""

from __future__ import annotations

import pytest

from bnfuse.kernels import direct, sizes
from bnfuse.kernels.installed import Installed
from tests.kernels.support import IMAGES, LIBRARY, SIGNALS, Case


@pytest.fixture(params=["directly", "by-pytorch"])
def onednn_call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Call oneDNN by its own interface, or by PyTorch's operators alone."""
    if request.param == "directly" and LIBRARY is None:
        pytest.skip("no build of oneDNN is installed")
    if request.param == "by-pytorch":
        for module in (direct, sizes):
            monkeypatch.setattr(module, "installed", lambda: Installed(None, "not for this test"))
    return str(request.param)


@pytest.fixture(params=[IMAGES, SIGNALS], ids=["images", "signals"])
def case(request: pytest.FixtureRequest) -> Case:
    """Return convolutions of each rank that tests go over, with what they are called with."""
    found: Case = request.param
    return found
