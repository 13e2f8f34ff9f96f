"""Write a matrix product with a constant as the linear layer it is.

::

    x ── matmul(·, W) ── y                  before
    x ── linear(·, Wᵀ) ── y                 after

    x ── addmm(b, ·, W, beta=k, alpha=m) ── y        before
    x ── linear(·, m Wᵀ, k b) ── y                   after

A linear layer has a place for a bias, so that an affine after the product can be folded into it.

Declined, silently, where the right factor is no matrix of the model, the forward writes it, its
dtype is not a floating-point one, or the summand of ``addmm`` is no vector of the model.

Source: ``torch.nn.functional.linear``: ``y = x Wᵀ + b``.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import fx
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.affine import as_float64, round_once
from bnfuse.ops import layer_name, oddity
from bnfuse.passes import base
from bnfuse.passes.base import Applied

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.graph import Program
    from bnfuse.report import Decline

_ATEN = torch.ops.aten
_PRODUCTS = frozenset({torch.matmul, operator.matmul, torch.mm, _ATEN.matmul.default})
_SUMS = frozenset({torch.addmm, _ATEN.addmm.default})


@dataclass(frozen=True, slots=True, eq=False)
class Match(base.Match):
    """A matrix product with a constant on the right.

    Attributes:
        node: The node that computes it.
        value: What it is applied to.
        weight: The weight of the linear layer.
        bias: Its bias, or None.
    """

    node: fx.Node
    value: fx.Node
    weight: Tensor
    bias: Tensor | None

    @property
    def name(self) -> str:
        """The qualified name of the layer that computes it."""
        return layer_name(self.node)

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The operations that change."""
        return (self.node,)


@dataclass(frozen=True, slots=True)
class MatmulToLinear:
    """The pass; its algebra is in the description of this module."""

    name: ClassVar[str] = "matmul-to-linear"
    is_exact: ClassVar[bool] = True

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the product at ``node`` if its right factor is a constant matrix."""
        found = _factors(node)
        if found is None:
            return None
        value, factor, summand = found
        matrix = _constant(program, factor)
        if not isinstance(value, fx.Node) or value.op == "get_attr":
            return None
        if matrix is None or matrix.ndim != 2:
            return None
        weight = as_float64(matrix).t()
        if summand is None:
            return Match(node, value, matrix.t().contiguous(), None)
        vector = _constant(program, summand)
        share, scale = (_number(node.kwargs.get(name, 1)) for name in ("beta", "alpha"))
        if vector is None or vector.shape != weight.shape[:1] or share is None or scale is None:
            return None
        start = as_float64(vector)
        shift = start * share if share else torch.zeros_like(start)  # 0 times what is not finite
        made, bias = round_once(weight * scale, matrix), round_once(shift, vector)
        return None if made is None or bias is None else Match(node, value, made, bias)

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return None: what is no linear layer is no match."""
        return None

    def rewrite(self, program: Program, match: Match) -> Applied:
        """Call the linear layer in place of the product."""
        node, layer = match.node, "" if match.name == match.node.name else match.name
        tensors = [match.weight] if match.bias is None else [match.weight, match.bias]
        constants = [program.new_tensor(node, layer, tensor) for tensor in tensors]
        with program.graph.inserting_before(node):
            linear = program.graph.call_function(F.linear, (match.value, *constants))
        linear.meta.update(node.meta)
        program.replace(node, linear)
        program.erase(node)
        return Applied(match.name, node.name, into=None)


def _factors(node: fx.Node) -> tuple[Any, Any, Any] | None:
    """Return the left factor, the right one and the summand of a product, or None."""
    is_method = node.op == "call_method" and node.target in ("matmul", "mm", "__matmul__")
    if is_method or (node.op == "call_function" and node.target in _PRODUCTS):
        given = [*node.args, *node.kwargs.values()]
        return (given[0], given[1], None) if len(given) == 2 and len(node.args) == 2 else None
    if node.op == "call_function" and node.target in _SUMS:
        is_plain = len(node.args) == 3 and node.kwargs.keys() <= {"beta", "alpha"}
        return (node.args[1], node.args[2], node.args[0]) if is_plain else None
    return None


def _constant(program: Program, value: Any) -> Tensor | None:
    """Return a plain floating-point tensor of the model that no forward writes."""
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    tensor = program.tensor(str(value.target))
    if tensor is None or str(value.target) in program.written or oddity(tensor):
        return None
    return tensor.detach() if tensor.is_floating_point() else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
