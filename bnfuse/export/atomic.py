"""Write a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
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
    # The name is known before there is a file, so that no interrupt finds a file without a name.
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(8)}{target.suffix}")
    try:
        _create(temporary, target)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise ExportError(f"{target} could not be written: {error.strerror or error}.") from error
    finally:
        _remove(temporary)


def _create(temporary: Path, target: Path) -> None:
    """Create an empty file, with the mode that the process's umask leaves."""
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written ({error.strerror or error}): "
            "choose a path in a folder that exists and is writable."
        ) from error


def _remove(temporary: Path) -> None:
    """Remove a file that may be gone, or never have been."""
    with suppress(FileNotFoundError, NotADirectoryError):
        temporary.unlink()
