"""Every example runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITH_THEIR_OWN_TESTS = {"ray_batch.py": "tests/serving/test_ray.py"}
EXAMPLES = [
    path for path in sorted(ROOT.glob("examples/*.py")) if path.name not in WITH_THEIR_OWN_TESTS
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(example: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(example), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "3 of 3 batch norms folded" in done.stdout
    assert (tmp_path / "classifier.onnx").is_file()


def test_the_others_have_tests_of_their_own() -> None:
    assert EXAMPLES
    for example, test in WITH_THEIR_OWN_TESTS.items():
        assert (ROOT / "examples" / example).is_file()
        assert example in (ROOT / test).read_text()
