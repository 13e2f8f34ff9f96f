"""Translation validation: what a rewrite changed, computed before and after it in float64.

A rewrite changes a few operations of a graph, its region. Whatever the rest of the graph reads from
the region has to be the same afterwards, for every input; so the region is run on random inputs
before the rewrite, and what stands in its place after it.

Source: Pnueli, Siegel and Singerman, Translation validation, 1998.
"""

from bnfuse.regions.check import BrokenRewriteError, PartChecks, RewriteChecks, RewriteKey
from bnfuse.regions.region import Region, region_of

__all__ = ["BrokenRewriteError", "PartChecks", "Region", "RewriteChecks", "RewriteKey", "region_of"]
