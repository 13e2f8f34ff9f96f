"""Which build of oneDNN is there beside PyTorch's own.

It is taken from the package ``onednn-cpu-gomp``, or from the path in the environment variable
``BNFUSE_ONEDNN``; an empty one forbids it. It has to share the threads of PyTorch, that is, its
OpenMP: two sets of threads would take the processor from each other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from bnfuse.kernels.library import Library, UnsupportedError

PACKAGE = "onednn-cpu-gomp"
VARIABLE = "BNFUSE_ONEDNN"
_FILE = "libdnnl.so.3"
_OLDEST, _TOO_NEW = (3, 2), (4,)
_RUNTIMES = ("libgomp", "libiomp", "libomp")


@dataclass(frozen=True, slots=True)
class Installed:
    """What there is of oneDNN beside PyTorch's own.

    Attributes:
        library: The build that is used, or None.
        note: Which one it is, or why there is none.
    """

    library: Library | None
    note: str

    @property
    def version(self) -> str:
        """The version of the build that is used, or an empty string."""
        return "" if self.library is None else ".".join(map(str, self.library.version))


@cache
def installed() -> Installed:
    """Look once for a build that can be used, and return what was found."""
    path = _path()
    if path is None:
        return Installed(None, f"{PACKAGE} is not installed")
    if not path:
        return Installed(None, f"{VARIABLE} is empty")
    before = _openmp_runtimes()
    try:
        library = Library(path)
    except (OSError, AttributeError, UnsupportedError) as error:
        return Installed(None, f"{path} cannot be used: {error}")
    version = ".".join(map(str, library.version))
    if not _OLDEST <= library.version < _TOO_NEW:
        return Installed(None, f"{path} is oneDNN {version}, not a 3 from 3.2 on")
    if not library.has_openmp or _openmp_runtimes() != before:
        return Installed(None, f"{path} does not share PyTorch's OpenMP")
    return Installed(library, f"oneDNN {version}, {path}")


def _path() -> str | None:
    """Return the path of a build, an empty string if none is wanted, None if there is none."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return named
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in files if file.name == _FILE]
    return next((str(path.resolve()) for path in paths if path.is_file()), None)


def _openmp_runtimes() -> set[str]:
    """Return the files of the OpenMP runtimes that this process has loaded."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return set()
    paths = {line.partition("/")[2] for line in lines}
    return {path for path in paths if Path(path).name.startswith(_RUNTIMES)}
