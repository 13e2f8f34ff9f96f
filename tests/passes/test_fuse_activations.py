"""A layer, a sum and an activation become one call, where nothing could tell."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from bnfuse.kernels import FusedLayer
from tests.kernels.support import drawn
from tests.passes.branches import Block

if TYPE_CHECKING:
    from collections.abc import Callable

X, SIGNAL = drawn(2, 8, 14, 14), drawn(2, 8, 196)


def add_to(y: Tensor, other: Tensor) -> Tensor:
    y += other
    return y


def conv(channels: int = 8, **options: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(8, channels, 3, padding=1, **options)


def conv1d(channels: int = 8, **options: Any) -> nn.Conv1d:
    torch.manual_seed(0)
    return nn.Conv1d(8, channels, 3, padding=1, **options)


Kind = tuple["Callable[..., nn.Module]", Tensor]


@pytest.fixture(params=[(conv, X), (conv1d, SIGNAL)], ids=["images", "signals"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Return what makes convolutions of each rank, and an input."""
    found: Kind = request.param
    return found


def graph_of(fused: nn.Module) -> fx.Graph:
    assert isinstance(fused, fx.GraphModule)
    return fused.graph


def operations(fused: nn.Module) -> list[str]:
    """Return what a graph calls: layers by what they show last, the rest by name."""
    found = []
    for node in graph_of(fused).nodes:
        if node.op == "call_module":
            module = fused.get_submodule(str(node.target))
            is_fused = isinstance(module, FusedLayer)
            found.append(str(module.epilogue) if is_fused else type(module).__name__)
        elif node.op in ("call_function", "call_method"):
            found.append(str(getattr(node.target, "__name__", node.target)))
    return found


def checked(model: nn.Module, *inputs: Tensor) -> nn.Module:
    """Optimize, compare outputs and inputs with the model's, and return the optimized model."""
    model.eval()
    given, ours = [x.clone() for x in inputs], [x.clone() for x in inputs]
    with torch.no_grad():
        fused = bnfuse.optimize(model)
        for _ in range(2):
            wanted, got = model(*given), fused(*ours)
            assert torch.allclose(wanted, got, rtol=1e-5, atol=1e-5)
            assert wanted.dtype == got.dtype
            assert wanted.stride() == got.stride()
            assert all(torch.equal(a, b) for a, b in zip(given, ours, strict=True))
    again = bnfuse.optimize(fused)
    assert operations(again) == operations(fused)
    assert bnfuse.report(again) == bnfuse.report(fused)
    return fused


