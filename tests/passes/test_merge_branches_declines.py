"""Branches that stay as they are: once for each reason, and what merging once got wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from tests.passes.branches import Block, Block2, calls_of, conv, merged
from tests.support import noise, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

X = noise(2, 4, 7, 7)
Y = noise(2, 4, 7, 7, seed=4)


def plus(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.a(x) + m.b(x)


def hooked() -> Block:
    block = Block(plus, a=conv(), b=conv(1))
    block.get_submodule("b").register_forward_hook(lambda _m, _a, out: out * 2)
    return block


def written_between(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = torch.sigmoid(x)
    first = m.a(y)
    y.mul_(2)
    return first + m.b(y)


def computed_padding(m: Any, x: torch.Tensor) -> torch.Tensor:
    size = x.size(1) // 4
    return F.conv2d(x, m.a.weight, padding=(size, size)) + F.conv2d(x, m.b.weight, padding=size)


def written_weight(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.b.weight.detach().mul_(1.0)
    return m.a(x) + m.b(x)


DECLINED: dict[str, Callable[[], nn.Module]] = {
    "nothing aligned": lambda: Block(
        lambda m, x: m.a(x).mean() + m.b(x).mean(), a=conv(), b=conv(1)
    ),
    "shifted": lambda: Block(
        lambda m, x: m.a(x)[:, :, :5, :5] + m.b(x), a=conv(), b=conv(3, padding=0)
    ),
    "other sizes": lambda: Block(plus, a=conv((3, 7), padding=(1, 0)), b=conv(1)),
    "other stride": lambda: Block(plus, a=conv(7, padding=0), b=conv(1, stride=7)),
    "read elsewhere": lambda: Block(lambda m, x: (y := m.a(x)) + m.b(x) * y, a=conv(), b=conv(1)),
    "other values": lambda: Block(lambda m, x: m.a(x) + m.b(torch.relu(x)), a=conv(), b=conv(1)),
    "hooks": hooked,
    "written between": lambda: Block(written_between, a=conv(), b=conv(1)),
    "other padding": lambda: Block(plus, a=conv(padding_mode="reflect"), b=conv()),
    "more multiplications": lambda: Block(plus, a=conv(5, groups=4), b=conv(1)),
    "crossed kernels": lambda: Block(plus, a=conv((1, 3)), b=conv((3, 1))),
    "computed weights": lambda: Block(
        lambda m, x: m.a(x) + F.conv2d(x, m.b.weight * x.mean()), a=conv(), b=conv(1)
    ),
    "computed padding": lambda: Block(computed_padding, a=conv(), b=conv()),
    "written weights": lambda: Block(written_weight, a=conv(), b=conv(1)),
    "scaled sum": lambda: Block(
        lambda m, x: torch.add(m.a(x), m.b(x), alpha=x.size(1)), a=conv(), b=conv(1)
    ),
    "broadcast": lambda: Block(plus, a=conv(outputs=4), b=conv(outputs=1)),
    "transposed": lambda: Block(plus, a=conv(), b=nn.ConvTranspose2d(4, 4, 3, padding=1)),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined(name: str) -> None:
    model = ready(DECLINED[name]())
    fused = bnfuse.optimize(model)
    with torch.no_grad():
        assert relative_error(fused(X), model(X)) <= 1e-12
    if hasattr(fused, "graph"):
        found = calls_of(fused)
        assert sum(n for call, n in found.items() if "onv" in call) == 2


def test_other_dtypes() -> None:
    model = Block(lambda m, x: m.a(x) + m.b(x.double()), a=conv(), b=conv(1).double()).eval()
    assert calls_of(bnfuse.optimize(model))["add"] == 1
    with torch.no_grad():
        complex_one = Block(plus, a=conv(dtype=torch.complex64), b=conv(1, dtype=torch.complex64))
        fused = bnfuse.optimize(complex_one.eval())
        assert relative_error(fused(X.to(torch.complex64)), complex_one(X.to(torch.complex64))) == 0


def test_overflow() -> None:
    model = ready(Block(plus, a=conv(), b=conv())).half()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(60000.0)
    assert calls_of(bnfuse.optimize(model)) == {"Conv2d": 2, "add": 1}


def later_block(m: Any, y: torch.Tensor) -> torch.Tensor:
    return m.c(y) + m.d(y)


def added_without_a_name(m: Any, x: torch.Tensor) -> torch.Tensor:
    """The sum in place is read under the name of its first term."""
    h, s = m.a(x), torch.sigmoid(m.b(x))
    h.add_(s)
    return later_block(m, torch.relu(h))


def alias_read_later(m: Any, x: torch.Tensor) -> torch.Tensor:
    total = y = torch.relu(x)
    total += m.a(x)
    total += m.b(x)
    return total * torch.sigmoid(y)


def sum_written_later(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.a(x) + m.b(x) + torch.sigmoid(x)
    first = m.c(y)
    y.mul_(2)
    return first + m.d(y)


def merged_written_later(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.a(x) + m.b(x)
    first = m.c(y)
    y.mul_(2)
    return first + m.d(y)


def term_written_before_the_whole(m: Any, x: torch.Tensor) -> torch.Tensor:
    o = torch.sigmoid(x)
    total = m.a(x) + o
    o.mul_(2)
    return total + m.b(x)


@pytest.mark.parametrize(
    "run",
    [
        added_without_a_name,
        alias_read_later,
        sum_written_later,
        merged_written_later,
        term_written_before_the_whole,
    ],
)
def test_what_is_written_in_place_is_seen(run: Callable[[Any, torch.Tensor], object]) -> None:
    merged(Block(run, a=conv(), b=conv(1), c=conv(), d=conv(1)), X)


def test_an_input_that_is_added_to_in_place_is_written() -> None:
    def run(m: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        y += m.a(x)
        y += m.b(x)
        return y

    model = ready(Block2(run, a=conv(), b=conv(1)))
    given, again = Y.clone(), Y.clone()
    with torch.no_grad():
        model(X, given)
        bnfuse.optimize(model)(X, again)
    assert relative_error(again, given) <= 1e-12


def test_sums_in_place_keep_their_dtype() -> None:
    def run(m: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        total = m.a(x)
        total += m.b(x)
        total -= y
        return total

    model = Block2(run, a=conv(), b=conv(1)).eval()
    fused = bnfuse.optimize(model)
    assert calls_of(fused) == {"Conv2d": 1, "isub": 1}
    with torch.no_grad():
        assert fused(X.float(), Y).dtype is torch.float32
        assert relative_error(fused(X.float(), Y), model(X.float(), Y)) <= 1e-5


@pytest.mark.parametrize("branches", [2, 3])
def test_a_sum_that_is_used_twice(branches: int) -> None:
    """Each term is there twice, and all of it or nothing merges."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        total = m.a(x) + m.b(x)
        total = total + m.c(x) if branches == 3 else total
        return total + total

    block = Block(
        run,
        a=conv(5, 2, 2, groups=2),
        b=conv(1, 2, 2),
        c=conv(1, 2, 2, groups=2),
    )
    merged(block, noise(2, 2, 6, 6))


