"""Run an example call as it is, to see what a graph of its operations would not do.

A graph takes tensors and returns tensors. It makes the containers around them anew for every call,
and records neither what a forward does to the containers it was given nor modes it runs in. A run
of the real thing shows both. It also fills the caches that functions of the model keep, so that an
export finds real tensors there and leaves none of its stand-ins behind.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from bnfuse.capture.copying import copy_model
from bnfuse.capture.watch import CaptureError

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

# Far above what another order of sums makes, far below what another operation makes.
_SAME = 1e-2
_SEED = 7919  # a number no forward is likely to seed with itself


def cloned(arguments: Arguments) -> Arguments:
    """Return arguments with copies of their tensors; one that is given twice stays one."""
    copies: dict[int, torch.Tensor] = {}

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        return copies.setdefault(id(tensor), tensor.clone())

    made: Arguments = pytree.tree_map_only(torch.Tensor, copy, arguments)
    return made


@dataclass(frozen=True, slots=True)
class Trial:
    """What a call left behind.

    Attributes:
        given: The leaves of its arguments, after the call.
        returned: The leaves of its result.
    """

    given: list[Any]
    returned: list[Any]

    @classmethod
    def of(cls, module: nn.Module, arguments: Arguments) -> Trial:
        """Run a call on copies of a module and of the arguments.

        Raises:
            CaptureError: It does what a graph would not do.
            Exception: Whatever the forward raises.
        """
        trial = copy_model(module).model
        with torch.inference_mode(mode=False), torch.enable_grad(), torch.random.fork_rng():
            args, kwargs = cloned(arguments)
            given, containers = pytree.tree_flatten((args, kwargs))
            lasting = _containers((args, kwargs)) | _owned(trial)
            torch.manual_seed(_SEED)
            result = trial(*args, **kwargs)
        left, containers_left = pytree.tree_flatten((args, kwargs))
        if containers_left != containers or not _are_same_objects(left, given):
            raise CaptureError("its forward changes a container it was given")
        if not lasting.isdisjoint(_containers(result)):
            raise CaptureError("its forward returns a container that others hold")
        returned = pytree.tree_leaves(result)
        for tensor in _tensors(returned):
            if tensor.requires_grad or tensor.is_inference():
                raise CaptureError("its result requires a gradient or was made in inference mode")
        return cls(given, returned)

    def check(self, tree: nn.Module, graph: fx.Graph, arguments: Arguments) -> None:
        """Run a graph of the call, and raise where it does not do the same.

        Raises:
            CaptureError: It does something else.
            Exception: It cannot be run.
        """
        with torch.inference_mode(mode=False), torch.no_grad(), torch.random.fork_rng():
            given = pytree.tree_leaves(cloned(arguments))
            torch.manual_seed(_SEED)
            returned = pytree.tree_leaves(fx.Interpreter(tree, graph=graph).run(*given))
        mine, other = [*self.given, *self.returned], [*given, *returned]
        same = len(mine) == len(other) and _sharing(mine) == _sharing(other)
        if not same or not all(map(_agree, mine, other)):
            raise CaptureError("its export does not do what it does")


class _Called(BaseException):
    """Ends a run once the call that was looked for has come; a forward may catch exceptions."""


def call_inside(root: nn.Module, path: str, example: Arguments) -> Arguments | None:
    """Return the arguments of the first call of a submodule in an example call of the model.

    Args:
        root: The model; a copy of it is run.
        path: The submodule; the model itself if empty.
        example: The arguments of a call of the model.

    Returns:
        None where the example does not call the submodule, or cannot be run.
    """
    if not path:
        return example
    trial = copy_model(root).model
    found: list[Arguments] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append((args, kwargs))
        raise _Called

    trial.get_submodule(path).register_forward_pre_hook(note, with_kwargs=True, prepend=True)
    args, kwargs = cloned(example)
    with torch.no_grad(), torch.random.fork_rng(), suppress(_Called, Exception):
        trial(*args, **kwargs)
    return found[0] if found else None


def _containers(tree: Any) -> set[int]:
    """Return the identities of what holds the leaves, tuples apart, which cannot change.

    Raises:
        CaptureError: One holds leaves at two places.
    """
    found: list[int] = []

    def note(node: Any) -> bool:
        if type(node) in pytree.SUPPORTED_NODES and not isinstance(node, tuple):
            found.append(id(node))
        return False

    pytree.tree_leaves(tree, is_leaf=note)
    if len(set(found)) < len(found):
        raise CaptureError("its result holds a container twice")
    return set(found)


def _owned(module: nn.Module) -> set[int]:
    """Return the identities of what the modules hold as attributes."""
    return {id(value) for inner in module.modules() for value in vars(inner).values()}


def _are_same_objects(these: list[Any], those: list[Any]) -> bool:
    return len(these) == len(those) and all(a is b for a, b in zip(these, those, strict=True))


def _tensors(leaves: list[Any]) -> list[torch.Tensor]:
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _sharing(leaves: list[Any]) -> list[tuple[int, int]]:
    """Return for every tensor which is the first that is the same, and that shares its memory."""
    objects: dict[int, int] = {}
    storages: dict[int, int] = {}
    return [
        (
            objects.setdefault(id(tensor), place),
            storages.setdefault(tensor.untyped_storage()._cdata, place),
        )
        for place, tensor in enumerate(_tensors(leaves))
        if tensor.layout is torch.strided
    ]


def _agree(mine: Any, other: Any) -> bool:
    """Whether two leaves are equal, tensors up to rounding."""
    if not isinstance(mine, torch.Tensor):
        return mine is other or (type(mine) is type(other) and bool(mine == other))
    if type(mine) is not type(other) or _kind(mine) != _kind(other):
        return False
    if not mine.is_floating_point():
        return bool(torch.equal(mine, other))
    wide, narrow = mine.double(), other.double()
    finite = wide.isfinite()
    if not torch.equal(wide[~finite].nan_to_num(), narrow[~finite].nan_to_num()):
        return False
    scale = wide[finite].abs().max() if finite.any() else wide.new_zeros(())
    return bool(((wide - narrow)[finite].abs() <= _SAME * scale).all())


def _kind(tensor: torch.Tensor) -> tuple[Any, ...]:
    strides = tensor.stride() if tensor.layout is torch.strided else None
    return tensor.shape, tensor.dtype, tensor.device, tensor.layout, strides
