"""Which exporter writes what the command line asks for."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bnfuse.errors import RequestError
from bnfuse.export.onnx import OnnxExport, write_onnx
from bnfuse.export.onnx_store import data_files
from bnfuse.export.options import ExportOptions, OnnxOptions
from bnfuse.export.pt2 import Pt2Export, write_pt2
from bnfuse.export.tensorrt import SUFFIXES, TensorrtExport, TensorrtOptions, write_tensorrt
from bnfuse.importing.deploy import optimize_imported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfuse.validation.inputs import Arguments
    from bnfuse.zoo import LoadedModel


def check_name(output: Path) -> None:
    """Look at the name of a file before anything is done for it.

    Raises:
        RequestError: It ends like no file that there is an exporter for.
    """
    if output.suffix not in (".onnx", ".pt2", *SUFFIXES):
        raise RequestError(
            f"{output} ends in none of .onnx, .pt2 and .engine: name the file like net.onnx."
        )


def check_not_read(
    output: Path, given: Mapping[str, str | Path | None], option: str = "--output"
) -> None:
    """Look whether a file that is to be written is one that is read, by whatever path.

    The files beside an ONNX file that hold its weights are read as well.

    Args:
        output: What is to be written.
        given: What may be a file that is read, by what it is called on the command line.
        option: What names the file that is to be written.

    Raises:
        RequestError: It is.
    """
    replaced = [output, *_weights_beside(output)]
    for what, path in given.items():
        if path is None:
            continue
        if _are_same(output, Path(path)):
            raise RequestError(
                f"{option} {output} is the file that {what} {path} names, which is never "
                "overwritten: name another file to write."
            )
        for file in replaced:
            if any(_are_same(file, other) for other in _weights_beside(Path(path))):
                raise RequestError(
                    f"{option} {output} would replace weights of {what} {path}, which are in "
                    f"{file}: name another file to write."
                )


def check_not_imported(output: Path, option: str = "--output") -> None:
    """Look whether a file that is to be written is the source of a module that was imported.

    Raises:
        RequestError: It is, such as that of the module that made the model.
    """
    if not output.exists():
        return
    for name, module in sorted(sys.modules.items()):
        file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if isinstance(file, str) and _are_same(output, Path(file)):
            raise RequestError(
                f"{option} {output} is the source of the module {name}, which is never "
                "overwritten: name another file to write."
            )


def _weights_beside(path: Path) -> list[Path]:
    """Return the files that hold the weights of what may be an ONNX file."""
    if path.suffix != ".onnx" or not path.is_file():
        return []
    return [path.parent / name for name in sorted(data_files(path))]


def _are_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, through links too."""
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


def written(
    loaded: LoadedModel, output: Path, skip: Sequence[str]
) -> OnnxExport | Pt2Export | TensorrtExport:
    """Write an optimized model to a file of the kind that its name says.

    What comes from an ONNX file and goes to one keeps its names, open sizes and metadata.

    Raises:
        BnfuseError: As the exporter does; see ``check_name`` as well.
    """
    check_name(output)
    call: Arguments = (loaded.example_inputs, {})
    if output.suffix == ".pt2":
        return write_pt2(loaded.model, None, output, call, ExportOptions(skip=skip))
    if output.suffix in SUFFIXES:
        return write_tensorrt(loaded.model, None, output, call, TensorrtOptions(skip=skip))
    if loaded.imported is not None:
        return optimize_imported(loaded.imported, output, loaded.example_inputs, skip=skip)
    return write_onnx(loaded.model, None, output, call, OnnxOptions(skip=skip))
