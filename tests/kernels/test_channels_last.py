"""Layouts channels last, of signals as well."""

from __future__ import annotations

import pytest
import torch

from bnfuse.kernels.channels_last import FORMATS, as_image, laid_out, strides_of
from tests.kernels.support import drawn


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 5, 6), (2, 1, 1, 4), (0, 3, 4, 5)])
def test_strides_are_those_of_a_tensor_in_the_format(shape: tuple[int, ...]) -> None:
    memory_format = FORMATS[len(shape)]
    empty = torch.empty(shape, memory_format=memory_format)
    assert strides_of(shape, memory_format) == empty.stride()
    assert strides_of(shape, torch.contiguous_format) == torch.empty(shape).stride()


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 8, 400), (2, 2, 2)])
def test_a_signal_lies_as_an_image_of_one_row(shape: tuple[int, ...]) -> None:
    batch, channels, length = shape
    image = torch.empty(batch, channels, 1, length).to(memory_format=torch.channels_last)
    assert as_image(shape) == image.shape
    assert strides_of(shape, torch.channels_last) == image.squeeze(2).stride()


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 1, 4), (2, 1, 1)])
def test_a_signal_of_one_channel_or_sample_is_contiguous(shape: tuple[int, ...]) -> None:
    assert strides_of(shape, torch.channels_last) == torch.empty(shape).stride()


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 4), (2, 3, 1), (2, 3, 4, 5), (2, 3, 4, 5, 6)])
def test_laid_out(shape: tuple[int, ...]) -> None:
    x = drawn(*shape)
    made = laid_out(x, FORMATS[len(shape)])
    assert torch.equal(made, x)
    assert made.movedim(1, -1).is_contiguous()
    assert laid_out(made, FORMATS[len(shape)]).data_ptr() == made.data_ptr()
    assert laid_out(made, torch.contiguous_format).is_contiguous()
