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
from tests.kernels.support import conv, drawn, error, fused, has_packed

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("onednn_call")
RELU = Activation("relu")
X, OTHER = drawn(1, 8, 20, 20), drawn(1, 8, 20, 20, seed=1)


def plain(layer: Any, x: Tensor = X, other: Tensor = OTHER) -> Tensor:
    """Return what a layer computes, by the operators themselves."""
    y: Tensor = nn.functional.conv2d(x, layer.weight, layer.bias, 1, 1)
    return (y + other).relu()


def made() -> Any:
    """Return a layer that has been called once."""
    layer = fused(conv(), "add", RELU)
    layer(X, OTHER)
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
def test_changed_weights_count(change: Callable[[Any], None]) -> None:
    layer = made()
    change(layer)
    assert error(layer(X, OTHER), plain(layer)) < 1e-6
    assert has_packed(layer)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies(duplicate: Callable[[Any], Any]) -> None:
    layer = made()
    other = duplicate(layer)
    assert not has_packed(other)
    assert torch.equal(other(X, OTHER), layer(X, OTHER))
    assert has_packed(layer)
    assert other.epilogue == layer.epilogue


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_casts(dtype: torch.dtype) -> None:
    layer = made().to(dtype)
    x, other = X.to(dtype), OTHER.to(dtype)
    bound = 8 * torch.finfo(dtype).eps
    assert error(layer(x, other), plain(layer, x, other)) < bound
    assert has_packed(layer) == (dtype in onednn().dtypes)


def test_channels_last() -> None:
    layer = made().to(memory_format=torch.channels_last)
    x = X.contiguous(memory_format=torch.channels_last)
    assert error(layer(x, OTHER), plain(layer)) < 1e-6


def test_contiguous_results_where_they_are_asked_for() -> None:
    layer = made()
    assert not layer(X, OTHER).is_contiguous()
    layer.returns_contiguous = True
    assert layer(X, OTHER).is_contiguous()
    assert error(layer(X, OTHER), plain(layer)) < 1e-6


def test_gradients() -> None:
    layer, x = made(), X.clone().requires_grad_()
    layer(x, OTHER).square().sum().backward()
    wanted = X.clone().requires_grad_()
    plain(layer, wanted).square().sum().backward()  # type: ignore[no-untyped-call]  # torch's
    assert error(x.grad, wanted.grad) < 1e-6  # type: ignore[arg-type]  # it has one
    layer.weight.requires_grad_()
    assert layer(X, OTHER).requires_grad
    with torch.no_grad():
        assert not layer(X, OTHER).requires_grad


def test_results_need_no_gradient() -> None:
    assert not made()(X, OTHER).requires_grad
    layer = made()
    with torch.inference_mode():
        assert error(layer(X, OTHER), plain(layer)) < 1e-6
        inside = fused(conv(), "add", RELU)  # writes to such weights are not counted
        assert error(inside(X, OTHER), plain(inside)) < 1e-6
        assert not has_packed(inside)


def test_input_of_another_dtype_is_refused_as_before() -> None:
    with pytest.raises(RuntimeError):
        made()(X.double(), OTHER)


def test_autocast_gives_its_dtype() -> None:
    layer = made()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(X, OTHER), plain(layer))
        assert layer(X, OTHER).dtype is plain(layer).dtype


def test_functional_call() -> None:
    layer = made()
    state = {"weight": 2 * layer.weight, "bias": layer.bias + 1}
    got = torch.func.functional_call(layer, state, (X, OTHER))
    layer.load_state_dict(state)
    assert error(got, plain(layer)) < 1e-6


def test_vmap() -> None:
    layer = made()
    got = torch.func.vmap(lambda x: layer(x, OTHER))(torch.stack([X, OTHER]))
    assert error(got[1], plain(layer, OTHER)) < 1e-6


def test_forward_mode_derivative() -> None:
    layer = made()
    got = torch.func.jvp(lambda x: layer(x, OTHER), (X,), (OTHER,))[1]
    wanted = torch.func.jvp(lambda x: plain(layer, x), (X,), (OTHER,))[1]
    assert error(got, wanted) < 1e-6


def names_of(graph: fx.Graph) -> set[str]:
    """Return the names of the functions that a graph calls."""
    return {str(node.target) for node in graph.nodes if node.op == "call_function"}


def test_exported_as_ordinary_operators() -> None:
    exported = torch.export.export(made(), (X, OTHER))
    assert names_of(exported.graph) == {
        "aten.conv2d.default",
        "aten.add.Tensor",
        "aten.relu.default",
    }


def test_compiled_as_ordinary_operators() -> None:
    seen: list[set[str]] = []

    def backend(graph: fx.GraphModule, _: Any) -> Any:
        seen.append(names_of(graph.graph))
        return graph.forward

    layer = made()
    run: Any = torch.compile(layer, backend=backend, fullgraph=True)
    got = run(X, OTHER)
    assert error(got, plain(layer)) < 1e-6
    assert not any("mkldnn" in name for names in seen for name in names)
    torch._dynamo.reset()


def test_traced_as_ordinary_operators() -> None:
    graph = fx.symbolic_trace(nn.Sequential(fused(conv(), "", RELU))).graph
    assert [node.op for node in graph.nodes].count("call_function") == 2
    traced: Any = torch.jit.trace(fused(conv(), "", RELU), (X,), check_trace=False)  # type: ignore[no-untyped-call]  # torch's
    assert "mkldnn" not in str(traced.graph)
    assert "aten::relu" in str(traced.graph)


def test_fake_tensors() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert fused(conv())(mode.from_tensor(X)).shape == X.shape


def test_parametrized_later() -> None:
    layer = made()
    nn.utils.parametrize.register_parametrization(layer, "weight", Twice())
    assert error(layer(X, OTHER), plain(layer)) < 1e-6


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_threads() -> None:
    layer, results = fused(conv(), "add", RELU), list[Tensor]()
    threads = [threading.Thread(target=lambda: results.append(layer(X, OTHER))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(result, results[0]) for result in results)
    assert len(results) == 6


def test_says_what_it_does() -> None:
    assert repr(made()).endswith("padding=(1, 1), binary=add, activation=relu)")
