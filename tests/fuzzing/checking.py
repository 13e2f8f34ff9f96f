"""Optimize a random model and compare it with itself."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import bnfuse
from bnfuse.validation.inner import largest_inner_value
from bnfuse.validation.runners import ModuleRun
from tests.conformance.compare import Kernels, differences
from tests.fuzzing.program import DTYPES
from tests.fuzzing.recording import recorded_rewrites

if TYPE_CHECKING:
    from bnfuse.report import Report
    from tests.fuzzing.program import Program

BOUND = 1e-9
INVALID = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)
"""What a model raises for inputs that it does not take."""
NORM_STEPS = (
    "batch norm", "instance norm", "sync batch norm", "batch norm function", "container with norm"
)  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """What became of a model.

    Attributes:
        wrong: Every difference, as a sentence that starts with the kind of it.
        report: The report of the optimized model, if it was made.
        calls: How many calls of which kind were compared, and how many were refused.
        rewrites: How many rewrites each pass made, by the label of its turn in the pipeline.
    """

    wrong: list[str] = field(default_factory=list)
    report: Report | None = None
    calls: Counter[str] = field(default_factory=Counter)
    rewrites: Counter[str] = field(default_factory=Counter)

    @property
    def kinds(self) -> set[str]:
        """The kinds of the differences."""
        return {text.split(":")[0] for text in self.wrong}


def call(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, tuple[Tensor, ...]]:
    """Call a model on copies of the inputs, and return its result and what became of them."""
    copies = tuple(x.clone() for x in inputs)  # of the same strides
    with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # torch.fx prints what raised
        return model(*copies), copies


def runs(model: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether a model takes inputs at all."""
    try:
        call(copy.deepcopy(model), inputs)
    except (*INVALID, bnfuse.AssumptionError):
        return False
    return True


def optimized(model: nn.Module, program: Program) -> nn.Module:
    """Return the optimized model, made as the program says."""
    example = program.example_inputs() if program.example else None
    if example is not None and not runs(model, example):
        example = None  # PyTorch has not every operation in half precision: no example of a call
    return bnfuse.optimize(model, example, validate=program.checked)


def check(program: Program, *, twice: bool = True) -> Outcome:
    """Optimize the model of a program, once or twice, and say all that is wrong with the result."""
    outcome = Outcome()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = program.build()
        before = copy.deepcopy(model.state_dict())
        try:
            with recorded_rewrites() as outcome.rewrites:
                fused = optimized(model, program)
        except Exception as error:
            outcome.wrong.append(f"crash: optimize raised {type(error).__name__}: {error}")
            return outcome
        outcome.report = bnfuse.report(fused)
        outcome.wrong += changed(model, before)
        compare_calls(program, model, fused, outcome)
        outcome.wrong += wrong_rows(program, fused, outcome.report)
        if twice and not outcome.wrong:
            check_again(program, fused, outcome.report, outcome)
    return outcome


def changed(model: nn.Module, before: dict[str, Tensor]) -> list[str]:
    """Return which tensors of the model are no longer what they were."""
    after = model.state_dict()
    if list(after) != list(before):
        return ["changed: the keys of the state dict"]
    same = {key: torch.equal(after[key], before[key]) for key in before}
    return [f"changed: {key} of the model" for key, equal in same.items() if not equal]


def compare_calls(program: Program, model: nn.Module, fused: nn.Module, outcome: Outcome) -> None:
    """Compare two models on inputs of the program's shapes, and of others that the model takes."""
    shapes = program.inputs
    for seed in (0, 1):
        compare(program, (model, fused), program.example_inputs(seed), "same shapes", outcome)
    # A graph may stand for the shapes of its example alone, which is no difference.
    batch = tuple((shape[0] + 1, *shape[1:]) for shape in shapes)
    image = tuple((*shape[:2], *(size + 2 for size in shape[2:])) for shape in shapes)
    single = tuple(shape[1:] for shape in shapes)
    for kind, others in (("batch", batch), ("image", image), ("rank", single)):
        compare(program, (model, fused), program.example_inputs(2, others), kind, outcome)
    if program.dtype != "float64":
        return  # convolutions of one channel in float32 go wrong for odd strides in PyTorch itself
    inputs = program.example_inputs(3)
    strided = tuple(x.transpose(0, -1).contiguous().transpose(0, -1) for x in inputs)
    last = tuple(x.movedim(1, -1).contiguous().movedim(-1, 1) for x in inputs)
    compare(program, (model, fused), last if program.seed % 2 else strided, "strides", outcome)


