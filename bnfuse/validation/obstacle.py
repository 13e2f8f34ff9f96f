"""Whether a model runs on the inputs that it is to be looked at with."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from typing import TYPE_CHECKING

import torch

from bnfuse.capture import copy_model
from bnfuse.errors import RequestError, first_line
from bnfuse.validation.inputs import map_tensors

if TYPE_CHECKING:
    from torch import nn

    from bnfuse.validation.inputs import Arguments


def obstacle(model: nn.Module, call: Arguments) -> Exception | None:
    """Return what a call of the model raises, or None; the model is copied, not changed."""
    args, kwargs = map_tensors(torch.clone, call)  # a forward may write its inputs
    copied = copy_model(model).model
    try:  # graph modules print what they raise as well
        with torch.no_grad(), torch.random.fork_rng(), redirect_stderr(io.StringIO()):
            copied(*args, **kwargs)
    except Exception as error:
        return error
    return None


def check_call(model: nn.Module, call: Arguments) -> None:
    """Call a copy of the model.

    Raises:
        RequestError: It cannot run on the arguments.
    """
    if problem := obstacle(model, call):
        raise cannot_run(model, problem) from problem


def cannot_run(model: nn.Module, problem: BaseException) -> RequestError:
    """Return the error to raise for what a call of a model raised."""
    return RequestError(
        f"{type(model).__name__} cannot run on the example inputs "
        f"({type(problem).__name__}: {first_line(problem)}): pass inputs that the model accepts, "
        "or --input SHAPE on the command line."
    )


def beside(model: nn.Module, call: Arguments) -> Arguments:
    """Return the arguments on the device of the model, where it is on one."""
    devices = {tensor.device for tensor in [*model.parameters(), *model.buffers()]}
    if len(devices) != 1:
        return call
    (device,) = devices
    return map_tensors(lambda tensor: tensor.to(device), call)
