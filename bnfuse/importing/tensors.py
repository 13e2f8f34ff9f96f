"""Tensors and element types of ONNX files in PyTorch's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bnfuse.errors import RequestError
from bnfuse.extras import require

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {
    "FLOAT": torch.float32,
    "DOUBLE": torch.float64,
    "FLOAT16": torch.float16,
    "BFLOAT16": torch.bfloat16,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}


def dtype_of(code: int, where: str) -> torch.dtype:
    """Return the dtype that ONNX numbers so.

    Args:
        code: The number of an ONNX element type.
        where: What has it, for the error.

    Raises:
        RequestError: PyTorch has no such dtype to compute in.
    """
    onnx = require("onnx", "to read ONNX files")
    known = onnx.TensorProto.DataType.items()
    name = next((name for name, number in known if number == code), f"number {code}")
    if name not in _DTYPES:
        raise RequestError(
            f"{where} has elements of type {name}, which bnfuse cannot read: "
            f"it reads {', '.join(_DTYPES)}."
        )
    return _DTYPES[name]


def tensor_of(proto: Any) -> Tensor:
    """Return the values of a tensor of a file, in memory of their own.

    Raises:
        RequestError: Its type is not one to compute in, or its data do not fit its shape.
    """
    onnx = require("onnx", "to read ONNX files")
    where = f"the tensor {proto.name!r}"
    dtype = dtype_of(proto.data_type, where)
    try:
        array = onnx.numpy_helper.to_array(proto)
        if dtype is torch.bfloat16:  # numpy knows it by its bits alone
            return torch.from_numpy(array.view("int16").copy()).view(torch.bfloat16)
        return torch.from_numpy(array.copy())
    except (ValueError, TypeError) as error:
        raise RequestError(
            f"{where} of the ONNX file cannot be read ({error}): the file is damaged."
        ) from error
