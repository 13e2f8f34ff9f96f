"""Every batch-norm call site of a model ends in exactly one list of its report."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import bnfuse
from bnfuse.passes import Applied, Declined, PassReport
from bnfuse.report import Report, Row, decline
from bnfuse.report.inventory import Inventory, Settled, Site, summed
from tests.support import noise, program_of, ready, sequential

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Shared(nn.Module):
    """One batch norm called behind two layers and behind none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.second(torch.relu(self.bn(self.first(x)))))
        return self.bn(torch.relu(x))


class Functional(nn.Module):
    """A batch norm in a function call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.bn
        x = nn.functional.batch_norm(self.conv(x), norm.running_mean, norm.running_var)
        return nn.functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias
        )


def hooked_block() -> nn.Module:
    """Return a model with two batch norms inside a hooked block, and one outside."""
    block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    block.register_forward_hook(lambda *_: None)
    return sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), block)


def with_training_part() -> nn.Module:
    """Return a model one of whose batch norms is in training mode."""
    model = sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    model.get_submodule("3").train()
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "none": lambda: sequential(nn.Conv2d(3, 3, 1), nn.ReLU()),
    "all folded": lambda: sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)),
    "none folded": lambda: sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3)),
    "a batch norm alone": lambda: ready(nn.BatchNorm2d(3)),
    "in a row": lambda: sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)),
    "shared": lambda: ready(Shared()),
    "hooked block": hooked_block,
    "one in training mode": with_training_part,
    "sync": lambda: sequential(nn.Conv2d(3, 3, 1), nn.SyncBatchNorm(3), nn.ReLU()),
    "no statistics": lambda: sequential(
        nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)
    ),
}


def calls_of_batch_norms(model: nn.Module, *inputs: Tensor) -> dict[str, int]:
    """Count how often each batch norm runs in a call, by its name."""
    counted: dict[str, int] = {}

    def counter(name: str) -> Any:
        return lambda *_: counted.update({name: counted.get(name, 0) + 1})

    watched = copy.deepcopy(model)
    for name, module in watched.named_modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_hook(counter(name))
    watched(*inputs)
    return counted


def names_in(report: Report) -> dict[str, int]:
    """Count the rows of each batch norm over all the lists that hold call sites."""
    names = [row.name for row in (*report.folded, *report.merged, *report.kept)]
    return {name: names.count(name) for name in names}


@pytest.mark.parametrize("which", sorted(set(MODELS) - {"a batch norm alone"}))
def test_every_call_site_is_in_exactly_one_list(which: str) -> None:
    model = MODELS[which]()
    report = bnfuse.explain(model)
    assert names_in(report) == calls_of_batch_norms(model, noise(2, 3, 4, 4))
    sites = [row.site for row in (*report.folded, *report.merged, *report.kept)]
    assert len(set(sites)) == len(sites) == report.total


@pytest.mark.parametrize("which", sorted(MODELS))
def test_rows_say_where_it_went_or_why_not(which: str) -> None:
    report = bnfuse.explain(MODELS[which]())
    for row in report.folded:
        assert (row.into is None, row.by is None, row.reason, row.why) == (False, False, None, "")
    for row in report.kept:
        assert (row.into, row.by) == (None, None)
        assert (bool(row.reason), bool(row.why), bool(row.remedy)) == (True, True, True)
    assert report.name_map == {row.name: row.into for row in report.folded}


def test_model_that_is_a_batch_norm_has_its_class_as_name() -> None:
    model = ready(nn.BatchNorm2d(3))
    assert Inventory.of_modules(model) == Inventory((Site("BatchNorm2d", "BatchNorm2d"),))
    assert bnfuse.explain(model).total == 1


def test_functional_calls_are_sites_too() -> None:
    report = bnfuse.explain(ready(Functional()))
    assert [row.into for row in report.folded] == ["conv", "conv"]
    assert report.kept == ()


def test_a_scripted_batch_norm_has_the_name_of_its_own_place() -> None:
    scripted = torch.jit.script(nn.BatchNorm2d(3).eval())
    rows = bnfuse.explain(nn.Sequential(nn.Conv2d(3, 3, 1), scripted).eval()).kept
    assert [(row.name, row.site, row.reason) for row in rows] == [("1", "_1", "inside-opaque-call")]


def test_batch_norms_inside_torchscript_are_listed_with_it() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval())
    report = bnfuse.explain(nn.Sequential(nn.ReLU(), scripted).eval())
    assert [(row.name, row.reason) for row in report.kept] == [("1.1", "inside-opaque-call")]
    assert report.kept[0].why == "1.1 is run inside 1, which is TorchScript and stays one call."


def test_names_in_a_part_start_with_its_path() -> None:
    report = bnfuse.explain(hooked_block())
    assert [(row.name, row.into) for row in report.folded] == [
        ("1", "0"),
        ("2.1", "2.0"),
        ("2.2", "2.0"),
    ]


def test_modules_without_a_graph_are_all_kept_for_the_same_reason() -> None:
    model = sequential(nn.BatchNorm2d(3), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)))
    settled = Inventory.of_modules(model, "net").all_kept("check-failed", "it is a test")
    assert settled.folded == ()
    assert [(row.name, row.reason) for row in settled.kept] == [
        ("net.0", "check-failed"),
        ("net.1.1", "check-failed"),
    ]
    assert settled.kept[0].why.endswith("and was undone: it is a test.")


def test_second_optimization_keeps_the_first_ones_folds() -> None:
    model = MODELS["in a row"]()
    once = bnfuse.optimize(model, skip=("2",))
    twice = bnfuse.report(bnfuse.optimize(once))
    assert [row.name for row in bnfuse.report(once).folded] == ["1"]
    assert names_in(twice) == {"1": 1, "2": 1}
    assert [row.name for row in twice.folded] == ["1", "2"]


def test_settled_reads_the_results_of_the_passes() -> None:
    inventory = Inventory((Site("a", "a"), Site("b", "b"), Site("c", "c")))
    results = [
        PassReport("tidy", (Applied("id", "id", None, 0),), ()),
        PassReport(
            "fold",
            (Applied("a", "a", "conv", 8),),
            (
                Declined("b", "b", decline("skipped", "b")),
                Declined("c", "c", decline("not-finite", "c")),
            ),
        ),
    ]
    earlier = Report("Net", folded=(Row("z", "z", "fc", "fold"),), extra_bytes=4)
    settled = inventory.settled(results)
    assert settled.extra_bytes == 8
    made = summed("Net", [settled], earlier)
    assert made.folded == (Row("z", "z", "fc", "fold"), Row("a", "a", "conv", "fold"))
    assert [(row.name, row.reason) for row in made.kept] == [("b", "skipped"), ("c", "not-finite")]
    assert made.name_map == {"z": "fc", "a": "conv"}
    assert made.extra_bytes == 12
    assert summed("Net", [settled], None).extra_bytes == 8


def test_program_and_modules_list_the_same_layers() -> None:
    model = sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3))
    program = program_of(copy.deepcopy(model))
    names = [
        [site.name for site in inventory.sites]
        for inventory in (Inventory.of_program(program), Inventory.of_modules(model))
    ]
    assert names == [["1", "3"], ["1", "3"]]


def test_outcomes_are_parted_by_layer_and_joined() -> None:
    folded, kept = Row("a", "a", "conv", "fold-affine"), Row("b", "b", reason="skipped")
    both = Settled((folded,), kept=(kept,), extra_bytes=3)
    assert both.without(frozenset({"a"})) == Settled(kept=(kept,), extra_bytes=3)
    assert both.without(frozenset({"b"})) == Settled((folded,), extra_bytes=3)
    assert Settled((folded,), extra_bytes=1).joined(Settled(kept=(kept,), extra_bytes=2)) == both
