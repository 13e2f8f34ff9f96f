"""The models of ``gpu.py``, made and optimized once in a process."""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import TYPE_CHECKING

import torch

import bnfuse
from bnfuse.zoo import LoadedModel, load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


@cache
def loaded(name: str) -> LoadedModel:
    """Return a model of timm with random weights and statistics, on the CPU in float32."""
    return load_model(f"timm:{name}")


@cache
def optimized(name: str, dtype: str) -> nn.Module:
    """Return what bnfuse makes of a model in a dtype, on the CPU."""
    return bnfuse.optimize(loaded(name).model, dtype=getattr(torch, dtype))


def calls(name: str, dtype: str, batch: int, device: str) -> dict[str, Callable[[], torch.Tensor]]:
    """Return calls of a model as it is and optimized, on a device, each in both layouts.

    In channels_last both the weights and the images are laid out so, once, outside the calls.
    """
    images = batch_of(name, dtype, batch).to(device)
    made = {}
    for title, model in {"eager": loaded(name).model, "bnfuse": optimized(name, dtype)}.items():
        module = copy.deepcopy(model).to(device, getattr(torch, dtype))
        made[title] = partial(module, images)
        turned = copy.deepcopy(module).to(memory_format=torch.channels_last)
        in_place = images.contiguous(memory_format=torch.channels_last)
        made[f"{title} channels_last"] = partial(turned, in_place)
    return made


def batch_of(name: str, dtype: str, batch: int) -> torch.Tensor:
    """Return images for a model, drawn from N(0, 1), on the CPU."""
    size = loaded(name).example_inputs[0].shape[1:]
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *size, generator=generator).to(getattr(torch, dtype))
