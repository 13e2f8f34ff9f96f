"""What can be optimized at all; the only errors that ``optimize`` raises come from here."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from bnfuse.errors import RequestError


def check_request(model: object) -> nn.Module:
    """Return ``model`` if it is a module that inference can be run on.

    Of an exported program it is the module that runs it; what was exported in training mode says so
    in each of its calls.

    Raises:
        RequestError: It is no module, is compiled or scripted, is in training mode, or has
            parameters without values.
    """
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
        for module in model.modules():
            module.training = False  # exported modules refuse eval()
    if not isinstance(model, nn.Module):
        raise RequestError(
            f"optimize takes a torch.nn.Module and got {_described(model)}: pass the model itself."
        )
    _check_kind(model)
    name = type(model).__name__
    if model.training:
        raise RequestError(
            f"{name} is in training mode, where batch norm uses the statistics of each batch: "
            "call model.eval() first."
        )
    for path, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise RequestError(
                f"{path!r} of {name} has no values yet: run the model once on an example input."
            )
        if tensor.is_meta:
            raise RequestError(
                f"{path!r} of {name} is on the meta device, without values: "
                "load the weights onto a real device first."
            )
    return model


def _check_kind(model: nn.Module) -> None:
    """Refuse modules whose program is not Python any more."""
    if isinstance(model, torch.jit.ScriptModule):
        raise RequestError(
            f"{_described(model)} is TorchScript, whose program is not Python any more: "
            "pass the module it was scripted or traced from."
        )
    if type(model).__name__ == "OptimizedModule" and hasattr(model, "_orig_mod"):
        raise RequestError(
            "the model is wrapped by torch.compile: pass model._orig_mod, "
            "and compile the result if you wish."
        )


def _described(value: object) -> str:
    """Return ``a list``, ``an int``, ``the class ResNet``: enough to see what was passed."""
    if isinstance(value, type):
        return f"the class {value.__name__}, not an instance of it"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
