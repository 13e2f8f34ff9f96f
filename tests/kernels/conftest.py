"""Let tests of the kernels run with the oneDNN that is installed, and without it."""

from __future__ import annotations

import pytest

from bnfuse.kernels import direct, sizes
from bnfuse.kernels.installed import Installed
from tests.kernels.support import LIBRARY


@pytest.fixture(params=["directly", "by-pytorch"])
def onednn_call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Call oneDNN by its own interface, or by PyTorch's operators alone."""
    if request.param == "directly" and LIBRARY is None:
        pytest.skip("no build of oneDNN is installed")
    if request.param == "by-pytorch":
        for module in (direct, sizes):
            monkeypatch.setattr(module, "installed", lambda: Installed(None, "not for this test"))
    return str(request.param)
