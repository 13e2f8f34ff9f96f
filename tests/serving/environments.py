"""Virtual environments that tests make for packages that do not go with ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def environment(name: str, requirements: tuple[str, ...], folder: Path) -> Path:
    """Return the Python of an environment with these packages, and make it if there is none.

    Args:
        name: What to call it.
        requirements: What to install.
        folder: Where to make it; ``BNFUSE_TEST_ENVIRONMENTS`` names a folder to keep them in.
    """
    kept = os.environ.get("BNFUSE_TEST_ENVIRONMENTS")
    root = (Path(kept) if kept else folder) / name
    python = root / "bin" / "python"
    done = root / "done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(root)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", *requirements]
        subprocess.run(install, check=True)
        done.write_text("\n".join(requirements))
    return python
