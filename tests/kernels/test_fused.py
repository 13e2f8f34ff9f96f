"""A fused layer behaves as the layer: copies, casts, writes, gradients, tracers and threads."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, fx, nn

from bnfuse.kernels import Activation
from bnfuse.kernels.probe import onednn
from tests.kernels.support import Case, error, fused, has_packed

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("onednn_call")
RELU = Activation("relu")


def made(case: Case) -> Any:
    """Return a layer that has been called once."""
    layer = fused(case.conv(), "add", RELU)
    layer(case.x, case.other)
    assert has_packed(layer)
    return layer


def writes_in_place(layer: Any) -> None:
    layer.weight.mul_(2)


def loads(layer: Any) -> None:
    layer.load_state_dict({"weight": 3 * layer.weight, "bias": layer.bias + 1})


def assigns_data(layer: Any) -> None:
    layer.weight.data = layer.weight + 1


def assigns(layer: Any) -> None:
    layer.weight = nn.Parameter(layer.weight + 1, requires_grad=False)


def loads_by_assignment(layer: Any) -> None:
    layer.load_state_dict({"weight": 3 * layer.weight, "bias": layer.bias + 1}, assign=True)


def writes_the_bias(layer: Any) -> None:
    layer.bias.add_(1)


def changes_the_bias(layer: Any) -> None:
    layer.bias = None


CHANGES = (
    writes_in_place, loads, assigns_data, assigns, loads_by_assignment, writes_the_bias,
    changes_the_bias,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_weights_count(case: Case, change: Callable[[Any], None]) -> None:
    layer = made(case)
    change(layer)
    assert error(layer(case.x, case.other), case.plain(layer)) < 1e-6
    assert has_packed(layer)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies(case: Case, duplicate: Callable[[Any], Any]) -> None:
    layer = made(case)
    other = duplicate(layer)
    assert not has_packed(other)
    assert torch.equal(other(case.x, case.other), layer(case.x, case.other))
    assert has_packed(layer)
    assert other.epilogue == layer.epilogue


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_casts(case: Case, dtype: torch.dtype) -> None:
    layer = made(case).to(dtype)
    x, other = case.x.to(dtype), case.other.to(dtype)
    bound = 8 * torch.finfo(dtype).eps
    assert error(layer(x, other), case.plain(layer, x, other)) < bound
    assert has_packed(layer) == (dtype in onednn().dtypes)


def test_channels_last(case: Case) -> None:
    layer = made(case).to(memory_format=torch.channels_last)
    x = case.last(case.x)
    assert error(layer(x, case.other), case.plain(layer)) < 1e-6


def test_contiguous_results_where_they_are_asked_for(case: Case) -> None:
    layer = made(case)
    assert not layer(case.x, case.other).is_contiguous()
    layer.returns_contiguous = True
    assert layer(case.x, case.other).is_contiguous()
    assert error(layer(case.x, case.other), case.plain(layer)) < 1e-6


def test_gradients(case: Case) -> None:
    layer, x = made(case), case.x.clone().requires_grad_()
    layer(x, case.other).square().sum().backward()
    wanted = case.x.clone().requires_grad_()
    case.plain(layer, wanted).square().sum().backward()  # type: ignore[no-untyped-call]  # torch's
    assert error(x.grad, wanted.grad) < 1e-6  # type: ignore[arg-type]  # it has one
    layer.weight.requires_grad_()
    assert layer(case.x, case.other).requires_grad
    with torch.no_grad():
        assert not layer(case.x, case.other).requires_grad


def test_results_need_no_gradient(case: Case) -> None:
    assert not made(case)(case.x, case.other).requires_grad
    layer = made(case)
    with torch.inference_mode():
        assert error(layer(case.x, case.other), case.plain(layer)) < 1e-6
        inside = fused(case.conv(), "add", RELU)  # writes to such weights are not counted
        assert error(inside(case.x, case.other), case.plain(inside)) < 1e-6
        assert not has_packed(inside)


def test_input_of_another_dtype_is_refused_as_before(case: Case) -> None:
    with pytest.raises(RuntimeError):
        made(case)(case.x.double(), case.other)


def test_autocast_gives_its_dtype(case: Case) -> None:
    layer = made(case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(case.x, case.other), case.plain(layer))
        assert layer(case.x, case.other).dtype is case.plain(layer).dtype


def test_functional_call(case: Case) -> None:
    layer = made(case)
    state = {"weight": 2 * layer.weight, "bias": layer.bias + 1}
    got = torch.func.functional_call(layer, state, (case.x, case.other))
    layer.load_state_dict(state)
    assert error(got, case.plain(layer)) < 1e-6


def test_vmap(case: Case) -> None:
    layer = made(case)
    got = torch.func.vmap(lambda x: layer(x, case.other))(torch.stack([case.x, case.other]))
    assert error(got[1], case.plain(layer, case.other)) < 1e-6


def test_forward_mode_derivative(case: Case) -> None:
    layer = made(case)
    got = torch.func.jvp(lambda x: layer(x, case.other), (case.x,), (case.other,))[1]
    wanted = torch.func.jvp(lambda x: case.plain(layer, x), (case.x,), (case.other,))[1]
    assert error(got, wanted) < 1e-6


def names_of(graph: fx.Graph) -> set[str]:
    """Return the names of the functions that a graph calls."""
    return {str(node.target) for node in graph.nodes if node.op == "call_function"}


def test_exported_as_ordinary_operators(case: Case) -> None:
    exported = torch.export.export(made(case), (case.x, case.other))
    assert names_of(exported.graph) == {
        f"aten.conv{case.axes}d.default",
        "aten.add.Tensor",
        "aten.relu.default",
    }


def test_compiled_as_ordinary_operators(case: Case) -> None:
    seen: list[set[str]] = []

    def backend(graph: fx.GraphModule, _: Any) -> Any:
        seen.append(names_of(graph.graph))
        return graph.forward

    layer = made(case)
    run: Any = torch.compile(layer, backend=backend, fullgraph=True)
    got = run(case.x, case.other)
    assert error(got, case.plain(layer)) < 1e-6
    assert not any("mkldnn" in name for names in seen for name in names)
    torch._dynamo.reset()


def test_traced_as_ordinary_operators(case: Case) -> None:
    graph = fx.symbolic_trace(nn.Sequential(fused(case.conv(), "", RELU))).graph
    assert [node.op for node in graph.nodes].count("call_function") == 2
    traced: Any = torch.jit.trace(fused(case.conv(), "", RELU), (case.x,), check_trace=False)  # type: ignore[no-untyped-call]  # torch's
    assert "mkldnn" not in str(traced.graph)
    assert "aten::relu" in str(traced.graph)


def test_fake_tensors(case: Case) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert fused(case.conv())(mode.from_tensor(case.x)).shape == case.x.shape


def test_parametrized_later(case: Case) -> None:
    layer = made(case)
    nn.utils.parametrize.register_parametrization(layer, "weight", Twice())
    assert error(layer(case.x, case.other), case.plain(layer)) < 1e-6


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_threads(case: Case) -> None:
    layer, results = fused(case.conv(), "add", RELU), list[Tensor]()
    threads = [
        threading.Thread(target=lambda: results.append(layer(case.x, case.other))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(result, results[0]) for result in results)
    assert len(results) == 6


def test_says_what_it_does(case: Case) -> None:
    padding = (1,) * case.axes
    assert repr(made(case)).endswith(f"padding={padding}, binary=add, activation=relu)")
