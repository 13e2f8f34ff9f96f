"""What counts as hooked."""

from __future__ import annotations

from torch import nn

from bnfuse.graph import is_hooked


def test_every_kind_of_hook_counts() -> None:
    layers = [nn.ReLU() for _ in range(6)]
    assert not any(is_hooked(layer) for layer in layers)
    layers[0].register_forward_hook(lambda *_: None)
    layers[1].register_forward_pre_hook(lambda *_: None)
    layers[2].register_forward_hook(lambda *_: None, with_kwargs=True)
    layers[3].register_forward_pre_hook(lambda *_: None, with_kwargs=True)
    layers[4].forward = nn.Identity().forward  # type: ignore[method-assign]  # as users do
    layers[5].register_forward_hook(lambda *_: None, always_call=True)
    assert all(is_hooked(layer) for layer in layers)


def test_a_removed_hook_does_not_count() -> None:
    layer = nn.ReLU()
    layer.register_forward_hook(lambda *_: None).remove()
    assert not is_hooked(layer)
