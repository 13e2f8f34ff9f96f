"""An affine moved through activations, pooling, resizing and padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.moves.support import Model, folded, image, positive, unshifted
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable

ANY, POSITIVE, SCALE, NONE = "any", "positive", "scale", "none"
LAYERS: dict[str, tuple[nn.Module, str]] = {
    "relu": (nn.ReLU(), SCALE),
    "leaky": (nn.LeakyReLU(0.2), SCALE),
    "leaky-steep": (nn.LeakyReLU(1.5), SCALE),
    "leaky-negative": (nn.LeakyReLU(-0.3), SCALE),
    "prelu": (nn.PReLU(), SCALE),
    "prelu-by-channel": (nn.PReLU(4), SCALE),
    "relu6": (nn.ReLU6(), NONE),
    "silu": (nn.SiLU(), NONE),
    "gelu": (nn.GELU(), NONE),
    "average": (nn.AvgPool2d(2), ANY),
    "average-ceil": (nn.AvgPool2d(3, 2, ceil_mode=True), ANY),
    "average-uncounted": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), ANY),
    "average-uncounted-ceil": (nn.AvgPool2d(4, 3, 2, True, count_include_pad=False), ANY),
    "average-counted": (nn.AvgPool2d(3, 1, 1), SCALE),
    "average-divided": (nn.AvgPool2d(2, divisor_override=3), SCALE),
    "adaptive": (nn.AdaptiveAvgPool2d((2, 3)), ANY),
    "adaptive-none": (nn.AdaptiveAvgPool2d((None, 1)), ANY),
    "max": (nn.MaxPool2d(2), POSITIVE),
    "max-padded": (nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True), POSITIVE),
    "nearest": (nn.Upsample(scale_factor=2), ANY),
    "bilinear": (nn.Upsample(size=(5, 9), mode="bilinear", align_corners=True), ANY),
    "bicubic": (nn.Upsample(scale_factor=1.7, mode="bicubic"), ANY),
    "zero-pad": (nn.ZeroPad2d((1, 0, 2, 1)), SCALE),
    "crop": (nn.ZeroPad2d((-1, 0, 0, -1)), SCALE),
    "constant-pad": (nn.ConstantPad2d(1, 0.7), NONE),
}
FUNCTIONS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "pad-zero": (lambda x: F.pad(x, (1, 1)), SCALE),
    "pad-reflect": (lambda x: F.pad(x, (1, 1, 1, 0), mode="reflect"), ANY),
    "pad-replicate": (lambda x: F.pad(x, (1, 1, 1, 0), "replicate"), ANY),
    "pad-circular": (lambda x: F.pad(x, (1, 1, 1, 0), mode="circular"), ANY),
    "pad-channels": (lambda x: F.pad(x, (0, 0, 0, 0, 0, 0)), NONE),
    "pad-size": (lambda x: F.pad(x, (0, x.shape[2]), value=0.0), SCALE),
    "relu": (lambda x: F.relu(x), SCALE),
    "relu-method": (lambda x: x.relu(), SCALE),
    "leaky": (lambda x: F.leaky_relu(x, negative_slope=0.3), SCALE),
    "average": (lambda x: F.avg_pool2d(input=x, kernel_size=2), ANY),
    "average-padded": (lambda x: F.avg_pool2d(x, 3, 1, 1), SCALE),
    "average-uncounted": (lambda x: F.avg_pool2d(x, 3, 1, 1, False, False), ANY),
    "max": (lambda x: F.max_pool2d(x, 2), POSITIVE),
    "max-with-indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], NONE),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2), ANY),
    "sqrt": (lambda x: (x * x + 1).sqrt(), NONE),
    "cumsum": (lambda x: x.cumsum(2), SCALE),
    "cumsum-by-name": (lambda x: torch.cumsum(x, dim=-1), SCALE),
    "cumsum-of-channels": (lambda x: x.cumsum(1), NONE),
    "cumsum-as-a-dtype": (lambda x: x.cumsum(2, dtype=torch.float64), NONE),
    "cumsum-by-a-size": (lambda x: x.cumsum(x.dim() - 1), NONE),
}
BOUNDED = frozenset({"relu", "relu6", "relu-method"})
"""What gets bounds for each channel on the way down, so that any affine passes."""
LEVELS = {ANY: (1, 1, 1), POSITIVE: (0, 1, 1), SCALE: (0, 0, 1), NONE: (0, 0, 0)}


def outcomes(model: Model, x: torch.Tensor) -> tuple[int, int, int]:
    """Return what folds: with any scale and shift, a positive scale and shift, a positive scale."""
    return folded(model, x), folded(positive(model), x), folded(unshifted(model), x)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_upward(name: str) -> None:
    layer, level = LAYERS[name]
    model = Model(
        lambda m, x: m.norm(m.op(m.a(x))), op=layer, a=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4)
    )
    assert outcomes(ready(model), image()) == LEVELS[level]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_downward(name: str) -> None:
    layer, level = LAYERS[name]
    level = ANY if name in BOUNDED else level
    model = Model(
        lambda m, x: m.head(m.op(m.norm(x))),
        op=layer,
        norm=nn.BatchNorm2d(4),
        head=nn.Conv2d(4, 2, 1),
    )
    assert outcomes(ready(model), image(4)) == LEVELS[level]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("is_up", [True, False], ids=["up", "down"])
def test_functions(name: str, is_up: bool) -> None:
    function, level = FUNCTIONS[name]
    level = ANY if name in BOUNDED and not is_up else level

    def upward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.norm(function(m.a(x)))

    def downward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.head(function(m.norm(m.a(x).sigmoid())))

    layers = {"a": nn.Conv2d(3, 4, 1), "norm": nn.BatchNorm2d(4)}
    if not is_up:
        layers["head"] = nn.Conv2d(4, 2, 1)
    model = ready(Model(upward if is_up else downward, **layers))
    assert outcomes(model, image()) == LEVELS[level]


def test_a_pad_with_the_value_the_affine_maps_to_itself() -> None:
    """``s v + t = v``: scale 2 and shift −1 keep 1, and no other value."""

    def model_with(value: float) -> Model:
        model = ready(
            Model(
                lambda m, x: m.head(F.pad(m.norm(x), (1, 1), value=value)),
                norm=nn.BatchNorm2d(4, eps=1e-300),
                head=nn.Conv2d(4, 2, 1),
            )
        )
        for name, number in [("weight", 2), ("bias", -1), ("running_mean", 0), ("running_var", 1)]:
            getattr(model.norm, name).data.fill_(number)
        return model

    assert [folded(model_with(value), image(4)) for value in (1.0, 0.0, -1.0)] == [1, 0, 0]


@pytest.mark.parametrize("run", [F.prelu, torch.prelu, lambda y, w: y.prelu(w)])
def test_slopes_of_any_sign(run: Callable[..., torch.Tensor]) -> None:
    model = ready(
        Model(
            lambda m, x: m.norm(run(m.a(x), m.slopes)),
            a=nn.Conv2d(3, 4, 1),
            slopes=torch.zeros(4),
            norm=nn.BatchNorm2d(4),
        )
    )
    assert outcomes(model, image()) == LEVELS[SCALE]


def test_nothing_passes_a_pooling_along_its_own_axis() -> None:
    """``max_pool1d`` of ``(channels, length)`` pools over axis 1, where the batch norm is."""
    model = unshifted(
        ready(
            Model(
                lambda m, x: m.norm(F.max_pool1d(m.a(x), 2)),
                a=nn.Linear(6, 8),
                norm=nn.BatchNorm1d(4),
            )
        )
    )
    assert folded(model, noise(3, 6)) == 0


@pytest.mark.parametrize("dims", [1, 3])
def test_other_numbers_of_axes(dims: int) -> None:
    conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv3d, nn.BatchNorm3d))[dims == 3]
    pool: nn.Module = nn.AvgPool1d(2) if dims == 1 else nn.AvgPool3d(2)
    model = ready(Model(lambda m, x: m.norm(m.op(m.a(x))), a=conv(3, 4, 1), op=pool, norm=norm(4)))
    assert folded(model, noise(2, 3, *[4] * dims)) == 1


@settings(max_examples=15, derandomize=True, deadline=None, database=None)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.booleans(), st.booleans(),
    st.sampled_from([None, 2, 5]), st.integers(3, 6),
)  # fmt: skip
def test_average_pools_of_any_geometry(
    kernel: int,
    stride: int,
    padding: int,
    ceil: bool,
    counted: bool,
    divisor: int | None,
    size: int,
) -> None:
    pool = nn.AvgPool2d(kernel, stride, min(padding, kernel // 2), ceil, counted, divisor)
    model = ready(
        Model(
            lambda m, x: m.head(m.op(m.norm(x))),
            op=pool,
            norm=nn.BatchNorm2d(2),
            head=nn.Conv2d(2, 2, 1),
        )
    )
    is_mean = divisor is None and (not counted or not pool.padding)
    assert folded(model, noise(1, 2, size, size)) == is_mean
