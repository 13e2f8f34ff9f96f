"""The end of a layer, by plain operators: out of place, and over the result's memory."""

from __future__ import annotations

import pytest
import torch

from bnfuse.kernels import Activation, Epilogue
from tests.kernels.support import drawn

Y, OTHER = drawn(2, 3), drawn(2, 3, seed=1)


@pytest.mark.parametrize("binary", ["add", "iadd"])
def test_sum_then_activation(binary: str) -> None:
    epilogue, wanted = Epilogue(binary, Activation("relu")), torch.relu(Y + OTHER)
    assert torch.equal(epilogue.plain(Y.clone(), (OTHER,)), wanted)
    assert torch.equal(epilogue.written(Y.clone(), (OTHER,)), wanted)


@pytest.mark.parametrize("binary", ["mul", "imul"])
def test_product(binary: str) -> None:
    assert torch.equal(Epilogue(binary).plain(Y.clone(), (OTHER,)), Y * OTHER)
    assert torch.equal(Epilogue(binary).written(Y.clone(), (OTHER,)), Y * OTHER)


def test_larger_operand_makes_a_larger_result() -> None:
    wide = drawn(4, 2, 3)
    assert torch.equal(Epilogue("add").written(Y.clone(), (wide,)), Y + wide)
    with pytest.raises(RuntimeError):
        Epilogue("iadd").written(Y.clone(), (wide,))


def test_dtypes_are_promoted_as_in_the_sum() -> None:
    other = OTHER.double()
    assert Epilogue("add").written(Y.clone(), (other,)).dtype is torch.float64
    assert Epilogue("iadd").written(Y.clone(), (other,)).dtype is torch.float32


def test_nothing_to_do() -> None:
    assert Epilogue().is_empty
    assert str(Epilogue()) == ""
    assert Epilogue().plain(Y, ()) is Y
    assert not Epilogue("add").is_empty
