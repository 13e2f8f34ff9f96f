"""How a model is to be written: the options of the exporters, and which of them cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_OLDEST_OPSET = 7
"""The oldest version of ONNX's operators that onnxruntime runs."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to write a file of any kind; ``export_onnx`` says more of each.

    Attributes:
        dynamic_batch: Whether to leave the first axis of every input open.
        dynamic_shapes: The sizes to leave open instead.
        dtype: What to round every floating-point tensor to, once; None to keep.
        verify: Whether to run the file and compare.
        skip: Layers to leave alone, as in ``optimize``.
    """

    dynamic_batch: bool = True
    dynamic_shapes: Any = None
    dtype: torch.dtype | None = None
    verify: bool = True
    skip: Sequence[str] = ()

    def check(self, target: Path, suffix: str, *, is_given: bool) -> None:
        """Refuse what cannot be done.

        Args:
            target: Where to write.
            suffix: What its name has to end in.
            is_given: Whether the model is one that was optimized before.

        Raises:
            RequestError: The path or an option is wrong.
        """
        if target.suffix != suffix:
            raise RequestError(
                f"{target} does not end in {suffix}: name the file like net{suffix}."
            )
        if self.dtype is not None and self.dtype not in _DTYPES:
            raise RequestError(
                f"dtype is {self.dtype!r}: pass torch.float16 or torch.bfloat16, or none."
            )
        if self.dtype is not None and is_given:
            raise RequestError(
                f"the model is optimized already, and dtype={self.dtype} would round it twice: "
                f"pass the unfused model, or what bnfuse.optimize(model, dtype={self.dtype}) "
                "returns, without dtype."
            )


@dataclass(frozen=True, slots=True)
class OnnxOptions(ExportOptions):
    """How to write an ONNX file.

    Attributes:
        opset_version: The version of ONNX's operators; None for the exporter's own choice.
        input_names: Names of the inputs; None for those of the forward's parameters.
        output_names: Names of the outputs.
        external_data: Whether the weights stand in a file of their own, or ``"auto"``.
        providers: Execution providers of onnxruntime; None for CUDA where it can be used.
    """

    opset_version: int | None = None
    input_names: Sequence[str] | None = None
    output_names: Sequence[str] | None = None
    external_data: bool | str = "auto"
    providers: Sequence[Any] | None = None

    def check_onnx(self, newest_opset: int) -> None:
        """Refuse what an ONNX file cannot have.

        Args:
            newest_opset: The newest version of the operators that the installed onnx knows.

        Raises:
            RequestError: An option is wrong.
        """
        if self.external_data not in (True, False, "auto"):
            raise RequestError(
                f"external_data is {self.external_data!r}: pass True, False or 'auto'."
            )
        opset = self.opset_version
        if opset is not None and not _OLDEST_OPSET <= opset <= newest_opset:
            raise RequestError(
                f"opset_version is {opset}: the onnx that is installed has {_OLDEST_OPSET} to "
                f"{newest_opset}."
            )
        for what, names in (("input", self.input_names), ("output", self.output_names)):
            if isinstance(names, str):
                raise RequestError(
                    f"{what}_names takes a sequence: write {what}_names=({names!r},)."
                )

    def puts_outside(self, is_too_large: bool) -> bool:
        """Whether the weights go into a file of their own, where they are too large or not."""
        return is_too_large if self.external_data == "auto" else bool(self.external_data)
