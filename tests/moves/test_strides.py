"""Norms whose memory layout matters to what reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from bnfuse.graph.layouts import laid_out_by_norm
from tests.support import noise, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable


class Behind(nn.Module):
    """A norm of a linear layer's transposed result, and what reads it."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.norm, self.read = nn.Linear(5, 4), nn.BatchNorm1d(4), read

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.linear(x).transpose(1, 2))
        return self.read(y)


def flattened_and_written(y: Tensor) -> Tensor:
    y.flatten(1).mul_(0.5)
    return y


def written_after_it_was_flattened(y: Tensor) -> Tensor:
    flat = y.flatten(1)
    y += 1.0
    return flat


def written_in_part_after_it_was_reshaped(y: Tensor) -> Tensor:
    flat = y.reshape(-1)
    y[:, :1].mul_(2.0)
    return flat


def made_contiguous_and_written(y: Tensor) -> Tensor:
    y.contiguous().relu_()
    return y


def activated_flattened_and_written(y: Tensor) -> Tensor:
    y = y.relu()
    y.flatten(1).mul_(0.5)
    return y


VIEWS = {
    "view": lambda y: y.view(y.shape[0], -1),
    "unflatten": lambda y: y.flatten(1).unflatten(1, (2, -1)),
    "view-behind-an-activation": lambda y: y.relu().view(y.shape[0], -1),
    "view-behind-arithmetic": lambda y: (y.relu() + 1.0).tanh().view(y.shape[0], -1),
    "view-of-a-permutation": lambda y: y.transpose(1, 2).transpose(1, 2).view(2, -1),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_reads_a_dense_value(name: str) -> None:
    model, x = ready(Behind(VIEWS[name])), noise(2, 6, 5)
    fused = bnfuse.optimize(model, (x,))
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(x), model(x)) < 1e-12


@pytest.mark.parametrize(
    "read",
    [
        flattened_and_written,
        made_contiguous_and_written,
        written_after_it_was_flattened,
        written_in_part_after_it_was_reshaped,
    ],
)
def test_a_write_that_would_be_lost_keeps_the_norm(read: Callable[[Tensor], Tensor]) -> None:
    model, x = ready(Behind(read)), noise(2, 6, 5)
    fused = bnfuse.optimize(model, (x,))
    assert [row.reason for row in bnfuse.report(fused).kept] == ["written-value"]
    assert relative_error(fused(x), model(x)) < 1e-12


def test_reshaped_and_read_alone_it_folds_without_a_copy() -> None:
    model, x = ready(Behind(lambda y: y.flatten(1))), noise(2, 6, 5)
    fused = bnfuse.optimize(model, (x,))
    assert isinstance(fused, torch.fx.GraphModule)
    assert "contiguous" not in [node.target for node in fused.graph.nodes]
    assert relative_error(fused(x), model(x)) < 1e-12


def test_a_write_to_the_value_itself_is_none_through_a_copy() -> None:
    model, x = ready(Behind(lambda y: y.relu_().flatten(1))), noise(2, 6, 5)
    fused = bnfuse.optimize(model, (x,))
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(x), model(x)) < 1e-12


def test_a_write_behind_an_activation_is_not_lost() -> None:
    model, x = ready(Behind(activated_flattened_and_written)), noise(2, 6, 5)
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(x), model(x)) < 1e-12


def test_a_write_that_nothing_reads_elsewhere_is_none_through_a_copy() -> None:
    def run(y: Tensor) -> Tensor:
        flat = y.flatten(1)
        flat += 1.0
        return flat

    model, x = ready(Behind(run)), noise(2, 6, 5)
    fused = bnfuse.optimize(model, (x,))
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(x), model(x)) < 1e-12


class Images(Behind):
    """A norm of images that are laid out channels last, as it leaves them."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__(read)
        self.norm = nn.BatchNorm2d(4)  # type: ignore[assignment]  # of more axes

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.linear(x).permute(0, 3, 1, 2))
        return self.read(y)


class SumBehind(Behind):
    """A norm of a sum, whose axes in memory are in the order of its terms'."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x).transpose(1, 2)
        return self.read(self.norm(y + self.linear(x.sin()).transpose(1, 2)))


class Scaled(Behind):
    """A product, which keeps the order of the axes."""

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.linear(x).transpose(1, 2) * 2.0 - 1.0)


class Tokens(Behind):
    """A norm of images that are a point wide, which is channels last as much as contiguous."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__(read)
        self.norm = nn.BatchNorm2d(4)  # type: ignore[assignment]  # of more axes

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.linear(x).transpose(1, 2).unsqueeze(-1))
        return self.read(y.squeeze(-1))


class TakenFromConstant(Behind):
    """A difference that is laid out as the constant is, its first operand."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__(read)
        self.constant = nn.Parameter(torch.ones(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.constant - self.linear(x).transpose(1, 2))


@pytest.mark.parametrize(
    ("kind", "read", "shape"),
    [
        (Tokens, lambda y: y.transpose(1, 2).view(-1, 4), (2, 6, 5)),
        (Tokens, activated_flattened_and_written, (2, 6, 5)),
        (TakenFromConstant, lambda y: y.relu().view(y.shape[0], -1), (2, 6, 5)),
        (TakenFromConstant, activated_flattened_and_written, (2, 6, 5)),
        (TakenFromConstant, flattened_and_written, (2, 6, 5)),
        (Images, lambda y: y.permute(0, 2, 3, 1).view(-1, 4), (2, 3, 6, 5)),
        (Images, activated_flattened_and_written, (2, 3, 6, 5)),
        (SumBehind, lambda y: y.view(y.shape[0], -1), (2, 6, 5)),
        (SumBehind, activated_flattened_and_written, (2, 6, 5)),
        (Scaled, lambda y: y.transpose(1, 2).view(-1, 4), (2, 6, 5)),
        (Scaled, activated_flattened_and_written, (2, 6, 5)),
    ],
)
def test_what_replaces_an_affine_is_laid_out_as_it_is(
    kind: type[Behind], read: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    model, x = ready(kind(read)), noise(*shape)
    fused = bnfuse.optimize(model)
    assert "batch_norm" not in str(fused)
    assert relative_error(fused(x), model(x)) < 1e-12


class Instances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 2)
        self.norm = nn.InstanceNorm2d(4, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return activated_flattened_and_written(self.norm(self.conv(x)))


def test_a_norm_of_instances_drops_the_order_of_channels_last() -> None:
    model, x = ready(Instances()), noise(2, 4, 5, 6).to(memory_format=torch.channels_last)
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(x), model(x)) < 1e-12


def test_a_convolution_and_its_norm_are_laid_out_alike() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    model = nn.Sequential(layers, nn.Flatten(), nn.Unflatten(1, (4, -1)))
    fused = bnfuse.optimize(ready(model))
    assert isinstance(fused, torch.fx.GraphModule)
    assert laid_out_by_norm not in [node.target for node in fused.graph.nodes]
