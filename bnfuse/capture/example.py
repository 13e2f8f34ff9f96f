"""The calls that a graph captured from one example stands for: those of the example's form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    import inspect

    from torch.utils._pytree import TreeSpec

_LITERALS = (type(None), bool, int, float, str, torch.dtype, torch.device)


@dataclass(frozen=True, slots=True)
class ExampleAssumptions:
    """The form of an example call.

    Attributes:
        signature: The signature of the forward, without ``self``.
        containers: How the arguments, optional ones included, hold their leaves.
        leaves: What every leaf has to be.
        outputs: How the result holds the graph's outputs.
    """

    signature: inspect.Signature
    containers: TreeSpec
    leaves: tuple[Any, ...]
    outputs: TreeSpec

    @classmethod
    def of(
        cls,
        signature: inspect.Signature,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outputs: TreeSpec,
    ) -> ExampleAssumptions:
        """Return the form of a call, whose arguments are bound and complete."""
        leaves, containers = pytree.tree_flatten((args, kwargs))
        return cls(signature, containers, tuple(_form(leaf) for leaf in leaves), outputs)

    @property
    def hold_always(self) -> bool:
        """False: other calls are always possible."""
        return False

    @property
    def hold_for_one_shape(self) -> bool:
        """True: PyTorch's exporters, which may leave a size open, have to see the Python."""
        return True

    def graph_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        """Return the leaves to call the graph with, or None for a call of another form.

        Raises:
            TypeError: The forward does not accept the call, as Python would raise it.
        """
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        leaves, containers = pytree.tree_flatten((bound.args, bound.kwargs))
        if containers != self.containers:
            return None
        forms = (_form(leaf) for leaf in leaves)
        return leaves if all(map(_same, forms, self.leaves)) else None

    def result(self, outputs: Any) -> Any:
        """Return the forward's result from the outputs of the graph."""
        return pytree.tree_unflatten(outputs, self.outputs)


def _form(leaf: Any) -> Any:
    """Return what a graph was specialized for: all of a Python value, all but a tensor's elements.

    Any other object is held itself: the graph stands for calls with that very one.
    """
    if not isinstance(leaf, torch.Tensor):
        return leaf
    layout = leaf.stride() if leaf.layout is torch.strided else None
    kind = torch.Tensor if type(leaf) is torch.nn.Parameter else type(leaf)
    return (kind, leaf.shape, leaf.dtype, leaf.device, leaf.layout, layout, leaf.requires_grad)


def _same(form: Any, wanted: Any) -> bool:
    """Whether a leaf has the form of the example's."""
    if form is wanted:
        return True
    if type(form) is not type(wanted):
        return False
    return isinstance(form, (*_LITERALS, tuple)) and bool(form == wanted)
