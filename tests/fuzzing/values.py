"""Draw operations on values: arithmetic, activations, poolings, and writes in place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzzing.growing import Grower

ACTIVATIONS = (
    "nn.ReLU()", "nn.ReLU(inplace=True)", "nn.LeakyReLU(0.2)", "nn.LeakyReLU(0.1, inplace=True)",
    "nn.LeakyReLU(-0.3)", "nn.ReLU6()", "nn.ReLU6(inplace=True)", "nn.Hardswish()", "nn.SiLU()",
    "nn.SiLU(inplace=True)", "nn.GELU()", "nn.Sigmoid()", "nn.Tanh()", "nn.Softmax(1)",
    "nn.ELU(inplace=True)", "nn.Hardtanh()", "nn.Softplus()", "nn.Mish()", "nn.Hardsigmoid()",
    "nn.PReLU()",
)  # fmt: skip
ACTIVATION_FUNCTIONS = (
    "F.relu({v})", "F.relu({v}, inplace=True)", "torch.relu({v})", "{v}.relu()", "{v}.sigmoid()",
    "{v}.tanh()", "torch.tanh({v})", "F.leaky_relu({v}, 0.3)", "F.leaky_relu({v}, 2.0)",
    "F.leaky_relu({v}, 0.1, True)", "F.relu6({v})", "F.silu({v})", "F.hardswish({v})",
    "F.softmax({v}, dim=-1)", "torch.clamp({v}, min=0)", "{v}.clamp(-1.0, 1.0)", "{v}.clamp(max=2)",
    "{v}.abs()", "{v}.relu_()", "torch.relu_({v})", "F.gelu({v}, approximate='tanh')", "{v}.exp()",
    "F.threshold({v}, 0.1, 0.0)", "{v}.clamp_min(0.0)", "F.elu({v})", "torch.square({v})",
)  # fmt: skip
RELUS = ("F.relu({v})", "{v}.relu()", "torch.relu({v})", "F.leaky_relu({v}, 0.2)")
NOTHING = (
    "nn.Identity()", "nn.Dropout(0.4)", "nn.Dropout2d(0.4)", "nn.Dropout2d(0.1)",
    "nn.Dropout(0.3, inplace=True)",
)  # fmt: skip
WRITES = (
    "{v}.add_({c})", "{v}.mul_({c})", "{v} += {c}", "{v} *= {c}", "{v} -= {c}", "{v} /= {d}",
    "{v}.relu_()", "{v}.sub_({c})", "{v}.div_({d})", "{v}[:, :1] *= 2.0", "{v}[:, 0].add_(1.0)",
    "{v}.narrow(1, 0, 1).mul_(-1.5)", "{v}[..., :1] = 0.5", "{v}.neg_()", "{v}.clamp_(-2.0, 2.0)",
    "{v} *= {c}", "{v} *= {c}", "{v} -= {c}", "{v} -= {c}", "{v}.flatten(1).mul_(0.5)",
    "{v}.copy_({v} * 2.0)", "{v}.view({v}.shape[0], -1).add_(1.0)",
)  # fmt: skip


def constant(g: Grower, value: str, divisor: bool = False) -> tuple[str, dict[str, str]]:
    """Return a constant to compute with: a number or a tensor, and how that is made."""
    if g.chance(0.3):
        return str(g.rng.choice((2.0, -0.5, 0.25, 3, -1.5))), {}
    shape = list(g.shape(value))
    rank, channels = len(shape), shape[min(1, len(shape) - 1)]
    shapes: list[tuple[int, ...]] = [(), (1,), (shape[-1],)]
    if rank > 2:
        along = (channels, *(1 for _ in shape[2:]))
        shapes += [along, along, along, (1, *along), (1, *along), tuple(shape[1:])]
    else:
        shapes += [(channels,), (1, channels)]
    kind = g.rng.choice(("Parameter", "Buffer"))
    key = "divisor" if divisor else g.rng.choice(("positive", "any", "any"))
    computed = g.rng.choice((".exp()", ".tanh()", " * 2.0", ".abs()"))
    text = f"({{{key}}}{computed})" if not divisor and g.chance(0.15) else f"{{{key}}}"
    return text, {key: f"nn.{kind}(torch.empty({g.rng.choice(shapes)}))"}


def affine(g: Grower, value: str) -> str | None:
    """Draw arithmetic of a value and a constant."""
    form = g.rng.choice(
        ("{v} * {c}", "{v} + {c}", "{v} - {c}", "{c} * {v}", "{c} + {v}", "{c} - {v}", "{v} / {d}",
         "torch.add({v}, {c})", "torch.mul({v}, {c})", "{v}.mul({c})", "{v}.add({c}, alpha=2)",
         "torch.sub({v}, {c})", "{v}.div({d})", "-{v}", "torch.neg({v})", "{v}.sub({c})",
         "torch.sub({v}, {c}, alpha=0.5)", "torch.div({v}, {d})", "torch.neg({v})", "-{v}",
         "{v}.div({d})")
    )  # fmt: skip
    text, tensors = constant(g, value, divisor="{d}" in form)
    text = form.format(v=value, c=text, d=text)
    return g.emit("affine", text, tensors if "{" in text else {}, value)


def layer_scale(g: Grower, value: str) -> str | None:
    """Draw a scale on the channels, of both signs or positive, and often a shift."""
    shape = g.shape(value)
    along = (shape[1], *(1 for _ in shape[2:])) if len(shape) > 1 else shape
    key = g.rng.choice(("positive", "any"))
    tensors = {key: f"nn.Parameter(torch.empty({along}))"}
    if g.chance(0.4):
        tensors["shift"] = f"nn.Buffer(torch.empty({along}))"
    text = f"{value} * {{{key}}}" + (" + {shift}" if "shift" in tensors else "")
    return g.emit("layer scale", text, tensors, value)


def activation(g: Grower, value: str) -> str | None:
    """Draw an activation, a relu more often than another."""
    drawn = g.rng.random()
    if drawn < 0.3:
        return g.emit("relu", g.rng.choice(RELUS).format(v=value), {}, value)
    if drawn < 0.65:
        layer = g.rng.choice(ACTIVATIONS)
        return g.call(layer.split("(")[0].removeprefix("nn.").lower(), layer, value)
    text = g.rng.choice(ACTIVATION_FUNCTIONS)
    name = text.split("(")[0].split(".")[1]
    return g.emit(name, text.format(v=value), {}, value)


def write(g: Grower, value: str) -> str | None:
    """Draw a write in place, with a constant or another value."""
    form = g.rng.choice(WRITES)
    others = g.alike(value)
    found = re.search(r"\w+_(?=\()|\S?=", form)
    name = found.group() if found else "other"
    if others and "{c}" in form and g.chance(0.65):
        other = g.rng.choice(others)
        g.read.add(other)
        return g.write(f"write {name}", form.format(v=value, c=other), value)
    text, tensors = constant(g, value, divisor="{d}" in form)
    text = form.format(v=value, c=text, d=text)
    return g.write(f"write {name}", text, value, tensors if "{" in text else {})


def write_anywhere(g: Grower, value: str) -> str | None:
    """Draw a write to any value so far, an input among them; the latest value stays the latest."""
    write(g, g.rng.choice(list(g.values)))
    return value


def assertion(g: Grower, value: str) -> str | None:
    """Draw an assertion of how many dimensions a value has."""
    asked = g.rng.choice((f"{value}.ndim", f"{value}.dim()"))
    message = g.rng.choice(("'rank'", f"f'rank {{{asked}}}'"))
    text = f"torch._assert({asked} == {len(g.shape(value))}, {message})"
    return g.write("assertion", text.replace("{", "{{").replace("}", "}}"), value)


def pool(g: Grower, value: str) -> str | None:
    """Draw a pooling that fits the rank."""
    shape = g.shape(value)
    axes = len(shape) - 2
    if axes < 1:
        return None
    kernel, stride = g.rng.choice((2, 2, 3)), g.rng.choice((1, 2, 2))
    padding, ceil = g.rng.choice((0, 0, 1)), g.chance(0.25)
    common = f"{kernel}, stride={stride}, padding={padding}, ceil_mode={ceil}"
    module, drawn = g.chance(0.5), g.rng.random()
    if drawn < 0.27:
        layer = f"nn.MaxPool{axes}d({common})"
        text = f"F.max_pool{axes}d({value}, {common})"
        return g.call("max pool", layer, value) if module else g.emit("max pool", text, {}, value)
    if drawn < 0.5:
        common += f", count_include_pad={g.chance(0.5)}"
        if axes > 1 and g.chance(0.2):
            common += f", divisor_override={g.rng.choice((1, 3, 4))}"
        layer = f"nn.AvgPool{axes}d({common})"
        text = f"F.avg_pool{axes}d({value}, {common})"
        return g.call("avg pool", layer, value) if module else g.emit("avg pool", text, {}, value)
    size = g.rng.choice((1, 2, 3))
    kind = g.rng.choice(("Max", "Avg"))
    text = f"F.adaptive_{kind.lower()}_pool{axes}d({value}, {size})"
    layer = f"nn.Adaptive{kind}Pool{axes}d({size})"
    name = f"adaptive {kind.lower()} pool"
    return g.call(name, layer, value) if module else g.emit(name, text, {}, value)


def reduce(g: Grower, value: str) -> str | None:
    """Draw a mean, or another reduction, often over the image."""
    rank = len(g.shape(value))
    if rank < 3:
        return None
    axes = tuple(range(2, rank)) if g.chance(0.7) else (g.rng.randrange(rank),)
    name = g.rng.choice(("mean", "mean", "mean", "sum", "sum", "amax", "amax"))
    keep = g.rng.choice((", keepdim=True", ", True", "", ""))
    home = g.chance(0.5)
    text = f"torch.{name}({value}, {axes}{keep})" if home else f"{value}.{name}({axes}{keep})"
    return g.emit(name, text, {}, value)


def nothing(g: Grower, value: str) -> str | None:
    """Draw a layer that does nothing in eval mode."""
    layer = g.rng.choice((*NOTHING, "F"))
    if layer == "F":
        return g.emit("dropout", f"F.dropout({value}, 0.3, training=self.training)", {}, value)
    return g.call(layer.split("(")[0].removeprefix("nn.").lower(), layer, value)


def join(g: Grower, value: str) -> str | None:
    """Draw arithmetic of two values, most often a sum."""
    others = g.alike(value)
    other = g.rng.choice(others) if others else value
    form = g.rng.choice(
        ("{v} + {o}", "{o} + {v}", "{v} + {o}", "torch.add({v}, {o})", "{v} - {o}", "{o} - {v}",
         "{v} * {o}", "{v} * {o}.sigmoid()", "{v} / ({o}.abs() + 0.5)", "{v}.add({o}, alpha=2)",
         "{v}.sub({o})", "torch.mul({o}, {v})", "{v} + {v}", "torch.maximum({v}, {o})",
         "{v} / ({o}.sigmoid() + 0.5)", "{v} / {o}", "torch.div({v}, {o}.abs() + 0.5)",
         "{v}.mul({o})")
    )  # fmt: skip
    return g.emit("join", form.format(v=value, o=other), {}, value, other)
