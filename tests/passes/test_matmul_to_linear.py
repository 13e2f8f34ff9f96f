"""Products with a constant matrix as linear layers: fires, declines, numbers, graph."""

from __future__ import annotations

import copy
import operator
import pickle
import textwrap
from typing import Any

import pytest
import torch
from torch import nn

import bnfuse
from tests.support import noise, optimized_checked, ready, relative_error


class Product(nn.Module):
    """A matrix, a vector, a norm, and a product to be replaced."""

    product: Any

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.vector = nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(6))
        self.other, self.norm = nn.Parameter(torch.ones(6, 4)), nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(type(self).product(self, x))
        return result


def product(call: Any) -> Product:
    """Return the module around a product."""
    return ready(type("Product", (Product,), {"product": staticmethod(call)})())


X = noise(3, 4)
SPELLINGS = {
    "@": lambda m, x: x @ m.matrix,
    "operator": lambda m, x: operator.matmul(x, m.matrix),
    "torch": lambda m, x: torch.matmul(x, m.matrix),
    "method": lambda m, x: x.matmul(m.matrix),
    "mm": lambda m, x: torch.mm(x, m.matrix),
    "mm method": lambda m, x: x.mm(m.matrix),
    "addmm": lambda m, x: torch.addmm(m.vector, x, m.matrix),
    "scaled": lambda m, x: torch.addmm(m.vector, x, m.matrix, beta=-0.5, alpha=3),
    "flag": lambda m, x: torch.addmm(m.vector, x, m.matrix, beta=True, alpha=2),
    "without": lambda m, x: torch.addmm(m.vector, x, m.matrix, beta=0, alpha=2),
    "transposed": lambda m, x: x @ m.other.t(),
}


@pytest.mark.parametrize("call", SPELLINGS.values(), ids=SPELLINGS)
def test_takes_a_norm(call: Any) -> None:
    model = product(call)
    report = optimized_checked(model, X)
    assert [row.name for row in report.folded] == ["norm"]
    fused = bnfuse.optimize(model)
    assert bnfuse.report(bnfuse.optimize(fused)) == report
    copies = [copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))]
    copies += [torch.export.export(fused, (X,)).module(), torch.compile(fused, backend="eager")]
    assert all(relative_error(one(X), model(X)) < 1e-12 for one in copies)
    assert relative_error(fused.float()(X.float()), model(X)) < 1e-4


def test_a_share_of_zero_leaves_out_what_is_not_finite() -> None:
    model = product(SPELLINGS["without"])
    model.vector.data.fill_(torch.nan)
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(X), model(X)) < 1e-12


DECLINED = {
    "left": lambda m, x: (m.other @ x.t()).t(),
    "computed": lambda m, x: x @ (m.matrix * x.sum()),
    "computed vector": lambda m, x: torch.addmm(m.vector * x.sum(), x, m.matrix),
    "row": lambda m, x: torch.addmm(m.vector.view(1, 6), x, m.matrix),
    "computed share": lambda m, x: torch.addmm(m.vector, x, m.matrix, beta=x.shape[0]),
    "both constants": lambda m, x: (m.matrix[:3] @ m.other @ m.matrix) * x.sum(),
    "stack": lambda m, x: (x @ m.matrix.view(1, 4, 6))[0],
}


@pytest.mark.parametrize("call", DECLINED.values(), ids=DECLINED)
def test_declines(call: Any) -> None:
    fused = bnfuse.optimize(model := product(call))
    assert relative_error(fused(X), model(X)) < 1e-12
    assert "linear" not in str(getattr(fused, "graph", ""))


def test_a_matrix_that_the_forward_writes() -> None:
    def call(m: Product, x: torch.Tensor) -> torch.Tensor:
        m.matrix.data.mul_(2.0)
        return x @ m.matrix

    model = product(call)
    wanted = copy.deepcopy(model)
    fused = bnfuse.optimize(model)
    assert torch.equal(model.matrix, wanted.matrix)
    for _ in range(2):
        assert relative_error(fused(X), wanted(X)) < 1e-12


def test_integers_stay() -> None:

    class Integers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.arange(24).view(4, 6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.get_buffer("table")

    fused = bnfuse.optimize(Integers().eval())
    x = torch.arange(8).view(2, 4)
    assert torch.equal(fused(x), Integers()(x))
    assert "linear" not in str(fused.graph)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (0, 4), (2, 1, 3, 4)], ids=str)
def test_any_number_of_axes(shape: tuple[int, ...]) -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.ones(6, 4))
            self.vector = nn.Parameter(torch.ones(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x @ self.matrix.t()) * self.vector + 2

    model = ready(Bare())
    fused = bnfuse.optimize(model)
    x = noise(*shape)
    assert fused(x).shape == model(x).shape
    assert torch.allclose(fused(x), model(x), rtol=1e-12, atol=1e-12)
    assert "linear" in str(fused.graph)


def test_the_graph_afterwards() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.vector = nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(torch.addmm(self.vector, x, self.matrix))

    fused = bnfuse.optimize(ready(Bare()))
    assert isinstance(fused, torch.fx.GraphModule)
    wanted = """\
        graph():
            %x : [num_users=1] = placeholder[target=x]
            %addmm_1 : [num_users=1] = get_attr[target=addmm]
            %addmm_2 : [num_users=1] = get_attr[target=addmm_2]
            %linear : [num_users=1] = call_function[target=torch.nn.functional.linear]"""
    assert str(fused.graph).startswith(textwrap.dedent(wanted.rpartition("[")[0]))
    assert list(fused.state_dict()) == ["addmm", "addmm_2"]
