"""Remove operations that return their input: identities, and dropout that is off.

::

    x ── conv ── dropout ── bn ── y        before
    x ── conv ── bn ── y                   after

In eval mode ``nn.Dropout`` returns its very argument, as ``nn.Identity`` does, so every reader of
the result can read the argument instead, aliases included. ``F.dropout`` is another matter: it
drops unless it is told ``training=False``.

Declined when the layer has hooks, or is in training mode: then it is not the identity.

Source: ``torch/nn/modules/dropout.py`` and the default arguments in ``torch/nn/functional.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bnfuse.ops import Call, Kind, read_call
from bnfuse.passes.base import Applied
from bnfuse.report import Decline, decline

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph import Program


@dataclass(frozen=True, slots=True)
class EliminateIdentities:
    """The pass; its algebra is in the description of this module."""

    name: ClassVar[str] = "eliminate-identities"
    is_exact: ClassVar[bool] = True

    def match(self, program: Program, node: fx.Node) -> Call | None:
        """Return the call if it is one of an identity or of dropout."""
        call = read_call(program, node)
        return call if call is not None and call.kind in (Kind.IDENTITY, Kind.DROPOUT) else None

    def reason_to_decline(self, program: Program, match: Call) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return why the call is not the identity, or None."""
        if match.hooked:
            return decline("hooked", match.name)
        if match.options.get("training", False) is not False:
            return decline("training-mode", match.name)
        return None

    def rewrite(self, program: Program, match: Call) -> Applied:
        """Let every reader read the input."""
        program.replace(match.node, match.input)
        program.erase(match.node)
        return Applied(match.name, match.node.name, into=None)
