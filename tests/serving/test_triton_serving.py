"""Repositories served by a real Triton server: ``pytest -m slow tests/serving -k triton``.

The server has the Python backend alone, so the repositories for the other two are checked against
Triton's own message (``tests/export/test_triton_config.py``) and were not served.
"""

from __future__ import annotations

import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import bnfuse
from bnfuse.zoo import load_model
from tests.serving.environments import environment
from tests.serving.triton_server import REQUIREMENTS, SECONDS, running

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the server runs on Linux"),
    pytest.mark.skipif(
        not sysconfig.get_config_var("Py_ENABLE_SHARED"), reason="Python has no shared library"
    ),
]


def test_resnet_is_served_and_replaced_while_it_is(tmp_path: Path) -> None:
    """Each request is answered as PyTorch does, by the first version and then by the second."""
    loaded = load_model("torchvision:resnet50")
    model, (example,) = loaded.model, loaded.example_inputs
    repository = tmp_path / "models"

    def export(new_version: bool) -> None:
        bnfuse.export_triton(
            model,
            repository,
            "resnet50",
            (example,),
            backend="python",
            kind="cpu",
            max_batch_size=4,
            new_version=new_version,
        )

    export(new_version=False)
    random = np.random.default_rng(0)
    samples = [random.normal(size=(n, 3, 224, 224)).astype("float32") for n in (1, 2, 1)]
    with torch.no_grad():
        wanted = [model(torch.from_numpy(sample)).numpy() for sample in samples]
    python = environment("triton", REQUIREMENTS, tmp_path)
    with running(python, repository, tmp_path) as server, ThreadPoolExecutor(3) as pool:
        config = server.ask("models/resnet50/config")
        assert (config["backend"], config["max_batch_size"]) == ("python", 4)

        def answered() -> set[str]:
            answers = list(pool.map(lambda x: server.infer("resnet50", x), samples))
            for (_, got), right in zip(answers, wanted, strict=True):
                assert got.shape == right.shape
                assert np.abs(got - right).max() <= 1e-5 * np.abs(right).max()
            return {version for version, _ in answers}

        assert answered() == {"1"}
        export(new_version=True)
        assert answered() == {"1"}
        server.ask("repository/models/resnet50/load", {})
        end, seen = time.monotonic() + SECONDS, set[str]()
        while seen != {"2"} and time.monotonic() < end:
            seen = answered()
        assert seen == {"2"}
