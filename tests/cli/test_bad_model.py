"""Every model that cannot be made: one sentence on stderr, exit code 1, no traceback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cli.support import refused

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.support import Run

FORMS = "torchvision:resnet50, timm:levit_128s, package.module:factory, net.onnx or net.pt2"


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (
            "resnet50",
            "there is no model 'resnet50': did you mean torchvision:resnet50 or timm:resnet50?",
        ),
        ("timm:", f"there is no model 'timm:': write one like {FORMS}."),
        (":resnet50", f"there is no model ':resnet50': write one like {FORMS}."),
        (
            "torchvision:resnet5",
            "torchvision has no model 'resnet5': did you mean resnet50 or resnet152 or resnet34?",
        ),
        ("timm:q~q~q", "timm has no model 'q~q~q': see timm's list of models."),
        (
            "nowhere:model",
            (
                "'nowhere' cannot be imported (ModuleNotFoundError: No module named 'nowhere'): "
                f"write a model like {FORMS}."
            ),
        ),
        (
            "timn:resnet18",
            (
                "'timn' cannot be imported (ModuleNotFoundError: No module named 'timn'): "
                "did you mean timm:resnet18?"
            ),
        ),
        (
            "tinymodels:absent",
            "there is no 'absent' in 'tinymodels': name what is there.",
        ),
        (
            "tinymodels:number",
            (
                "tinymodels:number returned an object of type int: let it return a "
                "torch.nn.Module, or one and a tuple of example inputs."
            ),
        ),
        (
            "tinymodels:three",
            (
                "tinymodels:three returned an object of type tuple: let it return a "
                "torch.nn.Module, or one and a tuple of example inputs."
            ),
        ),
        (
            "tinymodels:failing",
            (
                "the factory tinymodels:failing raised ValueError (it is broken, line 33 of "
                "tinymodels.py): mend it, or name another."
            ),
        ),
        (
            "tinymodels:needing",
            (
                "tinymodels:needing is called without arguments and cannot be (missing a required "
                "argument: 'width'): give all of them defaults, or name a function that needs none."
            ),
        ),
        (
            "tinymodels:training",
            (
                "Stubborn is in training mode, where batch norm uses the statistics of each batch: "
                "call model.eval() first."
            ),
        ),
    ],
)
@pytest.mark.usefixtures("folder")
def test_model(run: Run, tmp_path: Path, spec: str, wanted: str) -> None:
    refused(run, tmp_path, wanted, "optimize", spec, "-o", "net.onnx")


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("broken:model", "mend the module, or install what it needs."),
        ("..relative:model", f"write a model like {FORMS}."),
        ("tinymodels.deeper:model", f"write a model like {FORMS}."),
        ("tinymodels.py:tiny", "did you mean tinymodels:tiny?"),
    ],
)
def test_module_that_does_not_import(run: Run, folder: Path, spec: str, remedy: str) -> None:
    start = re.escape(f"{spec.partition(':')[0]!r} cannot be imported (")
    pattern = rf"{start}\w+: .+\): {re.escape(remedy)}"
    refused(run, folder, pattern, "explain", spec, exact=False)
