"""Options that cannot be, refused before any work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from bnfuse.errors import RequestError
from bnfuse.export.options import ExportOptions, OnnxOptions

NEWEST = 25


@pytest.mark.parametrize(
    ("options", "path", "is_given", "wanted"),
    [
        ({}, "net.pt", False, "net.pt does not end in .onnx: name the file like net.onnx."),
        (
            {"dtype": "half"},
            "net.onnx",
            False,
            "dtype is 'half': pass torch.float16 or torch.bfloat16, or none.",
        ),
        (
            {"dtype": torch.float16},
            "net.onnx",
            True,
            (
                "the model is optimized already, and dtype=torch.float16 would round it twice: "
                "pass the unfused model, or what bnfuse.optimize(model, dtype=torch.float16) "
                "returns, without dtype."
            ),
        ),
    ],
)
def test_what_no_file_can_have(
    options: dict[str, Any], path: str, is_given: bool, wanted: str
) -> None:
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        ExportOptions(**options).check(Path(path), ".onnx", is_given=is_given)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"external_data": "always"}, "external_data is 'always': pass True, False or 'auto'."),
        ({"opset_version": 6}, "opset_version is 6: the onnx that is installed has 7 to 25."),
        ({"opset_version": 26}, "opset_version is 26: the onnx that is installed has 7 to 25."),
        ({"input_names": "x"}, "input_names takes a sequence: write input_names=('x',)."),
        ({"output_names": "y"}, "output_names takes a sequence: write output_names=('y',)."),
    ],
)
def test_what_no_onnx_file_can_have(options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        OnnxOptions(**options).check_onnx(NEWEST)


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_what_can_be(dtype: torch.dtype | None) -> None:
    OnnxOptions(dtype=dtype).check(Path("net.onnx"), ".onnx", is_given=False)
    OnnxOptions(opset_version=7, external_data=True, input_names=["x"]).check_onnx(NEWEST)
    OnnxOptions(opset_version=NEWEST, external_data=False).check_onnx(NEWEST)


@pytest.mark.parametrize("is_too_large", [True, False])
def test_where_the_weights_go(is_too_large: bool) -> None:
    assert OnnxOptions().puts_outside(is_too_large) is is_too_large
    assert OnnxOptions(external_data=True).puts_outside(is_too_large) is True
    assert OnnxOptions(external_data=False).puts_outside(is_too_large) is False
