"""When a kernel may run: nobody looks at single operators, and no gradient is needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from bnfuse.kernels.ordinary import is_ordinary, needs_gradient

X = torch.ones(2, 3)


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "value",
    [
        torch.nn.Parameter(X),
        X.as_subclass(Subclass),
        X.to_sparse(),
        X.to("meta"),
        X.to_mkldnn(),
        None,
        1.0,
    ],
    ids=["parameter", "subclass", "sparse", "meta", "mkldnn", "none", "number"],
)
def test_other_values(value: Any) -> None:
    assert is_ordinary((X, X))
    assert not is_ordinary((X, value))


def test_autocast() -> None:
    with torch.autocast("cpu"):
        assert not is_ordinary((X,))


def test_dispatch_mode() -> None:
    with FlopCounterMode(display=False):
        assert not is_ordinary((X,))


def test_transforms() -> None:
    seen: list[bool] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(is_ordinary((x,)) or is_ordinary((X,)))
        return x.sum()

    torch.func.vmap(look)(X)
    torch.func.grad(look)(X)
    assert seen == [False, False]


def test_forward_mode() -> None:
    with forward_ad.dual_level():
        assert not is_ordinary((X,))


def test_tracing() -> None:
    seen: list[bool] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(is_ordinary((X,)))
        return x + 1

    torch.jit.trace(look, (X,), check_trace=False)  # type: ignore[no-untyped-call]  # torch's
    assert seen == [False]


def test_onednn_switched_off() -> None:
    torch._C._set_mkldnn_enabled(False)
    try:
        assert not is_ordinary((X,))
    finally:
        torch._C._set_mkldnn_enabled(True)


def test_gradients() -> None:
    asking = X.clone().requires_grad_()
    assert needs_gradient((X, asking))
    assert not needs_gradient((X, None))
    with torch.no_grad():
        assert not needs_gradient((asking,))
