"""Draw what networks are built of: blocks of several steps around batch norms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzzing import layouts, merges, values, weighted

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzzing.growing import Grower

    Draw = Callable[[Grower, str], str | None]


def chain(g: Grower, value: str, *draws: Draw) -> str | None:
    """Draw one after the other; values in between are read by nothing else, as a rule."""
    for draw in draws:
        made = draw(g, value)
        if made is None:
            continue
        if made != value and value in g.read and g.chance(0.9) and not value.startswith("x"):
            g.hidden.add(value)
        value = made
    return value


def conv_norm_act(g: Grower, value: str) -> str | None:
    """Draw a layer, a norm and an activation."""
    return chain(g, value, weighted.weighted, weighted.norm, values.activation)


def same_conv(g: Grower, value: str) -> str | None:
    """Draw a convolution that keeps the size and the number of channels."""
    if len(g.shape(value)) < 2:
        return None
    kernel = g.rng.choice((1, 3))
    fixed = {"padding": kernel // 2, "stride": 1, "dilation": 1}
    return weighted.conv(g, value, kernel, g.shape(value)[1], **fixed)


def residual(g: Grower, value: str) -> str | None:
    """Draw a residual block."""
    body = chain(g, value, same_conv, weighted.norm, values.activation, same_conv, weighted.norm)
    if body is None or g.shape(body) != g.shape(value) or body == value:
        return body
    if g.chance(0.3):
        return g.write("write residual", f"{body} += {value}", body)
    made = g.emit("join", g.rng.choice((f"{body} + {value}", f"{value} + {body}")), {}, body, value)
    return made and chain(g, made, values.activation)


def branches(g: Grower, value: str) -> str | None:
    """Draw parallel branches that are summed, or otherwise joined, with norms of their own."""
    arms = []
    for kind in g.rng.sample((3, 3, 1, 0, 0), g.rng.choice((2, 2, 3))):
        fixed = {"padding": kind // 2, "stride": 1, "dilation": 1, "padding_mode": "zeros"}
        arm = weighted.conv(g, value, kind, g.shape(value)[1], **fixed) if kind else value
        if arm and (g.chance(0.8) or not kind):
            g.hidden.update({arm} - {value})
            arm = weighted.norm(g, arm)
        if arm:
            arms.append(arm)
    if not arms:
        return None
    if g.chance(0.25):
        made = g.emit("cat", f"torch.cat([{', '.join(arms)}], 1)", {}, *arms)
    else:
        sign = g.rng.choice((" + ", " + ", " + ", " - "))
        made = g.emit("join", sign.join(arms), {}, *arms)
    if made:
        g.hidden.update(set(arms) - {value})
    return made and (weighted.norm(g, made) if g.chance(0.3) else made)


def through(g: Grower, value: str) -> str | None:
    """Draw operations between a layer and a norm that folds into it."""
    between: list[Draw] = [
        layouts.move, layouts.permutation, layouts.reshape, values.pool, layouts.concatenate,
        layouts.resize, layouts.divide, values.reduce, layouts.take, values.layer_scale,
        values.affine, values.nothing, layouts.pad,
    ]  # fmt: skip
    draws = g.rng.sample(between, g.rng.choice((1, 1, 2, 3)))
    return chain(g, value, weighted.weighted, *draws, weighted.norm)


def norm_first(g: Grower, value: str) -> str | None:
    """Draw a norm, or a scale, before a layer, with or without something between."""
    between: list[Draw] = [values.nothing, layouts.move, values.pool, layouts.permutation]
    draws = [g.rng.choice(between)] if g.chance(0.3) else []
    first = weighted.norm if g.chance(0.8) else values.layer_scale
    return chain(g, value, values.activation, first, *draws, reader)


def norm_before_bounds(g: Grower, value: str) -> str | None:
    """Draw a norm of what no layer made, before an activation with bounds and a layer."""
    bounded = ("F.relu({v})", "torch.relu({v})", "{v}.clamp(min=0.0)", "F.relu6({v})")
    first = g.emit("tanh", f"torch.tanh({value})", {}, value)
    normal = first and weighted.norm(g, first)
    made = normal and g.emit("relu", g.rng.choice(bounded).format(v=normal), {}, normal)
    if not (first and normal and made):
        return normal or first
    g.hidden.update({first, normal, made})
    return reader(g, made)


def reader(g: Grower, value: str) -> str | None:
    """Draw a layer that takes a shift more often than others do."""
    if len(g.shape(value)) < 3:
        return weighted.linear(g, value)
    fixed = {} if g.chance(0.3) else {"padding": 0}
    return weighted.flat_head(g, value) if g.chance(0.15) else weighted.conv(g, value, **fixed)


def scaled_relu(g: Grower, value: str) -> str | None:
    """Draw a relu with a positive scale behind or before it."""
    return chain(g, value, weighted.weighted, _relu, values.layer_scale, weighted.weighted)


def _relu(g: Grower, value: str) -> str | None:
    return g.emit("relu", g.rng.choice(values.RELUS).format(v=value), {}, value)


def two_arms(g: Grower, value: str) -> str | None:
    """Draw two layers over one value that are joined, and a norm."""
    first, second = same_conv(g, value), same_conv(g, value)
    if first is None or second is None:
        return first or second
    draws: list[Draw] = [weighted.norm] if g.chance(0.3) else []
    one = chain(g, first, *draws) or first
    forms = ("{a} + {b}", "torch.cat([{a}, {b}], 1)", "{a} - {b}", "torch.add({a}, {b})",
             "{a} * {b}.sigmoid()", "torch.stack([{a}, {b}], 1)")  # fmt: skip
    form = g.rng.choice(forms)
    made = g.emit("join", form.format(a=one, b=second), {}, one, second)
    g.hidden.update({one, second})
    return made and chain(g, made, weighted.norm)


def squeeze_excite(g: Grower, value: str) -> str | None:
    """Draw a gate made of the mean over the image."""
    shape = g.shape(value)
    if len(shape) < 4:
        return None
    axes = tuple(range(2, len(shape)))
    pooled = g.emit("mean", f"{value}.mean({axes}, keepdim=True)", {}, value)
    gate = pooled and chain(g, pooled, _pointwise, weighted.norm, values.activation)
    if gate is None:
        return None
    full = weighted.conv(g, gate, 1, shape[1], stride=1, padding=0, padding_mode="zeros")
    made = full and g.emit("gate", f"{value} * {full}.sigmoid()", {}, value, full)
    return made and (weighted.norm(g, made) if g.chance(0.3) else made)


def _pointwise(g: Grower, value: str) -> str | None:
    fixed = {"stride": 1, "padding": 0, "padding_mode": "zeros"}
    return weighted.conv(g, value, 1, g.rng.randint(2, 8), **fixed)


def chain_of_linear(g: Grower, value: str) -> str | None:
    """Draw linear layers in a row, as merge into one."""
    if len(g.shape(value)) < 3:
        return chain(g, value, weighted.linear, weighted.linear, weighted.norm)
    draws: tuple[Draw, ...] = (_pointwise, weighted.conv)
    return chain(g, value, *(draws if g.chance(0.5) else draws[::-1]), weighted.norm)


def standardized(g: Grower, value: str) -> str | None:
    """Draw a convolution whose weight the forward computes from a parameter."""
    _, channels, *sizes = g.shape(value)
    shape = (g.rng.randint(2, 8), channels, *(1 for _ in sizes))
    forms = ("{w} * {positive}", "{w} / {w}.norm()", "torch.tanh({w})", "{w} - {w}.mean()")
    form = g.rng.choice(forms)
    tensors = {"w": f"nn.Parameter(torch.empty({shape}))"}
    if "positive" in form:
        tensors["positive"] = "nn.Parameter(torch.empty(()))"
    text = f"F.conv{len(sizes)}d({value}, {form})"
    made = g.emit("conv of computed", text, tensors, value)
    return made and chain(g, made, weighted.norm)


def container(g: Grower, value: str) -> str | None:
    """Draw a layer and a norm in a container, which may be called again as any layer."""
    _, channels, *sizes = g.shape(value)
    axes, out = len(sizes), g.rng.randint(2, 8)
    kernel = g.rng.choice((1, 3))
    inner = f"nn.Conv{axes}d({channels}, {out}, {kernel}, padding={kernel // 2})"
    last = g.rng.choice(("nn.ReLU()", "nn.ReLU(inplace=True)", "nn.SiLU()", "nn.Identity()"))
    layers = g.rng.choice(
        (f"{inner}, nn.BatchNorm{axes}d({out}), {last}",
         f"nn.BatchNorm{axes}d({channels}), {last}, {inner}",
         f"nn.Sequential({inner}, nn.BatchNorm{axes}d({out})), {last}")
    )  # fmt: skip
    return g.call("container with norm", f"nn.Sequential({layers})", value)


PATTERNS: tuple[tuple[Draw, float], ...] = (
    (conv_norm_act, 6), (residual, 3), (branches, 3), (through, 5), (norm_first, 3),
    (scaled_relu, 1.5), (two_arms, 3), (squeeze_excite, 1), (chain_of_linear, 2), (standardized, 1),
    (container, 1.5), (merges.diverse_branches, 1.5), (merges.norm_of_branches, 1.5),
    (merges.flat_norm, 1.5), (merges.narrow_rows, 1), (norm_before_bounds, 1),
)  # fmt: skip
FOR_IMAGES = (branches, residual, standardized, container)
