"""Every error a user of bnfuse can meet; each message states the facts, the name and the remedy."""

from __future__ import annotations


class BnfuseError(Exception):
    """Base class of all errors raised by bnfuse."""


class RequestError(BnfuseError):
    """The request itself cannot be served: not a module, in training mode, an unknown name."""


class AssumptionError(BnfuseError):
    """An optimized graph was called in a way it was not captured for."""

    def __init__(self, message: str, site: str = "") -> None:
        super().__init__(message)
        self.site = site  # the batch norm whose fold does not stand for the call

    def __reduce__(self) -> tuple[type[AssumptionError], tuple[str, str]]:
        """Pickle with both arguments."""
        return type(self), (str(self), self.site)


class VerificationError(BnfuseError):
    """An optimized model does not compute what the unfused model computes."""


class ExportError(BnfuseError):
    """A file could not be written, or what was written is not right."""


class MissingDependencyError(BnfuseError):
    """An optional package is needed and not installed."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, empty where it has none."""
    return (str(error).strip().splitlines() or [""])[0]
