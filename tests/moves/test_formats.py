"""Results are contiguous where it could be told, channels last everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from bnfuse.kernels import FusedLayer
from tests.kernels.support import drawn
from tests.passes.branches import Block

if TYPE_CHECKING:
    from collections.abc import Callable

X, SIGNAL = drawn(2, 8, 12, 12), drawn(2, 8, 144)


class Python(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            return x
        return x.view(x.shape[0], -1)


def conv() -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, padding=1)


def conv1d() -> nn.Conv1d:
    return nn.Conv1d(8, 8, 3, padding=1)


def contiguous(model: nn.Module, *inputs: Tensor) -> list[str]:
    """Optimize, compare results and strides, and return the layers that return contiguous ones."""
    model.eval()
    fused = bnfuse.optimize(model)
    wanted, got = model(*inputs), fused(*inputs)
    assert torch.allclose(wanted, got, atol=1e-5)
    assert wanted.is_contiguous() == got.is_contiguous()
    layers = fused.named_modules()
    return [n for n, m in layers if isinstance(m, FusedLayer) and m.returns_contiguous]


def viewed(m: Any, x: Tensor) -> Tensor:
    return m.c(m.b(m.a(x)).view(2, -1))


def viewed_behind_others(m: Any, x: Tensor) -> Tensor:
    y = torch.relu(m.b(m.a(x)) * 0.5).max(dim=1).values
    return m.c(y.view(2, -1).repeat(1, 8))


def flattened(m: Any, x: Tensor) -> Tensor:
    return m.c(m.b(m.a(x)).flatten(1))


def unknown(m: Any, x: Tensor) -> Tensor:
    return m.c(m.d(m.b(m.a(x))))


@pytest.mark.parametrize(
    ("run", "wanted"),
    [(viewed, ["b"]), (viewed_behind_others, ["b"]), (flattened, []), (unknown, ["b"])],
)
@pytest.mark.parametrize(("make", "x"), [(conv, X), (conv1d, SIGNAL)], ids=["images", "signals"])
def test_last_layer_before_a_view(
    run: Callable[[Any, Tensor], Tensor], wanted: list[str], make: Any, x: Tensor
) -> None:
    model = Block(run, a=make(), b=make(), c=nn.Linear(8 * 144, 4), d=Python())
    is_copied_anyway = run is flattened and x is SIGNAL
    assert contiguous(model, x) == (["b"] if is_copied_anyway else wanted)


@pytest.mark.parametrize(("make", "x"), [(conv, X), (conv1d, SIGNAL)], ids=["images", "signals"])
def test_layers_before_the_output(make: Any, x: Tensor) -> None:
    model = Block(lambda m, x: torch.cat([m.b(m.a(x)), m.c(x)]), a=make(), b=make(), c=make())
    assert contiguous(model, x) == ["b", "c"]


def test_pooled_results_are_laid_out_alike() -> None:
    pooled = nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1))
    assert contiguous(pooled, X) == []
    assert contiguous(Block(lambda m, x: m.a(x).mean((2, 3)), a=conv()), X) == []
    assert contiguous(Block(lambda m, x: m.p(m.a(x)).view(2, -1), a=conv(), p=pooled[1]), X) == []
    assert contiguous(Block(lambda m, x: m.a(x).contiguous().view(2, -1), a=conv()), X) == []


def test_pooled_signals_are_laid_out_alike() -> None:
    def pooled(m: Any, x: Tensor) -> Tensor:
        return m.p(m.b(m.a(x))).view(2, -1)

    model = Block(pooled, a=conv1d(), b=conv1d(), p=nn.AdaptiveAvgPool1d(1))
    assert contiguous(model, SIGNAL) == []


def test_what_reads_signals_by_sample_may_have_them_channels_last() -> None:
    def read(m: Any, x: Tensor) -> Tensor:
        return m.b(m.a(x).transpose(1, 2)).mean(1)

    assert contiguous(Block(read, a=conv1d(), b=nn.Linear(8, 4)), SIGNAL) == []


def test_strides_that_are_asked_for() -> None:
    def asked(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        return torch.exp(y * y.stride(1) * 1e-3).flatten(2).mean(2)

    assert contiguous(Block(asked, a=conv()), X) == ["a"]
    assert contiguous(Block(asked, a=conv1d()), SIGNAL) == ["a"]


def test_signals_whose_pixels_are_shuffled_are_contiguous() -> None:
    def shuffled(m: Any, x: Tensor) -> Tensor:
        return m.b(nn.functional.pixel_shuffle(m.a(x), 2)).mean((1, 2))

    model = Block(shuffled, a=conv1d(), b=nn.Linear(288, 3))
    assert contiguous(model, drawn(4, 8, 144)) == ["a"]


def test_volumes_keep_an_axis() -> None:
    model = Block(lambda m, x: m.a(x).mean((2, 3)).view(2, -1), a=nn.Conv3d(4, 4, 3))
    assert contiguous(model, drawn(2, 4, 9, 9, 9)) == ["a"]


def test_pixels_of_volumes_are_shuffled_contiguous() -> None:
    model = Block(lambda m, x: m.b(torch.relu(m.a(x))), a=nn.Conv3d(4, 4, 3), b=nn.PixelShuffle(2))
    contiguous(model, drawn(2, 4, 6, 7, 8))


def test_pixels_of_images_are_shuffled_channels_last() -> None:
    def shuffled(m: Any, x: Tensor) -> Tensor:
        return m.b(nn.functional.pixel_shuffle(torch.relu(m.a(x)), 2)).mean((2, 3))

    assert contiguous(Block(shuffled, a=conv(), b=nn.Conv2d(2, 4, 1)), X) == []


def test_a_maximum_over_a_volume_without_a_batch_is_contiguous() -> None:
    model = Block(lambda m, x: nn.functional.max_pool3d(m.a(x), 2).mean(), a=conv())
    assert contiguous(model, X) == ["a"]


def test_a_maximum_over_volumes_stays_channels_last() -> None:
    def pooled(m: Any, x: Tensor) -> Tensor:
        return m.b(nn.functional.max_pool3d(torch.relu(m.a(x)), 2).flatten(1))

    model = Block(pooled, a=nn.Conv3d(4, 4, 3), b=nn.Linear(108, 3))
    assert contiguous(model, drawn(2, 4, 9, 9, 9)) == []


def written_when_flattened(m: Any, x: Tensor) -> Tensor:
    y = torch.relu(m.a(x))
    y.flatten(1).mul_(0.5)
    return m.c(m.b(y).flatten(1))


def written_after_it_was_flattened(m: Any, x: Tensor) -> Tensor:
    y = torch.relu(m.a(x))
    flat = y.flatten(1)
    y.add_(1.0)
    return m.c(flat) + m.b(y).flatten(2).mean(2)


@pytest.mark.parametrize("run", [written_when_flattened, written_after_it_was_flattened])
@pytest.mark.parametrize(("make", "x"), [(conv, X), (conv1d, SIGNAL)], ids=["images", "signals"])
def test_a_result_that_is_written_through_a_view_is_that_of_plain_operators(
    run: Callable[[Any, Tensor], Tensor], make: Any, x: Tensor
) -> None:
    model = Block(run, a=make(), b=make(), c=nn.Linear(1152, 8))
    assert contiguous(model, x) == (["b"] if x is SIGNAL else [])
    layers = bnfuse.optimize(model).named_modules()
    assert [n for n, m in layers if isinstance(m, FusedLayer) and m.is_plain] == ["a"]


def test_a_result_that_is_written_before_it_is_flattened_may_be_channels_last() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        y[:, :1].mul_(0.5)
        return m.b(y.flatten(1))

    assert contiguous(Block(run, a=conv(), b=nn.Linear(1152, 3)), X) == []


def halved(m: Any, x: Tensor) -> Tensor:
    y = m.b(m.a(x).relu())
    y.flatten(1).mul_(0.5)
    return y * 3


def halved_sum(m: Any, x: Tensor) -> Tensor:
    y = x.abs() + m.a(x)
    y.flatten(1).mul_(0.5)
    return m.b(y).mean((2, 3))


def halved_volume(m: Any, x: Tensor) -> Tensor:
    y = m.v(x.unsqueeze(2)).relu()
    y.flatten(1).mul_(0.5)
    return y * 3


def halved_signal(m: Any, x: Tensor) -> Tensor:
    y = m.s(x.flatten(2)).relu()
    y.flatten(1).mul_(0.5)
    return y * 3


@pytest.mark.parametrize("run", [halved, halved_sum, halved_volume, halved_signal])
@pytest.mark.parametrize("form", ["contiguous", "channels last", "transposed"])
def test_a_write_reaches_what_it_reached(form: str, run: Callable[[Any, Tensor], Tensor]) -> None:
    """Where a value is channels last its ``flatten`` is a copy, which a write does not leave."""
    model = Block(run, a=conv(), b=conv(), v=nn.Conv3d(8, 8, (1, 3, 3)), s=conv1d()).eval()
    fused = bnfuse.optimize(model)
    x = X.transpose(2, 3) if form == "transposed" else X
    x = X.contiguous(memory_format=torch.channels_last) if form == "channels last" else x
    assert torch.allclose(model(x), fused(x), atol=1e-5)


def test_layers_before_a_write_through_a_copy_are_plain() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.b(m.a(x).relu())
        y.flatten(1).mul_(0.5)
        return m.c(y).mean((2, 3))

    fused = bnfuse.optimize(Block(run, a=conv(), b=conv(), c=conv()).eval())
    plain = {n: m.is_plain for n, m in fused.named_modules() if isinstance(m, FusedLayer)}
    assert plain == {"a": True, "b": True, "c": False}
    assert fused(X).isfinite().all()
