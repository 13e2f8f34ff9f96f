"""A copy of the caller's model to work on, so that the caller's is never touched."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnfuse.capture.deepcopy import deepcopy
from bnfuse.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TABLES = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True, slots=True)
class ModelCopy:
    """A copy of a model.

    Attributes:
        model: The copy.
        by_reference: Identities of modules that refuse to be copied: the caller's own, never to
            be changed.
    """

    model: nn.Module
    by_reference: frozenset[int] = frozenset()


def copy_model(model: nn.Module) -> ModelCopy:
    """Copy a model; the copy's parameters require no gradient.

    Tensors that refuse to be deep-copied are copied by value: sparse ones, and results of
    differentiable operations, such as the ``weight`` that the old ``torch.nn.utils.weight_norm``
    leaves behind. An attribute that refuses, such as a lock, is shared, and so is a module that
    does or that holds a tensor whose copy by value would be of another class.

    Raises:
        RequestError: The model itself refuses to be copied, or is nested deeper than Python's
            recursion limit lets it be.

    >>> original = nn.Linear(2, 2)
    >>> copied = copy_model(original).model
    >>> copied.weight.data_ptr() == original.weight.data_ptr(), copied.weight.requires_grad
    (False, False)
    """
    memo = {id(t): t.detach().clone() for t in _attribute_tensors(model) if not t.is_leaf}
    kept = dict(memo)  # deepcopy adds to the memo it is given
    try:
        copied = deepcopy(model, memo)
        own = {id(module) for module in model.modules()}  # what copies itself to itself
        by_reference = frozenset(id(m) for m in copied.modules() if id(m) in own)
    except RecursionError as error:
        raise RequestError(
            f"{type(model).__name__} is nested too deep to be copied: "
            "call sys.setrecursionlimit with a larger number first."
        ) from error
    except Exception:
        copies = _copies_by_value(model)
        kept |= _made(copies)
        refusing = dict(_refusing(model, copies))
        modules = [value for value in refusing.values() if isinstance(value, nn.Module)]
        by_reference = frozenset(id(inner) for module in modules for inner in module.modules())
        copied = copy.deepcopy(model, {**kept, **refusing})
    if id(copied) in by_reference:
        raise RequestError(
            f"{type(model).__name__} cannot be copied{_because_of(model)}, and the model given is "
            "never changed: give it a __deepcopy__ that makes another one."
        )
    for module in copied.modules():
        if id(module) in by_reference or isinstance(module, torch.jit.ScriptModule):
            continue
        for parameter in module._parameters.values():
            if parameter is not None:
                parameter.requires_grad_(False)
    return ModelCopy(copied, by_reference)


def copy_tree(module: nn.Module, by_reference: frozenset[int] = frozenset()) -> nn.Module:
    """Copy a module's tree and attributes, but share its parameters and buffers.

    Args:
        module: The module, itself a copy that ``copy_model`` made.
        by_reference: What that copy has by reference.
    """
    memo: dict[int, Any] = {id(t): t for t in [*module.parameters(), *module.buffers()]}
    kept = dict(memo)
    try:
        copied: nn.Module = deepcopy(module, memo)
    except Exception:
        copies = _copies_by_value(module)
        refusing = dict(_refusing(module, copies))
        own = {id(m): m for m in module.modules() if id(m) in by_reference}
        copied = copy.deepcopy(module, {**_made(copies), **kept, **refusing, **own})
    return copied


def _attribute_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield tensors that modules hold as plain attributes."""
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, torch.Tensor))


def _copies_by_value(model: nn.Module) -> dict[int, torch.Tensor | None]:
    """Return copies of the tensors that refuse to be deep-copied, None where none can be made."""
    tensors = [*model.parameters(), *model.buffers(), *_attribute_tensors(model)]
    return {id(t): _copy_by_value(t) for t in tensors if not _is_copyable(t, {})}


def _made(copies: Mapping[int, torch.Tensor | None]) -> dict[int, torch.Tensor]:
    """Return the copies that could be made."""
    return {key: copied for key, copied in copies.items() if copied is not None}


def _copy_by_value(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return a tensor of the same class and values, or None where there is no making one."""
    try:
        copied = tensor.detach().clone()
        if isinstance(tensor, nn.Parameter):
            copied = nn.Parameter(copied, requires_grad=False)
        vars(copied).update(copy.deepcopy(vars(tensor)))
    except Exception:
        return None
    return copied if type(copied) is type(tensor) else None


def _refusing(
    model: nn.Module, copies: Mapping[int, torch.Tensor | None]
) -> Iterator[tuple[int, Any]]:
    """Yield the attributes and modules that cannot be copied, by identity.

    Args:
        model: The model.
        copies: What ``_copies_by_value`` returned.
    """
    tensors = [*model.parameters(), *model.buffers(), *_attribute_tensors(model)]
    for module in model.modules():
        # Everything else in place of itself, so that only what the module itself holds is copied.
        memo: dict[int, Any] = {id(m): m for m in model.modules() if m is not module}
        memo |= {id(t): t for t in tensors if copies.get(id(t), t) is not None}
        for name, value in vars(module).items():
            if name not in _TABLES and not _is_copyable(value, memo):
                yield id(value), value
                memo[id(value)] = value
        if not _is_copyable(module, memo):
            yield id(module), module


def _because_of(model: nn.Module) -> str:
    """Name the first of the model's own tensors that has no copy, if there is one."""
    named = [*model.named_parameters(recurse=False), *model.named_buffers(recurse=False)]
    refusing = [(name, t) for name, t in named if not _is_copyable(t, {})]
    name, tensor = next((n for n in refusing if _copy_by_value(n[1]) is None), ("", None))
    return f" because of {name!r}, a {type(tensor).__name__}" if name else ""


def _is_copyable(value: Any, memo: dict[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:
        return False
    return True
