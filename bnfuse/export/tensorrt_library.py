"""The two packages that build TensorRT engines, behind one face.

``tensorrt`` builds for the GPU of the machine it runs on and needs one to build. ``tensorrt_rtx``
builds for families of GPUs and needs none. Their Python interfaces are the same as far as they are
used here.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.errors import ExportError, MissingDependencyError, RequestError, first_line

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL, RTX = "tensorrt", "tensorrt_rtx"
OLDEST_DEFAULT = 80
"""By default engines of ``tensorrt_rtx`` run from compute capability 8.0 on (its manual, "CPU-Only
AOT"); Turing, 7.5, has to be asked for by itself."""


@dataclass(frozen=True, slots=True)
class Library:
    """An installed package that builds and runs engines.

    Attributes:
        name: ``tensorrt`` or ``tensorrt_rtx``.
        module: The package.
    """

    name: str
    module: Any

    @property
    def version(self) -> str:
        """Its version."""
        return str(self.module.__version__)

    @property
    def described(self) -> str:
        """Its name and version."""
        return f"{self.name} {self.version}"

    def targets(self) -> tuple[str, ...]:
        """Return the compute capabilities that it can build for, as in ``8.6``, oldest first."""
        if self.name == FULL:
            return (capability_here(),) if torch.cuda.is_available() else ()
        names = self.module.ComputeCapability.__members__
        numbers = sorted(int(name[2:]) for name in names if name.startswith("SM"))
        return tuple(f"{number // 10}.{number % 10}" for number in numbers)

    def chosen(self, asked: Sequence[Any] | None) -> tuple[str, ...]:
        """Return the compute capabilities to build for.

        Args:
            asked: Each as ``"8.6"`` or ``(8, 6)``; None for all that engines run on by default.

        Raises:
            RequestError: The library does not build for one of them.
        """
        known = self.targets()
        if asked is None:
            return tuple(target for target in known if self.name == FULL or is_default(target))
        if isinstance(asked, str) or not asked:
            raise RequestError(
                f"compute_capabilities is {asked!r}: pass a sequence such as ('8.6', '8.9')."
            )
        wanted = tuple(dict.fromkeys(_as_text(entry) for entry in asked))
        for target in wanted:
            if target not in known:
                raise RequestError(
                    f"{self.described} does not build for compute capability {target}: it does "
                    f"for {', '.join(known) or 'the GPU of a machine that has one'}."
                )
        return wanted


def find_library(*names: str) -> Library:
    """Return the package to build with.

    Where there is a GPU that is ``tensorrt`` if it is installed, else ``tensorrt_rtx``; without a
    GPU the other way round, since ``tensorrt`` cannot build there.

    Args:
        names: The packages that will do, in order; by default as above.

    Raises:
        MissingDependencyError: None of them can be imported.
    """
    order = (FULL, RTX) if torch.cuda.is_available() else (RTX, FULL)
    failures = []
    for name in names or order:
        try:
            return Library(name, importlib.import_module(name))
        except Exception as error:  # a missing driver or library raises anything
            failures.append(f"{name}: {first_line(error) or type(error).__name__}")
    raise MissingDependencyError(
        f"{' or '.join(names or order)} is needed for TensorRT engines and does not import "
        f"({'; '.join(failures)}): pip install 'bnfuse[tensorrt-rtx]', or 'bnfuse[tensorrt]' on a "
        "machine with an NVIDIA GPU."
    )


def capability_here() -> str:
    """Return the compute capability of the GPU in use."""
    major, minor = torch.cuda.get_device_capability()
    return f"{major}.{minor}"


def is_default(target: str) -> bool:
    """Whether engines that name no compute capability run on this one."""
    return int(target.replace(".", "")) >= OLDEST_DEFAULT


def new_log(library: Library) -> Any:
    """Return a logger that keeps errors in ``.errors`` instead of printing them."""
    base = library.module.ILogger

    class Log(base):  # type: ignore[misc, valid-type]  # the packages have no types
        """Keeps what goes wrong."""

        def __init__(self) -> None:
            base.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity.name in ("ERROR", "INTERNAL_ERROR"):
                self.errors.append(message.strip())

        def first(self) -> str:
            """Return the first line of the first error."""
            lines = self.errors[0].splitlines() if self.errors else ["it does not say why"]
            return lines[0].strip()

    return Log()


def new_builder(library: Library, log: Any) -> Any:
    """Return a builder.

    Raises:
        ExportError: The library cannot be used here, most likely for want of a driver.
    """
    try:
        builder = library.module.Builder(log)
    except Exception as error:
        remedy = (
            "it builds on a machine with an NVIDIA GPU and its driver; 'bnfuse[tensorrt-rtx]' "
            "builds without"
            if library.name == FULL
            else "install the version in constraints.txt"
        )
        reason = log.first() if log.errors else f"{type(error).__name__}: {error}"
        raise ExportError(f"{library.described} cannot start ({reason}): {remedy}.") from error
    return builder


def _as_text(entry: Any) -> str:
    text = ".".join(map(str, entry)) if isinstance(entry, tuple) else str(entry)
    digits = text.split(".")
    if len(digits) != 2 or not all(digit.isdigit() for digit in digits):
        raise RequestError(f"compute_capabilities names {entry!r}: write it like '8.6' or (8, 6).")
    return text
