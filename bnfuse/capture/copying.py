"""A copy of the caller's model to work on, so that the caller's is never touched."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from bnfuse.errors import RequestError


def copy_model(model: nn.Module) -> nn.Module:
    """Return an independent copy of ``model`` whose parameters require no gradient.

    Tensors that are results of differentiable operations, such as the ``weight`` that the old
    ``torch.nn.utils.weight_norm`` leaves behind, refuse to be deep-copied; they are copied by
    value.

    Raises:
        RequestError: Some part of the model cannot be copied.

    >>> original = nn.Linear(2, 2)
    >>> copied = copy_model(original)
    >>> copied.weight.data_ptr() == original.weight.data_ptr(), copied.weight.requires_grad
    (False, False)
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        copied = copy.deepcopy(model, memo)
    except Exception as error:
        raise RequestError(
            f"{type(model).__name__} cannot be copied ({error}), and optimize never changes the "
            "model it is given: give the part that refuses a __deepcopy__."
        ) from error
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied
