"""How an affine moves through a graph: one rule for each kind of operation, and the search."""

from bnfuse.moves.origin import Origin, find_plan, origin_of
from bnfuse.moves.search import Plan
from bnfuse.moves.step import Edit

__all__ = ["Edit", "Origin", "Plan", "find_plan", "origin_of"]
