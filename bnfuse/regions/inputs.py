"""Random inputs for a region: of shapes that the graph fixes, and else of small ones it accepts.

What a graph proves about shapes leaves some sizes open, and those of several inputs may depend on
each other. Guesses are tried in order, the likeliest first, until the region runs. Small sizes do
as well as large ones, as long as borders and inside both occur: a rewrite is to hold for all. They
differ from one another where the region lets them, so that a mistaken axis shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.ops.calls import read_call
from bnfuse.ops.linear import input_channels
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, fx

    from bnfuse.graph import Program
    from bnfuse.ops.shape_rules import Shape
    from bnfuse.regions.region import Region

BATCH = 2
MOST_GUESSES = 120
_MOST_ELEMENTS = 1 << 22
_SPATIAL = (
    (9, 7), (14, 14), (8, 12), (16, 16), (7, 7), (28, 28), (56, 56), (32, 32), (24, 24), (64, 64),
    (112, 112), (224, 224), (1, 1),
)  # fmt: skip
_SMALL = (7, 5)
_SCALES = ((1, 1), (2, 1), (1, 2), (4, 1), (1, 4))


@dataclass(frozen=True, slots=True)
class Guess:
    """What a guess takes unknown sizes to be.

    Attributes:
        spatial: The sizes of the last axes.
        channels: Those of the channel axis, for each input.
        scales: What the sizes of each input are multiplied with; the last one for all that follow.
        is_last: Whether the channels lie on the last axis.
        rank: The number of axes where it is unknown.
    """

    spatial: tuple[int, int]
    channels: tuple[int, ...]
    scales: tuple[int, ...]
    is_last: bool
    rank: int

    def shape(self, number: int, known: Shape | None) -> tuple[int, ...]:
        """Return the shape of an input, by its number, with the sizes that are known."""
        rank = self.rank if known is None else len(known)
        axis = rank - 1 if self.is_last or rank < 3 else 1
        scale = self.scales[min(number, len(self.scales) - 1)]
        sizes: list[int] = []
        for place in range(rank):
            size = None if known is None else known[place]
            if not isinstance(size, int):
                size = BATCH if place == 0 else self.spatial[(rank - 1 - place) % 2] * scale
                size = self.channels[number] if place == axis and rank > 1 else size
            sizes.append(size)
        return tuple(sizes)


@dataclass(slots=True)
class Habit:
    """What inputs the regions of a part took before: in a transformer, most take the same.

    Attributes:
        form: The rank, and whether the channels lie on the last axis, of the last that were taken.
        tried: The same of those that were yielded last.
    """

    form: tuple[int, bool] | None = None
    tried: tuple[int, bool] | None = None

    def keep(self) -> None:
        """Note that a region has taken what was yielded last."""
        self.form = self.tried


def guessed_inputs(
    program: Program, region: Region, generator: torch.Generator, habit: Habit | None = None
) -> Iterator[dict[fx.Node, Tensor]]:
    """Yield values for the inputs of a region, float64, of one shape after another.

    Args:
        program: The program.
        region: The region.
        generator: Where random numbers come from.
        habit: What to try first where no layer of the region asks for a rank.
    """
    habit = habit or Habit()
    known = {node: program.batched_shapes.of(node) for node in region.inputs}
    tried: set[tuple[tuple[int, ...], ...]] = set()
    for guess in islice(_guesses(program, region, habit.form), 8 * MOST_GUESSES):
        shapes = tuple(guess.shape(n, known[node]) for n, node in enumerate(region.inputs))
        if shapes in tried or any(prod(shape) > _MOST_ELEMENTS for shape in shapes):
            continue
        if len(tried) == MOST_GUESSES:
            return
        tried.add(shapes)
        habit.tried = guess.rank, guess.is_last
        yield {
            node: _values(program, region, node, drawn(shape, generator))
            for node, shape in zip(region.inputs, shapes, strict=True)
        }


def drawn(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return normal random numbers."""
    return torch.randn(shape, dtype=torch.float64, generator=generator, device="cpu")


def _values(program: Program, region: Region, node: fx.Node, random: Tensor) -> Tensor:
    """Return random values as the region reads them: as rows of a table, as a mask, or plain."""
    for reader in region.nodes:
        call = read_call(program, reader) if node in reader.all_input_nodes else None
        if call is None or node not in call.operands:
            continue
        if call.kind is Kind.EMBEDDING and call.tensor("weight") is not None:
            return (random * 64).long().remainder(call.weight.shape[0])
        if call.kind in (Kind.CHOICE, Kind.FILL) and node is call.operands[-1]:
            return random > 0
    return random