ACTIVATIONS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "relu": (lambda m, x: F.relu(m.a(x)), "relu"),
    "relu-in-place": (lambda m, x: F.relu(m.a(x), inplace=True), "relu"),
    "relu-method": (lambda m, x: m.a(x).relu_(), "relu"),
    "relu6": (lambda m, x: F.relu6(m.a(x)), "relu6"),
    "hardtanh": (lambda m, x: F.hardtanh(m.a(x), -0.5, 2.0), "hardtanh(-0.5, 2.0)"),
    "clamp": (lambda m, x: m.a(x).clamp(-1, 0.5), "hardtanh(-1.0, 0.5)"),
    "leaky": (lambda m, x: F.leaky_relu(m.a(x), 0.2), "leaky_relu(0.2)"),
    "sigmoid": (lambda m, x: torch.sigmoid(m.a(x)), "sigmoid"),
    "sigmoid-method": (lambda m, x: m.a(x).sigmoid_(), "sigmoid"),
    "tanh": (lambda m, x: m.a(x).tanh(), "tanh"),
    "silu": (lambda m, x: F.silu(m.a(x), inplace=True), "silu"),
    "hardswish": (lambda m, x: F.hardswish(m.a(x)), "hardswish"),
    "hardsigmoid": (lambda m, x: F.hardsigmoid(m.a(x)), "hardsigmoid"),
    "gelu": (lambda m, x: F.gelu(m.a(x)), "gelu(none)"),
    "gelu-tanh": (lambda m, x: F.gelu(m.a(x), approximate="tanh"), "gelu(tanh)"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions(kind: Kind, name: str) -> None:
    make, x = kind
    run, shown = ACTIVATIONS[name]
    fused = checked(Block(run, a=make()), x)
    assert operations(fused) == [f"activation={shown}"]
    (row,) = bnfuse.report(fused).fused
    assert (row.into, row.by) == ("a", "fuse-activations")
    assert row.error is not None
    assert row.error < 1e-12


MODULES = (
    nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardtanh(), nn.LeakyReLU(0.2), nn.Sigmoid(),
    nn.Tanh(), nn.SiLU(inplace=True), nn.Hardswish(), nn.Hardsigmoid(), nn.GELU(),
    nn.GELU(approximate="tanh"),
)  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=str)
@pytest.mark.parametrize(
    "layer",
    [
        conv(),
        nn.Conv2d(8, 4, 1),
        nn.ConvTranspose2d(8, 4, 2, 2),
        nn.Linear(14, 6),
        conv1d(),
        nn.Conv1d(8, 8, 9, padding=4, groups=8),
    ],
    ids=str,
)
def test_modules(layer: nn.Module, module: nn.Module) -> None:
    x = SIGNAL if isinstance(layer, nn.Conv1d) else X
    fused = checked(nn.Sequential(layer, module), x)
    assert len(operations(fused)) == 1
    assert [row.name for row in bnfuse.report(fused).fused] == ["1"]


SUMS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "operator": (lambda m, x: F.relu(m.a(x) + x.exp()), "binary=add, activation=relu"),
    "reversed": (lambda m, x: F.relu(x.exp() + m.a(x)), "binary=add, activation=relu"),
    "function": (lambda m, x: F.silu(torch.add(m.a(x), x.exp())), "binary=add, activation=silu"),
    "method": (lambda m, x: m.a(x).add(x.exp()), "binary=add"),
    "in-place-method": (lambda m, x: m.a(x).add_(x.exp()).relu_(), "binary=iadd, activation=relu"),
    "in-place": (
        lambda m, x: F.relu(add_to(m.a(x), x.exp())),
        "binary=iadd, activation=relu",
    ),
    "product": (lambda m, x: m.a(x) * x, "binary=mul"),
    "gate": (lambda m, x: m.a(x) * x.mean(-1, keepdim=True).mean(2, keepdim=True), "binary=mul"),
    "broadcast": (lambda m, x: F.relu(m.a(x) + x[:, :, :1]), "binary=add, activation=relu"),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_and_products(kind: Kind, name: str) -> None:
    make, x = kind
    run, shown = SUMS[name]
    assert shown in operations(checked(Block(run, a=make()), x))


def test_residual_made_after_the_layer(kind: Kind) -> None:
    make, x = kind
    fused = checked(Block(lambda m, x: F.relu(m.a(x) + m.b(x)), a=make(), b=make(stride=1)), x)
    assert len(operations(fused)) <= 2


