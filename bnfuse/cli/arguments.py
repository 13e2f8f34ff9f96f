"""What the commands of ``bnfuse`` are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="torchvision:resnet50, timm:levit_128s, a file net.onnx or net.pt2, or "
        "package.module:factory, a function called without arguments that returns a module, or a "
        "module and a tuple of example inputs; it is looked for in the current folder too.",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A file that torch.save, or safetensors, wrote from the model's state_dict. Without "
        "it models of torchvision and timm have random weights and statistics, a factory's model "
        "its own.",
        show_default=False,
    ),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="SHAPE",
        help="The shape of an input, like 1x3x224x224; once for each input. Without it the "
        "inputs are the factory's, or of the sizes that the file or the model's package gives, "
        "or else 1x3x224x224.",
        show_default=False,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A layer to leave alone, with all in it, or a pattern, like layer4 or "
        "'*.downsample.*'; as often as needed. Without it none is.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where to run: cpu, cuda or cuda:1. Without it on a GPU that can be used, else on "
        "the CPU.",
        show_default=False,
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Load a .pt2 file as MODEL though it can run code while it is loaded, because you "
        "trust it. Without it such a file is refused.",
    ),
]
ExportedFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE",
        help="An exported .onnx, .pt2 or .engine file; without one the optimized model itself is "
        "compared.",
        show_default=False,
    ),
]
OnnxFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE.onnx",
        help="An exported .onnx file to time in ONNX Runtime; without one the model is optimized "
        "and exported for it.",
        show_default=False,
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="About how many seconds to measure latency, preparation apart.",
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="The file to write, of the kind that its name ends in: net.onnx, net.pt2 (an archive "
        "of torch.export) or net.engine (TensorRT). One that is there is replaced, unless it is "
        "read.",
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="A JSON file to write with all times in ms. Without it only the table is printed.",
        show_default=False,
    ),
]
PerLayer = Annotated[
    bool,
    typer.Option(
        "--per-layer",
        help="Show where the error grows, layer by layer; for the optimized model, not a FILE.",
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="With --per-layer, a picture of that to write: layers.png, .svg or .pdf.",
        show_default=False,
    ),
]
