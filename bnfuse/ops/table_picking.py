"""The rows of operations that pick elements along axes: slices, rolls, shuffles, repetitions."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.ops.table import Kind, Operation

_ATEN = torch.ops.aten
_NARROW = ("input", "dim", "start", "length")
_SELECT = ("input", "dim", "index")
_ROLL = ("input", "shifts", "dims")
_REPETITION = ("input", "repeats", "dim")

PICKS = (
    Operation(
        kind=Kind.FLIP,
        functions=dict.fromkeys((torch.flip, _ATEN.flip.default), ("input", "dims")),
        methods={"flip": ("input", "*dims")},
        options={"dims": None},
    ),
    Operation(
        kind=Kind.ROLL,
        functions=dict.fromkeys((torch.roll, _ATEN.roll.default), _ROLL),
        methods={"roll": _ROLL},
        options={"shifts": None, "dims": None},
    ),
    Operation(
        kind=Kind.SLICE,
        functions={
            **dict.fromkeys((torch.narrow, _ATEN.narrow.default), _NARROW),
            _ATEN.slice.Tensor: ("input", "dim", "start", "end", "step"),
        },
        methods={"narrow": _NARROW},
        options={"dim": 0, "start": None, "end": None, "step": 1, "length": None},
    ),
    Operation(
        kind=Kind.SLICE,
        functions=dict.fromkeys((torch.index_select, _ATEN.index_select.default), _SELECT),
        methods={"index_select": _SELECT},
        constants=("index",),
        options={"dim": 0},
    ),
    Operation(
        kind=Kind.REPETITION,
        functions=dict.fromkeys(
            (torch.repeat_interleave, _ATEN.repeat_interleave.self_int), _REPETITION
        ),
        methods={"repeat_interleave": _REPETITION},
        options={"repeats": None, "dim": None},
    ),
    Operation(
        kind=Kind.REPEAT,
        functions={_ATEN.repeat.default: ("input", "repeats")},
        methods={"repeat": ("input", "*repeats")},
        options={"repeats": None},
    ),
    Operation(
        kind=Kind.EXPAND,
        functions={_ATEN.expand.default: ("input", "size")},
        methods={"expand": ("input", "*size")},
        options={"size": None},
    ),
    Operation(
        kind=Kind.CHANNEL_SHUFFLE,
        modules=frozenset({nn.ChannelShuffle}),
        functions=dict.fromkeys(
            (F.channel_shuffle, _ATEN.channel_shuffle.default), ("input", "groups")
        ),
        options={"groups": 1},
    ),
)

PIXELS = (
    Operation(
        kind=Kind.PIXEL_SHUFFLE,
        modules=frozenset({nn.PixelShuffle}),
        functions=dict.fromkeys(
            (F.pixel_shuffle, _ATEN.pixel_shuffle.default), ("input", "upscale_factor")
        ),
        options={"upscale_factor": 1},
    ),
    Operation(
        kind=Kind.PIXEL_UNSHUFFLE,
        modules=frozenset({nn.PixelUnshuffle}),
        functions=dict.fromkeys(
            (F.pixel_unshuffle, _ATEN.pixel_unshuffle.default), ("input", "downscale_factor")
        ),
        options={"downscale_factor": 1},
    ),
    Operation(
        kind=Kind.UNFOLD,
        modules=frozenset({nn.Unfold}),
        functions=dict.fromkeys(
            (F.unfold, _ATEN.im2col.default),
            ("input", "kernel_size", "dilation", "padding", "stride"),
        ),
        options={"kernel_size": 1, "dilation": 1, "padding": 0, "stride": 1},
    ),
)

PICKING = (*PICKS, *PIXELS)
"""Every operation that picks elements, or turns channels into places."""
