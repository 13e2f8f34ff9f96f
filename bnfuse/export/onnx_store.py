"""Write an ONNX model, with its weights in a file beside it where they are too large, whole.

An ONNX file is a protobuf message, which ends at 2 GB; larger weights stand in a second file that
the first one names. Two files cannot be renamed at once. So the second is named after its content,
``net.onnx.0123456789abcdef.data``: it is written first and disturbs nothing that is there, and
renaming the first one makes both valid. What the earlier file had beside it goes after that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfuse.errors import ExportError
from bnfuse.export.atomic import atomic_file
from bnfuse.extras import require

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

LARGEST_MESSAGE = 2**31 - 2**24
"""Bytes of weights that fit into a protobuf message, with 16 MiB left for the graph."""
_SMALLEST_OUTSIDE = 1024
"""Constants smaller than this many bytes, such as shapes, are read where the graph is read."""
_NAMED_BY_CONTENT = r"\.[0-9a-f]{16}\.data"


@dataclass(slots=True)
class OnnxDraft:
    """An ONNX file that is being written under a temporary name.

    Attributes:
        path: The temporary name.
        target: What it will be called.
        data: The file beside it with the weights, if there is one.
        is_new: Whether that file was not there before.
    """

    path: Path
    target: Path
    data: Path | None = None
    is_new: bool = False

    def discard(self) -> None:
        """Remove the weights, unless the earlier file has the very same."""
        if self.data is not None and self.is_new:
            _remove(self.data)


@contextmanager
def atomic_onnx(path: str | os.PathLike[str]) -> Iterator[OnnxDraft]:
    """Give a draft of an ONNX file, and put it at ``path`` with its weights on success.

    Raises:
        ExportError: The folder is missing or cannot be written, or ``path`` is a folder.
    """
    target = Path(path)
    draft: OnnxDraft | None = None
    is_done = False
    try:
        with atomic_file(target) as temporary:
            draft = OnnxDraft(temporary, target)
            yield draft
            before = data_files(target)
        is_done = True
    finally:
        if not is_done and draft is not None:
            draft.discard()
    ours = re.compile(re.escape(target.name) + _NAMED_BY_CONTENT)
    for name in before:
        if ours.fullmatch(name) and (draft.data is None or name != draft.data.name):
            _remove(target.with_name(name))


def data_files(path: Path) -> set[str]:
    """Return the names of the files beside an ONNX file that hold its weights.

    Args:
        path: The file; one that is not there, or of another kind, has none.
    """
    onnx = require("onnx", "to export ONNX")
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception:  # there is no such file, or it is another kind of file
        return set()
    entries = [entry for tensor in _tensors(proto) for entry in tensor.external_data]
    return {entry.value for entry in entries if entry.key == "location"}


def _tensors(proto: Any) -> Iterator[Any]:
    """Yield every tensor in a message of protobuf, however deep: of attributes and graphs too."""
    for field, value in proto.ListFields():
        if field.message_type is None:
            continue
        is_tensor = field.message_type.full_name == "onnx.TensorProto"
        for one in value if isinstance(value, Iterable) else (value,):
            if is_tensor:
                yield one
            else:
                yield from _tensors(one)


def write(model: Any, draft: OnnxDraft, external_data: bool) -> Any:
    """Write an ``onnx_ir.Model``'s weights, if outside, and return the rest as a protobuf message.

    Args:
        model: The model; its weights are replaced by references.
        draft: Where to write.
        external_data: Whether the weights stand in a file of their own.

    Raises:
        OSError: They cannot be written.
    """
    ir = require("onnx_ir", "to export ONNX")
    if external_data:
        temporary = draft.path.with_suffix(".data")
        try:
            ir.external_data.unload_from_model(
                model, draft.path.parent, temporary.name, size_threshold_bytes=_SMALLEST_OUTSIDE
            )
            if temporary.exists() and temporary.stat().st_size:  # no weight may be that large
                _name_by_content(temporary, draft)
        finally:
            _remove(temporary)
        _refer_to(draft.data, model)
    return ir.to_proto(model)


def is_too_large(model: Any) -> bool:
    """Whether the weights of an ``onnx_ir.Model`` do not fit into one message."""
    values = model.graph.initializers.values()
    size: int = sum(value.const_value.nbytes for value in values)
    return size > LARGEST_MESSAGE


def save_checked(proto: Any, path: Path, name: str = "") -> None:
    """Write the message and have onnx check the file in full.

    Args:
        proto: The message.
        path: Where to write it.
        name: What the user calls the file, if that is not its name.

    Raises:
        OSError: It cannot be written.
        ExportError: It is no valid ONNX file, or too large for one.
    """
    onnx = require("onnx", "to export ONNX")
    try:
        content = proto.SerializeToString(deterministic=True)
    except Exception as error:  # what is raised depends on the protobuf that is installed
        raise ExportError(
            f"{name or path.name} would be larger than a protobuf message can be, 2 GB "
            f"({type(error).__name__}): pass external_data=True, which puts the weights beside it."
        ) from error
    path.write_bytes(content)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        raise ExportError(
            f"the exported graph is not a valid ONNX file ({str(error).splitlines()[0]}): "
            "please report the model."
        ) from error


def _name_by_content(temporary: Path, draft: OnnxDraft) -> None:
    with temporary.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    named = draft.target.with_name(f"{draft.target.name}.{digest}.data")
    draft.data, draft.is_new = named, not named.exists()
    temporary.replace(named)


def _refer_to(data: Path | None, model: Any) -> None:
    """Give the weights that are outside the name of their file."""
    ir = require("onnx_ir", "to export ONNX")
    values = [value for graph in model.graphs() for value in graph.initializers.values()]
    for value in values:
        was = value.const_value
        if data is not None and isinstance(was, ir.ExternalTensor):
            value.const_value = ir.ExternalTensor(
                data.name,
                was.offset,
                was.length,
                was.dtype,
                shape=was.shape,
                name=was.name,
                base_dir=data.parent,
            )


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()
