"""The graph passes, in the order they run."""

if __name__ != "bnfuse.passes":
    raise ImportError(f"this directory is the package bnfuse.passes; import that, not {__name__!r}")

from bnfuse.passes.base import Applied, Declined, Pass, PassReport, run_pass
from bnfuse.passes.eliminate_identities import EliminateIdentities
from bnfuse.passes.fold_affine import FoldAffine

PIPELINE: tuple[Pass, ...] = (
    EliminateIdentities(),  # first, so that a layer and its batch norm become neighbours
    FoldAffine(),
)
"""The passes in execution order."""

__all__ = ["PIPELINE", "Applied", "Declined", "Pass", "PassReport", "run_pass"]
