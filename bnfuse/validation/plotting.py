"""The deviations of layers as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfuse.errors import RequestError
from bnfuse.export.atomic import atomic_file
from bnfuse.extras import require

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.validation.result import LayerError, Verification

_MOST_LABELS = 40
_COLOURS = {"candidate": "tab:blue", "own": "tab:gray", "allowed": "tab:orange", "wrong": "tab:red"}


def plot_layers(found: Verification, path: Path) -> Path:
    """Draw the deviation of each layer relative to its largest value, on a logarithmic scale.

    Nothing of the caller's matplotlib is touched: no window, no current figure, no style.

    Args:
        found: What a verification with ``per_layer=True`` found.
        path: The file to write; its suffix says in which format.

    Raises:
        RequestError: There are no rows of layers, or matplotlib does not know the suffix.
        ExportError: The file cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    if not found.layers:
        raise RequestError("there are no layers to draw: call bnfuse.verify with per_layer=True.")
    kind = format_of(path)
    figures = require("matplotlib.figure", "to draw layers")
    figure = figures.Figure(figsize=(max(7.0, 0.16 * len(found.layers)), 4.8), layout="constrained")
    _draw(figure.add_subplot(), found)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)
    return path


def format_of(path: Path) -> str:
    """Return the format that the suffix of a picture stands for.

    Raises:
        RequestError: matplotlib does not know it.
        MissingDependencyError: matplotlib is not installed.
    """
    known = require("matplotlib.figure", "to draw layers").Figure().canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if kind not in known:
        raise RequestError(
            f"matplotlib does not know the suffix of {str(path)!r}: "
            "name a file that ends in .png, .svg or .pdf."
        )
    return kind


def _draw(axes: Any, found: Verification) -> None:
    """Draw three lines, and a mark on each layer that is wrong."""
    rows = found.layers
    places = range(len(rows))
    lines = {
        found.candidate: ([_relative(r, r.max_abs_error) for r in rows], "candidate", "o-"),
        "unfused model itself": ([_relative(r, r.own_error) for r in rows], "own", ".-"),
        "allowed": ([_relative(r, r.tolerance) for r in rows], "allowed", "--"),
    }
    for label, (values, colour, style) in lines.items():
        axes.plot(places, values, style, ms=3, lw=1, label=label, color=_COLOURS[colour])
    wrong = [n for n, row in enumerate(rows) if not row.passed]
    if wrong:
        values = [_relative(rows[n], rows[n].max_abs_error) for n in wrong]
        axes.plot(wrong, values, "o", ms=5, label="too large", color=_COLOURS["wrong"])
    step = -(-len(rows) // _MOST_LABELS)
    shown = places[::step]
    axes.set_xticks(shown, [rows[n].name for n in shown], rotation=90, fontsize=7)
    axes.set_yscale("log")
    axes.set_ylabel("largest error / largest value")
    axes.set_title(f"{found.candidate} against the {found.reference}, {found.device}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _relative(row: LayerError, error: float) -> float | None:
    """Return an error relative to the layer's largest value; None, a gap, where it is 0."""
    return error / row.scale if row.scale and error else None
