"""The models of ``gpu.py``, made and optimized once in a process."""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm

import bnfuse
from bnfuse.zoo import LoadedModel, load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


IMAGES = 8
SMALLEST_VARIANCE = 0.01


@cache
def loaded(name: str) -> LoadedModel:
    """Return a model of timm with random weights, on the CPU in float32.

    Its batch norms have random scales and shifts and the statistics of random images. Random
    statistics let some models grow from layer to layer, MobileOne up to 4e13, which half precision
    cannot hold.
    """
    made = load_model(f"timm:{name}")
    size = made.example_inputs[0].shape[1:]
    calibrate(made.model, torch.randn(IMAGES, *size, generator=torch.Generator().manual_seed(1)))
    return made


def calibrate(model: nn.Module, images: torch.Tensor) -> None:
    """Give every batch norm the statistics of what reaches it, in place.

    Variances are at least ``SMALLEST_VARIANCE``: that of a channel behind a rectifier that lets
    nothing through is 0, and would multiply by 300 what passes for other images.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the statistics of the last batch
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.eval()
        norm.momentum = momentum
        if norm.running_var is not None:
            norm.running_var.clamp_(min=SMALLEST_VARIANCE)


@cache
def optimized(name: str, dtype: str) -> nn.Module:
    """Return what bnfuse makes of a model in a dtype, on the CPU."""
    return bnfuse.optimize(loaded(name).model, dtype=getattr(torch, dtype))


def calls(name: str, dtype: str, batch: int, device: str) -> dict[str, Callable[[], torch.Tensor]]:
    """Return calls of a model as it is and optimized, on a device, each in both layouts.

    In channels_last both the weights and the images are laid out so, once, outside the calls.
    """
    images = batch_of(name, dtype, batch).to(device)
    made: dict[str, Callable[[], torch.Tensor]] = {}
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
