"""What cannot be captured is said, and the model comes back as it was."""

from __future__ import annotations

import builtins
import copy
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.capture import capture
from bnfuse.graph.part import part_forward
from tests.support import noise, ready, relative_error


class Branching(nn.Module):
    """A branch on data beside a norm, and a block that can be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(self.block(x)))
        return y if y.sum() > 0 else -y


class Running(nn.Module):
    """Runs a function of itself and its input."""

    def __init__(self, run: Callable[[Any, Any], object]) -> None:
        super().__init__()
        self.run, self.count, self.w = run, 0, torch.ones(1)
        self.seen: list[int] = []
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> object:
        return self.run(self, x)


def catches(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Swallow what tracing raises."""
    try:
        return x if x.sum() > 0 else -x
    except Exception:
        return x


def counts(m: Running, x: torch.Tensor) -> torch.Tensor:
    m.count += 1
    return x


def keeps_last(m: Running, x: torch.Tensor) -> torch.Tensor:
    m.last = x
    return x


def in_autocast(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu"):
        return x.relu()


def makes_and_writes(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(3)
    total += x.mean()
    return total


@pytest.mark.parametrize(
    ("run", "obstacle"),
    [
        (lambda m, x: x if x.sum() > 0 else -x, "its forward branches on the value of 'gt'"),
        (catches, "its forward branches on the value of 'gt'"),
        (lambda m, x: [y for y in x], "its forward loops over 'x'"),  # noqa: C416 - a loop is meant
        (counts, "its forward sets count"),
        (keeps_last, "its forward sets last"),
        (lambda m, x: m.seen.append(1) or x, "its forward changes seen"),
        (lambda m, x: m.w.add_(1) * x, "its forward changes w"),
        (lambda m, x: print("called") or x, "its forward prints"),  # noqa: T201 - as users do
        (lambda m, x: x if torch.is_grad_enabled() else -x, "its forward calls torch.is_grad_en"),
        (in_autocast, "its forward enters autocast"),
        (lambda m, x: x + torch.rand(3), "its forward draws random numbers of its own"),
        (lambda m, x: x * random.random(), "its forward draws random numbers of its own"),
        (makes_and_writes, "its forward makes a tensor and then writes into it"),
        (lambda m, x: x["a"] if x["b"] is None else x["b"], "its forward tests whether a part"),
        (lambda m, x: isinstance(x.shape[0], int), "its forward asks for the type of 'getitem'"),
    ],
)
def test_what_a_graph_would_lose_is_noticed(
    run: Callable[[Any, Any], object], obstacle: str
) -> None:
    model = Running(run).eval()
    before = dict(vars(model))
    captured = capture(model)
    assert isinstance(captured, str)
    assert captured.startswith(obstacle)
    assert vars(model) == before
    assert (model.seen, model.count, float(model.w)) == ([], 0, 1.0)


def test_writing_a_buffer_by_an_operation_is_kept() -> None:
    model = Running(lambda m, x: x + m.get_buffer("calls").add_(1)).eval()
    fused = bnfuse.optimize(model)
    assert isinstance(fused, torch.fx.GraphModule)
    assert [float(fused(torch.zeros(1))) for _ in range(2)] == [1.0, 2.0]
    assert float(model.get_buffer("calls")) == 0.0


def test_a_forward_replaced_on_the_instance_is_not_ignored() -> None:
    model = nn.Sequential(nn.ReLU())
    model.forward = lambda x: -x  # type: ignore[method-assign]  # as users do
    assert capture(model) == "its forward was replaced on the instance"


def test_an_untraceable_forward_stays_python_with_graphs_inside() -> None:
    """pytorch#87777: one branch cost the whole model, with an exception."""
    model = ready(Branching())
    fused = bnfuse.optimize(model)
    assert type(fused) is Branching
    for seed in range(4):
        x = noise(1, 3, 4, 4, seed=seed)
        assert relative_error(fused(x), model(x)) < 1e-12
    report = bnfuse.report(fused)
    assert [(row.name, row.into) for row in report.folded] == [("block.1", "block.0")]
    (row,) = report.kept
    assert (row.name, row.reason) == ("norm", "not-captured")
    assert "Branching: its forward branches on the value of 'gt'" in row.why


class Optional(nn.Module):
    """Has arguments that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(
        self, x: object, mask: torch.Tensor | None = None, *rest: object, flag: bool = False
    ) -> torch.Tensor:
        if isinstance(x, list | tuple):
            x = x[0]
        y = self.norm(self.conv(x))
        y = y if mask is None else y * mask
        return -y if flag or rest else y


X = noise(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((X,), {}),
        ((X, None), {}),
        ((X,), {"flag": False}),
        ((X, X[:1]), {}),
        ((X,), {"mask": X[:1]}),
        ((X,), {"flag": True}),
        ((X, None, 3), {}),
        (([X],), {}),
        (((X, 2),), {"flag": True}),
    ],
)
def test_every_call_the_model_accepts_is_right(args: Any, kwargs: Any) -> None:
    model = ready(Optional())
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(*args, **kwargs), model(*args, **kwargs)) < 1e-12


def test_the_graph_runs_for_the_calls_it_stands_for() -> None:
    fused = bnfuse.optimize(ready(Optional()))
    runs: list[int] = []
    forward = part_forward(fused)
    assert forward is not None
    assert forward.optimized is not None
    forward.optimized.register_forward_hook(lambda *_: runs.append(1))
    fused(X), fused(X, flag=True), fused(X, None), fused([X])
    assert len(runs) == 2


def test_in_training_mode_a_part_runs_its_own_python() -> None:
    model = ready(Branching())
    fused = bnfuse.optimize(model)
    x = noise(4, 3, 4, 4)
    assert torch.equal(fused.train()(x), copy.deepcopy(model).train()(x))


def test_iterating_over_a_container_finds_what_it_holds() -> None:
    class Looping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layers(x)
            for layer in self.layers:
                y = layer(y)
            return y if y.sum() > 0 else y + len(self.layers)

    model = ready(Looping())
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(X), model(X)) < 1e-12


class Cached(nn.Module):
    """Keeps what it made in a dictionary of its class."""

    grids: dict[str, torch.Tensor] = {}  # noqa: RUF012 - the trap

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if "grid" not in self.grids:
            self.grids["grid"] = torch.arange(x.shape[-1])
        return self.norm(self.conv(x)) + self.grids["grid"]


def test_caches_outside_the_model_are_put_back() -> None:
    model = ready(Cached())
    fused = bnfuse.optimize(model)
    assert Cached.grids == {}
    assert torch.equal(fused(X), model(X))
    assert bnfuse.report(fused).kept[0].why.endswith("Cached: its forward changes Cached.grids.")


class Counting(nn.Module):
    """Keeps a count where a look at its attributes alone does not see it."""

    def __init__(self, holder: Any, count: Callable[[Any], int]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.holder, self.count = holder, count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) * self.count(self.holder)


class Config:
    """A plain object."""

    calls = 0


def count_in_object(holder: Any) -> int:
    holder.calls += 1
    return int(holder.calls)


def count_in_list(holder: Any) -> int:
    holder[0].append(1)
    return len(holder[0])


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (Config, count_in_object),
        (lambda: ([],), count_in_list),
        (lambda: {"a": [[]]}["a"], count_in_list),
        (lambda: [deque()], count_in_list),
    ],
)
def test_counts_kept_deep_inside_go_on(
    make: Callable[[], Any], count: Callable[[Any], int]
) -> None:
    model = ready(Counting(make(), count))
    fused = bnfuse.optimize(model)
    for _ in range(3):
        assert relative_error(fused(X), model(X)) < 1e-12


def test_models_may_be_optimized_in_several_threads() -> None:
    """Tracing puts stand-ins in place of PyTorch's functions, for one thread at a time."""
    before = (builtins.print, torch.zeros, nn.Module.train)
    failures: list[Exception] = []

    model = nn.Sequential(*[nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)] * 5).eval()

    def work() -> None:
        try:
            for _ in range(3):
                assert len(bnfuse.explain(model).folded) == 5
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (builtins.print, torch.zeros, nn.Module.train) == before
