"""Readers of many values are told of a replacement when the pass is over."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

import bnfuse
from bnfuse.graph.replacements import WIDE, Replacements
from tests.support import noise, ready, relative_error


def graph_of(arms: int) -> tuple[fx.Graph, list[fx.Node], fx.Node]:
    """Return ``cat([x.relu().tanh(), ...])``, the nodes of tanh, and that of the concatenation."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    relus = [graph.call_method("relu", (x,)) for _ in range(arms)]
    tanhs = [graph.call_method("tanh", (relu,)) for relu in relus]
    cat = graph.call_function(torch.cat, (tanhs, 1))
    graph.output((cat, tanhs[0]))
    return graph, tanhs, cat


@pytest.mark.parametrize("arms", [2, WIDE + 1])
def test_readers_read_the_replacement_once_it_is_settled(arms: int) -> None:
    graph, tanhs, cat = graph_of(arms)
    made = Replacements()
    for tanh in tanhs:
        made.make(tanh, tanh.all_input_nodes[0])
        assert made.is_waiting(tanh) == (arms > WIDE)
        assert made.of(tanh).target == "relu"
        if arms <= WIDE:
            graph.erase_node(tanh)
    made.settle()
    graph.lint()
    assert [arm.target for arm in cat.all_input_nodes] == ["relu"] * arms
    assert not [node for node in graph.nodes if node.target in ("tanh", "detach")]


def test_a_narrow_reader_beside_a_wide_one_is_told_at_once() -> None:
    graph, tanhs, _ = graph_of(WIDE + 1)
    relu = tanhs[0].all_input_nodes[0]
    Replacements().make(tanhs[0], relu)
    (output,) = (node for node in graph.nodes if node.op == "output")
    assert output.args[0][1] is relu


def test_a_replacement_that_is_replaced_itself() -> None:
    graph, tanhs, cat = graph_of(WIDE + 1)
    made = Replacements()
    (relu,) = tanhs[3].all_input_nodes
    (x,) = relu.all_input_nodes
    made.make(tanhs[3], relu)
    made.make(relu, x)
    graph.erase_node(relu)
    made.settle()
    graph.lint()
    assert cat.all_input_nodes[3] is x
    assert made.of(tanhs[3]) is x


class Arms(nn.Module):
    """One concatenation of many convolutions with batch norms, and a batch norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        arms = [nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)) for _ in range(WIDE + 1)]
        self.arms, self.norm = nn.ModuleList(arms), nn.BatchNorm2d(2 * len(arms))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([arm(x) for arm in self.arms], 1).relu() + self.norm(
            torch.cat([arm(x).relu() for arm in self.arms], 1)
        )


def test_norms_fold_in_front_of_a_wide_concatenation() -> None:
    model, x = ready(Arms()), noise(2, 2, 3, 3)
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 2 * (WIDE + 1)
    assert relative_error(fused(x), model(x)) <= 1e-12
