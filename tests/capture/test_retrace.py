"""Tracing generated source again."""

from __future__ import annotations

from torch import fx

from bnfuse.capture.retrace import retrace
from bnfuse.capture.tracer import ModelTracer
from tests.capture.test_tracer import InPlace


def test_tracing_the_source_again_keeps_it_in_place() -> None:
    model = InPlace()
    module = fx.GraphModule(model, ModelTracer().trace(model))
    again = fx.GraphModule(model, retrace(model, type(module).forward))
    assert [n.target for n in again.graph.nodes] == [n.target for n in module.graph.nodes]
