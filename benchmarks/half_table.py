"""The tables of the benchmark of half precision: ratios of errors, and the folds that were made."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from rich.table import Table

SETTINGS = ("converted", "stored")
DTYPES = ("float16", "bfloat16")
CANDIDATES = ("bnfuse", "with_example", "torch_fx")
ASKED = {"converted": (0.90, 1.15), "stored": (1.20, 1.50)}
"""The geometric mean of the ratios, and the worst of them, that each setting is to reach."""
FOLDS = 0.95
"""The part of the folds in float32 that are to be made."""


def ratio(row: dict[str, Any], candidate: str = "bnfuse") -> float | None:
    """Return a candidate's error over the unfused model's, None where either is not finite."""
    if row["unfused"] is None or row[candidate] is None:
        return None
    return float(row[candidate] / row["unfused"])


def geometric_mean(ratios: list[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(math.log(one) for one in ratios) / len(ratios))


def totals(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each setting and dtype: mean and worst ratio of each, and the folds made."""
    table = Table("setting", "dtype", "models", *CANDIDATES, "folds", "of", "", box=None)
    for setting, label in product(SETTINGS, (*DTYPES, "both")):
        own = [r for r in rows if r["setting"] == setting and label in (r["dtype"], "both")]
        if not (ratios := ratios_of(own, "bnfuse")):
            continue
        made, single = (sum(row[key] for row in own) for key in ("folds", "folds_in_float32"))
        mean, worst = ASKED[setting]
        reached = geometric_mean(ratios) <= mean and max(ratios) <= worst and made >= FOLDS * single
        table.add_row(
            setting,
            label,
            str(len(ratios)),
            *(summary(ratios_of(own, candidate)) for candidate in CANDIDATES),
            str(made),
            str(single),
            "" if reached else "missed",
        )
    return table


def ratios_of(rows: list[dict[str, Any]], candidate: str) -> list[float]:
    """Return the ratios that there are."""
    return [one for row in rows if (one := ratio(row, candidate)) is not None]


def summary(ratios: list[float]) -> str:
    """Return geometric mean and worst."""
    return f"{geometric_mean(ratios):.2f}, {max(ratios):.2f}" if ratios else "-"


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each model: the ratios of all candidates in each setting and dtype."""
    cases = list(product(SETTINGS, DTYPES))
    table = Table("model", "input", "spread", *(" ".join(case) for case in cases), box=None)
    for name in dict.fromkeys(row["model"] for row in rows):
        own = {(row["setting"], row["dtype"]): row for row in rows if row["model"] == name}
        first = next(iter(own.values()))
        cells = [in_words(own[case]) if case in own else "" for case in cases]
        table.add_row(name, str(first["input"][-1]), f"{first['spread']:.2%}", *cells)
    return table


def in_words(row: dict[str, Any]) -> str:
    """Return the ratios of a row."""
    ratios = [ratio(row, candidate) for candidate in CANDIDATES]
    return " / ".join("-" if one is None else f"{one:.2f}" for one in ratios)
