"""The table of operations: a row each, with every spelling and its argument names in order."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(enum.Enum):
    """What an operation is to the algebra."""

    CONVOLUTION = "convolution"
    TRANSPOSED_CONVOLUTION = "transposed convolution"
    LINEAR = "linear layer"
    BATCH_NORM = "batch norm"
    IDENTITY = "identity"
    DROPOUT = "dropout"
    COPY = "copy"
    CAST = "cast"
    ADD = "sum"
    SUBTRACT = "difference"
    MULTIPLY = "product"
    DIVIDE = "quotient"
    NEGATE = "negation"
    MAXIMUM = "maximum or minimum"
    CHOICE = "choice of two values"
    FILL = "fill by a mask"
    ABSOLUTE = "absolute value"
    RECTIFIER = "rectifier"
    CLAMP = "clamp"
    GATE = "gated half"
    SOFTMAX = "softmax"
    LAYER_NORM = "layer norm"
    GROUP_NORM = "group norm"
    RMS_NORM = "rms norm"
    EMBEDDING = "embedding"
    AVERAGE_POOL = "average pool"
    ADAPTIVE_AVERAGE = "adaptive average pool"
    MEAN = "mean"
    SUM = "sum over axes"
    CUMULATIVE_SUM = "cumulative sum"
    MAX_POOL = "max pool"
    CONCATENATION = "concatenation"
    STACK = "stack"
    SPLIT = "split"
    ITEM = "piece"
    PERMUTATION = "permutation"
    RESHAPE = "reshape"
    RESIZE = "resize"
    PADDING = "padding"
    PIXEL_SHUFFLE = "pixel shuffle"
    PIXEL_UNSHUFFLE = "pixel unshuffle"
    UNFOLD = "unfold"
    CHANNEL_SHUFFLE = "channel shuffle"
    FLIP = "flip"
    ROLL = "roll"
    SLICE = "slice"
    REPETITION = "repetition"
    REPEAT = "repeat"
    EXPAND = "expand"
    ACTIVATION = "activation"

    @property
    def is_broadcast(self) -> bool:
        """Whether the operation stretches its operands to one shape."""
        return self in _BROADCAST

    @property
    def is_linear(self) -> bool:
        """Whether the operation has a weight that can absorb an affine after it."""
        return self in (Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.LINEAR)


_BROADCAST = (
    Kind.ADD, Kind.SUBTRACT, Kind.MULTIPLY, Kind.DIVIDE, Kind.MAXIMUM, Kind.CHOICE, Kind.FILL,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation and all the ways a graph can spell it.

    Attributes:
        kind: What it is to the algebra.
        modules: Module classes, matched exactly: a subclass may have another forward.
        functions: Functions, with the names of their arguments in order. A name with a star takes
            all that remain, given one by one or as one sequence.
        methods: Methods of tensors, likewise.
        inputs: Which arguments are values of the graph; one may be a constant instead.
        constants: Which arguments are tensors of the model.
        options: Which arguments are plain values, with their defaults; a module holds each as an
            attribute of that name.
    """

    kind: Kind
    modules: frozenset[type[nn.Module]] = frozenset()
    functions: Mapping[Any, tuple[str, ...]] = field(default_factory=dict)
    methods: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("input",)
    constants: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


_ATEN = torch.ops.aten  # the dialect of exported programs
_CONV_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED_ARGUMENTS = (
    "input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"
)  # fmt: skip
_F_BATCH_NORM_ARGUMENTS = (
    "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"
)  # fmt: skip
_TORCH_BATCH_NORM_ARGUMENTS = (
    "input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps",
    "cudnn_enabled",
)  # fmt: skip
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_FUNCTIONAL_DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)

WEIGHTED = (
    Operation(
        kind=Kind.CONVOLUTION,
        modules=frozenset({nn.Conv1d, nn.Conv2d, nn.Conv3d}),
        functions=dict.fromkeys(
            (
                F.conv1d,
                F.conv2d,
                F.conv3d,
                torch.conv1d,
                torch.conv2d,
                torch.conv3d,
                _ATEN.conv1d.default,
                _ATEN.conv2d.default,
                _ATEN.conv3d.default,
                _ATEN.conv1d.padding,
                _ATEN.conv2d.padding,
                _ATEN.conv3d.padding,
            ),
            _CONV_ARGUMENTS,
        ),
        constants=("weight", "bias"),
        options={"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros"},
    ),
    Operation(
        kind=Kind.TRANSPOSED_CONVOLUTION,
        modules=frozenset({nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d}),
        functions=dict.fromkeys(
            (
                F.conv_transpose1d,
                F.conv_transpose2d,
                F.conv_transpose3d,
                _ATEN.conv_transpose1d.default,
                _ATEN.conv_transpose2d.input,
                _ATEN.conv_transpose3d.input,
            ),
            _TRANSPOSED_ARGUMENTS,
        ),
        constants=("weight", "bias"),
        options={"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1},
    ),
    Operation(
        kind=Kind.LINEAR,
        modules=frozenset({nn.Linear}),
        functions=dict.fromkeys((F.linear, _ATEN.linear.default), ("input", "weight", "bias")),
        constants=("weight", "bias"),
    ),
    Operation(
        kind=Kind.BATCH_NORM,
        modules=frozenset(
            {
                nn.BatchNorm1d,
                nn.BatchNorm2d,
                nn.BatchNorm3d,
                nn.SyncBatchNorm,
                nn.InstanceNorm1d,
                nn.InstanceNorm2d,
                nn.InstanceNorm3d,
            }
        ),
        functions={
            F.batch_norm: _F_BATCH_NORM_ARGUMENTS,
            torch.batch_norm: _TORCH_BATCH_NORM_ARGUMENTS,
            _ATEN.batch_norm.default: _TORCH_BATCH_NORM_ARGUMENTS,
        },
        constants=("running_mean", "running_var", "weight", "bias"),
        options={"training": False, "eps": 1e-5},
    ),
    Operation(kind=Kind.IDENTITY, modules=frozenset({nn.Identity})),
    Operation(
        kind=Kind.DROPOUT,
        modules=frozenset(_DROPOUTS),
        # F.dropout drops unless it is told training=False, in a model in eval mode as well.
        functions=dict.fromkeys(
            (*_FUNCTIONAL_DROPOUTS, _ATEN.dropout.default, _ATEN.feature_dropout.default),
            ("input", "p", "training", "inplace"),
        ),
        options={"training": True},
    ),
)
"""Operations with tensors of their own, and those that do nothing."""
