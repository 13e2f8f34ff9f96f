"""What the nodes of a graph mean: one row per operation, with every spelling of it."""

from bnfuse.ops.calls import OPERATIONS, Call, layer_name, read_call
from bnfuse.ops.linear import absorb_after, output_channels, rank_with_channels_on_axis_1
from bnfuse.ops.plain import oddity
from bnfuse.ops.table import Kind, Operation
from bnfuse.ops.weights import write_weights

__all__ = [
    "OPERATIONS",
    "Call",
    "Kind",
    "Operation",
    "absorb_after",
    "layer_name",
    "oddity",
    "output_channels",
    "rank_with_channels_on_axis_1",
    "read_call",
    "write_weights",
]
