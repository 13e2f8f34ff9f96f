"""The calls that a graph captured from one example stands for: those of the example's form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from bnfuse.capture.watch import CaptureError

if TYPE_CHECKING:
    import inspect

    from torch.utils._pytree import TreeSpec

_LITERALS = (type(None), bool, int, str, torch.dtype, torch.device, torch.Size)


@dataclass(frozen=True, slots=True)
class CallForm:
    """All of a call but the elements of its tensors.

    Attributes:
        containers: How the arguments, optional ones included, hold their leaves.
        leaves: What every leaf is.
        repeats: For each leaf, where the same tensor stands for the first time.
    """

    containers: TreeSpec
    leaves: tuple[Any, ...]
    repeats: tuple[int, ...]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallForm:
        """Return the form of a call, whose arguments are bound and complete.

        Raises:
            CaptureError: A leaf has more to it than a form tells.
        """
        leaves, containers = pytree.tree_flatten((args, kwargs))
        forms = tuple(_form(leaf) for leaf in leaves)
        if None in forms:
            raise CaptureError("an argument is neither a plain tensor nor a plain value")
        return cls(containers, forms, _repeats(leaves))

    def leaves_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        """Return the leaves of a call, or None where it has another form."""
        leaves, containers = pytree.tree_flatten((args, kwargs))
        if len(leaves) != len(self.leaves) or containers != self.containers:
            return None
        same = all(_form(leaf) == form for leaf, form in zip(leaves, self.leaves, strict=True))
        return leaves if same and _repeats(leaves) == self.repeats else None


@dataclass(frozen=True, slots=True)
class ExampleAssumptions:
    """Calls of the form of an example.

    Attributes:
        signature: The signature of the forward, without ``self``.
        form: The form.
        outputs: How the result holds the graph's outputs.
    """

    signature: inspect.Signature
    form: CallForm
    outputs: TreeSpec

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
        return self.form.leaves_of(bound.args, bound.kwargs)

    def result(self, outputs: Any) -> Any:
        """Return the forward's result from the outputs of the graph."""
        return pytree.tree_unflatten(outputs, self.outputs)


def _form(leaf: Any) -> tuple[Any, ...] | None:
    """Return all of a Python value, all but a tensor's elements, or None for anything else.

    Zeros of the two signs are equal and are not the same.
    """
    if type(leaf) is torch.Tensor:
        return _form_of_tensor(leaf)
    if type(leaf) is float:
        return float, leaf.hex()
    return (type(leaf), leaf) if type(leaf) in _LITERALS else None


def _form_of_tensor(tensor: torch.Tensor) -> tuple[Any, ...] | None:
    """Return what a forward can ask of a tensor without looking at its elements.

    One that requires a gradient has no form: what a forward detaches is not in its graph.
    """
    has_more = tensor.requires_grad or tensor.is_conj() or tensor.is_neg() or vars(tensor)
    if has_more or tensor.layout is not torch.strided:
        return None
    place = (tensor.stride(), tensor.storage_offset())
    return torch.Tensor, tensor.shape, tensor.dtype, tensor.device, *place


def _repeats(leaves: list[Any]) -> tuple[int, ...]:
    """Return for each leaf where it stands first, if it is a tensor."""
    first: dict[int, int] = {}
    return tuple(
        first.setdefault(id(leaf), place) if isinstance(leaf, torch.Tensor) else place
        for place, leaf in enumerate(leaves)
    )
