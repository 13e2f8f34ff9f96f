"""The arguments of a call by name, under the names that the tables have for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx


def names_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return argument names without the star.

    >>> names_of(("input", "*shape"))
    ('input', 'shape')
    """
    return tuple(name.removeprefix("*") for name in names)


def bind(names: tuple[str, ...], node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    args = list(node.args)
    if len(args) > len(names) and not names[-1].startswith("*"):
        names = (*names, *(f"argument {count}" for count in range(len(names), len(args))))
    bound: dict[str, Any] = {}
    for position, name in enumerate(names[: len(args)]):
        if name.startswith("*"):
            rest: Any = args[position:]
            is_one = len(rest) == 1 and isinstance(rest[0], list | tuple)
            bound[name[1:]] = tuple(rest[0] if is_one else rest)
        else:
            bound[name] = args[position]
    return {**bound, **{_canonical(name, names): value for name, value in node.kwargs.items()}}


# Names that PyTorch takes as well, as NumPy has them, and where they stand in the tables.
_ALSO: dict[str, tuple[str, ...]] = {
    "tensors": ("input",), "self": ("input",), "x": ("input",), "keepdims": ("keepdim",),
    "dim": ("new_dim", "old_dim", "split_dim"), "axis": ("dim", "new_dim", "old_dim"),
    "split_size_or_sections": ("split_size",),
}  # fmt: skip


def _canonical(name: str, names: tuple[str, ...]) -> str:
    """Return the name that an argument has in the tables.

    >>> _canonical("axis", ("input", "dim"))
    'dim'
    """
    others = () if name in names else _ALSO.get(name, ())
    return next((other for other in others if other in names), name)
