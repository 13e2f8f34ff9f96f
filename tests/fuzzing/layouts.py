"""Draw operations that move elements: views, concatenations, splits, padding, resizing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzzing.growing import Grower

PADDING_MODES = ("constant", "constant", "reflect", "replicate", "circular")


def permutation(g: Grower, value: str) -> str | None:
    """Draw a permutation of axes, often of two."""
    rank = len(g.shape(value))
    order = list(range(rank))
    if g.chance(0.5):
        order = [0, *order[2:], 1] if g.chance(0.5) and rank > 2 else order
        if g.chance(0.4):
            g.rng.shuffle(order)
        forms = ("{v}.permute({p})", "torch.permute({v}, ({p},))", "{v}.permute(({p}))")
        form = g.rng.choice(forms)
        return g.emit("permute", form.format(v=value, p=str(order)[1:-1]), {}, value)
    one, two = g.rng.randrange(rank), g.rng.randrange(-rank, rank)
    form = g.rng.choice(
        ("{v}.transpose({a}, {b})", "torch.transpose({v}, {a}, {b})", "{v}.swapaxes({a}, {b})",
         "{v}.movedim({a}, {b})")
    )  # fmt: skip
    return g.emit("transpose", form.format(v=value, a=one, b=two), {}, value)


def reshape(g: Grower, value: str) -> str | None:
    """Draw a reshape in one of its spellings, most of them for any batch size."""
    shape = g.shape(value)
    last = shape[-1]
    forms = [
        "{v}.flatten(1)", "torch.flatten({v}, 1)", "{v}.flatten(2)", "{v}.flatten(-2)",
        "{v}.view({v}.shape[0], -1)", "{v}.view({v}.size(0), {v}.size(1), -1)",
        "{v}.reshape({v}.shape[0], -1, 1, 1)", "{v}.unsqueeze(1)", "torch.unsqueeze({v}, -1)",
        "{v}.unsqueeze(0)", "{v}.squeeze(1)", "torch.squeeze({v}, -1)", "{v}.squeeze()",
        "torch.unsqueeze({v}, 1)", "torch.squeeze({v}, 1)",
        "{v}[:, None]", "{v}[:, :, None]", "{v}.view_as({v} * 1.0)", "{v}.reshape(-1, {s[1]})",
        "{v}.view(-1)", "{v}.unflatten(1, (-1, 1))", "{v}.reshape(-1, {last})",
        "{v}.contiguous().view({v}.shape[0], -1)", "torch.reshape({v}, ({s[0]}, -1, {last}))",
        "{v}.view({v}.size(0), {s[1]}, -1)",
    ]  # fmt: skip
    if len(shape) > 1 and shape[1] % 2 == 0:
        forms += [
            "{v}.view({v}.shape[0], 2, {h}, -1)",
            "{v}.reshape({s[0]}, {h}, 2, -1)",
            "{v}.unflatten(1, (2, {h}))",
        ]
    half = shape[1] // 2 if len(shape) > 1 else 1
    sizes = shape if len(shape) > 1 else (*shape, 1)
    text = g.rng.choice(forms).format(v=value, s=sizes, last=last, h=half)
    return g.emit("reshape", text, {}, value)


def take(g: Grower, value: str) -> str | None:
    """Draw a slice or another part of a value."""
    shape = g.shape(value)
    axis = g.rng.randrange(len(shape))
    size = shape[axis]
    forms = [
        "{v}[:, 1:]", "{v}[:, :-1]", "{v}[:, ::2]", "{v}[..., 1:]", "{v}[:, 0]", "{v}[:, 1:3]",
        "{v}[:, :, 1:]", "{v}[..., ::2]", "{v}[0:1]", "{v}.narrow({a}, 0, {n})", "{v}[:, -2:]",
        "{v}.select({a}, 0)", "{v}[:, [0, 1]]", "{v}.narrow({a}, 1, {m})", "{v}[..., 0]",
    ]  # fmt: skip
    text = g.rng.choice(forms).format(v=value, a=axis, n=max(1, size // 2), m=max(1, size - 1))
    return g.emit("slice", text, {}, value)


def move(g: Grower, value: str) -> str | None:
    """Draw a copy, a flip, a shuffle or another operation that moves elements."""
    shape = g.shape(value)
    channels = shape[1] if len(shape) > 1 else 1
    groups = [n for n in range(2, channels + 1) if channels % n == 0] or [1]
    forms = [
        "{v}.contiguous()", "{v}.clone()", "{v}.detach()", "torch.flip({v}, (1,))", "{v}.flip(-1)",
        "F.pixel_shuffle({v}, 2)", "F.channel_shuffle({v}, {g})", "F.channel_shuffle({v}, {g})",
        "{v}.roll(1, 1)", "{v}.expand(-1, {v}.shape[1], {same})", "F.pixel_unshuffle({v}, 2)",
        "{v}.repeat(1, {ones})", "torch.roll({v}, 1, dims=-1)", "{v}[0:1].expand_as({v})",
        "{v}.contiguous(memory_format=torch.channels_last)", "{v}.to({v}.dtype)",
        "{v}.repeat_interleave(2, dim=1)", "F.unfold({v}, 2)", "F.unfold({v}, 2)",
        "torch.roll({v}, 1, dims=1)",
    ]  # fmt: skip
    if channels % 4 == 0:
        forms += ["F.pixel_shuffle({v}, 2)"] * 6
    if all(size % 2 == 0 for size in shape[2:]):
        forms += ["F.pixel_unshuffle({v}, 2)"] * 4
    same = ", ".join("-1" for _ in shape[2:])
    ones = ", ".join("2" if axis == 0 else "1" for axis in range(len(shape) - 1)) or "1"
    form = g.rng.choice(forms)
    name = form.split("(")[0].split(".")[-1]
    text = form.format(v=value, g=g.rng.choice(groups), ones=ones, same=same)
    return g.emit(name, text, {}, value)


def shuffle_layer(g: Grower, value: str) -> str | None:
    """Draw a shuffle, a flatten or a padding as a layer."""
    shape = g.shape(value)
    layers = ["nn.PixelShuffle(2)", "nn.Flatten()", "nn.Flatten(2)", "nn.ChannelShuffle(2)"]
    if len(shape) == 4:
        layers += ["nn.ZeroPad2d(1)", "nn.ConstantPad2d((1, 0, 2, 1), 0.5)"] * 2
        layers += ["nn.Upsample((5, 7))", "nn.Upsample(scale_factor=2, mode='bilinear')"]
        layers += ["nn.ReflectionPad2d(1)"] * 2
        layers += ["nn.PixelShuffle(2)"] * 3 if shape[1] % 4 == 0 else []
    layer = g.rng.choice(layers)
    return g.call(layer.split("(")[0].removeprefix("nn.").lower(), layer, value)


def pad(g: Grower, value: str) -> str | None:
    """Draw a padding of every mode; constants are 0 more often than not."""
    axes = g.rng.randint(1, max(1, len(g.shape(value)) - 2))
    mode = g.rng.choice(PADDING_MODES)
    amounts = tuple(g.rng.choice((0, 1, 1, 2)) for _ in range(2 * axes))
    if mode == "constant" and g.chance(0.2):
        amounts = tuple(g.rng.choice((0, 1, -1)) for _ in amounts)
    if mode != "constant":
        return g.emit("pad", f"F.pad({value}, {amounts}, mode={mode!r})", {}, value)
    fill = g.rng.choice(("", "", ", value=1.5", ", 'constant', -0.5", ", value=float('-inf')"))
    return g.emit("pad", f"F.pad({value}, {amounts}{fill})", {}, value)


def resize(g: Grower, value: str) -> str | None:
    """Draw an interpolation of every mode that fits the rank."""
    modes = {3: ("linear",), 4: ("bilinear", "bicubic"), 5: ("trilinear",)}
    mode = g.rng.choice((*modes.get(len(g.shape(value)), ()), "nearest", "nearest-exact", "area"))
    size = g.rng.choice(("scale_factor=2", "size=5", "scale_factor=1.5", "scale_factor=0.5"))
    corners = ", align_corners=True" if "linear" in mode and g.chance(0.4) else ""
    return g.emit("resize", f"F.interpolate({value}, {size}, mode={mode!r}{corners})", {}, value)


def concatenate(g: Grower, value: str) -> str | None:
    """Draw a concatenation or a stack with other values, on any axis."""
    shape = g.shape(value)
    others = g.alike(value) or [value]
    arms = [g.rng.choice(others) for _ in range(g.rng.choice((1, 1, 2)))]
    arms.insert(g.rng.randint(0, len(arms)), value)
    listed = ", ".join(arms)
    axis = g.rng.choice((1, 1, 1, -1, g.rng.randrange(len(shape))))
    form = g.rng.choice(("cat([{l}], {a})", "cat(({l},), dim={a})", "concat([{l}], dim={a})",
                         "stack([{l}], dim={a})", "cat([{l}], {a})"))  # fmt: skip
    name = form.split("(")[0]
    return g.emit(name, "torch." + form.format(l=listed, a=axis), {}, *arms)


def divide(g: Grower, value: str) -> str | None:
    """Draw a split with one reader for each piece, or for some of them."""
    shape = g.shape(value)
    axis = g.rng.choice((1, 1, -1, g.rng.randrange(len(shape)))) if len(shape) > 1 else 0
    size = shape[axis]
    first = g.rng.randint(1, max(1, size - 1))
    sizes = [first, size - first] if size > first else [size]
    form = g.rng.choice(
        ("{v}.chunk(2, {a})", "torch.chunk({v}, 2, dim={a})", "{v}.split({n}, dim={a})",
         "torch.split({v}, {s}, {a})", "{v}.split({s}, dim={a})", "{v}.chunk(3, dim={a})",
         "torch.unbind({v}, {a})", "torch.tensor_split({v}, 2, {a})")
    )  # fmt: skip
    text = form.format(v=value, a=axis, s=sizes, n=max(1, size // 2))
    parts = g.emit_parts(form.split("(")[0].split(".")[-1], text, value)
    if not parts:
        return None
    kept = [g.emit("piece", part, {}) for part in parts[: g.rng.choice((2, 2, 3, 1))]]
    names = [name for name in kept if name]
    if len(names) > 1 and g.chance(0.4):
        g.rng.shuffle(names)
        joined = g.emit("cat", f"torch.cat([{', '.join(names)}], {axis})", {}, *names)
        return joined or names[-1]
    return names[-1] if names else None
