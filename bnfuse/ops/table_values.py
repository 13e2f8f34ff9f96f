"""The rows of operations on values alone: arithmetic, activations, pooling, layout."""

from __future__ import annotations

import operator

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.ops.table import Kind, Operation

_ATEN = torch.ops.aten
_BINARY = ("input", "other")
_POOL = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
         "divisor_override")  # fmt: skip
_POOL_1D = _POOL[:-1]
_MAX_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_ATEN_MAX_POOL = _MAX_POOL[:-1]

ARITHMETIC = (
    Operation(
        kind=Kind.ADD,
        functions={
            **dict.fromkeys((operator.add, operator.iadd), _BINARY),
            torch.add: _BINARY,
            _ATEN.add.Tensor: _BINARY,
            _ATEN.add.Scalar: _BINARY,
            _ATEN.add_.Tensor: _BINARY,
        },
        methods={"add": _BINARY, "add_": _BINARY},
        inputs=_BINARY,
        options={"alpha": 1},
    ),
    Operation(
        kind=Kind.SUBTRACT,
        functions={
            **dict.fromkeys((operator.sub, operator.isub), _BINARY),
            torch.sub: _BINARY,
            _ATEN.sub.Tensor: _BINARY,
            _ATEN.sub.Scalar: _BINARY,
        },
        methods={"sub": _BINARY, "sub_": _BINARY},
        inputs=_BINARY,
        options={"alpha": 1},
    ),
    Operation(
        kind=Kind.MULTIPLY,
        functions=dict.fromkeys(
            (operator.mul, operator.imul, torch.mul, _ATEN.mul.Tensor, _ATEN.mul.Scalar), _BINARY
        ),
        methods={"mul": _BINARY, "mul_": _BINARY},
        inputs=_BINARY,
    ),
    Operation(
        kind=Kind.DIVIDE,
        functions=dict.fromkeys(
            (operator.truediv, operator.itruediv, torch.div, _ATEN.div.Tensor, _ATEN.div.Scalar),
            _BINARY,
        ),
        methods={"div": _BINARY, "div_": _BINARY},
        inputs=_BINARY,
        options={"rounding_mode": None},
    ),
    Operation(
        kind=Kind.NEGATE,
        functions=dict.fromkeys((operator.neg, torch.neg, _ATEN.neg.default), ("input",)),
        methods={"neg": ("input",)},
    ),
)

ACTIVATIONS = (
    Operation(
        kind=Kind.RECTIFIER,
        modules=frozenset({nn.ReLU}),
        functions={
            F.relu: ("input", "inplace"),
            torch.relu: ("input",),
            _ATEN.relu.default: ("input",),
            _ATEN.relu_.default: ("input",),
        },
        methods={"relu": ("input",), "relu_": ("input",)},
        options={"inplace": False},
    ),
    Operation(
        kind=Kind.RECTIFIER,
        modules=frozenset({nn.LeakyReLU}),
        functions={
            F.leaky_relu: ("input", "negative_slope", "inplace"),
            _ATEN.leaky_relu.default: ("input", "negative_slope"),
        },
        options={"negative_slope": 0.01, "inplace": False},
    ),
)

