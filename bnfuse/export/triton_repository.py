"""Write a version of a model into a Triton model repository, whole or not at all.

A model is a folder of the repository with ``config.pbtxt`` and a folder for each version. A new
model is written under a hidden name beside the others and renamed; a new version of a model is
written under a hidden name inside its folder, and renamed. Triton takes neither for a model or a
version before that, and what it serves stays as it is.
"""

from __future__ import annotations

import re
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfuse.errors import ExportError, RequestError
from bnfuse.export.triton_config import read_config

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = "config.pbtxt"
_FIXED = ("backend", "platform", "max_batch_size", "input", "output")
"""What versions of a model share: they have one configuration."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A version that is being written.

    Attributes:
        version: Its number.
        folder: Where its files go.
        model: What the folder of the model will be called.
        live: The configuration that is live, None for a new model.
    """

    version: int
    folder: Path
    model: Path
    live: Any

    def configure(self, config: Any, content: str) -> bool:
        """Write the configuration of a new model, or compare it with the one that is live.

        Args:
            config: The configuration.
            content: Its text.

        Returns:
            Whether it was written; a live one stays as it is.

        Raises:
            RequestError: The live one differs in what versions have to share.
        """
        if self.live is None:
            (self.folder.parent / CONFIG).write_text(content)
            return True
        for field in _FIXED:
            if getattr(self.live, field) != getattr(config, field):
                raise RequestError(
                    f"{self.model} is live with another {field.replace('_', ' ')}, and versions "
                    "share their configuration: export under another name."
                )
        return False


@contextmanager
def new_version(repository: Path, name: str, *, beside_live: bool) -> Iterator[Draft]:
    """Give a folder for the files of a version, and put it into the repository on success.

    Args:
        repository: The folder of all models; made if it is missing.
        name: The model.
        beside_live: Whether a model of that name may be there, to get one more version.

    Raises:
        RequestError: The name cannot be one, or is taken.
        ExportError: The repository cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise RequestError(f"{name!r} cannot be the name of a model: use letters, digits, _, -, .")
    model = repository / name
    is_new = not model.exists()
    if not is_new and not beside_live:
        raise RequestError(
            f"{model} is there already, with versions {_listed(model)}: pass new_version=True to "
            "write another version beside them, or another name."
        )
    live = None if is_new else _live_config(model)
    version = 1 if is_new else max(_versions(model), default=0) + 1
    made_repository = not repository.exists()
    token = secrets.token_hex(8)
    try:
        if made_repository:
            repository.mkdir()
        hidden = repository / f".{name}.{token}" if is_new else model / f".{version}.{token}"
        folder = hidden / str(version) if is_new else hidden
        folder.mkdir(parents=True)
    except OSError as error:
        raise ExportError(
            f"{repository} cannot be written ({error.strerror or error}): choose a folder that "
            "exists and is writable."
        ) from error
    target = model if is_new else model / str(version)
    try:
        yield Draft(version, folder, model, live)
        hidden.rename(target)
    except ExportError as error:  # the user knows nothing of the hidden name
        message = str(error).replace(str(folder), str(model / str(version)))
        raise ExportError(message) from error
    except OSError as error:
        raise ExportError(f"{target} could not be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        if made_repository and not any(repository.iterdir()):
            repository.rmdir()


def _versions(model: Path) -> list[int]:
    """Return the versions of a model, as Triton counts them: folders that are numbers."""
    names = [path.name for path in model.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if re.fullmatch(r"[1-9][0-9]*", name))


def _listed(model: Path) -> str:
    return ", ".join(map(str, _versions(model) if model.is_dir() else [])) or "none"


def _live_config(model: Path) -> Any:
    """Return the configuration of a model that is there.

    Raises:
        RequestError: It has none that can be read.
    """
    try:
        content = (model / CONFIG).read_text()
    except OSError as error:
        raise RequestError(
            f"{model / CONFIG} cannot be read ({error.strerror or error}): export under another "
            "name."
        ) from error
    return read_config(content)
