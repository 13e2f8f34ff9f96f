"""What has to be known of an engine to load it, kept in a file beside it.

An engine runs with the version of the library that built it, on the GPUs it was built for. It
cannot be asked for either without both, so ``net.engine`` is written with ``net.engine.json``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.errors import ExportError, RequestError
from bnfuse.export.tensorrt_build import Port
from bnfuse.export.tensorrt_library import capability_here

if TYPE_CHECKING:
    from bnfuse.export.tensorrt_build import Built
    from bnfuse.export.tensorrt_library import Library
    from bnfuse.report import Report


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What is written beside an engine.

    Attributes:
        bnfuse: The version of bnfuse.
        library: The package that built it.
        version: The version of that package.
        compute_capabilities: The GPUs it runs on.
        sha256: Of the engine's bytes.
        graph_sha256: Of the ONNX file that it was built from. Equal calls make equal ones, also
            where the library numbers its intermediate values differently each time.
        layers: How many layers of each kind went into it.
        inputs: Its inputs.
        outputs: Its outputs.
        report: What happened to every batch norm.
    """

    bnfuse: str
    library: str
    version: str
    compute_capabilities: tuple[str, ...]
    sha256: str
    graph_sha256: str
    layers: dict[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    report: dict[str, Any]

    def to_json(self) -> str:
        """Return the content of the file; equal engines make equal files."""
        return json.dumps(asdict(self), indent=1) + "\n"


def beside(engine: Path) -> Path:
    """Return where the facts of an engine stand."""
    return engine.with_name(f"{engine.name}.json")


def facts_of(built: Built, library: Library, targets: tuple[str, ...], made: Report) -> EngineFacts:
    """Return what is to be written beside an engine."""
    from bnfuse import __version__

    return EngineFacts(
        __version__,
        library.name,
        library.version,
        targets,
        hashlib.sha256(built.engine).hexdigest(),
        built.graph_sha256,
        built.layers,
        built.inputs,
        built.outputs,
        replace(made, check_seconds=None).to_dict(),
    )


def read_facts(engine: Path) -> EngineFacts:
    """Return the facts of an engine.

    Raises:
        RequestError: There is no engine, or no readable file beside it, or the two are not of one
            export.
    """
    if not engine.is_file():
        raise RequestError(f"there is no file {engine}: check the path.")
    path = beside(engine)
    try:
        known = json.loads(path.read_text())
        known = {field.name: known[field.name] for field in fields(EngineFacts)}
        for which in ("inputs", "outputs"):
            known[which] = tuple(_as_port(entry) for entry in known[which])
        known["compute_capabilities"] = tuple(known["compute_capabilities"])
        facts = EngineFacts(**known)
    except FileNotFoundError as error:
        raise RequestError(
            f"{engine} has no {path.name} beside it, which says what can load it: copy both files "
            "that bnfuse.export_tensorrt wrote."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{path} cannot be read ({type(error).__name__}: {error}): export the engine again."
        ) from error
    if hashlib.sha256(engine.read_bytes()).hexdigest() != facts.sha256:
        raise RequestError(
            f"{engine} is not the engine that {path.name} was written for: copy both files of one "
            "export, or export again."
        )
    return facts


def check_loadable(facts: EngineFacts, library: Library, engine: Path) -> None:
    """Refuse an engine that this machine cannot run.

    Raises:
        ExportError: It was built by another version, or for other GPUs, or there is no GPU.
    """
    if facts.version != library.version:
        raise ExportError(
            f"{engine} was built by {facts.library} {facts.version} and {library.version} is "
            f"installed: build it again, or pip install {facts.library.replace('_', '-')}"
            f"=={facts.version}."
        )
    if not torch.cuda.is_available():
        raise ExportError(
            f"{engine} cannot be loaded without an NVIDIA GPU and its driver: run it on a machine "
            "that has them."
        )
    here = capability_here()
    if here not in facts.compute_capabilities:
        raise ExportError(
            f"{engine} was built for compute capability {', '.join(facts.compute_capabilities)} "
            f"and this GPU has {here}: build it again with compute_capabilities=('{here}',) or on "
            "this machine."
        )


def _as_port(entry: dict[str, Any]) -> Port:
    """Return a port as it was before it was made JSON."""
    made: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    return Port(**made)
