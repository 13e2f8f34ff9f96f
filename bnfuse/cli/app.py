"""The commands of ``bnfuse``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from bnfuse.bench import benchmark
from bnfuse.bench.benchmark import check_file
from bnfuse.cli import demo as demo_command
from bnfuse.cli.arguments import (
    AllowPickle,
    Device,
    ExportedFile,
    Json,
    JsonFile,
    Model,
    OnnxFile,
    Output,
    PerLayer,
    Plot,
    Seconds,
    Shapes,
    Skip,
    Weights,
)
from bnfuse.cli.doctor import diagnose
from bnfuse.cli.group import EXIT_CODES, Commands, show_version
from bnfuse.cli.terminal import OUT, error, note, progress, stage
from bnfuse.cli.writing import check_name, check_not_imported, check_not_read, written
from bnfuse.errors import BnfuseError, RequestError
from bnfuse.export.atomic import atomic_file
from bnfuse.export.stored_report import read_report
from bnfuse.optimizer import explain as explain_model
from bnfuse.optimizer import optimize as optimize_model
from bnfuse.report.render import as_table
from bnfuse.validation import verify as verify_model
from bnfuse.validation.obstacle import obstacle
from bnfuse.validation.plotting import format_of
from bnfuse.zoo import LoadedModel, load_model

app = typer.Typer(
    cls=Commands,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fold batch norms into the layers around them, check the result, export it, time it.",
)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def demo(
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The ONNX file to write, of some 100 MB."
        ),
    ] = Path("resnet50.onnx"),
    seconds: Seconds = 15.0,
) -> None:
    """Fold, check, export and time torchvision's ResNet-50; needs no download."""
    demo_command.run(output, seconds)


@app.command()
def explain(
    model: Model,
    weights: Weights = None,
    shape: Shapes = None,
    allow_pickle: AllowPickle = False,
    skip: Skip = None,
    as_json: Json = False,
) -> None:
    """Say what happens to each batch norm of a model, and why, without changing anything."""
    loaded = _load(model, weights, shape, allow_pickle)
    with stage("Optimizing"):
        made = explain_model(loaded.model, _example_of(loaded), skip=skip or ())
    OUT.print_json(data=made.to_dict()) if as_json else OUT.print(as_table(made))


@app.command()
def optimize(
    model: Model,
    output: Output,
    weights: Weights = None,
    shape: Shapes = None,
    allow_pickle: AllowPickle = False,
    skip: Skip = None,
) -> None:
    """Fold a model's batch norms and write it to a file that was run and compared."""
    check_name(output)
    check_not_read(output, {"MODEL": model, "--weights": weights})
    loaded = _load(model, weights, shape, allow_pickle)
    check_not_imported(output)
    with stage("Optimizing, exporting and comparing"):
        done = written(loaded, output, skip or ())
    OUT.print(as_table(done.report, limit=20))
    if done.verification:
        OUT.print(done.verification.headline, markup=False, soft_wrap=True)
    if unchecked := getattr(done, "note", ""):
        OUT.print(unchecked, markup=False, soft_wrap=True)
    OUT.print(f"Wrote {output}.", markup=False, soft_wrap=True)


@app.command()
def verify(
    model: Model,
    file: ExportedFile = None,
    weights: Weights = None,
    shape: Shapes = None,
    allow_pickle: AllowPickle = False,
    device: Device = None,
    per_layer: PerLayer = False,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Compare an exported file, or the optimized model, with the unfused model in float64."""
    if plot is not None and not per_layer:
        raise RequestError("--plot draws the layers' errors: ask for them with --per-layer.")
    if plot is not None:
        format_of(plot)  # a suffix without a format is known before any comparing
        check_not_read(plot, {"MODEL": model, "FILE": file, "--weights": weights}, "--plot")
    loaded = _load(model, weights, shape, allow_pickle)
    if plot is not None:
        check_not_imported(plot, "--plot")
    with stage("Comparing"):
        candidate = file if file is not None else optimize_model(loaded.model)
        outcome = verify_model(
            loaded.model, candidate, loaded.example_inputs, device=device, per_layer=per_layer
        )
    if as_json:
        OUT.print_json(data=outcome.to_dict())
    else:
        OUT.print(str(outcome), markup=False, soft_wrap=True)
    if plot is not None:
        outcome.plot(plot)
        note(f"Wrote {plot}.")
    raise typer.Exit(0 if outcome.passed else 1)


@app.command()
def bench(
    model: Model,
    file: OnnxFile = None,
    weights: Weights = None,
    shape: Shapes = None,
    allow_pickle: AllowPickle = False,
    device: Device = None,
    seconds: Seconds = 10.0,
    output: JsonFile = None,
) -> None:
    """Time a model as it is, optimized, and in ONNX Runtime, in alternating blocks of calls."""
    if file is not None:
        check_file(file)
    if output is not None:
        check_not_read(output, {"MODEL": model, "FILE": file, "--weights": weights})
    loaded = _load(model, weights, shape, allow_pickle)
    if output is not None:
        check_not_imported(output)
    with ExitStack() as stack:
        # An unwritable path is known before any measuring.
        target = stack.enter_context(atomic_file(output)) if output is not None else None
        with progress("Measuring") as move:
            result = benchmark(
                loaded.model,
                loaded.example_inputs,
                seconds=seconds,
                onnx=file,
                device=device,
                on_progress=move,
            )
        if target is not None:
            target.write_text(json.dumps(result.to_dict(), indent=1) + "\n")
    OUT.print(str(result), markup=False, highlight=False, soft_wrap=True)


@app.command()
def report(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An .onnx or .pt2 file that bnfuse wrote.")
    ],
    as_json: Json = False,
) -> None:
    """Print the report that an exported file carries."""
    made = read_report(file)
    OUT.print_json(data=made.to_dict()) if as_json else OUT.print(as_table(made))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Print versions, devices and providers, and how to mend what is missing or in conflict."""
    found = diagnose()
    OUT.print_json(data=found.to_dict()) if as_json else OUT.print(found.as_table())
    raise typer.Exit(1 if found.conflicts else 0)


def _load(
    model: str, weights: Path | None, shapes: list[str] | None, allow_pickle: bool
) -> LoadedModel:
    """Make the model named on the command line, and say so if its weights are random."""
    with stage(f"Loading {model}"):
        loaded = load_model(model, weights, shapes or (), allow_pickle=allow_pickle)
    if loaded.is_random:
        note("Weights and batch-norm statistics are random; --weights FILE loads trained ones.")
    return loaded


def _example_of(loaded: LoadedModel) -> tuple[Any, ...] | None:
    """Return the inputs to explain a model with; it needs none, so a wrong guess is left out."""
    if not loaded.is_guessed or not obstacle(loaded.model, (loaded.example_inputs, {})):
        return loaded.example_inputs
    note("The model takes no 1x3x224x224, so no inputs are used; --input SHAPE gives them.")
    return None


def main() -> None:
    """Run the command line; errors are one sentence on stderr and exit code 1."""
    try:
        app()
    except BnfuseError as problem:
        error(str(problem))
        raise SystemExit(1) from None
