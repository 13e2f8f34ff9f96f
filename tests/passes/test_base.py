"""The runner of passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pytest
from torch import fx, nn

from bnfuse.graph import Program
from bnfuse.passes import PIPELINE, Applied, Declined, run_pass
from bnfuse.report import Decline, decline

if TYPE_CHECKING:
    from bnfuse.passes import Pass


@dataclass(frozen=True)
class Found:
    """A match of the pass below."""

    name: str

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def ranks(self) -> tuple[tuple[fx.Node, int], ...]:
        return ()

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        return ()


@dataclass(frozen=True)
class Renamer:
    """A pass that does nothing to relu and declines the rest."""

    name: ClassVar[str] = "renamer"
    is_exact: ClassVar[bool] = True
    breaks_graph: bool = False

    def match(self, program: Program, node: fx.Node) -> Found | None:
        return Found(str(node.target)) if node.op == "call_module" else None

    def reason_to_decline(self, program: Program, match: Found) -> Decline | None:
        is_relu = isinstance(program.module(match.name), nn.ReLU)
        return None if is_relu else decline("hooked", match.name)

    def rewrite(self, program: Program, match: Found) -> Applied | Declined:
        if self.breaks_graph:
            next(iter(program.graph.nodes)).append(list(program.graph.nodes)[-1])
        return Applied(match.name, match.name, into="there")


def program() -> Program:
    """A program of two layers."""
    model = nn.Sequential(nn.ReLU(), nn.Sigmoid())
    return Program(model, fx.Tracer().trace(model))


def test_rows_come_in_graph_order_with_their_reasons() -> None:
    result = run_pass(program(), Renamer())
    assert result.by == "renamer"
    assert result.modified
    assert [done.name for done in result.applied] == ["0"]
    assert [(d.name, d.reason.code) for d in result.declined] == [("1", "hooked")]


def test_skipped_layers_are_not_touched() -> None:
    result = run_pass(program(), Renamer(), lambda name: name == "0")
    assert not result.modified
    assert [d.reason.code for d in result.declined] == ["skipped", "hooked"]


def test_a_pass_that_breaks_the_graph_is_caught() -> None:
    with pytest.raises(RuntimeError):
        run_pass(program(), Renamer(breaks_graph=True))


@pytest.mark.parametrize("one", PIPELINE, ids=lambda one: one.name)
def test_every_pass_is_named_like_its_file(one: Pass) -> None:
    assert type(one).__module__ == f"bnfuse.passes.{one.name.replace('-', '_')}"


def test_what_was_found_out_is_kept_while_nothing_is_edited() -> None:
    graph = program()
    run_pass(graph, Renamer(), lambda _: True)
    kept = graph.shapes
    run_pass(graph, Renamer(), lambda _: True)
    assert graph.shapes is kept
    run_pass(graph, Renamer())  # it may have edited
    run_pass(graph, Renamer(), lambda _: True)
    assert graph.shapes is not kept
