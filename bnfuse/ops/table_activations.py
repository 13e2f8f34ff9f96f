"""The rows of operations on each element of a value, and of norms: they keep its shape."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.graph.clamp import ChannelClamp
from bnfuse.ops.table import Kind, Operation

_ATEN = torch.ops.aten
_CLAMP = ("input", "min", "max")
_SOFTMAX = ("input", "dim", "dtype")
_F_SOFTMAX = ("input", "dim", "_stacklevel", "dtype")
_LAYER_NORM = ("input", "normalized_shape", "weight", "bias", "eps")
_GROUP_NORM = ("input", "num_groups", "weight", "bias", "eps")
_EMBEDDING = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq",
              "sparse")  # fmt: skip
_RMS_NORM = ("input", "normalized_shape", "weight", "eps")

RECTIFIERS = (
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
    Operation(
        kind=Kind.RECTIFIER,
        modules=frozenset({nn.PReLU}),
        functions=dict.fromkeys((F.prelu, torch.prelu, _ATEN.prelu.default), ("input", "weight")),
        methods={"prelu": ("input", "weight")},
        constants=("weight",),
    ),
    Operation(
        kind=Kind.CLAMP,
        modules=frozenset({nn.ReLU6}),
        functions={F.relu6: ("input", "inplace")},
        options={"min_val": 0.0, "max_val": 6.0, "inplace": False},
    ),
    Operation(
        kind=Kind.CLAMP,
        modules=frozenset({nn.Hardtanh}),
        functions={
            F.hardtanh: ("input", "min_val", "max_val", "inplace"),
            _ATEN.hardtanh.default: ("input", "min_val", "max_val"),
        },
        options={"min_val": -1.0, "max_val": 1.0, "inplace": False},
    ),
    Operation(
        kind=Kind.CLAMP,
        modules=frozenset({ChannelClamp}),
        functions={
            **dict.fromkeys(
                (torch.clamp, torch.clip, _ATEN.clamp.default), ("input", "min", "max")
            ),
            **dict.fromkeys((torch.clamp_min, _ATEN.clamp_min.default), ("input", "min")),
            **dict.fromkeys((torch.clamp_max, _ATEN.clamp_max.default), ("input", "max")),
        },
        methods={
            **dict.fromkeys(("clamp", "clip"), _CLAMP),
            "clamp_min": ("input", "min"),
            "clamp_max": ("input", "max"),
        },
        options={"min": None, "max": None, "shift": None},
    ),
    Operation(
        kind=Kind.ABSOLUTE,
        functions=dict.fromkeys((torch.abs, torch.absolute, _ATEN.abs.default), ("input",)),
        methods=dict.fromkeys(("abs", "absolute"), ("input",)),
    ),
    Operation(
        kind=Kind.GATE,
        modules=frozenset({nn.GLU}),
        functions=dict.fromkeys((F.glu, _ATEN.glu.default), ("input", "dim")),
        options={"dim": -1},
    ),
    Operation(
        kind=Kind.SOFTMAX,
        modules=frozenset({nn.Softmax, nn.LogSoftmax}),
        functions={
            **dict.fromkeys((F.softmax, F.log_softmax), _F_SOFTMAX),
            **dict.fromkeys((torch.softmax, torch.log_softmax), _SOFTMAX),
            **dict.fromkeys((_ATEN.softmax.int, _ATEN.log_softmax.int), _SOFTMAX),
        },
        methods=dict.fromkeys(("softmax", "log_softmax"), _SOFTMAX),
        options={"dim": None, "_stacklevel": 3, "dtype": None},
    ),
)

NORMS = (
    Operation(
        kind=Kind.LAYER_NORM,
        modules=frozenset({nn.LayerNorm}),
        functions={
            F.layer_norm: _LAYER_NORM,
            **dict.fromkeys(
                (torch.layer_norm, _ATEN.layer_norm.default), (*_LAYER_NORM, "cudnn_enable")
            ),
        },
        constants=("weight", "bias"),
        options={"normalized_shape": None, "eps": 1e-5, "cudnn_enable": True},
    ),
    Operation(
        kind=Kind.GROUP_NORM,
        modules=frozenset({nn.GroupNorm}),
        functions={
            F.group_norm: _GROUP_NORM,
            **dict.fromkeys(
                (torch.group_norm, _ATEN.group_norm.default), (*_GROUP_NORM, "cudnn_enabled")
            ),
        },
        constants=("weight", "bias"),
        options={"num_groups": None, "eps": 1e-5, "cudnn_enabled": True},
    ),
    Operation(
        kind=Kind.RMS_NORM,
        modules=frozenset({nn.RMSNorm}),
        functions=dict.fromkeys((F.rms_norm, torch.rms_norm, _ATEN.rms_norm.default), _RMS_NORM),
        constants=("weight",),
        options={"normalized_shape": None},  # eps is None by default
    ),
    Operation(
        kind=Kind.EMBEDDING,
        modules=frozenset({nn.Embedding}),
        functions={
            F.embedding: _EMBEDDING,
        },
        constants=("weight",),
        options={
            "padding_idx": None,
            "max_norm": None,
            "norm_type": 2.0,
            "scale_grad_by_freq": False,
            "sparse": False,
        },
    ),
)

# No affine passes these.
_ELEMENTWISE_MODULES = frozenset(
    {nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.ELU, nn.Mish,
     nn.Softplus}
)  # fmt: skip
_ELEMENTWISE_FUNCTIONS = (
    F.silu, F.gelu, F.hardswish, F.hardsigmoid, F.elu, F.mish, torch.sigmoid, torch.tanh,
    _ATEN.silu.default, _ATEN.gelu.default, _ATEN.sigmoid.default, _ATEN.tanh.default,
    _ATEN.hardswish.default, _ATEN.hardsigmoid.default,
)  # fmt: skip
ELEMENTWISE = (
    Operation(
        kind=Kind.ACTIVATION,
        modules=_ELEMENTWISE_MODULES,
        functions=dict.fromkeys(_ELEMENTWISE_FUNCTIONS, ("input",)),
        methods=dict.fromkeys(("sigmoid", "tanh"), ("input",)),
    ),
)

ACTIVATIONS = (*RECTIFIERS, *NORMS, *ELEMENTWISE)
"""Every operation on the elements of one value, and every norm of its own elements."""
