"""Draw operations with weights, and norms."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from tests.fuzzing.growing import Grower

MOST_CHANNELS = 8


def per_axis(rng: random.Random, axes: int, choices: Sequence[int]) -> int | tuple[int, ...]:
    """Return a number for all axes, or one for each."""
    if rng.random() < 0.6:
        return rng.choice(choices)
    return tuple(rng.choice(choices) for _ in range(axes))


def groups_and_outputs(g: Grower, channels: int) -> tuple[int, int]:
    """Return groups that divide the channels, and how many channels come out."""
    divisors = [number for number in range(1, channels + 1) if channels % number == 0]
    groups = g.rng.choice(divisors) if g.chance(0.35) else 1
    if g.chance(0.3):
        return groups, channels
    return groups, groups * g.rng.randint(1, max(1, MOST_CHANNELS // groups))


def conv(
    g: Grower, value: str, kernel: object = None, out: int | None = None, **fixed: object
) -> str | None:
    """Draw a convolution layer; what is given is not drawn. Without an image, a linear layer."""
    if len(g.shape(value)) < 3:
        return linear(g, value)
    _, channels, *sizes = g.shape(value)
    axes = len(sizes)
    groups, outputs = groups_and_outputs(g, channels) if out is None else (1, out)
    kernel = per_axis(g.rng, axes, (1, 1, 2, 3, 3)) if kernel is None else kernel
    options = {"bias": g.chance(0.5), "groups": groups, **padding_of(g, axes, kernel)}
    if g.chance(0.25):
        options["stride"] = per_axis(g.rng, axes, (1, 2, 2, 3))
    if g.chance(0.15):
        options["dilation"] = per_axis(g.rng, axes, (1, 2))
    options.update(fixed)
    given = ", ".join(f"{key}={option!r}" for key, option in options.items())
    home = "own" if axes > 1 and g.chance(0.2) else "nn"
    return g.call("conv", f"{home}.Conv{axes}d({channels}, {outputs}, {kernel}, {given})", value)


def padding_of(g: Grower, axes: int, kernel: object) -> dict[str, object]:
    """Return how a convolution pads, often so that it keeps the size."""
    drawn = g.rng.random()
    if drawn < 0.35:
        return {}
    if drawn < 0.65:
        same = kernel // 2 if isinstance(kernel, int) else tuple(k // 2 for k in kernel)  # type: ignore[attr-defined]  # a tuple of int
        return {"padding": same}
    if drawn < 0.75:
        return {"padding": g.rng.choice(("'same'", "'valid'")).strip("'")}
    mode = g.rng.choice(("zeros", "zeros", "reflect", "replicate", "circular"))
    return {"padding": per_axis(g.rng, axes, (0, 1, 1, 2)), "padding_mode": mode}


def conv_function(g: Grower, value: str) -> str | None:
    """Draw a convolution by its function, positional or with keywords."""
    _, channels, *sizes = g.shape(value)
    axes = len(sizes)
    groups, outputs = groups_and_outputs(g, channels)
    kernel = tuple(g.rng.choice((1, 1, 2, 3)) for _ in sizes)
    shape = (outputs, channels // groups, *kernel)
    weights = {"w": f"nn.Parameter(torch.empty({shape}))"}
    if g.chance(0.5):
        weights["b"] = f"nn.Parameter(torch.empty({outputs}))"
    bias = "{b}" if "b" in weights else "None"
    stride, padding = g.rng.choice((1, 1, 2)), g.rng.choice((0, 0, 1, 2))
    home = g.rng.choice(("F", "torch"))
    if g.chance(0.4):
        text = f"{home}.conv{axes}d({value}, {{w}}, {bias}, {stride}, {padding}, 1, {groups})"
    else:
        named = f"stride={stride}, padding={padding}, groups={groups}"
        text = f"{home}.conv{axes}d(input={value}, weight={{w}}, bias={bias}, {named})"
    return g.emit("conv function", text, weights, value)


def transposed(g: Grower, value: str) -> str | None:
    """Draw a transposed convolution, as a layer or by its function."""
    _, channels, *sizes = g.shape(value)
    axes = len(sizes)
    groups, outputs = groups_and_outputs(g, channels)
    kernel = per_axis(g.rng, axes, (1, 2, 2, 3))
    stride, padding = g.rng.choice((1, 1, 2)), g.rng.choice((0, 0, 0, 1))
    extra = f"stride={stride}, padding={padding}, groups={groups}"
    extra += ", output_padding=1" if stride == 2 and g.chance(0.4) else ""
    if g.chance(0.55):
        layer = f"nn.ConvTranspose{axes}d({channels}, {outputs}, {kernel}, {extra}"
        return g.call("transposed conv", f"{layer}, bias={g.chance(0.5)})", value)
    kernels = (kernel,) * axes if isinstance(kernel, int) else kernel
    shape = (channels, outputs // groups, *kernels)
    weights = {"w": f"nn.Parameter(torch.empty({shape}))"}
    text = f"F.conv_transpose{axes}d({value}, {{w}}, None, {extra})"
    return g.emit("transposed conv function", text, weights, value)


def linear(g: Grower, value: str, out: int | None = None) -> str | None:
    """Draw a linear layer on the last axis, in one of its spellings."""
    size = g.shape(value)[-1]
    outputs = g.rng.randint(2, MOST_CHANNELS) if out is None else out
    drawn = g.rng.random()
    if len(g.shape(value)) == 2 and drawn < 0.3:
        return matrix_product(g, value, outputs)
    if drawn < 0.6:
        home = "own" if g.chance(0.2) else "nn"
        return g.call("linear", f"{home}.Linear({size}, {outputs}, bias={g.chance(0.6)})", value)
    if drawn < 0.8:
        weights = {"w": f"nn.Parameter(torch.empty({outputs}, {size}))"}
        return g.emit("linear function", f"F.linear({value}, {{w}})", weights, value)
    weights = {"w": f"nn.Parameter(torch.empty({size}, {outputs}))"}
    text = g.rng.choice((f"{value} @ {{w}}", f"torch.matmul({value}, {{w}})"))
    return g.emit("matmul", text, weights, value)


def matrix_product(g: Grower, value: str, outputs: int) -> str | None:
    """Draw a product of two matrices, as one of the functions that take nothing else."""
    weights = {"w": f"nn.Parameter(torch.empty({g.shape(value)[-1]}, {outputs}))"}
    if g.chance(0.5):
        text = g.rng.choice((f"torch.mm({value}, {{w}})", f"{value}.mm({{w}})"))
        return g.emit("matmul", text, weights, value)
    weights["b"] = f"nn.Parameter(torch.empty({outputs}))"
    extra = g.rng.choice(("", "", ", beta=0.5", ", alpha=2.0, beta=-1"))
    return g.emit("matmul", f"torch.addmm({{b}}, {value}, {{w}}{extra})", weights, value)


def weighted(g: Grower, value: str) -> str | None:
    """Draw an operation with weights that takes such a value."""
    if len(g.shape(value)) < 3 or g.chance(0.07):
        return linear(g, value)
    drawn = g.rng.random()
    if drawn < 0.06:
        return linear_on_channels(g, value)
    if drawn < 0.2:
        return conv_function(g, value)
    return transposed(g, value) if drawn < 0.34 else conv(g, value)


def linear_on_channels(g: Grower, value: str) -> str | None:
    """Draw a linear layer on the channels, which are moved to the end and back."""
    last = g.emit("movedim", f"{value}.transpose(1, -1)", {}, value)
    made = last and linear(g, last)
    return made and g.emit("transpose", f"torch.transpose({made}, 1, -1)", {}, made)


def norm(g: Grower, value: str) -> str | None:
    """Draw a batch norm in one of its spellings, or an instance norm with running statistics."""
    shape = g.shape(value)
    if len(shape) < 2:
        return None
    axes = max(1, len(shape) - 2)
    drawn, eps = g.rng.random(), g.rng.choice((1e-5, 1e-5, 1e-3, 0.1))
    options = f"{shape[1]}, eps={eps}, affine={g.chance(0.85)}"
    if drawn < 0.72 or len(shape) < 2:
        return g.call("batch norm", f"nn.BatchNorm{axes}d({options})", value)
    if drawn < 0.76 and len(shape) > 2:
        layer = f"nn.InstanceNorm{axes}d({options}, track_running_stats=True)"
        return g.call("instance norm", layer, value)
    if drawn < 0.79:
        return g.call("sync batch norm", f"nn.SyncBatchNorm({options})", value)
    return norm_function(g, value, eps)


def norm_function(g: Grower, value: str, eps: float) -> str | None:
    """Draw a batch norm by its function."""
    channels = g.shape(value)[1]
    names = ("mean", "var", "weight", "bias")
    tensors = {
        key: f"nn.{'Buffer' if key in ('mean', 'var') else 'Parameter'}(torch.empty({channels}))"
        for key in names
    }
    drawn = g.rng.random()
    if drawn < 0.4:
        text = f"F.batch_norm({value}, {{mean}}, {{var}}, {{weight}}, {{bias}}, eps={eps})"
    elif drawn < 0.6:
        text = f"F.batch_norm({value}, {{mean}}, {{var}}, training=False, eps={eps})"
    elif drawn < 0.8:
        text = f"F.batch_norm({value}, {{mean}}, {{var}}, None, {{bias}}, False, 0.1, {eps})"
    else:
        order = f"{value}, {{weight}}, {{bias}}, {{mean}}, {{var}}"
        text = f"torch.batch_norm({order}, False, 0.1, {eps}, False)"
    used = {key: made for key, made in tensors.items() if f"{{{key}}}" in text}
    return g.emit("batch norm function", text, used, value)


def flat_head(g: Grower, value: str) -> str | None:
    """Draw a flatten with a linear layer on all that is left of a batch element."""
    shape = g.shape(value)
    if len(shape) < 3 or prod(shape[1:]) > 128:
        return None
    flat = g.emit("flatten", f"torch.flatten({value}, 1)", {}, value)
    return flat and linear(g, flat)
