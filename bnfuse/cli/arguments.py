"""What the commands of ``bnfuse`` are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="torchvision:resnet50, timm:levit_128s, net.onnx, net.pt2, or package.module:factory, "
        "a function without arguments that returns a module, or a module and a tuple of example "
        "inputs.",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="A file with the model's state_dict.", show_default=False),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="SHAPE",
        help="The shape of an input, like 1x3x224x224; once for each input.",
        show_default=False,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A layer, or a pattern, to leave alone.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Device = Annotated[
    str | None,
    typer.Option(help="cpu or cuda; cuda where there is one.", show_default=False),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Load a .pt2 file that can run code while it is loaded, because you trust it.",
    ),
]
ExportedFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE",
        help="An exported .onnx or .pt2 file; without one the optimized model itself is meant.",
        show_default=False,
    ),
]
OnnxFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE.onnx",
        help="An exported file; without one the optimized model itself is meant.",
        show_default=False,
    ),
]
