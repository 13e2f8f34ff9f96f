"""Captured for an example: which modules are, and what a capture does for other calls."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import bnfuse
from bnfuse.capture.trial import cloned
from bnfuse.graph.part import part_forward
from tests.support import noise, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

X, Y = noise(2, 3, 4, 4), noise(2, 3, 4, 4, seed=2)


class Folding(nn.Module):
    """A convolution and its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Sized(Folding):
    """Loops as often as a size says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x.shape[0])):
            x = x + 0.5
        return self.body(x)


class Named(nn.Module):
    """Calls layers by other names than their first."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.again, self.layers = self.block, nn.ModuleList([self.norm, self.conv])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if int(x.shape[0]) > 9:
            return x
        return self.layers[0](self.layers[1](self.again(self.again(x))))


def test_layers_go_by_their_first_name() -> None:
    model = ready(Named())
    fused = bnfuse.optimize(model, (X,), validate=False)
    rows = bnfuse.report(fused)
    assert [row.name for row in rows.folded] == ["block.1", "block.1", "norm"]
    assert [row.into for row in rows.folded][2] == "conv"
    assert not rows.kept
    assert relative_error(fused(X), model(X)) <= 1e-12
    skipping = bnfuse.explain(model, (X,), skip=("norm",))
    assert [row.reason for row in skipping.kept] == ["skipped"]


class Two(Folding):
    """Writes one argument and reads the other, and asks whether they are one."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if int(a.shape[0]) > 9:
            return a
        a.add_(1)
        return self.body(b) * (3 if a is b else 2)


@pytest.mark.parametrize("example", [(X, X), (X, Y)], ids=["one", "two"])
def test_one_tensor_given_twice(example: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = ready(Two())
    fused = bnfuse.optimize(model, example, validate=False)
    assert part_forward(fused) is not None
    for other in (X, Y):
        mine, wanted = cloned(((X, other), {}))[0], cloned(((X, other), {}))[0]
        assert relative_error(fused(*mine), model(*wanted)) <= 1e-12
        assert all(map(torch.equal, mine, wanted))


class Telling(Folding):
    """Tells apart what tensors of one shape can differ in."""

    def forward(self, x: torch.Tensor, scale: float = 0.0) -> torch.Tensor:
        y = self.body(x) * (2 if isinstance(x, nn.Parameter) else 1) * getattr(x, "factor", 1)
        for _ in range(x.storage_offset()):
            y = y + 1
        return y / (1 + scale) if x.is_contiguous() else y.abs().mul(-1)


def with_factor() -> torch.Tensor:
    """Return a tensor with an attribute of its own."""
    x = X.clone()
    x.factor = 3  # type: ignore[attr-defined]  # Python lets it
    return x


OTHERS: list[Callable[[], torch.Tensor]] = [
    lambda: Y,
    with_factor,
    lambda: nn.Parameter(X, requires_grad=False),
    lambda: noise(3, 3, 4, 4)[1:],
    lambda: noise(1, 3, 4, 4).expand(2, 3, 4, 4),
    lambda: X.mT,
]


@pytest.mark.parametrize("number", range(len(OTHERS)))
def test_what_else_a_tensor_is_counts(number: int) -> None:
    model = ready(Telling()).requires_grad_(requires_grad=False)
    for example in (X, OTHERS[number]()):
        fused = bnfuse.optimize(model, (example,), validate=False)
        for x in (X, OTHERS[number]()):
            assert relative_error(fused(x), model(x)) <= 1e-12


class Detaching(Sized):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            mean = x.mean()
        return super().forward(x * mean)


def test_gradients_are_the_model_s() -> None:
    model = ready(Detaching()).requires_grad_(requires_grad=False)
    fused = bnfuse.optimize(model, (X,), validate=False)
    assert part_forward(fused) is not None
    grads = []
    for one in (model, fused):
        x = X.clone().requires_grad_()
        grads.append(torch.autograd.grad(one(x).square().sum(), x)[0])
    assert relative_error(*grads) <= 1e-12


def test_parametrized_layers_are_computed_once_and_fold() -> None:
    model = nn.Sequential(Sized(), Sized())
    parametrizations.weight_norm(model[0].get_submodule("conv"))
    model = ready(model)
    fused = bnfuse.optimize(model, (X,), validate=False)
    report = bnfuse.report(fused)
    assert [row.name for row in report.folded] == ["0.norm", "1.norm"]
    assert not report.kept
    assert relative_error(fused(X), model(X)) <= 1e-12


def test_threads_may_make_and_share_them() -> None:
    model = ready(Sized())
    wrong: list[nn.Module] = []
    fused = bnfuse.optimize(model, (X,), validate=False)

    def work() -> None:
        mine: Any = bnfuse.optimize(model, (X,), validate=False)
        wrong.extend(one for one in (fused, mine) if relative_error(one(X), model(X)) > 1e-12)
        wrong.extend([mine] if part_forward(mine) is None else [])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_graph_of_an_example_is_checked_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[object] = []
    real = bnfuse.verify

    def noting(*args: Any, device: Any = None) -> Any:
        places.append(device)
        return real(*args, device="cpu")

    monkeypatch.setattr("bnfuse.attempts.verify", noting)
    bnfuse.optimize(ready(Sized()), (X,))
    bnfuse.optimize(ready(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))), (X,))
    assert places == [torch.device("cpu"), None]


IN_A_FRESH_PROCESS = """
import torch
import bnfuse
from bnfuse.graph.part import part_forward
from tests.capture.test_by_example_calls import Sized, X, ready

fused = bnfuse.optimize(ready(Sized()), (X,), validate=False)
assert part_forward(fused) is not None
for function in (lambda x: x + torch.arange(4), lambda x: x * 2 if torch.is_tensor(x) else x):
    torch.compile(function, backend="eager", fullgraph=True)(X)
"""


def test_pytorch_s_compiler_is_as_it_was() -> None:
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
