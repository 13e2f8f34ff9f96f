"""A whole model captured around child modules that no trace can follow."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import fx, nn

import bnfuse
from tests.support import noise, ready, relative_error

X = noise(2, 3, 4, 4)


class Depends(nn.Module):
    """Branches on its values, and counts and keeps what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.calls, self.seen = 0, dict[int, int]()

    def forward(self, x: torch.Tensor) -> dict[str, tuple[torch.Tensor, ...]]:
        self.calls += 1
        self.seen[len(x)] = self.calls
        y = self.inner(x)
        return {"found": (self.norm(self.conv(y)) if x.sum() > 0 else y * 2, y)}


class Around(nn.Module):
    """Calls such a child twice between layers that fold."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.child, self.conv, self.norm = Depends(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, other = self.child(self.stem(x))["found"]
        result: torch.Tensor = self.norm(self.conv(one + other)) + self.child(x)["found"][0]
        return result


def test_around_a_child_that_branches_counts_and_returns_a_dictionary() -> None:
    model = ready(Around())
    fused = bnfuse.optimize(model)
    assert isinstance(fused, fx.GraphModule)
    assert model.child.calls == vars(fused.get_submodule("child"))["calls"] == 0
    for x in (X, -X):
        assert relative_error(fused(x), model(x)) < 1e-12
    assert vars(fused.get_submodule("child"))["calls"] == model.child.calls == 4
    report = bnfuse.report(fused)
    folded = ["stem.1", "norm", "child.inner.1"]
    assert sorted(row.name for row in report.folded) == sorted(folded)
    assert [(row.name, row.reason) for row in report.kept] == [("child.norm", "not-captured")]
    assert bnfuse.report(bnfuse.optimize(fused)) == report
    for other in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused)), bnfuse.optimize(fused)):
        assert relative_error(other(X), model(X)) < 1e-12
    assert relative_error(fused.float()(X.float()), model(X)) < 1e-4


def test_hooks_of_such_a_child_run_once_a_call() -> None:
    model, calls = ready(Around()), list[str]()
    model.child.register_forward_pre_hook(lambda _, args: (args[0] * 3,))
    model.child.register_forward_hook(lambda *_: calls.append("after"))
    fused = bnfuse.optimize(model)
    wanted = model(X)
    calls.clear()
    assert relative_error(fused(X), wanted) < 1e-12
    assert calls == ["after", "after"]


class Holds(nn.Module):
    """Calls a layer of its parent where it feels like it."""

    def __init__(self, layer: nn.Module, *, registered: bool) -> None:
        super().__init__()
        self.held = nn.ModuleList([layer]) if registered else [layer]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.held[0](x) if x.sum() > 0 else x * 2
        return result


@pytest.mark.parametrize("registered", [True, False])
def test_a_child_that_calls_a_layer_beside_it_gets_it_unfolded(registered: bool) -> None:
    conv = nn.Conv2d(3, 3, 1)
    holds = Holds(conv, registered=registered)
    model = ready(nn.Sequential(conv, nn.BatchNorm2d(3), holds, nn.Conv2d(3, 3, 1)))
    fused = bnfuse.optimize(model)
    for x in (X, -X):
        assert relative_error(fused(x), model(x)) < 1e-12


class Pieces(nn.Module):
    """Calls a block with a hook as one, and what is in it one by one."""

    def __init__(self, *block: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*block)
        self.block.register_forward_hook(lambda _m, _a, y: y * 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        for layer in self.block:
            y = layer(y)
        result: torch.Tensor = self.block(x) + y
        return result


@pytest.mark.parametrize("is_before", [True, False])
def test_what_a_fold_adds_does_not_run_in_the_block_that_its_layer_is_in(is_before: bool) -> None:
    norm, conv = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)
    model = ready(Pieces(norm, conv) if is_before else Pieces(conv, norm))
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 2
    assert relative_error(fused(X), model(X)) < 1e-12
