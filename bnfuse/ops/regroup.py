"""Which axes a reshape merges and splits, without knowing every size."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring axes that a reshape turns into others, elements in the same order.

    Attributes:
        before: The axes of the input.
        after: The axes of the result.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


def groups_of(given: Sequence[Any], target: Sequence[Any]) -> list[Group] | None:
    """Split a reshape into groups of axes with equal numbers of elements.

    Sizes are numbers, or objects that are equal where the unknown sizes are. One size of the target
    may be -1. Equal sizes are matched from the front and from the back; what lies between is one
    group, split further where all its sizes are numbers.

    >>> groups_of((2, 6, 5), (2, 3, 2, 5))[1]
    Group(before=(1,), after=(1, 2))
    >>> groups_of(("n", 8, "h", "w"), ("n", 8, -1))[2]
    Group(before=(2, 3), after=(2,))
    >>> groups_of(("n", 8, "h", "w"), ("n", 8, 49))[2]
    Group(before=(2, 3), after=(2,))
    """
    front = 0
    while front < min(len(given), len(target)) and given[front] == target[front]:
        front += 1
    back = 0
    most = min(len(given), len(target)) - front
    while back < most and given[-1 - back] == target[-1 - back]:
        back += 1
    middle = _middle(given, target, front, back)
    if middle is None:
        return None
    shift = len(target) - len(given)
    first = [Group((axis,), (axis,)) for axis in range(front)]
    last = [Group((a,), (a + shift,)) for a in range(len(given) - back, len(given))]
    return [*first, *middle, *last]


def _middle(
    given: Sequence[Any], target: Sequence[Any], front: int, back: int
) -> list[Group] | None:
    before = tuple(range(front, len(given) - back))
    after = tuple(range(front, len(target) - back))
    if not before and not after:
        return []
    sizes, wanted = [given[a] for a in before], [target[a] for a in after]
    if all(isinstance(size, int) for size in sizes):
        numbers = _without_rest(sizes, wanted)
        if numbers is not None and prod(sizes) == prod(numbers):
            return _by_numbers(before, after, sizes, numbers)
        return None
    # An unknown number of elements: the rest is one group if -1 stands for part of it, and nothing
    # else in the target could stand for another size. Where the last axes have as many elements on
    # both sides, (n, 4) and (-1, 2, 2), they are a group of their own, whatever n is.
    if not wanted or not all(isinstance(size, int) for size in wanted) or wanted.count(-1) > 1:
        return None
    if -1 not in wanted:  # it has as many elements, or the reshape fails
        return [Group(before, after)]
    last = _last_numbers(sizes), _last_numbers([None if w == -1 else w for w in wanted])
    return _from_behind(before, after, *last)


def _last_numbers(sizes: Sequence[Any]) -> list[int]:
    """Return the sizes behind the last one that is no number."""
    places = [place for place, size in enumerate(sizes) if not isinstance(size, int)]
    return list(sizes[places[-1] + 1 :])


def _from_behind(
    before: tuple[int, ...], after: tuple[int, ...], sizes: list[int], wanted: list[int]
) -> list[Group]:
    """Close groups from behind, as far as the sizes are numbers; what is left is the first one."""
    i = j = 0
    left = right = 1
    ends = [(0, 0)]
    while i < len(sizes) or j < len(wanted):
        if (left <= right and i < len(sizes)) or j == len(wanted):
            i, left = i + 1, left * sizes[-1 - i]
        else:
            j, right = j + 1, right * wanted[-1 - j]
        if left == right and i > ends[-1][0] and j > ends[-1][1]:
            ends.append((i, j))
    groups: list[Group] = []
    one, other = before, after
    for i, j in ends[1:]:
        mine, theirs = before[: len(before) - i], after[: len(after) - j]
        groups.insert(0, Group(one[len(mine) :], other[len(theirs) :]))
        one, other = mine, theirs
    return [Group(one, other), *groups]


def _without_rest(sizes: Sequence[int], wanted: Sequence[Any]) -> list[int] | None:
    """Return the target with -1 worked out."""
    if not all(isinstance(size, int) for size in wanted) or list(wanted).count(-1) > 1:
        return None
    others = prod(size for size in wanted if size != -1)
    return [prod(sizes) // others if size == -1 and others else size for size in wanted]


def _by_numbers(
    before: tuple[int, ...], after: tuple[int, ...], sizes: Sequence[int], wanted: Sequence[int]
) -> list[Group]:
    """Close a group wherever as many elements have been seen on both sides."""
    groups = []
    mine: list[int] = []
    theirs: list[int] = []
    i = j = 0
    left = right = 1
    while i < len(sizes) or j < len(wanted):
        if (left <= right and i < len(sizes)) or j == len(wanted):
            left *= sizes[i]
            mine.append(before[i])
            i += 1
        else:
            right *= wanted[j]
            theirs.append(after[j])
            j += 1
        if left == right and mine and theirs:
            groups.append(Group(tuple(mine), tuple(theirs)))
            mine, theirs, left, right = [], [], 1, 1
    if mine or theirs:  # sizes of 1 at the end
        last = groups.pop() if groups else Group((), ())
        groups.append(Group((*last.before, *mine), (*last.after, *theirs)))
    return groups


def regrouped(given: Sequence[Any], target: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return the target of a reshape with -1 worked out where the sizes allow it."""
    groups = groups_of(given, target)
    if groups is None:
        return None if -1 in target else tuple(target)
    found = list(target)
    for group in groups:
        sizes = [given[axis] for axis in group.before]
        rest = [axis for axis in group.after if found[axis] == -1]
        others = [found[axis] for axis in group.after if found[axis] != -1]
        if rest and all(isinstance(size, int) for size in [*sizes, *others]) and 0 not in others:
            found[rest[0]] = prod(sizes) // prod(others)
        elif rest and len(sizes) == 1 and not others:
            found[rest[0]] = sizes[0]
    return tuple(found)
