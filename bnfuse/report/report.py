"""The report: a row for each batch-norm call site, in exactly one of folded, merged and kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from bnfuse.errors import RequestError

ATTRIBUTE = "_bnfuse_report"


@dataclass(frozen=True, slots=True)
class Row:
    """What happened at one call site.

    Attributes:
        name: The qualified name of the layer.
        site: The name of the call site in the graph; a layer called twice has two.
        into: The layer that does its work now, or None.
        by: The pass that did it, or None.
        error: The largest relative error of the rewrite measured in float64, or None where it was
            not measured.
        reason: The reason code for a call site that was kept, else None.
        why: The reason as a sentence, else empty.
        remedy: What the user could do, else empty.
    """

    name: str
    site: str
    into: str | None = None
    by: str | None = None
    error: float | None = None
    reason: str | None = None
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What happened to every batch norm of a model.

    Attributes:
        model: The class name of the model.
        folded: Call sites folded into the weights of another layer.
        merged: Call sites merged with parallel branches into one layer.
        fused: Layers fused into one kernel call with what follows them.
        kept: Call sites left as they were, each with its reason.
        undone: Rewrites, of batch norms or of anything else, that failed their check and are not
            in the model: the layer or the operation, the pass and how it showed.
        name_map: For each folded layer, the name of the layer that does its work now.
        extra_bytes: Bytes of weights added because a shared layer got copies for its call sites.
        check_seconds: How long it took to check each rewrite, or None where that was switched off.
    """

    model: str
    folded: tuple[Row, ...] = ()
    merged: tuple[Row, ...] = ()
    fused: tuple[Row, ...] = ()
    kept: tuple[Row, ...] = ()
    undone: tuple[Row, ...] = ()
    name_map: dict[str, str] = field(default_factory=dict)
    extra_bytes: int = 0
    check_seconds: float | None = field(default=None, compare=False)

    @property
    def total(self) -> int:
        """How many batch-norm call sites the model has."""
        return len(self.folded) + len(self.merged) + len(self.kept)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain dictionaries, lists and strings, ready for JSON."""
        return asdict(
            self,
            dict_factory=lambda pairs: {
                k: list(v) if isinstance(v, tuple) else v for k, v in pairs
            },
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        """Return the report that ``to_dict`` made the dictionary of."""
        lists = ("folded", "merged", "fused", "kept", "undone")
        rows = {name: tuple(Row(**row) for row in data[name]) for name in lists}
        return cls(**{**data, **rows})

    def __str__(self) -> str:
        from bnfuse.report.render import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from bnfuse.report.render import as_html

        return as_html(self)


def attach(model: nn.Module, made: Report) -> None:
    """Put a report on an optimized model; it travels with copy, pickle and ``.to``."""
    model.__dict__[ATTRIBUTE] = made


def report(model: nn.Module) -> Report:
    """Return what happened to every batch norm of an optimized model.

    Args:
        model: What ``bnfuse.optimize`` returned.

    Raises:
        RequestError: The model was not made by ``bnfuse.optimize``.
    """
    found = getattr(model, "__dict__", {}).get(ATTRIBUTE)
    if not isinstance(found, Report):
        raise RequestError(
            f"{type(model).__name__} carries no report, it was not made by bnfuse.optimize: "
            "call bnfuse.explain(model) to see what could be done."
        )
    return found