def compare(
    program: Program,
    models: tuple[nn.Module, nn.Module],
    inputs: tuple[Tensor, ...],
    kind: str,
    outcome: Outcome,
) -> None:
    """Compare what two models do with the same inputs."""
    model, fused = models
    try:
        wanted = call(model, inputs)
    except INVALID as error:
        outcome.calls[f"{kind}, invalid"] += 1
        if isinstance(error, AssertionError) and runs(fused, inputs):
            outcome.wrong.append(f"assertion: {kind}: did not raise {error}")
        return
    try:
        got = call(fused, inputs)
    except bnfuse.AssumptionError as error:
        outcome.calls[f"{kind}, refused"] += 1
        if program.example and kind == "same shapes":  # which the model takes
            outcome.wrong.append(f"refused: {error}")
        return
    except Exception as error:
        what = "view" if "view size is not compatible" in str(error) else "call"
        outcome.wrong.append(f"{what}: {kind}: raised {type(error).__name__}: {error}")
        return
    outcome.calls[kind] += 1
    found = differences(wanted, got, BOUND, "output")
    if found and not within_rounding(program, model, inputs, (wanted, got)):
        outcome.wrong.append(f"output: {kind}: {found[0]}")


def within_rounding(
    program: Program, model: nn.Module, inputs: tuple[Tensor, ...], results: tuple[Any, Any]
) -> bool:
    """Whether results differ by what rounding explains: that of the dtype, or of the inputs."""
    wanted, got = results
    if differences(wanted, got, float("inf")):
        return False
    rounded = torch.finfo(DTYPES[program.dtype]).eps
    inner = largest_inner_value(ModuleRun(copy.deepcopy(model)), [(inputs, {})], 0)
    noise = 64 * rounded * inner
    moved = [call(model, tuple(torch.nextafter(x, x + step) for x in inputs)) for step in (1, -1)]
    bound = 16 * max(deviation(other, wanted) for other in moved)
    if program.dtype == "float64":
        return deviation(got, wanted, noise) <= bound
    exact = call(copy.deepcopy(model).double(), tuple(x.double() for x in inputs))
    return deviation(got, exact, noise) <= bound + 16 * deviation(wanted, exact) + 64 * rounded


def deviation(got: Any, wanted: Any, noise: float = 0.0) -> float:
    """Return the largest deviation of all outputs, each relative to its largest element.

    Args:
        got: The outputs of one model.
        wanted: Those of the other.
        noise: Up to which an element may deviate where it is zero as the whole output is.
    """
    errors = [0.0]
    for one, other in zip(leaves(got), leaves(wanted), strict=True):
        off = float((one.double() - other.double()).abs().max()) if other.numel() else 0.0
        scale = float(other.double().abs().max()) if other.numel() else 0.0
        errors.append(0.0 if not scale and off <= noise else off / (scale + 1e-300))
    return max(errors)


def leaves(value: Any) -> list[Tensor]:
    """Return the tensors in a result."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [leaf for part in parts for leaf in leaves(part)]


def wrong_rows(program: Program, fused: nn.Module, report: Report) -> list[str]:
    """Return what is wrong with the report: rows that are missing, doubled, or not true."""
    sites = [row.site for row in (*report.folded, *report.merged, *report.kept)]
    found = []
    found += [f"undone: {row.why}" for row in report.undone]  # those of no norm as well
    if len(sites) != len(set(sites)):
        found.append(f"rows: a site is listed twice in {sites}")
    steps = sum(operation in NORM_STEPS for operation, _ in program.steps)
    if any(row.reason == "not-captured" for row in report.kept):
        return found  # calls of functions in a forward that stays Python are not known
    if len(sites) != steps:
        found.append(f"rows: {len(sites)} rows for {steps} norms")
    try:
        with Kernels() as counted:
            call(fused, program.example_inputs())
    except Exception:
        return found
    if counted.norms > len(report.kept):
        found.append(f"rows: {counted.norms} norms run, {len(report.kept)} are kept")
    return found


def check_again(program: Program, fused: nn.Module, first: Report, outcome: Outcome) -> None:
    """Optimize once more, which has to change no norm and no output."""
    try:
        twice = optimized(fused, program)
        report = bnfuse.report(twice)
    except Exception as error:
        outcome.wrong.append(f"again, crash: optimize raised {type(error).__name__}: {error}")
        return
    counts = [(len(r.folded), len(r.merged), len(r.kept)) for r in (report, first)]
    if counts[0] != counts[1]:
        outcome.wrong.append(f"again, rows: folded, merged, kept {counts[0]}, before {counts[1]}")
    inputs = program.example_inputs()
    if not outcome.calls["same shapes"]:
        return  # refused, or the dtype does not run
    try:
        found = differences(call(fused, inputs), call(twice, inputs), BOUND)
    except Exception as error:
        outcome.wrong.append(f"again, call: raised {type(error).__name__}: {error}")
        return
    if found and program.dtype == "float64":
        outcome.wrong.append(f"again, output: {found[0]}")
