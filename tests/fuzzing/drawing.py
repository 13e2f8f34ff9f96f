"""Draw whole programs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.fuzzing import layouts, patterns, values, weighted
from tests.fuzzing.growing import Grower
from tests.fuzzing.program import DTYPES, Program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fuzzing.patterns import Draw

    Habits = tuple[tuple[Draw, float], ...]

STEPS = (12, 20)
SINGLE: Habits = (
    (weighted.weighted, 5), (values.activation, 2.5), (values.affine, 2), (values.write, 3),
    (values.join, 3), (values.pool, 5), (layouts.concatenate, 1.5), (layouts.divide, 1.2),
    (layouts.permutation, 1), (layouts.reshape, 2), (layouts.take, 2), (layouts.move, 3),
    (layouts.shuffle_layer, 2.6), (layouts.pad, 0.8), (layouts.resize, 0.7), (values.reduce, 0.9),
    (values.nothing, 0.8), (values.layer_scale, 1), (weighted.norm, 0.7), (Grower.again, 2.5),
    (weighted.flat_head, 0.4), (values.write_anywhere, 0.7), (values.assertion, 1.5),
)  # fmt: skip


def habits(rng: random.Random) -> tuple[Habits, Habits]:
    """Return weights for one program: some operations are left out of it, some frequent.

    Programs that differ in their habits come across more than those that all have a bit of each.
    """
    if rng.random() < 0.3:
        return SINGLE, patterns.PATTERNS
    factors = (0.0, 1.0, 1.0, 4.0)
    single = [(draw, weight * rng.choice(factors)) for draw, weight in SINGLE[1:]]
    blocks = [(draw, weight * rng.choice(factors)) for draw, weight in patterns.PATTERNS[1:]]
    return (SINGLE[0], *single), (patterns.PATTERNS[0], *blocks)


def pick(rng: random.Random, choices: Sequence[tuple[Draw, float]]) -> Draw:
    """Return one of the choices by weight."""
    return rng.choices([draw for draw, _ in choices], [weight for _, weight in choices])[0]


def shapes_of_inputs(rng: random.Random) -> list[tuple[int, ...]]:
    """Return the shapes of one to three inputs, of rank 4 as a rule."""
    rank = rng.choices((2, 3, 4, 5), (2, 4, 8, 6))[0]
    most = {3: 9, 4: 9, 5: 5}.get(rank, 0)
    sizes = tuple(rng.randint(4, most) for _ in range(rank - 2))
    first = (rng.randint(1, 3), rng.randint(2, 8), *sizes)
    if rng.random() < 0.2:  # equal sizes of different axes are what is easily confused
        size = rng.randint(3, min(most, 6)) if most else 4
        first = (rng.choice((1, size)), size, *(size for _ in sizes))
    shapes = [first]
    while len(shapes) < 3 and rng.random() < 0.25:
        shapes.append(first if rng.random() < 0.7 else (first[0], rng.randint(2, 8), *sizes))
    return shapes


def next_value(g: Grower, value: str) -> str:
    """Return what the next step reads: the latest value, as a rule."""
    if g.chance(0.8) and len(g.shape(value)) > 2 and g.values[value].numel() > 12:
        return value
    open_ = [name for name in g.values if name not in g.hidden]
    image = [name for name in open_ if len(g.shape(name)) > 2 and g.values[name].numel() > 12]
    return g.rng.choice(image if image and g.chance(0.85) else open_ or [value])


def grow(g: Grower, wanted: int) -> None:
    """Draw steps until there are as many as wanted."""
    value = "x0"
    single, blocks = habits(g.rng)
    share = g.rng.choice((0.2, 0.4, 0.4, 0.6))
    for _ in range(4 * wanted):
        if len(g.steps) >= wanted:
            return
        value = next_value(g, value)
        draw = pick(g.rng, blocks if g.chance(share) else single)
        if len(g.shape(value)) < 3 and draw in patterns.FOR_IMAGES:
            continue
        before = value
        value = after(g, draw(g, value) or value)
        if value != before and g.chance(0.5) and not before.startswith("x"):
            g.hidden.add(before)


def after(g: Grower, value: str) -> str:
    """Draw a norm behind most layers, which hides what it reads."""
    linear = g.steps and g.steps[-1][0].split()[0] in ("conv", "linear", "transposed", "matmul")
    if not linear or not g.chance(0.6):
        return value
    made = weighted.norm(g, value)
    if made and g.chance(0.9):
        g.hidden.add(value)
    return made or value


def result_of(g: Grower) -> str:
    """Return what the forward returns: what nothing read, and sometimes what was read too."""
    values_ = [name for name in g.values if not name.startswith("x")] or ["x0"]
    unread = [name for name in values_ if name not in g.read] or values_[-1:]
    kept = unread if g.chance(0.8) else unread[-1:]
    if g.chance(0.15):
        kept = [*kept, g.rng.choice(values_)]
    drawn = g.rng.random()
    if len(kept) == 1 and drawn < 0.8:
        return kept[0]
    if drawn < 0.9:
        return f"({', '.join(kept)},)"
    return "{" + ", ".join(f"'{index}': {name}" for index, name in enumerate(kept)) + "}"


def drawn_program(rng: random.Random, checked: bool = True) -> Program:
    """Return a program drawn from a source of random numbers."""
    seed = rng.randint(0, 9999)
    g = Grower(rng, shapes_of_inputs(rng), seed)
    grow(g, rng.randint(*STEPS))
    dtype = rng.choices(tuple(DTYPES), (79, 14, 3.5, 3.5))[0]
    written = " ".join(text for _, text in (*g.layers, *g.steps)).lower().replace("_", "")
    if "avgpool3d" in written and dtype == "mixed_float16":  # PyTorch has none on the CPU
        dtype = "float32"
    return Program(
        inputs=g.inputs,
        layers=tuple(g.layers),
        ties=tuple(g.ties),
        steps=tuple(g.steps),
        result=result_of(g),
        seed=seed,
        dtype=dtype,
        example=rng.random() < 0.15,
        checked=checked,
    )
