"""Grow a program step by step: every step is run as it is drawn, and dropped where it cannot be."""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tests.fuzzing.program import NAMES, made, noise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_ELEMENTS = 4096
LARGEST = 1e4


class Grower:
    """A program in the making.

    Attributes:
        rng: What everything is drawn from.
        model: Carries the layers drawn so far.
        values: The values so far, by name.
        tuples: The results of splits so far, likewise.
        hidden: Values that no later step should read.
        read: Values that a step has read.
        layers: As in ``Program``, as is the rest.
        calls: Layers that were called on a value, each with the shape of that value.
    """

    def __init__(self, rng: random.Random, inputs: Sequence[tuple[int, ...]], seed: int) -> None:
        self.rng, self.seed, self.inputs = rng, seed, tuple(inputs)
        self.model: Any = nn.Module()
        self.values: dict[str, Tensor] = {
            f"x{index}": noise(f"x{index}", seed, shape) for index, shape in enumerate(inputs)
        }
        self.tuples: dict[str, Any] = {}
        self.hidden: set[str] = set()
        self.read: set[str] = set()
        self.layers: list[tuple[str, str]] = []
        self.ties: list[tuple[str, str]] = []
        self.steps: list[tuple[str, str]] = []
        self.calls: list[tuple[str, str, tuple[int, ...]]] = []

    def shape(self, value: str) -> tuple[int, ...]:
        """Return the shape of a value."""
        return tuple(self.values[value].shape)

    def chance(self, probability: float) -> bool:
        """Return True so often."""
        return self.rng.random() < probability

    def alike(self, value: str) -> list[str]:
        """Return the other values of the same shape that may be read."""
        shape = self.shape(value)
        return [
            name
            for name, tensor in self.values.items()
            if name != value and name not in self.hidden and tuple(tensor.shape) == shape
        ]

    def call(self, operation: str, layer: str, value: str) -> str | None:
        """Draw a call of a new layer, now and then with the weight of one that has its shape."""
        result = self.emit(operation, f"{{layer}}({value})", {"layer": layer}, value)
        if result:
            name = self.layers[-1][0]
            self.calls.append((operation, name, self.shape(value)))
            self._tie(name, layer)
        return result

    def again(self, value: str) -> str | None:
        """Draw a further call of a layer that was called on such a value."""
        found = [call for call in self.calls if call[2] == self.shape(value)]
        if not found:
            return None
        operation, name, _ = self.rng.choice(found)
        return self.emit(operation, f"self.{name}({value})", {}, value)

    def emit(
        self, operation: str, text: str, made_of: Mapping[str, str], *reads: str
    ) -> str | None:
        """Draw a step with a new value, and return the name of that.

        Args:
            operation: What the step is counted as.
            text: The expression, with a placeholder for each new attribute of the model.
            made_of: The expression that makes each of these attributes.
            reads: The values that are read.
        """
        name = f"v{len(self.steps) + 1}"
        result = self._run(operation, text, made_of, name)
        if not isinstance(result, Tensor) or not self._fits(result):
            if result is not None:
                self._undo()
            return None
        self.values[name] = result
        self.read.update(reads)
        return name

    def emit_parts(self, operation: str, text: str, *reads: str) -> list[str]:
        """Draw a step whose result is a tuple, and return an expression for each part."""
        name = f"v{len(self.steps) + 1}"
        result = self._run(operation, text, {}, name)
        if result is None:
            return []
        self.tuples[name] = result
        self.read.update(reads)
        return [f"{name}[{index}]" for index in range(len(result))]

    def write(
        self, operation: str, text: str, value: str, made_of: Mapping[str, str] | None = None
    ) -> str | None:
        """Draw a statement that changes a value, and return the name of that."""
        before = self.values[value]
        if self._run(operation, text, made_of or {}, None) is None:
            return None
        if self.values[value].shape == before.shape:
            return value
        self._undo()
        self.values[value] = before
        return None

    def _run(self, operation: str, text: str, made_of: Mapping[str, str], name: str | None) -> Any:
        prefixes = {key: f"{key}{len(self.layers) + i}" for i, key in enumerate(made_of)}
        self._started = len(self.layers)
        text = text.format(**{key: f"self.{name}" for key, name in prefixes.items()})
        line = f"{name} = {text}" if name else text
        space: dict[str, Any] = {**NAMES, "self": self.model}
        local: dict[str, Any] = {**self.values, **self.tuples}
        self.steps.append((operation, line))
        try:
            for key, attribute in prefixes.items():
                setattr(self.model, attribute, made(attribute, made_of[key], self.seed))
                self.layers.append((attribute, made_of[key]))
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("error")
                exec(line, space, local)
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError, UserWarning):
            self._undo()
            return None
        self.values.update({key: local[key] for key in self.values})
        return local[name] if name else True

    def _undo(self) -> None:
        """Forget the last step and the layers made for it."""
        self.steps.pop()
        for name, _ in self.layers[self._started :]:
            delattr(self.model, name)
        del self.layers[self._started :]

    def _fits(self, result: Tensor) -> bool:
        return (
            result.is_floating_point()
            and 0 < result.numel() <= MOST_ELEMENTS
            and 1 <= result.dim() <= 5
            and float(result.abs().max()) < LARGEST  # not so of NaN
        )

    def _tie(self, name: str, layer: str) -> None:
        weight = getattr(getattr(self.model, name), "weight", None)
        others = [
            other
            for other, expression in self.layers[:-1]
            if expression.split("(")[0] == layer.split("(")[0]
            and getattr(getattr(self.model, other), "weight", None) is not None
            and getattr(self.model, other).weight.shape == getattr(weight, "shape", None)
        ]
        if others and self.chance(0.15):
            other = self.rng.choice(others)
            self.ties.append((name, other))
            getattr(self.model, name).weight = getattr(self.model, other).weight
