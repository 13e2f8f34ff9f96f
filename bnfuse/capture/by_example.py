"""Capture one call of a forward that no trace can follow, with ``torch.export``.

A symbolic trace knows nothing of a value, so it stops where a forward turns a size into a Python
number or loops over a list it was given. With an example call there is a second way: PyTorch runs
the forward on tensors that have a shape and no elements, and every operation goes into the graph.
The graph then stands for calls of that very form alone, see ``ExampleAssumptions``; all other calls
run the forward itself.

What a graph would lose is noticed as in a trace, by the same watch.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import torch
from torch import fx, nn

from bnfuse.capture.capture import Capture, attempted
from bnfuse.capture.code import (
    codes_of,
    noting_code,
    sets_data,
    sets_global,
    untraceable_on_tensors,
)
from bnfuse.capture.copying import copy_tree
from bnfuse.capture.example import CallForm, ExampleAssumptions
from bnfuse.capture.signature import without_self
from bnfuse.capture.state import OutsideState
from bnfuse.capture.trial import Trial, cloned
from bnfuse.capture.watch import (
    CaptureError,
    Notices,
    called_by_torch,
    watching,
    watching_state,
)
from bnfuse.graph.hooks import is_hooked
from bnfuse.graph.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

# They answer yes while PyTorch exports, and no when the model runs.
_COMPILING = ("is_compiling", "is_exporting", "is_dynamo_compiling")

# What torch.export logs beside the error it raises for a forward that branches on values.
_LOGGER = "torch.fx.experimental.symbolic_shapes"
_REMARK = "Unable to find user code corresponding to"


def capture_by_example(
    module: nn.Module, example: Arguments, by_reference: frozenset[int] = frozenset()
) -> Capture | str:
    """Export the forward of a module for one example call.

    Args:
        module: The module.
        example: The arguments of a call.
        by_reference: Identities of modules that cannot be copied and stay the caller's own.

    Returns:
        The capture, or what stood in the way: a clause without a full stop.
    """
    return attempted(
        lambda: _exported(module, example, by_reference), "exporting it for the example"
    )


def _exported(module: nn.Module, example: Arguments, by_reference: frozenset[int]) -> Capture:
    if by_reference:
        raise CaptureError("a part of it cannot be copied")
    _check_code(module)
    signature = without_self(type(module).forward)
    bound = signature.bind(*example[0], **example[1])
    bound.apply_defaults()
    CallForm.of(bound.args, bound.kwargs)  # refuses what copies would not show
    call = cloned((bound.args, bound.kwargs))
    form = CallForm.of(*call)  # with the strides of the copies
    root, notices = copy_tree(module), Notices()
    _fill_tables()
    scopes: dict[CodeType, dict[str, Any]] = {}
    with watching(root, notices, _eager_answers()), noting_code(set(), scopes):
        trial = Trial.of(module, call)
    if any(sets_global(code) or sets_data(code) for code in scopes):
        raise CaptureError("a function it calls sets a global or the data of a tensor")
    _watch_calls(root, notices)
    outside = OutsideState.of_run(scopes)
    watched = watching(root, notices, _eager_answers())
    with torch.no_grad(), catch_warnings(), _without_remark(), watched:
        simplefilter("ignore")
        try:
            exported = torch.export.export(root, *cloned(call), strict=False)
        finally:
            notices.extend(f"a function it calls changes {name}" for name in outside.restore())
    outputs = exported.call_spec.out_spec
    if outputs is None:
        raise CaptureError("the form of its result is not known")
    runnable = exported.module()
    program = _program(runnable, _flat_graph(runnable.graph), module)
    if program.written:
        raise CaptureError("its forward writes into tensors of the model")
    trial.check(program.root, program.graph, call)
    return Capture(program, ExampleAssumptions(signature, form, outputs))


@contextmanager
def _without_remark() -> Iterator[None]:
    """Keep one remark of ``torch.export`` from the terminal: the report has the reason."""

    def is_kept(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_REMARK)

    logger = logging.getLogger(_LOGGER)
    logger.addFilter(is_kept)
    try:
        yield
    finally:
        logger.removeFilter(is_kept)


@cache
def _fill_tables() -> None:
    """Let PyTorch's compiler look at its functions before any has a stand-in.

    It does so once, for good, when it is first needed, which an export is enough for. What it has
    not seen then it cannot compile.
    """
    from torch._dynamo import trace_rules  # takes a while to import

    trace_rules.get_torch_obj_rule_map()
    torch.export.export(nn.Identity(), (torch.zeros(1),), strict=False)


def _check_code(module: nn.Module) -> None:
    """Refuse what would run otherwise on the stand-ins of an export, or not at all."""
    if type(module).__call__ is not nn.Module.__call__:
        raise CaptureError("its class overrides __call__")
    for path, inner in module.named_modules():
        if is_hooked(inner):
            raise CaptureError(f"hooks are on {path or 'the model'}")
        for code in codes_of(inner):
            if what := untraceable_on_tensors(code) or sets_data(code):
                raise CaptureError(f"the forward of {path or 'the model'} {what}")


def _watch_calls(root: nn.Module, notices: Notices) -> None:
    """Note what the forward changes in the modules of ``root``.

    That has to be looked for inside the call, since an export puts the attributes back after it.
    """
    stack = ExitStack()

    def before(*_: object) -> None:
        stack.enter_context(watching_state(root, notices))

    def after(*_: object) -> None:
        stack.close()

    root.register_forward_pre_hook(before)
    root.register_forward_hook(after)


def _eager_answers() -> list[tuple[Any, str, Callable[..., Any]]]:
    """Return stand-ins that tell a forward what it would be told when it runs."""
    return [(torch.compiler, name, _eager(getattr(torch.compiler, name))) for name in _COMPILING]


def _eager(original: Callable[..., bool]) -> Callable[..., bool]:
    def answer() -> bool:
        return original() if called_by_torch(1) else False

    return answer


def _flat_graph(graph: fx.Graph) -> fx.Graph:
    """Return a graph of tensors in and tensors out, without checks of shapes.

    Raises:
        CaptureError: It calls more than operators, such as a region with another grad mode.
    """
    flat = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node.op == "call_module" and node.target == "_guards_fn":
            continue
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            raise CaptureError(f"its forward has a region of its own, {node.target}")
        if node.op == "get_attr" and not node.users:
            continue
        if node.target is torch.ops.aten.detach_.default:  # nothing requires a gradient
            copied[node] = copied[node.args[0]]
            continue
        copied[node] = flat.node_copy(node, lambda source: copied[source])
    return flat


def _program(exported: nn.Module, graph: fx.Graph, module: nn.Module) -> Program:
    """Return a program of a flat graph, whose tensors have the names they have in the module.

    A tensor with several names has its first, as in the list of the module's parameters; an
    export may take another.
    """
    named = (*module.named_parameters(), *module.named_buffers())
    names = {id(tensor): name for name, tensor in named}
    tree = nn.Module()
    for node in graph.find_nodes(op="get_attr"):
        tensor = attrgetter(node.target)(exported)
        if not isinstance(tensor, torch.Tensor):
            raise CaptureError(f"its forward uses a {type(tensor).__name__}")
        node.target = names.get(id(tensor), node.target)
        prefix, _, name = node.target.rpartition(".")
        owner = _module_at(tree, prefix)
        if isinstance(tensor, nn.Parameter):
            owner.register_parameter(name, tensor)
        else:
            owner.register_buffer(name, tensor)
    return Program(tree.eval(), graph)


def _module_at(tree: nn.Module, path: str) -> nn.Module:
    """Return the module at a path, made on the way where there is none."""
    for part in filter(None, path.split(".")):
        if part not in tree._modules:
            tree.add_module(part, nn.Module())
        tree = tree.get_submodule(part)
    return tree