def _guesses(program: Program, region: Region, usual: tuple[int, bool] | None) -> Iterator[Guess]:
    channels, asked_ranks = _sizes_of_layers(program, region)
    forms = list(product(dict.fromkeys([*asked_ranks, 4, 3, 2, 5]), (False, True)))
    if usual is not None and not asked_ranks:
        forms = list(dict.fromkeys([usual, *forms]))
    asked = tuple(_asked(program, region, node) or channels[0] for node in region.inputs)
    per_input = list(islice(_choices(channels, asked), 24))
    reach = _reach(program, region)
    given = [*_sizes_of_constants(program, region), *_sizes_for_outputs(program, region)]
    small = (reach + 3, reach + 2)  # the kernels fit, inside and over the borders; BATCH is another
    sizes = [*given, small, _SMALL, *_SPATIAL]
    for spatial, scales in [(s, _SCALES[0]) for s in sizes] + [
        (_SPATIAL[1], scales) for scales in _SCALES[1:]
    ]:
        for (rank, is_last), chosen in product(forms, per_input):
            yield Guess(spatial, chosen, scales, is_last, rank)


def _choices(channels: list[int], asked: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield a number of channels for each input: what layers ask for, one for all, all else."""
    yield asked
    yield from ((size,) * len(asked) for size in channels)
    if len(asked) > 1:
        yield from product(channels, repeat=len(asked))


def _asked(program: Program, region: Region, node: fx.Node) -> int | None:
    """Return how many channels the first layer of a region that reads an input asks for."""
    for user in region.nodes:
        call = read_call(program, user) if node in user.all_input_nodes else None
        is_first = call is not None and call.kind.is_linear and call.input is node
        if call is not None and is_first and call.tensor("weight") is not None:
            return input_channels(call)
    return None


def _reach(program: Program, region: Region) -> int:
    """Return how long an input has to be for the kernels of a region to fit in, one by one."""
    reach = 1
    for node in region.nodes:
        call = read_call(program, node)
        if call is not None and call.kind is Kind.CONVOLUTION and call.tensor("weight") is not None:
            step = call.options.get("dilation", 1)
            steps = step if isinstance(step, list | tuple) else (step,)
            reach += max(steps) * (max(call.weight.shape[2:], default=1) - 1)
    return reach


def _sizes_for_outputs(program: Program, region: Region) -> list[tuple[int, int]]:
    """Return the image sizes for which transposed convolutions can give the sizes asked of them.

    ``out = (in - 1) stride - 2 padding + dilation (k - 1) + 1``, and up to ``stride - 1`` more.
    """
    found = []
    for node in region.nodes:
        wanted: Any = node.kwargs.get("output_size", node.args[1] if len(node.args) > 1 else None)
        call = read_call(program, node) if isinstance(wanted, list | tuple) else None
        if call is None or call.kind is not Kind.TRANSPOSED_CONVOLUTION or not call.is_module:
            continue
        names = ("stride", "padding", "dilation")
        axes = zip(wanted, call.weight.shape[2:], *(call.options[n] for n in names), strict=False)
        sizes = [(out + 2 * p - d * (k - 1) - 1) // s + 1 for out, k, s, p, d in axes]
        found += [(sizes[-1], sizes[-2])] if len(sizes) > 1 else []
    return found


def _sizes_of_constants(program: Program, region: Region) -> list[tuple[int, int]]:
    """Return the last two sizes of tensors that are to fit values: masks, constants, norms'."""
    calls = [read_call(program, node) for node in region.nodes]
    weights = {
        c.path for call in calls if call and call.kind.is_linear for c in call.owned.values()
    }
    found: list[tuple[int, ...]] = []
    for node, call in zip(region.nodes, calls, strict=True):
        path = str(node.target) if node.op == "get_attr" else ""
        tensor = program.tensor(path) if path and path not in weights else None
        if call is not None and call.kind is Kind.LAYER_NORM:
            tensor = call.tensor("weight")
        if tensor is not None and tensor.ndim > 1 and 1 not in tensor.shape[-2:]:
            found.append(tuple(tensor.shape[-2:]))
    return [(sizes[1], sizes[0]) for sizes in dict.fromkeys(found)]  # counted from the last axis


def _sizes_of_layers(program: Program, region: Region) -> tuple[list[int], list[int]]:
    """Return the numbers of channels, and the ranks, that the layers of a region ask for."""
    channels: list[int] = []
    ranks: list[int] = []
    for node in region.nodes:
        call = read_call(program, node)
        weight = None if call is None else call.tensor("weight")
        if node.op == "get_attr" and (tensor := program.tensor(str(node.target))) is not None:
            channels += tensor.shape
        if call is None or weight is None:
            mean = None if call is None else call.tensor("running_mean")
            channels += [] if mean is None else [mean.numel()]
            continue
        channels += [input_channels(call)] if call.kind.is_linear else []
        channels += [weight.shape[0]]
        ranks += [weight.ndim] if call.kind.is_linear and weight.ndim > 2 else []
    return list(dict.fromkeys([*channels, 6])), ranks