POOLING = (
    Operation(
        kind=Kind.AVERAGE_POOL,
        modules=frozenset({nn.AvgPool1d}),
        functions={F.avg_pool1d: _POOL_1D, _ATEN.avg_pool1d.default: _POOL_1D},
        options={
            "kernel_size": 1,
            "stride": None,
            "padding": 0,
            "ceil_mode": False,
            "count_include_pad": True,
        },
    ),
    Operation(
        kind=Kind.AVERAGE_POOL,
        modules=frozenset({nn.AvgPool2d, nn.AvgPool3d}),
        functions=dict.fromkeys(
            (F.avg_pool2d, F.avg_pool3d, _ATEN.avg_pool2d.default, _ATEN.avg_pool3d.default), _POOL
        ),
        options={
            "kernel_size": 1,
            "stride": None,
            "padding": 0,
            "ceil_mode": False,
            "count_include_pad": True,
            "divisor_override": None,
        },
    ),
    Operation(
        kind=Kind.ADAPTIVE_AVERAGE,
        modules=frozenset({nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d}),
        functions=dict.fromkeys(
            (
                F.adaptive_avg_pool1d,
                F.adaptive_avg_pool2d,
                F.adaptive_avg_pool3d,
                _ATEN.adaptive_avg_pool1d.default,
                _ATEN.adaptive_avg_pool2d.default,
                _ATEN.adaptive_avg_pool3d.default,
            ),
            ("input", "output_size"),
        ),
        options={"output_size": None},
    ),
    Operation(
        kind=Kind.MEAN,
        functions=dict.fromkeys((torch.mean, _ATEN.mean.dim), ("input", "dim", "keepdim")),
        methods={"mean": ("input", "dim", "keepdim")},
        options={"dim": None, "keepdim": False, "dtype": None},
    ),
    Operation(
        kind=Kind.MAX_POOL,
        modules=frozenset({nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d}),
        functions={
            **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d), _MAX_POOL),
            **dict.fromkeys(
                (_ATEN.max_pool1d.default, _ATEN.max_pool2d.default, _ATEN.max_pool3d.default),
                _ATEN_MAX_POOL,
            ),
        },
        options={
            "kernel_size": 1,
            "stride": None,
            "padding": 0,
            "dilation": 1,
            "ceil_mode": False,
            "return_indices": False,
        },
    ),
)

LAYOUT = (
    Operation(
        kind=Kind.CONCATENATION,
        functions=dict.fromkeys(
            (torch.cat, torch.concat, torch.concatenate, _ATEN.cat.default), ("input", "dim")
        ),
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
        kind=Kind.RESIZE,
        modules=frozenset({nn.Upsample}),
        functions={F.interpolate: ("input", "size", "scale_factor", "mode")},
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
        kind=Kind.PIXEL_SHUFFLE,
        modules=frozenset({nn.PixelShuffle}),
        functions=dict.fromkeys(
            (F.pixel_shuffle, _ATEN.pixel_shuffle.default), ("input", "upscale_factor")
        ),
        options={"upscale_factor": 1},
    ),
    Operation(
        kind=Kind.COPY,
        functions=dict.fromkeys(
            (_ATEN.contiguous.default, _ATEN.clone.default, _ATEN.detach.default), ("input",)
        ),
        methods={"contiguous": ("input",), "clone": ("input",), "detach": ("input",)},
    ),
)

# They keep the rank and sizes of their input; no affine passes them.
_ELEMENTWISE_MODULES = frozenset(
    {nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh,
     nn.ELU, nn.PReLU, nn.Mish, nn.Softplus, nn.LayerNorm, nn.GroupNorm}
)  # fmt: skip
_ELEMENTWISE_FUNCTIONS = (
    F.relu6, F.hardtanh, F.silu, F.gelu, F.hardswish, F.hardsigmoid, F.elu, F.mish, F.softmax,
    F.layer_norm, F.group_norm, torch.sigmoid, torch.tanh, torch.softmax, _ATEN.silu.default,
    _ATEN.gelu.default, _ATEN.sigmoid.default, _ATEN.tanh.default, _ATEN.hardswish.default,
    _ATEN.hardsigmoid.default, _ATEN.softmax.int, _ATEN.hardtanh.default, _ATEN.layer_norm.default,
)  # fmt: skip
SHAPE_KEEPING = (
    Operation(
        kind=Kind.ACTIVATION,
        modules=_ELEMENTWISE_MODULES,
        functions=dict.fromkeys(_ELEMENTWISE_FUNCTIONS, ("input",)),
        methods=dict.fromkeys(("sigmoid", "tanh", "softmax", "clamp"), ("input",)),
    ),
)

VALUE_OPERATIONS = (*ARITHMETIC, *ACTIVATIONS, *POOLING, *LAYOUT, *SHAPE_KEEPING)
"""Every operation on values alone."""
