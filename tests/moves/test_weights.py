"""An affine absorbed by the operations that have weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.moves.support import Model, checked, folded, image, operations, reasons
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def before(layer: nn.Module, dims: int = 2, channels: int = 4) -> Model:
    """Return a batch norm followed by a layer."""
    return ready(Model(lambda m, x: m.head(m.norm(x)), norm=NORM[dims](channels), head=layer))


def scaled(layer: nn.Module, channels: int = 4) -> Model:
    """Return a layer behind a product with a constant of each channel, of both signs."""
    run: Callable[[Any, Tensor], Any] = lambda m, x: m.head(m.a(x).sigmoid() * m.c)  # noqa: E731 - a forward
    a = nn.Conv2d(3, channels, 1)
    return ready(Model(run, a=a, c=torch.zeros(channels, 1, 1), head=layer))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2}], ids=str)
def test_down_into_convolutions(
    dims: int, groups: int, bias: bool, options: dict[str, Any]
) -> None:
    layer = CONV[dims](4, 8, 2, groups=groups, bias=bias, **options)
    model = before(layer, dims)
    fused, report = checked(model, noise(2, 4, *[5] * dims))
    assert [(row.name, row.into) for row in report.folded] == [("norm", "head")]
    assert fused.get_submodule("head").bias is not None


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (0, 2), "same"])
def test_padding_that_repeats_elements_takes_a_shift(
    mode: Literal["reflect", "replicate", "circular"], padding: Any
) -> None:
    assert folded(before(nn.Conv2d(4, 2, 3, padding=padding, padding_mode=mode)), image(4)) == 1


@pytest.mark.parametrize(
    ("kernel", "padding", "takes"),
    [(3, 1, 0), (3, (0, 1), 0), (3, "same", 0), ((1, 2), "same", 0), (1, "same", 1),
     (3, "valid", 1), (3, 0, 1), (1, 1, 0)],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_zero_padding_takes_a_scale_alone(kernel: Any, padding: Any, takes: int) -> None:
    layer = nn.Conv2d(4, 2, kernel, padding=padding)
    fused, report = checked(before(layer), image(4))
    is_absorbed = len(report.folded) == 1 and operations(fused) == ["head"]
    assert is_absorbed == takes  # else it stays, or is a map that is added
    assert "mul" not in operations(checked(scaled(layer), image())[0])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 1, "stride": 3}], ids=str)
def test_transposed_convolutions_take_a_scale_alone(groups: int, options: dict[str, Any]) -> None:
    """Their outputs see different numbers of taps even without padding."""
    layer = nn.ConvTranspose2d(4, 2, 3, groups=groups, bias=groups == 1, **options)
    assert operations(checked(before(layer), image(4))[0]) != ["head"]
    fused, _ = checked(scaled(layer), image())
    assert "mul" not in operations(fused)
    assert (fused.get_submodule("head").bias is None) == (groups == 2)


def test_a_scale_alone_needs_no_bias() -> None:
    fused, _ = checked(scaled(nn.Conv2d(4, 2, 1, bias=False)), image())
    assert fused.get_submodule("head").bias is None


def test_down_into_a_linear_layer() -> None:
    model = ready(
        Model(lambda m, x: m.head(m.norm(x)), norm=NORM[1](5), head=nn.Linear(5, 3, False))
    )
    assert folded(model, noise(3, 5)) == 1


def test_a_linear_layer_reads_the_last_axis() -> None:
    """Equal sizes prove nothing: a batch norm of ``(n, l, f)`` is on ``l``."""

    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(m.norm(x.view(-1, 5, 5)))

    model = ready(Model(run, norm=NORM[1](5), head=nn.Linear(5, 3)))
    assert reasons(model, noise(3, 25)) == ["no-linear-producer"]


@pytest.mark.parametrize("is_affine", [True, False])
def test_two_norms_become_one(is_affine: bool) -> None:
    layers = {"first": nn.BatchNorm2d(4, affine=is_affine), "second": nn.BatchNorm2d(4, eps=0.1)}
    model = ready(Model(lambda m, x: m.second(m.first(x)), **layers))
    fused, report = checked(model, image(4))
    assert [(row.name, row.into) for row in report.folded] in (
        [("first", "second")],
        [("second", "first")],
    )
    assert len(operations(fused)) == 1


def test_two_functional_norms_become_one() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        norm = m.norm
        y = F.batch_norm(x, norm.running_mean, norm.running_var)
        return F.batch_norm(y.relu(), norm.running_mean, norm.running_var, bias=norm.bias) * m.c

    model = ready(Model(run, norm=nn.BatchNorm2d(4), c=torch.zeros(4, 1, 1)))
    fused, _ = checked(model, image(4))
    assert operations(fused).count("mul") <= 1


@pytest.mark.parametrize("part", ["weight", "hook", "dtype"])
def test_what_absorbs_must_be_plain(part: str) -> None:
    model = before(nn.Conv2d(4, 2, 1))
    if part == "hook":
        model.head.register_forward_hook(lambda _m, _a, out: out * 2)
        assert reasons(model, image(4)) == ["no-linear-producer"]
    elif part == "weight":
        model.run = lambda m, x: F.conv2d(m.norm(x), (x.mean() * m.head.weight))
        assert reasons(model, image(4)) == ["no-linear-producer"]
    else:
        model.norm.float()
        x = image(4).float()
        model.run = lambda m, x: m.head(m.norm(x).double())
        assert reasons(model, x) == ["no-linear-producer"]


def test_a_norm_of_each_batch_absorbs_nothing() -> None:
    model = ready(
        Model(
            lambda m, x: m.second(m.first(x)),
            first=nn.BatchNorm2d(4, track_running_stats=False),
            second=nn.BatchNorm2d(4),
        )
    )
    assert reasons(model, image(4)) == ["batch-statistics", "no-linear-producer"]


def test_a_layer_called_twice_gets_weights_for_each_call() -> None:
    model = before(nn.Conv2d(4, 4, 1))
    model.run = lambda m, x: m.head((y := m.norm(x)) * 2) + m.head(y)
    _, report = checked(model, image(4))
    assert len(report.folded) == 1
    assert report.extra_bytes > 0
