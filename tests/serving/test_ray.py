"""The example for Ray Data, over two workers: ``pytest -m slow tests/serving -k ray``."""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.environments import environment

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ("ray[data]==2.60.0",)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="tried on Linux alone"),
]


def test_two_workers_classify_as_the_model_does(tmp_path: Path) -> None:
    python = environment("ray", REQUIREMENTS, tmp_path)
    ours = [*sys.path, *site.getsitepackages()]  # Ray's own packages come from its environment
    path = os.pathsep.join([str(ROOT), *(entry for entry in ours if "site-packages" in entry)])
    done = subprocess.run(
        [str(python), "-W", "ignore", str(ROOT / "examples" / "ray_batch.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = re.search(r"200 images on 2 workers, largest difference (\S+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) < 1e-5
