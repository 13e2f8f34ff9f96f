"""The graph passes, in the order they run."""

if __name__ != "bnfuse.passes":
    raise ImportError(f"this directory is the package bnfuse.passes; import that, not {__name__!r}")

from dataclasses import replace

from bnfuse.passes.base import Applied, Declined, Pass, PassReport, run_pass
from bnfuse.passes.eliminate_assertions import EliminateAssertions
from bnfuse.passes.eliminate_identities import EliminateIdentities
from bnfuse.passes.eliminate_reshapes import EliminateReshapes
from bnfuse.passes.fold_affine import MOST_BOUNDS, FoldAffine
from bnfuse.passes.fold_constants import FoldConstants
from bnfuse.passes.functional_to_layer import FunctionalToLayer
from bnfuse.passes.fuse_activations import FuseActivations
from bnfuse.passes.matmul_to_linear import MatmulToLinear
from bnfuse.passes.merge_branches import MergeBranches
from bnfuse.passes.merge_chains import MergeChains
from bnfuse.passes.split_depthwise import SplitDepthwise

PIPELINE: tuple[Pass, ...] = (
    EliminateIdentities(),  # first, so that a layer and its batch norm become neighbours
    FoldConstants(),  # then weights and affines that the forward computes are known
    MatmulToLinear(),  # after them, since a weight may be transposed in the forward
    FoldAffine(),  # before the merge, so that each branch is one convolution
    EliminateReshapes(),  # those around batch norms that are gone
    MergeBranches(),
    MergeChains(),  # when no affine stands between two layers any more
    FoldAffine(),  # again, since a merged sum has fewer readers
    MergeBranches(),  # again, for sums of values that were sums themselves
    FoldAffine(with_maps=True),  # last, since the sums it leaves stand in the way of others
    FoldAffine(with_bounds=MOST_BOUNDS),  # where the activation can stay, it is to stay
    EliminateAssertions(),  # when no fold asks for a rank any more
    FunctionalToLayer(),  # when the weights are what they will be
    FuseActivations(),  # when nothing folds any more: a fused layer is opaque to the others
)
"""The passes in execution order."""
ONNX_PIPELINE: tuple[Pass, ...] = (
    *(
        replace(one, with_bounds=1) if isinstance(one, FoldAffine) and one.with_bounds else one
        for one in PIPELINE[:-2]
    ),
    SplitDepthwise(),  # when no affine is to go through the concatenation any more
    *PIPELINE[-2:],
)
"""The same for a file: ONNX Runtime is slower with more than one bound than with the batch norm."""

__all__ = ["ONNX_PIPELINE", "PIPELINE", "Applied", "Declined", "Pass", "PassReport", "run_pass"]
