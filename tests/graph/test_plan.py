"""A plan runs what the graph runs, and gives way when anything it relies on has changed."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from bnfuse.graph.plan import Plan
from bnfuse.kernels import release
from tests.kernels.support import drawn, error
from tests.passes.branches import Block

if TYPE_CHECKING:
    from collections.abc import Callable

X = drawn(2, 8, 16, 16)


def forward(m: Any, x: Tensor) -> Tensor:
    y = torch.relu(m.inner[0](x))
    z = torch.cat([m.inner[1](y) + x.exp(), y[:, :4].mul(k)], dim=1)
    return m.head(z.mean(dim=(2, 3), keepdim=True).flatten(1))


k = 0.5


def model() -> nn.Module:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1))
    return Block(forward, inner=inner, head=nn.Linear(12, 5)).eval()


def plans_of(fused: nn.Module) -> list[Plan | None]:
    """Return the plans that a graph has, one for each form of input that came."""
    return list(fused.__dict__["_plans"]._by_form.values())


def planned() -> Any:
    """Return an optimized model that has a plan for ``X``."""
    fused = bnfuse.optimize(model())
    fused(X)
    assert len(plans_of(fused)) == 1
    assert plans_of(fused)[0] is not None
    return fused


def plain(fused: Any, x: Tensor = X) -> Tensor:
    """Return what a model makes of an input without plan or kernel."""
    result: Tensor = fused(x.clone().requires_grad_())
    assert result.requires_grad
    return result.detach()


def test_runs_what_the_graph_runs() -> None:
    fused = planned()
    assert error(fused(X), model()(X)) < 1e-6
    for _ in range(3):
        assert torch.equal(fused(X), fused(X))
    assert len(plans_of(fused)) == 1


def test_one_for_each_form() -> None:
    fused, other = planned(), drawn(1, 8, 20, 18)
    assert error(fused(other), model()(other)) < 1e-6
    assert len(plans_of(fused)) == 2
    assert error(fused(other), model()(other)) < 1e-6
    for size in range(12, 32):
        fused(drawn(1, 8, size, size))
    assert len(plans_of(fused)) <= 8


def writes(fused: Any) -> None:
    fused.inner[0].weight.mul_(2)


def writes_the_bias(fused: Any) -> None:
    fused.inner[0].bias.mul_(2)


def loads(fused: Any) -> None:
    fused.load_state_dict({name: 2 * value for name, value in fused.state_dict().items()})


def loads_by_assignment(fused: Any) -> None:
    state = {name: 2 * value for name, value in fused.state_dict().items()}
    fused.load_state_dict(state, assign=True)


def assigns_data(fused: Any) -> None:
    fused.inner[0].weight.data = fused.inner[0].weight * 2
    fused.inner[0].bias.data = fused.inner[0].bias * 2


def replaces_a_layer(fused: Any) -> None:
    fused.head = nn.Linear(12, 5).requires_grad_(False)


def replaces_a_container(fused: Any) -> None:
    fused.inner = copy.deepcopy(fused.inner)
    fused.inner[0].weight.mul_(2)


def adds_a_hook(fused: Any) -> None:
    fused.inner[0].register_forward_hook(lambda module, args, output: output + 1)


def adds_a_hook_before(fused: Any) -> None:
    fused.inner[1].register_forward_pre_hook(lambda module, args: (args[0] + 1, *args[1:]))


def replaces_a_forward(fused: Any) -> None:
    fused.inner[0].forward = lambda x: x * 2


def changes_an_attribute(fused: Any) -> None:
    fused.inner[1].padding = (2, 2)
    fused.inner[1].dilation = (2, 2)


def casts(fused: Any) -> None:
    fused.double()
    fused.float()
    fused.inner[0].weight.mul_(2)


def releases(fused: Any) -> None:
    release(fused)
    assert plans_of(fused) == []


CHANGES = (
    writes, writes_the_bias, loads, loads_by_assignment, assigns_data, replaces_a_layer,
    replaces_a_container, adds_a_hook, adds_a_hook_before, replaces_a_forward,
    changes_an_attribute, casts, releases,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_count(change: Callable[[Any], None]) -> None:
    fused = planned()
    before = fused(X)
    change(fused)
    for _ in range(3):
        assert error(fused(X), plain(fused)) < 1e-6
    assert (error(fused(X), before) < 1e-6) == (change is releases)


def test_global_hooks_run() -> None:
    fused, seen = planned(), list[str]()
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, output: seen.append(type(module).__name__)
    )
    try:
        fused(X)
    finally:
        handle.remove()
    assert seen.count("FusedConv2d") == 2


def test_gradients() -> None:
    fused = planned()
    assert not fused(X).requires_grad
    fused.inner[0].weight.requires_grad_()
    assert fused(X).requires_grad
    with torch.no_grad():
        assert not fused(X).requires_grad


def test_code_that_may_need_gradients_runs_no_plan_under_them() -> None:
    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = torch.ones(1, requires_grad=True)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.seen if x.sum() < 1e9 else x

    block = Block(lambda m, x: m.b(m.a(x)), a=Opaque(), b=nn.Conv2d(8, 8, 3))
    fused = bnfuse.optimize(block.eval())
    assert fused(X).requires_grad
    assert fused(X).requires_grad


def test_other_calls_run_the_graph() -> None:
    fused = planned()
    assert error(fused(x=X), model()(X)) < 1e-6
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fused(X).dtype is model()(X).dtype
    assert fused.double()(X.double()).dtype is torch.float64


def test_errors_are_those_of_the_graph() -> None:
    fused, wrong = planned(), drawn(2, 7, 16, 16)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="channels"):
            fused(wrong)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_have_none(duplicate: Callable[[Any], Any]) -> None:
    fused = planned()
    other = duplicate(fused)
    assert plans_of(other) == []
    assert torch.equal(other(X), fused(X))


def test_weights_that_change_at_each_call_end_it() -> None:
    fused = planned()
    for _ in range(40):
        fused.inner[0].weight.add_(0.001)
        got = fused(X)
    assert plans_of(fused) == [None]
    assert error(got, plain(fused)) < 1e-6


def test_exported_and_compiled() -> None:
    fused = planned()
    exported = torch.export.export(fused, (X,)).module()
    assert error(exported(X), fused(X)) < 1e-6
    run: Any = torch.compile(fused, backend="eager", fullgraph=True)
    assert error(run(X), fused(X)) < 1e-6
    torch._dynamo.reset()


def test_many_models_are_compiled() -> None:
    """PyTorch gives up on the code of a function after eight recompilations."""
    torch._dynamo.reset()
    for _ in range(12):
        fused = bnfuse.optimize(model(), validate=False)
        run: Any = torch.compile(fused, backend="eager", fullgraph=True)
        assert error(run(X), fused(X)) < 1e-6
    torch._dynamo.reset()


def test_threads() -> None:
    fused, results = bnfuse.optimize(model()), list[Tensor]()

    def run() -> None:
        results.extend(fused(X) for _ in range(5))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert all(torch.equal(result, results[0]) for result in results)
