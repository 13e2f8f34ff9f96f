"""A copy of the caller's model to work on, so that the caller's is never touched."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnfuse.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    Tensors that are results of differentiable operations, such as the ``weight`` that the old
    ``torch.nn.utils.weight_norm`` leaves behind, refuse to be deep-copied; they are copied by
    value. An attribute that refuses, such as a lock, is shared, and so is a module that does.

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
        copied = copy.deepcopy(model, memo)
        own = {id(module) for module in model.modules()}  # what copies itself to itself
        by_reference = frozenset(id(m) for m in copied.modules() if id(m) in own)
    except RecursionError as error:
        raise RequestError(
            f"{type(model).__name__} is nested too deep to be copied: "
            "call sys.setrecursionlimit with a larger number first."
        ) from error
    except Exception:
        refusing = dict(_refusing(model))
        modules = [value for value in refusing.values() if isinstance(value, nn.Module)]
        by_reference = frozenset(id(inner) for module in modules for inner in module.modules())
        copied = copy.deepcopy(model, {**kept, **refusing})
    if id(copied) in by_reference:
        raise RequestError(
            f"{type(model).__name__} cannot be copied, and the model given is never changed: "
            "give it a __deepcopy__ that makes another one."
        )
    for module in copied.modules():
        if id(module) in by_reference or isinstance(module, torch.jit.ScriptModule):
            continue
        for parameter in module.parameters(recurse=False):
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
        return copy.deepcopy(module, memo)
    except Exception:
        refusing = dict(_refusing(module))
        own = {id(m): m for m in module.modules() if id(m) in by_reference}
        return copy.deepcopy(module, {**kept, **refusing, **own})


def _attribute_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield tensors that modules hold as plain attributes."""
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, torch.Tensor))


def _refusing(model: nn.Module) -> Iterator[tuple[int, Any]]:
    """Yield the attributes and modules that cannot be copied, by identity."""
    for module in model.modules():
        # Everything else in place of itself, so that only what the module itself holds is copied.
        memo: dict[int, Any] = {id(m): m for m in model.modules() if m is not module}
        memo |= {id(t): t for t in [*module.parameters(), *module.buffers()]}
        for name, value in vars(module).items():
            if name not in _TABLES and not _is_copyable(value, memo):
                yield id(value), value
                memo[id(value)] = value
        if not _is_copyable(module, memo):
            yield id(module), module


def _is_copyable(value: Any, memo: dict[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:
        return False
    return True
