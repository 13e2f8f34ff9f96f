"""Tensors of files as tensors of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bnfuse.errors import RequestError
from bnfuse.importing.tensors import dtype_of, tensor_of


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, np.int8, np.int16, np.int64, np.uint8, np.bool_]
)
def test_reads_numbers(dtype: Any) -> None:
    array = np.array([[1, 0, 3]], dtype=dtype)
    found = tensor_of(numpy_helper.from_array(array, "t"))
    np.testing.assert_array_equal(found.numpy(), array)
    assert found.numpy().dtype == dtype
    found.zero_()  # the memory is its own and can be written


@pytest.mark.parametrize("is_raw", [True, False])
def test_reads_bfloat16(is_raw: bool) -> None:
    wanted = torch.tensor([1.5, -3.0, 0.25], dtype=torch.bfloat16)
    bits = wanted.view(torch.int16).numpy()
    proto = (
        TensorProto(data_type=TensorProto.BFLOAT16, dims=[3], raw_data=bits.tobytes())
        if is_raw
        else helper.make_tensor("t", TensorProto.BFLOAT16, [3], wanted.float().tolist())
    )
    found = tensor_of(proto)
    assert found.dtype is torch.bfloat16
    assert torch.equal(found, wanted)


def test_a_number_has_no_axes() -> None:
    assert tensor_of(numpy_helper.from_array(np.array(2.5), "t")).shape == ()


def test_refuses_other_types() -> None:
    proto = helper.make_tensor("scales", TensorProto.FLOAT8E4M3FN, [1], [1.0])
    with pytest.raises(RequestError, match="the tensor 'scales' has elements of type FLOAT8E4M3FN"):
        tensor_of(proto)
    with pytest.raises(RequestError, match="of type number 99"):
        dtype_of(99, "x")


def test_refuses_data_that_do_not_fit() -> None:
    proto = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], raw_data=b"1234")
    with pytest.raises(RequestError, match="the tensor 'w' of the ONNX file cannot be read"):
        tensor_of(proto)