def two_readers(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    return torch.cat([y, F.relu(y)])


def read_under_its_old_name(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    F.relu(y, inplace=True)
    return y + 1


def shape_of_a_term(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    total = y + x.exp()
    return F.relu(total) * y.shape[1]


def writes_over_the_other(m: Any, x: Tensor) -> Tensor:
    other = x.exp()
    total = F.relu(add_to(other, m.a(x)))
    return total + other


def input_written_before_the_sum(m: Any, x: Tensor) -> Tensor:
    z = x + 1
    y = m.a(z)
    z.mul_(2)
    return F.relu(y + z)


def added_to_itself(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    return y + y


def scaled_sum(m: Any, x: Tensor) -> Tensor:
    return torch.add(m.a(x), x, alpha=2)


def two_calls(m: Any, x: Tensor) -> Tensor:
    return F.relu(m.a(F.relu(m.a(x))))


def one_bound(m: Any, x: Tensor) -> Tensor:
    return m.a(x).clamp(min=0.5)


def computed_bound(m: Any, x: Tensor) -> Tensor:
    return m.a(x).clamp(x.mean(), 2)


def prelu(m: Any, x: Tensor) -> Tensor:
    return F.prelu(m.a(x), x[0, 0].flatten()[:1])


DECLINED = (
    two_readers, read_under_its_old_name, shape_of_a_term, writes_over_the_other,
    input_written_before_the_sum, added_to_itself, scaled_sum, two_calls, one_bound,
    computed_bound, prelu,
)  # fmt: skip


@pytest.mark.parametrize("run", DECLINED, ids=lambda run: run.__name__)
def test_declined(kind: Kind, run: Callable[[Any, Tensor], Tensor]) -> None:
    make, x = kind
    fused = checked(Block(run, a=make()), x)
    into = [row for row in bnfuse.report(fused).fused if row.into == "a"]
    assert into == []


@pytest.mark.parametrize("name", ["a", "act"])
def test_hooks(kind: Kind, name: str) -> None:
    make, x = kind
    model = Block(lambda m, x: m.act(m.a(x)), a=make(), act=nn.ReLU())
    model.get_submodule(name).register_forward_hook(lambda module, args, output: output + 1)
    assert bnfuse.report(checked(model, x)).fused == ()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"),
        nn.utils.parametrizations.weight_norm(conv()),
        nn.Conv1d(8, 8, 3, padding=1, padding_mode="circular"),
        pytest.param(
            nn.Conv1d(8, 8, 4, padding="same"),
            marks=pytest.mark.filterwarnings("ignore:Using padding=.same"),  # torch's own
        ),
        nn.utils.parametrizations.weight_norm(conv1d()),
        nn.ConvTranspose1d(8, 8, 3),
    ],
    ids=["padding", "parametrized", "1d-padding", "1d-uneven", "1d-parametrized", "1d-transposed"],
)
def test_other_layers_stay_right(layer: nn.Module) -> None:
    x = SIGNAL if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d) else X
    checked(Block(lambda m, x: F.relu(m.a(x)), a=layer), x)


def test_skipped(kind: Kind) -> None:
    make, _ = kind
    fused = bnfuse.optimize(nn.Sequential(make(), nn.ReLU()).eval(), skip=("0",))
    assert type(fused.get_submodule("0")) is type(make())
    assert bnfuse.report(fused).fused == ()


def test_float64_layers_stay(kind: Kind) -> None:
    make, _ = kind
    fused = bnfuse.optimize(nn.Sequential(make(), nn.ReLU()).double().eval())
    assert type(fused.get_submodule("0")) is type(make())


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3)
    ).eval()


def test_the_layer_keeps_its_place_and_its_names() -> None:
    model, fused = network(), bnfuse.optimize(network())
    layer = fused.get_submodule("0")
    assert isinstance(layer, nn.Conv2d)
    assert (layer.in_channels, layer.out_channels) == (8, 16)
    assert list(fused.state_dict()) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert [row.name for row in bnfuse.report(fused).folded] == ["1"]
    for other in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert torch.allclose(other(X), model(X), atol=1e-5)
        assert str(graph_of(other)) == str(graph_of(fused))


def test_shared_activation(kind: Kind) -> None:
    make, x = kind
    act = nn.ReLU(inplace=True)
    fused = checked(nn.Sequential(make(), act, make(), act), x)
    assert operations(fused) == ["activation=relu"] * 2
    assert len(bnfuse.report(fused).fused) == 2


def test_layers_with_nothing_behind_them_are_packed() -> None:
    fused = bnfuse.optimize(nn.Sequential(conv(), nn.MaxPool2d(2), conv()).eval())
    assert isinstance(fused.get_submodule("0"), FusedLayer)
    assert bnfuse.report(fused).fused == ()
