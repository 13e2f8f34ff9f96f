"""What a verification found."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bnfuse.errors import VerificationError

if TYPE_CHECKING:
    import os


@dataclass(frozen=True, slots=True)
class OutputError:
    """The largest deviation of one output over all input sets.

    Attributes:
        name: Where the tensor stands in the outputs: ``[0]``, ``['out']``.
        max_abs_error: Largest absolute deviation from the reference.
        scale: Largest absolute value of the reference.
        own_error: Largest deviation of the unfused model itself, in the candidate's dtype.
        tolerance: What ``max_abs_error`` may be.
        complaint: What is wrong apart from the values: shape, dtype, not finite; else empty.
    """

    name: str
    max_abs_error: float
    scale: float
    own_error: float
    tolerance: float
    complaint: str = ""

    @property
    def passed(self) -> bool:
        """Whether the output is right."""
        return not self.complaint and self.max_abs_error <= self.tolerance

    @property
    def max_rel_error(self) -> float:
        """The largest absolute deviation divided by the largest absolute value."""
        return self.max_abs_error / self.scale if self.scale else self.max_abs_error


@dataclass(frozen=True, slots=True)
class LayerError:
    """The largest deviation of what one call of a layer computes, over all input sets.

    Attributes:
        name: The layer of the candidate, and which call where there are several.
        counterpart: The layer of the unfused model that computes the same.
        max_abs_error: Largest absolute deviation from the reference.
        scale: Largest absolute value of the reference.
        own_error: Largest deviation of the unfused model itself, in the candidate's dtype.
        tolerance: What ``max_abs_error`` may be, as for outputs.
    """

    name: str
    counterpart: str
    max_abs_error: float
    scale: float
    own_error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the value is right."""
        return self.max_abs_error <= self.tolerance

    @property
    def ratio(self) -> float:
        """The deviation as a multiple of the unfused model's own; infinite where that is 0."""
        if self.own_error:
            return self.max_abs_error / self.own_error
        return math.inf if self.max_abs_error else 0.0


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of comparing a candidate with the unfused model.

    Attributes:
        candidate: What was checked: a class name, a file name.
        reference: What it was compared with.
        device: Where both ran, such as ``cuda`` or ``cpu``, with the runtime's provider.
        input_sets: How many sets of inputs were run.
        outputs: A row for each output tensor.
        layers: A row for each call of a layer, in order, where they were asked for.
        left_out: How many values of the unfused model's layers are in no row, most of them because
            the candidate does not compute them any more.
    """

    candidate: str
    reference: str
    device: str
    input_sets: int
    outputs: tuple[OutputError, ...]
    layers: tuple[LayerError, ...] = ()
    left_out: int = 0

    @property
    def passed(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(output.passed for output in self.outputs)

    @property
    def max_abs_error(self) -> float:
        """The largest absolute deviation of any output."""
        return max((output.max_abs_error for output in self.outputs), default=0.0)

    @property
    def max_rel_error(self) -> float:
        """The largest deviation of any output relative to that output's largest value."""
        return max((output.max_rel_error for output in self.outputs), default=0.0)

    @property
    def first_wrong(self) -> LayerError | None:
        """The first layer whose deviation is larger than allowed, where the outputs are wrong."""
        return None if self.passed else next((r for r in self.layers if not r.passed), None)

    @property
    def headline(self) -> str:
        """The outcome in one clause."""
        verdict = "equal" if self.passed else "NOT equal"
        text = (
            f"{self.candidate} is {verdict} to the {self.reference} on {self.device}, "
            f"largest relative error {self.max_rel_error:.2g} over {self.input_sets} input sets"
        )
        complaints = [f"{o.name}: {o.complaint}" for o in self.outputs if o.complaint]
        wrong = self.first_wrong
        where = [f"the first layer that is wrong is {wrong.name}"] if wrong else []
        return "; ".join([text, *complaints, *where])

    def raise_if_failed(self) -> Verification:
        """Return the verification itself if it passed.

        Raises:
            VerificationError: It did not.
        """
        if not self.passed:
            worst = [o for o in self.outputs if not o.passed]
            facts = ", ".join(
                o.complaint or f"{o.name} errs {o.max_abs_error:.3g}, allowed {o.tolerance:.3g}"
                for o in worst
            )
            raise VerificationError(
                f"{self.candidate} is not equal to the {self.reference}: {facts}; "
                "do not deploy it, and please report the model."
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the verification as plain data, ready for JSON."""
        outputs = [
            {**asdict(o), "max_rel_error": o.max_rel_error, "passed": o.passed}
            for o in self.outputs
        ]
        made: dict[str, Any] = {
            "candidate": self.candidate,
            "reference": self.reference,
            "device": self.device,
            "input_sets": self.input_sets,
            "passed": self.passed,
            "outputs": outputs,
        }
        if self.layers:
            rows = [{**asdict(row), "passed": row.passed} for row in self.layers]
            made |= {"layers": rows, "left_out": self.left_out}
        return made

    def as_table(self) -> Table:
        """Return a row for each output, for a rich console."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("output", "error", "relative", "unfused model's own", "allowed", ""):
            table.add_column(column)
        for o in self.outputs:
            figures = (o.max_abs_error, o.max_rel_error, o.own_error, o.tolerance)
            verdict = "ok" if o.passed else (o.complaint or "too large")
            table.add_row(o.name, *(f"{figure:.2e}" for figure in figures), verdict)
        return table

    def layer_table(self) -> Table:
        """Return a row for each call of a layer, for a rich console."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("layer", "held against", "error", "unfused model's own", "ratio", ""):
            table.add_column(column, overflow="fold")
        for row in self.layers:
            held = "" if row.counterpart == row.name else row.counterpart
            figures = f"{row.max_abs_error:.2e}", f"{row.own_error:.2e}", f"{row.ratio:.2g}"
            table.add_row(row.name, held, *figures, "ok" if row.passed else "too large")
        return table

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw the deviation of each layer, with the unfused model's own, and return the path.

        Args:
            path: The file to write, in the format of its suffix: ``.png``, ``.svg``, ``.pdf``. It
                is written whole or not at all.

        Raises:
            RequestError: There are no rows of layers, or the suffix is none that matplotlib knows.
            ExportError: The file cannot be written.
            MissingDependencyError: matplotlib is not installed.
        """
        from bnfuse.validation.plotting import plot_layers

        return plot_layers(self, Path(path))

    def __str__(self) -> str:
        stream = io.StringIO()
        console = Console(file=stream, width=110, no_color=True)
        console.print(self.headline)
        console.print(self.as_table())
        if self.layers:
            console.print(self.layer_table())
            console.print(
                f"{self.left_out} values of the unfused model's layers have no counterpart"
            )
        return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())
