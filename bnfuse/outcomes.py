"""What an attempt reports beside its folds: what was undone, and what earlier attempts did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnfuse.capture import copy_model
from bnfuse.errors import RequestError
from bnfuse.graph.part import part_forward
from bnfuse.report.inventory import Inventory, summed
from bnfuse.report.reasons import decline
from bnfuse.report.report import Row, attach, report

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bnfuse.regions import RewriteKey
    from bnfuse.report import Report


def undone_row(key: RewriteKey, why: str) -> Row:
    """Return the row of a rewrite that was left out."""
    name = f"{key.part}.{key.site}" if key.part else key.site
    reason = decline("check-failed", name, why)
    return Row(name, name, by=key.by, reason=reason.code, why=reason.why, remedy=reason.remedy)


def unfused(model: nn.Module, dtype: torch.dtype | None, why: str) -> nn.Module:
    """Return a copy of the model with nothing done, since doing it went wrong."""
    plain = copy_model(model).model.to(dtype)
    kept = Inventory.of_modules(plain).all_kept("check-failed", why)
    attach(plain, summed(type(model).__name__, [kept], None))
    return plain


def previous_report(model: nn.Module) -> Report | None:
    """Return the report of an earlier optimization, kept call sites only where none looks again."""
    try:
        previous = report(model)
    except RequestError:
        return None
    parts = [name for name, module in model.named_modules() if part_forward(module)]
    kept = (
        row
        for row in previous.kept
        if any(not part or f"{row.name}.".startswith(f"{part}.") for part in parts)
    )
    return replace(previous, kept=tuple(kept))
