"""Weights that PyTorch computes before a layer runs: parametrizations, weight and spectral norm.

In eval mode they are the same at every call as long as the tensors they are made of are. In the
copy that is captured they are computed once and become plain weights, which a fold can change.
"""

from __future__ import annotations

import copy
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from bnfuse.capture.watch import CaptureError, Notices, watching, watching_state

if TYPE_CHECKING:
    from collections.abc import Callable


def bake_weights(root: nn.Module, by_reference: frozenset[int] = frozenset()) -> None:
    """Compute the weights of parametrized layers in a copy once, where that loses nothing.

    A parametrization that changes its state, prints or draws random numbers stays as it is.

    Args:
        root: A copy of a module's tree, to be changed.
        by_reference: Identities of modules that are the caller's own.
    """
    for module in list(root.modules()):
        if id(module) in by_reference or module.training:
            continue
        if not type(module).__module__.startswith(("torch.nn.", "torch.")):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            continue
        if parametrize.is_parametrized(module):
            _without_parametrizations(module)
        else:
            _without_norm_hooks(module)


def _without_parametrizations(module: Any) -> None:
    names = list(module.parametrizations)
    values = {name: _steady(module, attrgetter(name)) for name in names}
    if any(value is None for value in values.values()):
        return
    # The class made for parametrizations is shared with the module this is a copy of.
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    _forget_state_hooks(module)
    for name in names:
        _set(module, name, values[name])


def _without_norm_hooks(module: nn.Module) -> None:
    hooks = module._forward_pre_hooks
    known = {
        key: hook for key, hook in hooks.items() if isinstance(hook, WeightNorm | SpectralNorm)
    }
    if not known or len(known) < len(hooks):
        return
    for key, hook in known.items():
        value = _steady(module, partial(_by_hook, hook))
        if value is None:
            return
        del hooks[key]
        _forget_state_hooks(module)
        for suffix in ("_g", "_v", "_orig", "_u"):
            module._parameters.pop(f"{hook.name}{suffix}", None)
            module._buffers.pop(f"{hook.name}{suffix}", None)
        _set(module, hook.name, value)


def _by_hook(hook: WeightNorm | SpectralNorm, module: nn.Module) -> Any:
    if isinstance(hook, WeightNorm):
        return hook.compute_weight(module)
    return hook.compute_weight(module, do_power_iteration=False)


def _forget_state_hooks(module: nn.Module) -> None:
    """Remove the hooks that look for the tensors a weight was made of when a state is loaded."""
    for hooks in (module._state_dict_hooks, module._load_state_dict_pre_hooks):
        for key, hook in list(hooks.items()):
            made = getattr(hook, "hook", hook)
            owner = getattr(made, "__module__", None) or type(made).__module__
            if str(owner).startswith("torch.nn.utils."):
                del hooks[key]


def _set(module: nn.Module, name: str, value: Any) -> None:
    """Make a computed tensor a plain parameter."""
    module._parameters.pop(name, None)
    module.__dict__.pop(name, None)
    module.register_parameter(name, nn.Parameter(value.detach().clone(), requires_grad=False))


def _steady(module: nn.Module, compute: Callable[[nn.Module], Any]) -> torch.Tensor | None:
    """Return a tensor that is the same at every call, or None; computing it changes nothing."""
    notices = Notices()
    try:
        trial = copy.deepcopy(module)
        with torch.no_grad(), watching(trial, notices), watching_state(trial, notices):
            once, again = compute(trial), compute(trial)
    except CaptureError:
        return None
    except Exception:
        return None  # it stays as it is, and says so itself when it runs
    is_same = isinstance(once, torch.Tensor) and torch.equal(once, again)
    return once if is_same else None
