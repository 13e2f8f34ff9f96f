"""The table of ONNX operators: each with the rule that converts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.importing import (
    arithmetic,
    elementwise,
    layers,
    layout,
    making,
    norms,
    picking,
    reductions,
    resizing,
    sizes,
    windows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnfuse.importing.site import Site, Value

OPERATORS: Mapping[str, Callable[[Site], Value | tuple[Value, ...]]] = {
    **arithmetic.OPERATORS,
    **elementwise.OPERATORS,
    **layers.OPERATORS,
    **layout.OPERATORS,
    **making.OPERATORS,
    **norms.OPERATORS,
    **picking.OPERATORS,
    **reductions.OPERATORS,
    **resizing.OPERATORS,
    **sizes.OPERATORS,
    **windows.OPERATORS,
}
"""By the operator's name in the domain of ONNX itself."""
