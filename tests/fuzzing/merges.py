"""Draw blocks for the passes that other blocks seldom reach: merges of merges, undone reshapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzzing import values, weighted

if TYPE_CHECKING:
    from tests.fuzzing.growing import Grower

_PLAIN = {"stride": 1, "dilation": 1, "padding_mode": "zeros"}


def _conv(g: Grower, value: str, kernel: int, out: int) -> str | None:
    """Draw a convolution without groups that keeps the size."""
    return weighted.conv(g, value, kernel, out, padding=kernel // 2, **_PLAIN)


def diverse_branches(g: Grower, value: str) -> str | None:
    """Draw a layer beside two in a row, which become one first and merge with the other then."""
    if len(g.shape(value)) < 3 or g.shape(value)[1] > 6:
        return None
    channels = g.shape(value)[1]
    wide = _conv(g, value, g.rng.choice((1, 3)), 8)
    row = wide and _conv(g, wide, 1, channels)
    arm = row and _conv(g, value, g.rng.choice((1, 3)), channels)
    if not (wide and row and arm):
        return arm or row or wide
    g.hidden.add(wide)
    if g.chance(0.5):
        g.hidden.add(row)
        row = weighted.norm(g, row) or row
    g.hidden.update({row, arm})
    form = g.rng.choice(("{a} + {b}", "{b} + {a}", "{a} - {b}", "torch.add({b}, {a})"))
    return g.emit("join", form.format(a=row, b=arm), {}, row, arm)


def norm_of_branches(g: Grower, value: str) -> str | None:
    """Draw a norm that several branches read, and one of them itself: one reader when merged."""
    if len(g.shape(value)) < 3:
        return None
    rough = values.activation(g, value) or value
    normal = weighted.norm(g, rough)
    if normal is None:
        return None
    arm = _conv(g, normal, g.rng.choice((1, 1, 3)), g.shape(normal)[1])
    found = [normal, *([arm] if arm else [])]
    g.rng.shuffle(found)
    g.hidden.update(found)
    return g.emit("join", " + ".join(found), {}, *found)


def flat_norm(g: Grower, value: str) -> str | None:
    """Draw a layer with its norm on flattened rows, which get their shape back."""
    made = weighted.linear(g, value)
    if made is None or len(g.shape(made)) < 3:
        return made
    flat = g.emit("reshape", f"{made}.flatten(0, -2)", {}, made)
    normal = flat and weighted.norm(g, flat)
    if not (flat and normal):
        return flat
    g.hidden.update({made, flat, normal})
    form = g.rng.choice(
        ("{n}.view_as({m})", "{n}.view({m}.shape)", "{n}.reshape({m}.size())",
         "{n}.reshape_as({m})", "torch.reshape({n}, {m}.shape)")
    )  # fmt: skip
    return g.emit("reshape", form.format(n=normal, m=made), {}, normal, made)


def narrow_rows(g: Grower, value: str) -> str | None:
    """Draw two layers in a row that multiply more than one would: wide between, narrow behind."""
    if len(g.shape(value)) < 3:
        first = weighted.linear(g, value, 8)
        return first and weighted.linear(g, first, g.rng.randint(2, 4))
    wide = _conv(g, value, g.rng.choice((1, 3)), 8)
    made = wide and _conv(g, wide, 1, g.rng.randint(2, 4))
    if not (wide and made):
        return wide
    g.hidden.add(wide)
    return (weighted.norm(g, made) if g.chance(0.5) else made) or made
