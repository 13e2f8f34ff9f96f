"""What a benchmark measured."""

from __future__ import annotations

import io
import statistics
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Timing:
    """The latency of one candidate.

    Attributes:
        name: What ran.
        blocks: Milliseconds of each call, in blocks of consecutive calls.
        note: What to know about it, or why it could not run.
    """

    name: str
    blocks: tuple[tuple[float, ...], ...] = ()
    note: str = ""

    @property
    def median(self) -> float:
        """The median of all calls in milliseconds."""
        return statistics.median(self.calls)

    @property
    def calls(self) -> list[float]:
        """Milliseconds of every call."""
        return [call for block in self.blocks for call in block]

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and the 90th percentile of all calls in milliseconds."""
        tenths = statistics.quantiles(self.calls, n=10, method="inclusive")
        return tenths[0], tenths[-1]

    def ratio_to(self, base: Timing) -> float:
        """Return the median, over the rounds, of this block's median divided by the base's."""
        pairs = zip(self.blocks, base.blocks, strict=True)
        return statistics.median(
            statistics.median(mine) / statistics.median(theirs) for mine, theirs in pairs
        )


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Latencies side by side; the first timing is what the others are compared with.

    Attributes:
        model: The class name of the model.
        environment: Versions, device and threads.
        timings: One for each candidate that ran.
        left_out: Candidates that could not run, each with the reason as its note.
    """

    model: str
    environment: dict[str, str]
    timings: tuple[Timing, ...]
    left_out: tuple[Timing, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the benchmark as plain data, ready for JSON, without the single calls."""
        rows = [
            {
                "name": t.name,
                "median_ms": t.median,
                "p10_ms": t.spread[0],
                "p90_ms": t.spread[1],
                "calls": len(t.calls),
                "ratio": t.ratio_to(self.timings[0]),
                "note": t.note,
            }
            for t in self.timings
        ]
        left_out = [{"name": t.name, "note": t.note} for t in self.left_out]
        return {
            "model": self.model,
            "environment": self.environment,
            "rows": rows,
            "left_out": left_out,
        }

    def as_table(self) -> Table:
        """Return a row for each candidate, for a rich console."""
        base = self.timings[0].name
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("")
        for column in ("median", "10th to 90th percentile", f"time against {base}"):
            table.add_column(column, justify="right")
        table.add_column("")
        for t in self.timings:
            low, high = t.spread
            ratio = f"{t.ratio_to(self.timings[0]):.2f}"
            figures = (f"{_shown(t.median)} ms", f"{_shown(low)} to {_shown(high)}", ratio)
            table.add_row(Text(t.name), *figures, Text(t.note))
        for t in self.left_out:
            table.add_row(Text(t.name), "-", "-", "-", Text(t.note))
        return table

    def __str__(self) -> str:
        stream = io.StringIO()
        console = Console(file=stream, width=110, color_system=None, force_jupyter=False)
        console.print(self.as_table())
        facts = ", ".join(f"{key} {value}" for key, value in self.environment.items())
        console.print(Text(facts))
        return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def _shown(milliseconds: float) -> str:
    """Return a time with two decimals, or with two digits where those would show nothing.

    >>> _shown(12.345), _shown(0.01234)
    ('12.35', '0.012')
    """
    return f"{milliseconds:.2f}" if milliseconds >= 0.1 else f"{milliseconds:.2g}"
