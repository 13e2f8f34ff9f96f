"""The rows of operations that move elements: concatenation, reshapes, padding, resizing."""

from __future__ import annotations

import operator

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.graph.layouts import laid_out_by_norm
from bnfuse.ops.table import Kind, Operation

_ATEN = torch.ops.aten

_CAST = ("input", "dtype", "non_blocking", "copy", "memory_format")
_UNFLATTEN = ("input", "split_dim", "sizes")

LAYOUT = (
    Operation(
        kind=Kind.CONCATENATION,
        functions=dict.fromkeys(
            (torch.cat, torch.concat, torch.concatenate, _ATEN.cat.default), ("input", "dim")
        ),
        options={"dim": 0},
    ),
    Operation(
        kind=Kind.STACK,
        functions=dict.fromkeys((torch.stack, _ATEN.stack.default), ("input", "dim")),
        options={"dim": 0},
    ),
    Operation(
        kind=Kind.SPLIT,
        functions={
            torch.chunk: ("input", "chunks", "dim"),
            torch.split: ("input", "split_size", "dim"),
            torch.unbind: ("input", "dim"),
            _ATEN.chunk.default: ("input", "chunks", "dim"),
            _ATEN.split.Tensor: ("input", "split_size", "dim"),
            _ATEN.split_with_sizes.default: ("input", "split_size", "dim"),
            _ATEN.unbind.int: ("input", "dim"),
        },
        methods={
            "chunk": ("input", "chunks", "dim"),
            "split": ("input", "split_size", "dim"),
            "unbind": ("input", "dim"),
        },
        options={"chunks": None, "split_size": None, "dim": 0},
    ),
    Operation(
        kind=Kind.ITEM,
        functions={operator.getitem: ("input", "index")},
        options={"index": None},
    ),
    Operation(
        kind=Kind.PERMUTATION,
        functions={
            torch.permute: ("input", "dims"),
            torch.transpose: ("input", "dim0", "dim1"),
            torch.swapaxes: ("input", "dim0", "dim1"),
            _ATEN.permute.default: ("input", "dims"),
            _ATEN.transpose.int: ("input", "dim0", "dim1"),
        },
        methods={
            "permute": ("input", "*dims"),
            "transpose": ("input", "dim0", "dim1"),
            "swapaxes": ("input", "dim0", "dim1"),
        },
        options={"dims": None, "dim0": None, "dim1": None},
    ),
    Operation(
        kind=Kind.RESHAPE,
        modules=frozenset({nn.Flatten}),
        functions=dict.fromkeys(
            (torch.flatten, _ATEN.flatten.using_ints), ("input", "start_dim", "end_dim")
        ),
        methods={"flatten": ("input", "start_dim", "end_dim")},
        options={"start_dim": 0, "end_dim": -1},
    ),
    Operation(
        kind=Kind.RESHAPE,
        functions=dict.fromkeys(
            (torch.reshape, _ATEN.view.default, _ATEN.reshape.default), ("input", "shape")
        ),
        methods={"reshape": ("input", "*shape"), "view": ("input", "*shape")},
        options={"shape": None},
    ),
    Operation(
        kind=Kind.RESHAPE,
        methods={"reshape_as": ("input", "like"), "view_as": ("input", "like")},
        options={"like": None},
    ),
    Operation(
        kind=Kind.RESHAPE,
        functions=dict.fromkeys((torch.unsqueeze, _ATEN.unsqueeze.default), ("input", "new_dim")),
        methods={"unsqueeze": ("input", "new_dim")},
        options={"new_dim": None},
    ),
    Operation(
        kind=Kind.RESHAPE,
        functions=dict.fromkeys((torch.squeeze, _ATEN.squeeze.dim), ("input", "old_dim")),
        methods={"squeeze": ("input", "old_dim")},
        options={"old_dim": None},
    ),
    Operation(
        kind=Kind.RESHAPE,
        functions=dict.fromkeys((torch.unflatten, _ATEN.unflatten.int), _UNFLATTEN),
        methods={"unflatten": _UNFLATTEN},
        options={"split_dim": None, "sizes": None},
    ),
    Operation(
        kind=Kind.RESIZE,
        modules=frozenset({nn.Upsample}),
        functions={
            F.interpolate: (
                "input",
                "size",
                "scale_factor",
                "mode",
                "align_corners",
                "recompute_scale_factor",
                "antialias",
            )
        },
        options={"size": None, "scale_factor": None, "mode": "nearest"},
    ),
    Operation(
        kind=Kind.PADDING,
        modules=frozenset({nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d}),
        options={"padding": 0, "value": 0.0, "mode": "constant"},
    ),
    Operation(
        kind=Kind.PADDING,
        functions={F.pad: ("input", "padding", "mode", "value")},
        options={"padding": 0, "value": 0.0, "mode": "constant"},
    ),
    Operation(
        kind=Kind.CAST,
        functions={_ATEN.to.dtype: _CAST},
        methods={"to": _CAST, **dict.fromkeys(("float", "double", "half", "bfloat16"), ("input",))},
        options={"dtype": None, "non_blocking": False, "copy": False, "memory_format": None},
    ),
    Operation(
        kind=Kind.COPY,
        functions=dict.fromkeys(
            (
                _ATEN.contiguous.default,
                _ATEN.clone.default,
                _ATEN.detach.default,
                laid_out_by_norm,
            ),
            ("input",),
        ),
        methods={"contiguous": ("input",), "clone": ("input",), "detach": ("input",)},
    ),
)
"""Every operation that moves elements."""
