"""A random model as text: its layers, its forward line by line, and the calls to make of it."""

from __future__ import annotations

import json
import random
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.fuzzing import own

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMES = {"torch": torch, "nn": nn, "F": F, "own": own}
DTYPES = {
    name: getattr(torch, name.removeprefix("mixed_"))
    for name in ("float64", "float32", "mixed_float16", "mixed_bfloat16")
}
NORMS = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass(frozen=True, slots=True)
class Program:
    """A model and how to call it.

    Attributes:
        inputs: The shapes of the inputs, called x0, x1 and so on.
        layers: The attributes of the model, each with the expression that makes it.
        ties: Pairs of layers of which the first takes the weight of the second.
        steps: The lines of the forward, each with the operation it is counted as.
        result: What the forward returns.
        seed: From which all weights and inputs are drawn.
        dtype: The dtype of the model; norms stay in float32 where it starts with "mixed_".
        example: Whether the model is optimized for an example.
        checked: Whether rewrites are checked while the model is optimized.
    """

    inputs: tuple[tuple[int, ...], ...]
    layers: tuple[tuple[str, str], ...]
    ties: tuple[tuple[str, str], ...]
    steps: tuple[tuple[str, str], ...]
    result: str
    seed: int = 0
    dtype: str = "float64"
    example: bool = False
    checked: bool = True

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Program:
        """Return the program that ``asdict`` or JSON made of one."""
        pairs = ("inputs", "layers", "ties", "steps")
        return cls(**{**data, **{key: tuple(map(tuple, data[key])) for key in pairs}})

    @property
    def source(self) -> str:
        """The forward as Python."""
        arguments = ", ".join(f"x{index}" for index in range(len(self.inputs)))
        lines = [f"def forward(self, {arguments}):", *(f"    {text}" for _, text in self.steps)]
        return "\n".join([*lines, f"    return {self.result}", ""])

    def __str__(self) -> str:
        layers = [f"self.{name} = {expression}" for name, expression in self.layers]
        layers += [f"self.{name}.weight = self.{of}.weight" for name, of in self.ties]
        calls = [f"# x{index}: {shape}" for index, shape in enumerate(self.inputs)]
        return "\n".join([*layers, *calls, self.source])

    def as_json(self) -> str:
        """Return the program as it is kept in a file."""
        return json.dumps(asdict(self))

    def build(self) -> nn.Module:
        """Return the model in eval mode, the same at every call."""
        namespace: dict[str, Any] = dict(NAMES)
        exec(compile(self.source, "<program>", "exec"), namespace)
        model: nn.Module = type("Net", (nn.Module,), {"forward": namespace["forward"]})()
        for name, expression in self.layers:
            setattr(model, name, made(name, expression, self.seed))
        for name, of in self.ties:
            getattr(model, name).weight = getattr(model, of).weight
        return cast(model.eval(), self.dtype)

    def example_inputs(
        self, seed: int = 0, shapes: Sequence[tuple[int, ...]] | None = None
    ) -> tuple[Tensor, ...]:
        """Return inputs of the shapes given, or of its own."""
        dtype = DTYPES[self.dtype]
        return tuple(
            noise(f"x{index}", self.seed + seed, shape).to(dtype)
            for index, shape in enumerate(shapes or self.inputs)
        )


def noise(name: str, seed: int, shape: Sequence[int]) -> Tensor:
    """Return float64 noise that a name and a seed determine."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


def made(name: str, expression: str, seed: int) -> Any:
    """Return an attribute of the model in float64, filled with values its name determines."""
    with torch.random.fork_rng(devices=[]):
        value = eval(expression, dict(NAMES))
    if isinstance(value, Tensor):
        value.data = filled(name, value, seed)
    if not isinstance(value, nn.Module):
        return value
    value.double().eval()
    for key, tensor in (*value.named_parameters(), *value.named_buffers()):
        if tensor.is_floating_point():
            tensor.data = filled(f"{name}.{key}", tensor, seed)
    if isinstance(value, NORMS) and value.weight is not None:
        value.weight.data = scales(name, value.weight, seed)
    return value


def filled(name: str, tensor: Tensor, seed: int) -> Tensor:
    """Return random values for a tensor, as its name says: positive, far from zero, or any."""
    values = noise(name, seed, tensor.shape)
    if "var" in name or name.startswith("positive"):
        return values.abs() + 0.2
    if name.startswith("divisor"):
        return torch.where(values < 0, values - 0.5, values + 0.5)
    if tensor.dim() > 1 and tensor.shape[0] > 1:
        return values / max(1, tensor[0].numel()) ** 0.5
    return values


def scales(name: str, tensor: Tensor, seed: int) -> Tensor:
    """Return scales of a norm: of one sign, of both, or with zeros among them."""
    values, kind = noise(f"{name}.scale", seed, tensor.shape), random.Random(f"{name}{seed}")
    drawn = kind.random()
    if drawn < 0.3:
        return values.abs() + 0.1
    if drawn < 0.5:
        values[noise(f"{name}.zero", seed, tensor.shape) > 0.8] = 0.0
    return values


def cast(model: nn.Module, dtype: str) -> nn.Module:
    """Cast a model in float64."""
    if dtype != "float64":
        model.to(DTYPES[dtype])
    if dtype.startswith("mixed_"):
        for module in model.modules():
            if isinstance(module, NORMS):
                module.float()
    return model
