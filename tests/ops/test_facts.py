"""Facts about values: each found out once, however deep what it follows from lies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from torch import Tensor, fx, nn

from bnfuse.graph import Program
from bnfuse.ops.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Iterable


class Depth(Facts[int]):
    """How many operations stand between a value and the inputs."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.looked_at: Counter[str] = Counter()

    def follows(self, node: fx.Node) -> int | tuple[fx.Node, ...]:
        self.looked_at[node.name] += 1
        return tuple(node.all_input_nodes) or 0

    def joined(self, node: fx.Node, facts: Iterable[int]) -> int:
        return 1 + max(facts)


class Doubled(nn.Module):
    """Each value is read twice, so that there are ``2 ** depth`` ways to the input."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2000):
            x = x + x
        return x


def test_each_value_is_settled_once_however_deep() -> None:
    graph = fx.symbolic_trace(Doubled()).graph
    *_, last, _ = graph.nodes
    depth = Depth(Program(nn.Module(), graph))
    assert depth.of(last) == 2000
    assert max(depth.looked_at.values()) == 2  # before what it follows from, and after
    depth.looked_at.clear()
    assert depth.of(last) == 2000
    assert not depth.looked_at
