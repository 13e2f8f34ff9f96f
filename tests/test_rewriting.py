"""The largest parts that can be captured, from the whole down."""

from __future__ import annotations

import torch
from torch import fx, nn

import bnfuse
from bnfuse.graph.part import part_forward
from tests.support import noise, ready, relative_error

X = noise(2, 3, 4, 4)


def pair() -> nn.Sequential:
    """A convolution and its norm."""
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))


class Outer(nn.Module):
    """An untraceable forward around blocks, one of them shared, one untraceable itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.blocks = pair(), Inner(), nn.ModuleList([pair(), pair()])
        self.again = self.first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(self.again(self.first(x)))
        for block in self.blocks:
            x = block(x)
        return x if x.sum() > 0 else -x


class Inner(nn.Module):
    """Untraceable, with a block inside."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.norm = pair(), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block(x)
        return self.norm(y) if y.max() > 0 else y


def test_parts_are_found_at_every_depth_and_named_by_their_paths() -> None:
    model = ready(Outer())
    fused = bnfuse.optimize(model)
    assert relative_error(fused(X), model(X)) < 1e-12
    report = bnfuse.report(fused)
    assert sorted(row.name for row in report.folded) == [
        "blocks.0.1", "blocks.1.1", "first.1", "inner.block.1"
    ]  # fmt: skip
    assert [(row.name, row.reason) for row in report.kept] == [("inner.norm", "not-captured")]
    parts = [name for name, module in fused.named_modules() if part_forward(module)]
    assert parts == ["first", "inner.block", "blocks.0", "blocks.1"]


def test_a_whole_model_is_one_graph() -> None:
    fused = bnfuse.optimize(ready(nn.Sequential(pair(), nn.ReLU(), pair())))
    assert isinstance(fused, fx.GraphModule)
    assert not any(part_forward(module) for module in fused.modules())


def test_a_part_in_which_nothing_folds_is_left_alone() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.block(x)
            return y if y.sum() > 0 else -y

    fused = bnfuse.optimize(ready(Loop()))
    assert part_forward(fused.get_submodule("block")) is None
    assert [row.reason for row in bnfuse.report(fused).kept] == ["no-linear-producer"]


def test_hooks_of_a_block_run_around_its_graph() -> None:
    model = ready(nn.Sequential(pair(), nn.ReLU()))
    calls: list[str] = []

    def before(_: object, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        calls.append("before")
        return (args[0] + 1,)

    def after(_: object, __: object, out: torch.Tensor) -> torch.Tensor:
        calls.append("after")
        return out * 2

    model[0].register_forward_pre_hook(before)
    model[0].register_forward_hook(after)
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 1
    wanted = model(X)
    calls.clear()
    assert relative_error(fused(X), wanted) < 1e-12
    assert calls == ["before", "after"]


def test_skip_reaches_into_parts() -> None:
    report = bnfuse.explain(ready(Outer()), skip=("blocks", "inner.block.0"))
    assert sorted(row.name for row in report.kept if row.reason == "skipped") == [
        "blocks.0.1", "blocks.1.1", "inner.block.1"
    ]  # fmt: skip


class Sized(nn.Module):
    """Asks for a size as a number around a block, and calls one norm itself."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.conv, self.norm = nn.Sequential(*inner), nn.Conv2d(3, 3, 1), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        if int(y.shape[0]) == 1:
            return self.norm(y)
        return self.norm(self.conv(y))


def sized(*inner: nn.Module) -> Sized:
    """Return a module that calls a norm where no trace sees it."""
    module = Sized(*inner)
    module.norm = nn.BatchNorm2d(3)  # type: ignore[assignment]  # in place of none
    return module


def parts_of(fused: nn.Module) -> dict[str, str]:
    """Return the modules that run graphs, with what the graphs stand for."""
    found = ((name, part_forward(module)) for name, module in fused.named_modules())
    return {name: type(part.assumptions).__name__ for name, part in found if part}


def test_an_example_is_used_only_where_parts_miss_a_norm() -> None:
    fused = bnfuse.optimize(ready(Sized(pair())), (X,), validate=False)
    assert parts_of(fused) == {"inner": "Assumptions"}
    fused = bnfuse.optimize(ready(sized(pair())), (X,), validate=False)
    assert parts_of(fused) == {"": "ExampleAssumptions", "inner": "Assumptions"}
    assert [row.name for row in bnfuse.report(fused).folded] == ["inner.0.1", "norm"]
    assert parts_of(bnfuse.optimize(ready(sized(pair())))) == {"inner": "Assumptions"}


def test_the_largest_module_that_can_be_captured_for_the_example() -> None:
    class Printing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = sized(), sized()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.second(self.first(x))
            return y if y.sum() > 0 else -y

    model = ready(Printing())
    fused = bnfuse.optimize(model, (X,))
    assert parts_of(fused) == dict.fromkeys(("first", "second"), "ExampleAssumptions")
    assert relative_error(fused(X), model(X)) < 1e-12
    assert relative_error(fused(X[:1]), model(X[:1])) < 1e-12
    whole = bnfuse.optimize(ready(nn.Sequential(sized(), sized(sized()))), (X,))
    assert parts_of(whole).keys() == {"0", "1"}


class Branch(nn.Module):
    """Runs one of two blocks, by the size of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.unused = pair(), nn.BatchNorm2d(3)
        self.layers = nn.ModuleList([*pair(), *pair()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if int(x.shape[0]) == 1:
            return self.small(x)
        for layer in self.layers:
            x = layer(x)
        return x


def test_each_norm_stands_once_in_the_report() -> None:
    model = ready(Branch())
    fused = bnfuse.optimize(model, (X,))
    report = bnfuse.report(fused)
    assert [row.name for row in report.folded] == ["small.1", "layers.1", "layers.3"]
    assert [(row.name, row.reason) for row in report.kept] == [("unused", "not-captured")]
    for x in (X, X[:1]):
        assert relative_error(fused(x), model(x)) < 1e-12
    again = bnfuse.optimize(fused, (X,))
    assert bnfuse.report(again) == report
    assert relative_error(again(X), model(X)) < 1e-12


def test_an_example_that_folds_no_more_is_not_used() -> None:
    model = ready(Branch())
    fused = bnfuse.optimize(model, (X[:1],))
    assert parts_of(fused) == {"small": "Assumptions"}
    kept = [row.name for row in bnfuse.report(fused).kept]
    assert kept == ["unused", "layers.1", "layers.3"]


def test_skip_reaches_into_a_graph_of_an_example() -> None:
    report = bnfuse.explain(ready(sized(pair())), (X,), skip=("inner",))
    assert [row.name for row in report.folded] == ["norm"]
    assert [(row.name, row.reason) for row in report.kept] == [("inner.0.1", "skipped")]