def test_identities_that_do_not_fit_stay() -> None:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.a(x) + x + m.b(x) + x

    options = {"dilation": 2, "padding": 1}
    merged(Block(run, a=conv(2, **options), b=conv(2, **options)), X)


def test_padding_of_the_layer_that_does_the_work() -> None:
    """Without padding of its own its mode says nothing, until it gets some."""
    narrow = conv((1, 2), 1, 1, padding=0, padding_mode="reflect")
    wide = conv((1, 2), 1, 1, padding=(0, 1), dilation=(1, 3))
    merged(Block(plus, a=narrow, b=wide), noise(2, 1, 7, 7))


@pytest.mark.parametrize(
    ("layer", "norm", "sizes"),
    [
        (nn.Conv1d, nn.BatchNorm1d, (6, 6)),
        (nn.Conv3d, nn.BatchNorm2d, (6, 6, 6, 6)),
        (nn.Conv1d, nn.InstanceNorm1d, (6, 6)),
    ],
)
def test_without_a_batch_axis_a_norm_acts_on_another(
    layer: Any, norm: Any, sizes: tuple[int, ...]
) -> None:
    """Equal sizes prove nothing: either a guard refuses the call, or the numbers are right."""
    options = {"track_running_stats": True} if norm is nn.InstanceNorm1d else {}
    model = ready(Block(plus, a=layer(6, 6, 3, padding=1), b=norm(6, **options)))
    x = noise(*sizes)
    settled = bnfuse.optimize(model, (x,))
    assert relative_error(settled(x), model(x)) <= 1e-12
    try:
        got = bnfuse.optimize(model)(x)
    except bnfuse.AssumptionError:
        return
    assert relative_error(got, model(x)) <= 1e-12


def test_long_sums_need_no_stack() -> None:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        total = torch.sigmoid(x)
        for _ in range(1500):
            total = total + 1.0 * torch.relu(x)
        return total

    assert relative_error(bnfuse.optimize(ready(Block(run)))(X), ready(Block(run))(X)) <= 1e-12
