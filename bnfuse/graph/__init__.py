"""The working copy of a model and what can be known about its graph."""

from bnfuse.graph.guards import add_guard, assume_rank, check_rank, guard_rank
from bnfuse.graph.hooks import is_hooked
from bnfuse.graph.module import OptimizedModule
from bnfuse.graph.program import Constant, Program
from bnfuse.graph.readers import only_reader, value_readers
from bnfuse.graph.tidy import assemble

__all__ = [
    "Constant",
    "OptimizedModule",
    "Program",
    "add_guard",
    "assemble",
    "assume_rank",
    "check_rank",
    "guard_rank",
    "is_hooked",
    "only_reader",
    "value_readers",
]
