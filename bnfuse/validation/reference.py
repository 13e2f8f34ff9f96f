"""The unfused model as a reference: in float64 where it can be, whole or layer by layer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.capture import copy_model
from bnfuse.memory import give_back
from bnfuse.validation.inputs import floating_dtype
from bnfuse.validation.memory import is_too_large
from bnfuse.validation.obstacle import cannot_run
from bnfuse.validation.parts import NotByPartsError, WidenedCalls
from bnfuse.validation.runners import ModuleRun, moved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from bnfuse.validation.inputs import Arguments

# In float64 the reference itself rounds, and other kernels run than in float32, where the own error
# is measured: a correct fold in SegFormer's head came out 6.3 times the figure scaled down.
FLOAT64_MARGIN = 8.0
_IN_FLOAT64 = "unfused model in float64"


@dataclass(frozen=True, slots=True)
class Runs:
    """What a module returned for each set of inputs.

    Attributes:
        make: Makes the module anew, to be run.
        outputs: What it returned, in order.
    """

    make: Callable[[], ModuleRun]
    outputs: tuple[Any, ...]

    @classmethod
    def of(cls, make: Callable[[], ModuleRun], sets: Sequence[Arguments], seed: int) -> Runs:
        """Run a module on all sets, and let it go.

        Raises:
            ObstacleError: It cannot run on the first.
            Exception: Whatever it raises on another.
        """
        outputs: list[Any] = []
        try:
            run = make()
            outputs.append(_output(run, sets[0], seed))
        except Exception as error:
            raise ObstacleError from error
        outputs += [_output(run, arguments, seed) for arguments in sets[1:]]
        del run
        give_back()
        return cls(make, tuple(outputs))


class ObstacleError(Exception):
    """A module cannot run on an example; the cause is what it raised."""

    @property
    def headline(self) -> str:
        """What it raised, in a line."""
        cause = self.__cause__
        return f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0]}"


@dataclass(frozen=True, slots=True)
class Reference:
    """What the candidate is compared with.

    Attributes:
        name: What it is, in words.
        exact: The outputs to compare with.
        rounded: The outputs with the rounding errors the unfused model makes itself.
        own_error_ratio: What to multiply the deviation of ``rounded`` from ``exact`` with, to have
            the unfused model's own error in the candidate's dtype.
        ulp: The spacing of numbers just above 1 in the candidate's dtype.
    """

    name: str
    exact: Runs
    rounded: Runs
    own_error_ratio: float
    ulp: float


@dataclass(frozen=True, slots=True)
class _Unfused:
    """The unfused model, of which one copy is run after another: each takes memory.

    Attributes:
        model: The model.
        place: Where to run it.
        sets: The sets of inputs.
        seed: The seed of the random numbers that a forward draws.
    """

    model: nn.Module
    place: torch.device
    sets: Sequence[Arguments]
    seed: int

    def run(self, make: Callable[[], ModuleRun]) -> Runs:
        """Return what it returns.

        Raises:
            ObstacleError: It cannot run on the example.
        """
        return Runs.of(make, self.sets, self.seed)

    def cast(
        self, dtype: torch.dtype | None = None, nudge: float = 0.0, *, is_told: bool = False
    ) -> Runs:
        """Return what it returns in a dtype, or for inputs changed a little.

        Args:
            dtype: The dtype; None for its own.
            nudge: By how much the inputs are changed, relatively.
            is_told: Whether to raise what it raises itself, instead of an ``ObstacleError``.

        Raises:
            ObstacleError: It cannot run on the example.
        """
        try:
            return self.run(lambda: ModuleRun(moved(self.model, self.place, dtype), dtype, nudge))
        except ObstacleError as obstacle:
            if is_told and obstacle.__cause__ is not None:
                raise obstacle.__cause__ from None
            raise

    def in_float64(self, by_parts: bool | None) -> tuple[str, Runs] | None:
        """Return what it returns in float64, and what that is called; None where it cannot run."""
        name = _IN_FLOAT64
        if by_parts or (by_parts is None and is_too_large(self.model, self.place)):
            try:
                runs = self.run(lambda: _layer_by_layer(self.model, self.place))
            except ObstacleError as obstacle:
                name = f"{name}, copied whole because {obstacle.headline}"
            else:
                return f"{name}, layer by layer", runs
        try:
            return name, self.cast(torch.float64)
        except ObstacleError:
            return None


def make_reference(
    model: nn.Module,
    place: torch.device,
    sets: Sequence[Arguments],
    seed: int,
    narrow: torch.dtype | None = None,
    by_parts: bool | None = None,
) -> Reference:
    """Return what the unfused model returns in float64, or as it is where it cannot run in that.

    Args:
        model: The unfused model.
        place: Where to run it.
        sets: The sets of inputs, the arguments of an example call first.
        seed: The seed of the random numbers that a forward draws.
        narrow: The dtype of the candidate, where it is another than the model's.
        by_parts: Whether to widen one layer at a time, not a copy of the whole; None to do so
            where a copy may not fit into memory.

    Raises:
        RequestError: It cannot run on the example at all.
    """
    unfused = _Unfused(model, place, sets, seed)
    try:
        as_it_is = unfused.cast()
    except ObstacleError as obstacle:
        problem = obstacle.__cause__ or obstacle
        raise cannot_run(model, problem) from problem
    dtype = floating_dtype(model, sets[0])
    ulp = torch.finfo(narrow or dtype).eps
    wide = unfused.in_float64(by_parts)
    if wide is None and narrow is None:
        name = "unfused model in its own precision"  # it forces one in its forward
        return Reference(name, as_it_is, unfused.cast(nudge=ulp), 1.0, ulp)
    name, exact = wide or (_IN_FLOAT64, unfused.cast(torch.float64, is_told=True))
    if narrow is not None:
        return Reference(name, exact, unfused.cast(narrow), 1.0, ulp)
    if dtype is not torch.float64:
        return Reference(name, exact, as_it_is, 1.0, ulp)
    try:
        rounded = unfused.cast(torch.float32)
    except ObstacleError:
        return Reference(name, exact, unfused.cast(nudge=ulp), 1.0, ulp)
    ratio = FLOAT64_MARGIN * ulp / torch.finfo(torch.float32).eps
    return Reference(name, exact, rounded, ratio, ulp)


def _output(run: ModuleRun, arguments: Arguments, seed: int) -> Any:
    """Return what a module returns, and nothing that a later call writes."""
    before = _writes(run.module)
    torch.manual_seed(seed)  # the same random numbers for all models, if they draw any
    output = run(arguments)
    return output if _writes(run.module) == before else copy.deepcopy(output)


def _writes(module: nn.Module) -> list[int]:
    """Return how often each tensor of a module was written."""
    tensors = [*module.parameters(), *module.buffers()]
    return [0 if tensor.is_inference() else tensor._version for tensor in tensors]


def _layer_by_layer(model: nn.Module, place: torch.device) -> ModuleRun:
    """Return how to run a copy of a model whose layers are widened during their calls.

    Raises:
        NotByPartsError: A part of it cannot be copied.
    """
    copied = copy_model(model)
    if copied.by_reference:
        raise NotByPartsError("a part of it cannot be copied")
    module = copied.model.to(place)
    return ModuleRun(module, torch.float64, around=WidenedCalls(module).watched)
