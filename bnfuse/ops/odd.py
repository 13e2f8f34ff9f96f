"""What no fold can read of a call: tensors that are not plain, options that are no numbers."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from bnfuse.ops.plain import oddity
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from bnfuse.graph.program import Constant, Program
    from bnfuse.ops.calls import Call

_NUMBERS = ("groups", "eps", "training")


def oddities(call: Call) -> list[str]:
    """Return what is odd about the tensors and plain arguments of a call, a clause each."""
    found = [f"{c.path} is {what}" for c in call.owned.values() if (what := oddity(c.tensor))]
    if call.kind.is_linear and call.constants["weight"] is None:
        found.append(f"{call.name}.weight is None")
    numbers = {k: v for k, v in call.options.items() if k in _NUMBERS}
    found += [f"{call.name}.{k} is no number" for k, v in numbers.items() if _is_odd(v)]
    if call.kind is Kind.BATCH_NORM and not found:
        found += _odd_shapes(list(call.owned.values()))
    return found


def written_tensors(program: Program, call: Call) -> list[str]:
    """Return the paths of a call's tensors that the forward may write."""
    return [c.path for c in call.owned.values() if c.path in program.written]


def is_fixed(program: Program, call: Call) -> bool:
    """Whether a call is one of plain tensors that nothing computes or writes, without hooks."""
    hindered = call.hooked or call.computed or oddities(call) or written_tensors(program, call)
    return not hindered


def _is_odd(option: Any) -> bool:
    """Whether a plain argument is neither a number nor computed in the graph."""
    if isinstance(option, Tensor):
        return option.numel() != 1
    return not isinstance(option, Real | fx.Node)


def _odd_shapes(constants: list[Constant]) -> list[str]:
    """Say which tensors of a batch norm do not hold one number for each channel."""
    channels = max((c.tensor.numel() for c in constants), default=0)
    odd = [c for c in constants if c.tensor.shape != (channels,)]
    return [f"{c.path} has the shape {tuple(c.tensor.shape)}" for c in odd]
