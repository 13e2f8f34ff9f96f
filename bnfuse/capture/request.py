"""What can be optimized at all; the only errors that ``optimize`` raises come from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from bnfuse.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_REMEDIES = {
    "has no values yet": "run the model once on an example input",
    "is on the meta device, without values": "load the weights onto a real device first",
    "is a FakeTensor, without values": "make the model outside of FakeTensorMode",
    "has no memory, which was freed": "gather the weights first",
}


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
        if what := _without_values(tensor):
            raise RequestError(f"{path!r} of {name} {what}: {_REMEDIES[what]}.")
    return model


def check_example(
    args: Sequence[Any] | torch.Tensor, kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an example call, a lone tensor as one argument.

    Raises:
        RequestError: They are no sequence and no mapping, or a tensor among them has no values.
    """
    try:
        given = (args,) if isinstance(args, torch.Tensor) else tuple(args)
        named = dict(kwargs or {})
    except (TypeError, ValueError):
        raise RequestError(
            "example_inputs takes a sequence of positional arguments and example_kwargs a mapping "
            f"of names, and got {_described(args)} and {_described(kwargs)}: "
            "write optimize(model, (x,), {'name': y})."
        ) from None
    for value in pytree.tree_leaves((given, named)):
        if isinstance(value, torch.Tensor) and (what := _without_values(value)):
            raise RequestError(f"a tensor of the example inputs {what}: pass one with values.")
    return given, named


def _without_values(tensor: torch.Tensor) -> str:
    """Return why a tensor has no values, or an empty string."""
    if is_lazy(tensor):
        return "has no values yet"
    if tensor.is_meta:
        return "is on the meta device, without values"
    if isinstance(tensor, FakeTensor):
        return "is a FakeTensor, without values"
    return "has no memory, which was freed" if _is_freed(tensor) else ""


def _is_freed(tensor: torch.Tensor) -> bool:
    """Whether a tensor has elements and no memory, as shards have whose weights are elsewhere."""
    is_plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.layout is torch.strided
    return is_plain and tensor.numel() > 0 and tensor.untyped_storage().nbytes() == 0


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
