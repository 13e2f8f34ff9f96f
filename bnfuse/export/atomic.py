"""Write a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bnfuse.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``, and rename it to ``path`` on success.

    On any exception, an interrupt included, the temporary file goes and what stood at ``path``
    stays as it was. Entering fails at once where the folder cannot be written, before any work.

    Raises:
        ExportError: The folder is missing or cannot be written, or ``path`` is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise ExportError(f"{target} is a folder: name the file to write.")
    try:
        handle, name = tempfile.mkstemp(target.suffix, f".{target.stem}.", target.parent)
        os.close(handle)
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written ({error.strerror or error}): "
            "choose a path in a folder that exists and is writable."
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise ExportError(f"{target} could not be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's mask for new files, which mkstemp does not follow."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
