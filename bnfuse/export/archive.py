"""The archive that ``torch.export.save`` writes, looked through before it is loaded.

Loading such an archive can run code: ``torch.export.load`` unpickles whatever entries are pickles,
in full, and evaluates texts in others. So its entries are listed and read here without either, and
all that is not known to be data is named.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnfuse.errors import RequestError
from bnfuse.export.archive_code import code_in

if TYPE_CHECKING:
    from pathlib import Path

_DATA = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version|"
    r"\.storage_alignment|extra/.+|models/[^/]+\.json|"
    r"data/weights/[^/]+_weights_config\.json|data/constants/[^/]+_constants_config\.json"
)
_EXAMPLE = re.compile(r"data/sample_inputs/[^/]+\.pt")
_CONFIG = re.compile(r"(data/(weights|constants)/)[^/]+_config\.json")
_PICKLED_NAMES = ("custom_obj_", "opaque_obj_", "opaque_")


@dataclass(frozen=True, slots=True)
class Archive:
    """The entries of an archive.

    Attributes:
        path: The file.
        root: The folder inside it that holds all entries, with a slash.
        sizes: The bytes of each entry, by its name in that folder.
        names: All names in the file.
    """

    path: Path
    root: str
    sizes: dict[str, int]
    names: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> Archive:
        """Return the archive in a file.

        Raises:
            RequestError: There is no such file, or it is no archive of an exported program.
        """
        if not path.is_file():
            raise RequestError(f"there is no file {path}: check the path.")
        try:
            with zipfile.ZipFile(path) as file:
                entries = file.infolist()
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise RequestError(
                f"{path} is no .pt2 archive, or a damaged one ({type(error).__name__}: {error}): "
                "write it again with bnfuse.export_pt2."
            ) from error
        names = tuple(entry.filename for entry in entries)
        root = names[0].partition("/")[0] + "/" if names else ""
        sizes = {e.filename.removeprefix(root): e.file_size for e in entries}
        if "archive_format" not in sizes or not any(n.startswith("models/") for n in sizes):
            raise RequestError(
                f"{path} is a zip file and no archive of an exported program: "
                "write one with bnfuse.export_pt2."
            )
        return cls(path, root, sizes, names)

    def extra(self, name: str) -> str | None:
        """Return the text of an extra file in the archive, or None where there is none."""
        entry = f"extra/{name}"
        return self._read(entry).decode(errors="replace") if entry in self.sizes else None

    def check_whole(self) -> None:
        """Refuse an archive whose bytes are not those that were written; torch does not look.

        Raises:
            RequestError: An entry does not have its checksum.
        """
        try:
            with zipfile.ZipFile(self.path) as file:
                broken = file.testzip()
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise self._damaged("an entry", error) from error
        if broken is not None:
            mismatch = zipfile.BadZipFile("its checksum is another")
            raise self._damaged(broken.removeprefix(self.root), mismatch)

    def check_inert(self) -> None:
        """Refuse an archive that could run code when it is loaded.

        Raises:
            RequestError: Something in it is pickled, is evaluated, or is of an unknown kind.
        """
        if what := self._code():
            raise RequestError(
                f"{self.path} can run code when it is loaded ({what}): if you trust where it is "
                "from, pass allow_pickle=True, or --allow-pickle on the command line."
            )

    def _code(self) -> str:
        """Return what in the archive could run code, or an empty string."""
        if len({name.lower() for name in self.names}) < len(self.names):
            return "two entries of one name"
        if any(not name.startswith(self.root) for name in self.names):
            return "entries outside of its folder"
        if what := self._unknown_entry():
            return what
        models = (name for name in self.sizes if name.startswith("models/"))
        return next(filter(None, (code_in(self._json(name)) for name in models)), "")

    def _unknown_entry(self) -> str:
        """Return an entry that is pickled, or is neither text nor the bytes of a tensor."""
        raw: set[str] = set()
        for name in self.sizes:
            if match := _CONFIG.fullmatch(name):
                found = _raw_tensors(self._json(name), match[1])
                if isinstance(found, str):
                    return found
                raw |= found
        for name, size in self.sizes.items():
            is_no_example = _EXAMPLE.fullmatch(name) and not size
            if not is_no_example and name not in raw and not _DATA.fullmatch(name):
                return f"the entry {name}, which is pickled or of an unknown kind"
        return ""

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._read(name))
        except ValueError as error:
            raise self._damaged(name, error) from error

    def _read(self, name: str) -> bytes:
        try:
            with zipfile.ZipFile(self.path) as file:
                return file.read(self.root + name)
        except (OSError, zipfile.BadZipFile, NotImplementedError, KeyError, RuntimeError) as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> RequestError:
        return RequestError(
            f"{self.path} is damaged: {name} in it cannot be read ({type(error).__name__}: {error})"
            "; write it again with bnfuse.export_pt2."
        )


def _raw_tensors(config: Any, folder: str) -> set[str] | str:
    """Return the entries that hold the bytes of tensors, or what is pickled among them."""
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict):
        return "a list of tensors of an unknown kind"
    found = set()
    for name, entry in entries.items():
        path = entry.get("path_name") if isinstance(entry, dict) else None
        if not isinstance(path, str) or "/" in path:
            return f"the tensor {name}, which is of an unknown kind"
        if entry.get("use_pickle") is not False or path.startswith(_PICKLED_NAMES):
            return f"{name}, which is pickled"
        found.add(folder + path)
    return found
