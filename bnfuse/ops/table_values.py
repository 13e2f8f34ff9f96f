"""The rows of operations that combine values, arithmetic and choices, or pool one."""

from __future__ import annotations

import operator

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.ops.table import Kind, Operation

_ATEN = torch.ops.aten
_BINARY = ("input", "other")
_REVERSED = ("subtrahend", "minuend")
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
    Operation(  # the other way round: rsub(x, y) = y - x
        kind=Kind.SUBTRACT,
        functions=dict.fromkeys((torch.rsub, _ATEN.rsub.Tensor, _ATEN.rsub.Scalar), _REVERSED),
        inputs=("minuend", "subtrahend"),
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

CHOICES = (
    Operation(
        kind=Kind.MAXIMUM,
        functions=dict.fromkeys(
            (torch.maximum, torch.minimum, _ATEN.maximum.default, _ATEN.minimum.default), _BINARY
        ),
        methods={"maximum": _BINARY, "minimum": _BINARY},
        inputs=_BINARY,
    ),
    Operation(
        kind=Kind.CHOICE,
        functions=dict.fromkeys(
            (torch.where, _ATEN.where.self, _ATEN.where.ScalarOther), ("condition", *_BINARY)
        ),
        methods={"where": ("input", "condition", "other")},
        inputs=("input", "other", "condition"),
    ),
    Operation(
        kind=Kind.FILL,
        functions=dict.fromkeys(
            (torch.masked_fill, _ATEN.masked_fill.Scalar), ("input", "mask", "value")
        ),
        methods={"masked_fill": ("input", "mask", "value")},
        inputs=("input", "mask"),
        options={"value": None},
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
        kind=Kind.SUM,
        functions=dict.fromkeys((torch.sum, _ATEN.sum.dim_IntList), ("input", "dim", "keepdim")),
        methods={"sum": ("input", "dim", "keepdim")},
        options={"dim": None, "keepdim": False, "dtype": None},
    ),
    Operation(
        kind=Kind.CUMULATIVE_SUM,
        functions=dict.fromkeys((torch.cumsum, _ATEN.cumsum.default), ("input", "dim")),
        methods={"cumsum": ("input", "dim")},
        options={"dim": None, "dtype": None},
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

VALUE_OPERATIONS = (*ARITHMETIC, *CHOICES, *POOLING)
"""Every operation that combines values or pools one."""
