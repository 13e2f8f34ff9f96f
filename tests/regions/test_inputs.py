"""Guesses of inputs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import fx, nn

import bnfuse
from bnfuse.ops.shape_rules import Unknown
from bnfuse.regions.inputs import MOST_GUESSES, Guess, Habit, drawn, guessed_inputs
from bnfuse.regions.region import Region, region_of
from tests.regions.support import One, Three, Two, traced
from tests.support import ready

if TYPE_CHECKING:
    from collections.abc import Iterator

Shapes = tuple[tuple[int, ...], ...]


def guesses(model: nn.Module, *names: str) -> Iterator[Shapes]:
    """Yield the shapes of the inputs of a region, guess by guess."""
    program, nodes = traced(model)
    region = region_of(nodes[name] for name in names)
    for inputs in guessed_inputs(program, region, torch.Generator()):
        assert all(tensor.dtype is torch.float64 for tensor in inputs.values())
        assert list(inputs) == list(region.inputs)
        yield tuple(tuple(tensor.shape) for tensor in inputs.values())


def test_the_first_guess_tells_all_axes_apart() -> None:
    (shape,) = next(guesses(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), "_0", "_1"))
    assert shape[1] == 3
    assert len(set(shape)) == 4
    assert min(shape[2:]) > 3  # inside and borders of a kernel


@pytest.mark.parametrize(
    ("layer", "channels", "rank"),
    [
        (nn.Conv1d(5, 8, 3), 5, 3),
        (nn.Conv2d(6, 8, 3, groups=2), 6, 4),
        (nn.Conv3d(5, 8, 3), 5, 5),
        (nn.ConvTranspose2d(5, 8, 3), 5, 4),
        (nn.ConvTranspose2d(6, 8, 3, groups=2), 6, 4),
    ],
)
def test_channels_and_rank_of_the_first_guess_are_those_of_the_layer(
    layer: nn.Module, channels: int, rank: int
) -> None:
    (shape,) = next(guesses(nn.Sequential(layer), "_0"))
    assert shape[1] == channels
    assert len(shape) == rank


def test_shapes_that_the_graph_fixes_are_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Tanh())
    found = {shape[1] for (shape,) in guesses(model, "_2")}
    ranks = {len(shape) for (shape,) in guesses(model, "_2")}
    assert (found, ranks) == ({8}, {4})


def test_a_linear_layer_reads_the_last_axis() -> None:
    found = [shape for (shape,) in guesses(nn.Sequential(nn.Linear(5, 4)), "_0")]
    assert {shape[-1] for shape in found if len(shape) > 2} >= {5}
    assert any(len(shape) == 2 and shape[1] == 5 for shape in found)


def test_each_input_gets_the_channels_that_its_layer_reads() -> None:
    """Three kinds of channels: all combinations would be too many."""

    def run(m: Any, x: Any, y: Any, z: Any) -> Any:
        return m.bn(torch.cat([m.a(x), m.b(y), m.c(z)], 1))

    layers = {"a": nn.Conv2d(3, 8, 1), "b": nn.Conv2d(4, 16, 1), "c": nn.Conv2d(5, 32, 1)}
    model = Three(run, **layers, bn=nn.BatchNorm2d(56))
    first = next(guesses(model, "a", "b", "c", "bn"))
    assert [shape[1] for shape in first] == [3, 4, 5]
    assert len({shape[2:] for shape in first}) == 1
    rows = bnfuse.report(bnfuse.optimize(model.eval())).folded
    assert [row.name for row in rows] == ["bn"]


def test_two_inputs_of_different_channels_without_a_layer_that_reads_them() -> None:
    model = Two(lambda m, x, y: m.a(torch.cat([x, y.relu()], 1)), a=nn.Conv2d(14, 8, 1))
    found = guesses(model, "relu", "cat", "a")
    assert any({one[1], other[1]} == {8, 6} for one, other in found if len(one) == len(other) == 4)


def test_one_input_may_be_larger_than_the_next() -> None:
    model = Two(
        lambda m, x, y: torch.nn.functional.interpolate(y, scale_factor=2) + m.a(x), a=nn.ReLU()
    )
    regions = "interpolate", "a", "add"
    assert any(
        one[2:] == tuple(2 * n for n in other[2:]) for one, other in guesses(model, *regions)
    )
    assert any(
        other[2:] == tuple(2 * n for n in one[2:]) for one, other in guesses(model, *regions)
    )


@pytest.mark.parametrize("layer", [nn.Conv1d(2, 4, 60, dilation=9), nn.Conv2d(1, 2, 300)])
def test_long_kernels_fit_in(layer: nn.Conv1d | nn.Conv2d) -> None:
    reach = layer.dilation[0] * (layer.kernel_size[0] - 1)
    found = [shape for (shape,) in guesses(nn.Sequential(layer), "_0")]
    assert any(min(shape[2:]) > reach for shape in found if len(shape) == layer.weight.ndim)


def test_no_input_is_too_large_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfuse.regions.inputs._MOST_ELEMENTS", 1 << 18)
    found = [shape for (shape,) in guesses(nn.Sequential(nn.Conv3d(64, 8, 3)), "_0")]
    assert max(torch.Size(shape).numel() for shape in found) <= 1 << 18


@pytest.mark.parametrize("sizes", [(1,), (2, 3, 5, 7, 11, 13, 17, 19)])
def test_the_number_of_guesses_is_bounded_and_none_is_made_twice(sizes: tuple[int, ...]) -> None:
    layers = {f"a{n}": nn.Linear(n, n) for n in sizes}

    def run(m: Any, x: Any, y: Any) -> Any:
        return [m.get_submodule(name)(x + y) for name in layers]

    found = list(guesses(Two(run, **layers), "add", *layers))
    assert len(found) == len(set(found))
    assert 20 < len(found) <= MOST_GUESSES


def test_a_region_without_inputs_has_one_guess() -> None:
    model = One(lambda m, x: x + m.a, a=torch.ones(2))
    program, nodes = traced(model)
    region = Region((nodes["a"],), (), (nodes["a"],))
    assert list(guessed_inputs(program, region, torch.Generator())) == [{}]


def test_known_sizes_stay_and_others_are_filled_in() -> None:
    guess = Guess((9, 7), (3, 5), (1, 2), is_last=False, rank=4)
    open_ = Unknown(fx.Graph().placeholder("x"), 0)
    assert guess.shape(0, None) == (2, 3, 7, 9)
    assert guess.shape(1, None) == (2, 5, 14, 18)
    assert guess.shape(1, (1, open_, 4, open_)) == (1, 5, 4, 18)
    last = Guess((9, 7), (3,), (1,), is_last=True, rank=4)
    assert last.shape(0, None) == (2, 9, 7, 3)
    assert last.shape(0, (open_, open_)) == (2, 3)
    assert last.shape(0, (open_,)) == (2,)
    assert last.shape(0, ()) == ()


def test_random_numbers_are_on_the_cpu_whatever_the_default() -> None:
    with torch.device("meta"):
        assert drawn((2,), torch.Generator().manual_seed(0)).device.type == "cpu"


def first_inputs(model: nn.Module, *names: str) -> dict[str, torch.Tensor]:
    """Return the first inputs of a region, by name."""
    program, nodes = traced(model)
    region = region_of(nodes[name] for name in names)
    inputs = next(guessed_inputs(program, region, torch.Generator()))
    return {node.name: tensor for node, tensor in inputs.items()}


def test_what_is_looked_up_in_a_table_are_its_rows() -> None:
    (ids,) = first_inputs(nn.Sequential(nn.Embedding(5, 6)), "_0").values()
    assert ids.dtype is torch.int64
    assert 0 <= int(ids.min()) <= int(ids.max()) < 5


def test_what_chooses_is_a_mask() -> None:
    model = Two(lambda m, x, y: torch.where(x, y, m.a(y)), a=nn.Conv2d(3, 3, 1))
    inputs = first_inputs(model, "where", "a")
    assert [inputs[name].dtype for name in ("x", "y")] == [torch.bool, torch.float64]


def test_constants_tell_the_sizes_of_what_they_meet() -> None:
    model = One(
        lambda m, x: m.a(x).masked_fill(m.mask, 0.0),
        a=nn.Conv2d(3, 3, 1),
        mask=nn.Buffer(torch.zeros(5, 11, dtype=torch.bool)),
    )
    assert first_inputs(model, "masked_fill", "a")["x"].shape[2:] == (5, 11)
    model = One(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 3, 1), b=nn.LayerNorm((5, 11)))
    assert first_inputs(model, "a", "b")["x"].shape[2:] == (5, 11)


def test_what_was_taken_before_comes_first_where_no_layer_asks_for_a_rank() -> None:
    habit = Habit((3, True))
    for layer, rank in ((nn.Linear(5, 6), 3), (nn.Conv2d(5, 6, 3), 4)):
        program, nodes = traced(nn.Sequential(layer))
        region = region_of([nodes["_0"]])
        (value,) = next(guessed_inputs(program, region, torch.Generator(), habit)).values()
        assert value.ndim == rank
    assert habit.tried == (4, False)
    assert habit.form == (3, True)  # until a region has taken the other
    habit.keep()
    assert habit.form == (4, False)


def test_a_part_makes_a_habit_of_what_its_regions_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that images are not tried first for every region of a transformer."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in ((m.a, m.b), (m.c, m.d)):
            y = layer(x)
            x = norm(y.flatten(0, 1)).reshape_as(y).tanh()
        return x

    tries: Counter[str] = Counter()

    def counted(program: Any, region: Region, *rest: Any) -> Iterator[Any]:
        for inputs in guessed_inputs(program, region, *rest):
            tries[region.nodes[0].name] += 1
            yield inputs

    monkeypatch.setattr("bnfuse.regions.check.guessed_inputs", counted)
    layers = {"a": nn.Linear(5, 6), "b": nn.BatchNorm1d(6), "c": nn.Linear(6, 6)}
    model = ready(One(forward, **layers, d=nn.BatchNorm1d(6)))
    assert len(bnfuse.report(bnfuse.optimize(model)).folded) == 2
    assert tries["a"] > tries["c"] == 1
