"""Forwards that are not captured for an example, and why."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.capture import Capture, capture_by_example, copy_model
from bnfuse.graph.part import part_forward
from tests.support import noise, ready

X = noise(2, 3, 4, 4)
COUNT = 0
FOUND: dict[str, torch.Tensor] = {}
KEPT: torch.Tensor | None = None


class Sized(nn.Module):
    """Loops as often as a size says."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x.shape[0])):
            x = x + 0.5
        return self.norm(self.conv(x))


class Branching(Sized):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() > 0 else x


class Calling(Sized):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return super().__call__(x) * 2


class Catching(Sized):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            return super().forward(x)
        except RuntimeError:
            return x


class AskingType(Sized):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if type(x) is torch.Tensor else x


class SettingData(Sized):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.conv.weight.data = self.conv.weight * 1
        return super().forward(x)


class SettingGlobal(Sized):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        global COUNT
        COUNT += 1
        return super().forward(x) * COUNT


def keep(x: torch.Tensor) -> torch.Tensor:
    """Keep a value where everybody finds it."""
    global KEPT
    KEPT, before = x, KEPT
    return x if before is None else x + 0 * before.sum()


class Keeping(Sized):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return keep(super().forward(x))


def keep_inside(x: torch.Tensor) -> torch.Tensor:
    """Keep a value where everybody finds it, under a name."""
    before, FOUND["last"] = FOUND.get("last"), x
    return x if before is None else x + 0 * before.sum()


class KeepingInside(Sized):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return keep_inside(super().forward(x))


class Drawing(Sized):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.rand(1, generator=self.generator, dtype=x.dtype)


@pytest.mark.parametrize(
    ("kind", "clause"),
    [
        (Calling, "its class overrides __call__"),
        (Catching, "the forward of the model catches exceptions"),
        (AskingType, "the forward of the model asks for the exact type of a value"),
        (SettingData, "the forward of the model sets the data of a tensor"),
        (SettingGlobal, "the forward of the model sets a global"),
        (Keeping, "a function it calls sets a global"),
        (KeepingInside, "a function it calls changes FOUND"),
        (Drawing, "its forward uses a Generator"),
    ],
)
def test_forwards_that_are_refused(kind: type[Sized], clause: str) -> None:
    obstacle = capture_by_example(copy_model(ready(kind())).model, ((X,), {}))
    assert isinstance(obstacle, str)
    assert obstacle.startswith(clause)
    assert all(type(x) in (torch.Tensor, type(None)) for x in (KEPT, *FOUND.values()))


def test_hooks_and_what_cannot_be_copied_are_refused() -> None:
    model = copy_model(ready(Sized())).model
    assert isinstance(capture_by_example(model, ((X,), {})), Capture)
    assert capture_by_example(model, ((X,), {}), frozenset({1})) == "a part of it cannot be copied"
    model.get_submodule("conv").register_forward_hook(lambda *_: None)
    assert capture_by_example(model, ((X,), {})) == "hooks are on conv"


class Told(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_what_torch_logs_of_a_branch_on_data_is_told_in_the_report_alone() -> None:
    logger, told = logging.getLogger("torch.fx.experimental.symbolic_shapes"), Told()
    logger.addHandler(told)
    model = ready(Branching())
    try:
        with pytest.raises(Exception, match="data-dependent"):
            torch.export.export(model, (X,), strict=False)
        assert told.lines == ["Unable to find user code corresponding to {u0}"]  # it still does
        (row,) = bnfuse.explain(model, (X,)).kept
        assert len(told.lines) == 1
        logger.warning("another remark")
        assert told.lines[1:] == ["another remark"]
    finally:
        logger.removeHandler(told)
    assert row.reason == "not-captured"
    assert "its forward branches on the value of 'gt'" in row.why


def test_an_example_the_forward_refuses() -> None:
    model = copy_model(ready(Sized())).model
    for call in ((), (X, X), (X.float(),), (None,)):
        obstacle = capture_by_example(model, (call, {}))
        assert isinstance(obstacle, str)
        fused = bnfuse.optimize(model, call, validate=False)
        assert part_forward(fused) is None
