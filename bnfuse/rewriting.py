"""Optimize the largest parts of a model that can be captured, from the whole down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from bnfuse.calibration import calibrate
from bnfuse.capture import Capture, call_inside, capture_by_example
from bnfuse.capture.captures import Captures, is_torch_leaf
from bnfuse.capture.copying import copy_tree
from bnfuse.capture.lending import Loan
from bnfuse.graph import OptimizedModule, assemble
from bnfuse.graph.hooks import FORWARD_HOOKS
from bnfuse.graph.part import PartForward, install, part_forward
from bnfuse.moves.formats import settle_formats
from bnfuse.passes import PIPELINE, Pass, run_pass
from bnfuse.passes.fuse_activations import FuseActivations, pack_layers
from bnfuse.regions import PartChecks, RewriteChecks
from bnfuse.report.inventory import Inventory, Settled, is_norm, not_captured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bnfuse.validation.inputs import Arguments


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A module whose forward no trace shows, to be captured for an example.

    Attributes:
        module: The module, whose children may run graphs by now.
        path: Its path in the model.
        unfused: A copy made before that.
    """

    module: nn.Module
    path: str
    unfused: nn.Module


@dataclass(slots=True)
class TreeRewriter:
    """Optimizes a copied model in place, part by part, and collects what happened.

    Attributes:
        root: The copied model.
        original: The model that it is a copy of.
        by_reference: Identities of modules that are the caller's own; they stay as they are.
        is_skipped: Whether a layer, given by its full name, is to be left alone.
        other_axis: Batch norms known from an example to normalize another axis.
        example: The arguments of a call, to capture for where no trace can.
        checks: What is known about rewrites from an earlier time, and what becomes known now.
        outcomes: What happened in each part, by its path.
        pipeline: The passes to run.
    """

    root: nn.Module
    original: nn.Module
    by_reference: frozenset[int]
    is_skipped: Callable[[str], bool]
    other_axis: frozenset[str] = frozenset()
    example: Arguments | None = None
    checks: RewriteChecks = field(default_factory=lambda: RewriteChecks(is_on=False))
    outcomes: dict[str, Settled] = field(default_factory=dict)
    pipeline: tuple[Pass, ...] = PIPELINE
    _candidates: list[_Candidate] = field(default_factory=list)
    _seen: dict[int, nn.Module] = field(default_factory=dict)  # kept: no other gets its identity
    _captures: Captures = field(init=False)

    def __post_init__(self) -> None:
        """Make the place for captures."""
        self._captures = Captures(self.by_reference)

    def whole(self) -> nn.Module:
        """Return the optimized model: a graph of the whole, or the model with graphs inside."""
        root = self.root
        if part_forward(root):
            return root
        captured = self._captures.take(root)
        if isinstance(captured, Capture) and captured.assumptions.hold_always:
            trees = (root, captured.program.root, *self._captures.trees())
            loan = None if self.by_reference else Loan(self.original, trees)
            self._captures.note_copy(root, captured.program.root)
            optimized = self._graph(captured, "", loan)
            self._by_example()  # for the parts inside that no trace can follow
            return optimized
        self._part(root, "", captured)
        self._by_example()
        return root

    def _part(self, module: nn.Module, path: str, captured: Capture | str) -> None:
        """Give a module a graph of its forward, or go on with its children."""
        if isinstance(captured, str):
            self._uncaptured(module, path, captured)
            return
        self._captures.note_copy(module, captured.program.root)
        for table in FORWARD_HOOKS:  # they run around the part, not inside its graph
            getattr(captured.program.root, table).clear()
        optimized = self._graph(captured, path)
        if self.outcomes[path].gone:
            install(PartForward(module, optimized, captured.assumptions))

    def _uncaptured(self, module: nn.Module, path: str, obstacle: str) -> None:
        """Optimize the children of a module whose forward no graph shows."""
        if self.example is not None:
            unfused = copy_tree(module, self.by_reference)
            self._candidates.append(_Candidate(module, path, unfused))
        self._children(module, path, obstacle)

    def _by_example(self) -> None:
        """Capture forwards for the example where batch norms are missed, from the whole down."""
        done: list[str] = []
        for candidate in self._candidates:
            in_parts = {k: v for k, v in self.outcomes.items() if _is_within(k, candidate.path)}
            is_done = any(_is_within(candidate.path, path) for path in done)
            if is_done or not any(outcome.is_missed for outcome in in_parts.values()):
                continue
            exported = self._exported(candidate.unfused, candidate.path)
            if isinstance(exported, str):
                continue
            optimized = self._graph(exported, candidate.path)
            whole = self.outcomes.pop(candidate.path)
            names = frozenset(row.name for row in whole.folded + whole.merged + whole.kept)
            # Layers that the example does not call stay with the parts they are in.
            others = {path: outcome.without(names) for path, outcome in in_parts.items()}
            if _folds([whole, *others.values()]) > _folds(in_parts.values()):
                install(PartForward(candidate.module, optimized, exported.assumptions))
                done.append(candidate.path)
                self.outcomes |= others
                own = others.get(candidate.path, Settled())
                self.outcomes[candidate.path] = whole.joined(own)
            else:
                self.outcomes |= in_parts

    def _exported(self, unfused: nn.Module, path: str) -> Capture | str:
        """Capture a module for the call that the example makes of it."""
        if self.example is None:
            return "there is no example"
        call = call_inside(self.root, path, self.example)
        if call is None:
            return "the example does not call it"
        return capture_by_example(unfused, call, self.by_reference)

    def _children(self, module: nn.Module, path: str, obstacle: str) -> None:
        """Optimize the children of a module whose own forward stays Python."""
        owner = path or type(module).__name__
        if is_norm(module):
            self.outcomes[path] = not_captured(owner, obstacle)
        for name, child in list(module.named_children()):
            full = f"{path}.{name}" if path else name
            if id(child) in self._seen or part_forward(child):
                continue
            self._seen[id(child)] = child
            if is_norm(child) and is_torch_leaf(child):
                self.outcomes[full] = not_captured(full, f"{owner}: {obstacle}")
            elif id(child) in self.by_reference:
                self.outcomes[full] = Inventory.of_modules(child, full).all_kept("not-copyable")
            elif not is_torch_leaf(child):
                self._part(child, full, self._captures.take(child))

    def _graph(self, captured: Capture, path: str, loan: Loan | None = None) -> OptimizedModule:
        """Run the passes on a captured part, and on the parts inside calls it cannot see into."""
        program = captured.program
        program.other_axis = self.other_axis
        inventory = Inventory.of_program(program, path)
        prefix = f"{path}." if path else ""
        checks = PartChecks(self.checks, path, lambda: self._call_of(path))

        def skips(name: str) -> bool:
            return self.is_skipped(prefix + name)

        results = []
        for one in self.pipeline:
            if isinstance(one, FuseActivations):  # its layers are opaque to whoever comes later
                calibrate(program, lambda: self._call_of(path))
            results.append(run_pass(program, one, skips, checks))
        self.outcomes[path] = inventory.settled(results)
        pack_layers(program, skips)
        settle_formats(program)
        optimized = assemble(program)
        if loan is not None:
            loan.settle(optimized)
        for node in program.graph.nodes:
            if node.op == "call_module":
                target = str(node.target)
                self._inside(program.module(target), prefix + target)
        return optimized

    def _call_of(self, path: str) -> Arguments | None:
        """Return the arguments that the example gives to a part, or None."""
        if self.example is None or not path:
            return self.example
        return call_inside(self.root, path, self.example)

    def _inside(self, module: nn.Module, path: str) -> None:
        """Optimize a module that a graph calls as one, such as one with hooks."""
        if id(module) in self._seen or part_forward(module) or is_torch_leaf(module):
            return
        self._seen[id(module)] = module
        if id(module) in self.by_reference:
            self.outcomes[path] = Inventory.of_modules(module, path).all_kept("not-copyable")
            return
        self._part(module, path, self._captures.take(module))


def _folds(outcomes: Iterable[Settled]) -> int:
    """Return how many batch norms are gone."""
    return sum(outcome.gone for outcome in outcomes)


def _is_within(path: str, above: str) -> bool:
    """Whether a path is that of a module, or of something inside it."""
    return not above or path == above or path.startswith(f"{above}.")
