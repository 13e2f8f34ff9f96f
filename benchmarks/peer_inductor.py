"""torch.compile with inductor's freezing, up to where code would be generated.

Dynamo, inductor's passes before, in and after the capture and its freezing run as they do in
``torch.compile``; the graphs handed to the code generator are looked at, then interpreted.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch._dynamo.callback import callback_handler

from benchmarks.peer_made import Made
from tests.conformance.compare import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.case import Call, Case

COMPILING = "dynamo compiles"
FREEZING = {
    "freezing": True,
    "fallback_random": True,  # else random numbers are others than in eager mode
    "cpp.weight_prepack": False,  # it stops at convolutions in float64
}


class Interpreted:
    """Compiles for inductor with its own passes, freezing among them, and interprets the graphs.

    Attributes:
        ran: How often each operation of the final graphs ran, by aten name.
    """

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()

    def __call__(self, graph: fx.GraphModule, inputs: Any) -> Any:
        """Compile one graph of dynamo's."""
        from torch._inductor.compile_fx import compile_fx

        return compile_fx(graph, inputs, inner_compile=self._finished)

    def _finished(self, graph: fx.GraphModule, _: Any, **__: Any) -> Any:
        """Stand in for the code generator: run the graph it is given."""
        counted = graph_ops(graph)

        def boxed(args: list[Any]) -> Any:
            given = list(args)
            args.clear()
            self.ran += counted
            return fx.Interpreter(graph).run(*given)

        boxed._boxed_call = True  # type: ignore[attr-defined]  # how inductor asks for a list
        return boxed


def graph_ops(graph: fx.GraphModule) -> Counter[str]:
    """Count the operations of a graph of inductor's; a decomposed batch norm counts as one."""
    found: Counter[str] = Counter()
    pieces = 0
    for node in graph.graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            name = node.target.overloadpacket.__name__
            of_norm = "batch_norm" in str(node.meta.get("original_aten"))
            pieces += of_norm
            found["native_batch_norm" if of_norm and name == "sub" else name] += 1
    if pieces and not found["native_batch_norm"]:
        found["native_batch_norm"] = 1  # part of one is left
    return found


@contextlib.contextmanager
def marked_compilation() -> Iterator[None]:
    """Mark in a profile what runs, on no data, while dynamo compiles."""
    marks: list[Any] = []

    def start(_: Any) -> None:
        marks.append(torch.profiler.record_function(COMPILING))
        marks[-1].__enter__()

    def end(_: Any) -> None:
        marks.pop().__exit__(None, None, None)

    callback_handler.register_start_callback(start)
    callback_handler.register_end_callback(end)
    try:
        yield
    finally:
        callback_handler.remove_start_callback(start)
        callback_handler.remove_end_callback(end)


def eager_norms(events: Any) -> int:
    """Count the batch norms of a profile that ran between the graphs."""
    found = 0
    for event in events:
        above, names = event, set()
        while above is not None:
            names.add(above.name)
            above = above.cpu_parent
        found += event.name == "aten::native_batch_norm" and COMPILING not in names
    return found


def made_inductor(model: nn.Module, _: Call) -> Made:
    """Compile with torch.compile, inductor and freezing, up to the generated code."""
    from torch._inductor import config

    torch._dynamo.reset()
    backend = Interpreted()
    compiled = torch.compile(model, backend=backend)

    def call(*args: Any, **kwargs: Any) -> Any:
        with config.patch(FREEZING):
            return compiled(*args, **kwargs)

    def ops(given: Call, case: Case) -> Counter[str]:
        run(call, copy.deepcopy(given), case)  # type: ignore[arg-type]  # compiles what it has to
        backend.ran.clear()
        with torch.profiler.profile() as profile, marked_compilation():
            outcome = run(call, given, case)  # type: ignore[arg-type]  # called like a model
        if outcome.error is not None:
            raise outcome.error
        return backend.ran + Counter(native_batch_norm=eager_norms(profile.events()))

    return Made(call, ops, state=model)
