"""Writing ONNX files: what is in them, and what keeps them from being written."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import bnfuse
import bnfuse.export.prepare as preparing
from bnfuse.errors import VerificationError
from bnfuse.export.onnx import export_onnx, write_onnx
from bnfuse.export.options import OnnxOptions
from bnfuse.export.stored_report import read_report
from tests.support import sequential

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tests.export.conftest import Exported


class FixedBatch(nn.Module):
    """A model for two samples at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(x)).reshape(2, 2, 2)


class Counting(nn.Module):
    """A model whose forward counts its calls."""

    count: Tensor

    def __init__(self, assigns: bool) -> None:
        super().__init__()
        self.assigns = assigns
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.assigns:
            self.count += 1
        else:
            self.count.add_(1)
        return x + self.count


class Several(nn.Module):
    """A model with a nested argument, a keyword and a dictionary of results."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, pair: tuple[Tensor, Tensor], *, scale: Tensor) -> dict[str, Tensor]:
        x = self.bn(self.fc(pair[0]))
        return {"sum": x + pair[1], "product": x * scale}


def small() -> nn.Module:
    """Return a small model in float32."""
    return sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()).float()


def wrong_optimize(model: nn.Module, *_: Any, **__: Any) -> nn.Module:
    """Optimize, and get one weight wrong by 1%."""
    optimized = bnfuse.optimize(model)
    weight = optimized.get_submodule("0").get_parameter("weight")
    with torch.no_grad():
        weight.view(-1)[weight.abs().argmax()] *= 1.01
    return optimized


def test_file_is_checked_at_three_batch_sizes(exported: Exported) -> None:
    done = exported.done
    assert done.dynamic_batch
    assert done.verification is not None
    assert done.verification.passed
    assert done.verification.candidate == "small.onnx"
    assert done.verification.input_sets == 9
    assert [o.name for o in done.verification.outputs] == [
        "output, example's batch",
        "output, batch 1",
        "output, batch 3",
    ]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_file_runs_at_any_batch_size(exported: Exported, batch: int) -> None:
    session = onnxruntime.InferenceSession(exported.done.path)
    x = torch.randn(batch, 3, 6, 6, generator=torch.Generator().manual_seed(batch))
    (output,) = session.run(None, {"input": x.numpy()})
    with torch.no_grad():
        wanted = exported.model(x)
    assert output.shape == wanted.shape
    assert torch.allclose(torch.from_numpy(output), wanted, rtol=1e-4, atol=1e-4)


def test_no_batch_norm_is_left(exported: Exported) -> None:
    proto = onnx.load(exported.done.path)
    operators = [node.op_type for node in proto.graph.node]
    assert sorted(operators) == ["Conv", "Conv", "Relu", "Relu", "Reshape"]
    assert exported.done.nodes == {name: operators.count(name) for name in operators}
    assert list(proto.functions) == []


def test_weights_are_the_optimized_ones_bit_for_bit(exported: Exported) -> None:
    proto = onnx.load(exported.done.path)
    written = {entry.name: onnx.numpy_helper.to_array(entry) for entry in proto.graph.initializer}
    wanted = bnfuse.optimize(exported.model).state_dict()
    assert len(wanted) == 4
    assert all((written[name] == tensor.numpy()).all() for name, tensor in wanted.items())


@pytest.mark.parametrize("assigns", [False, True])
def test_model_is_not_changed_by_trying_it(tmp_path: Path, assigns: bool) -> None:
    model = Counting(assigns).eval()
    done = export_onnx(model, tmp_path / "net.onnx", (torch.randn(2, 4),), verify=False)
    assert model.count == 0
    assert done.dynamic_batch


def test_names_of_inputs_are_the_forwards(exported: Exported) -> None:
    (given,) = onnx.load(exported.done.path).graph.input
    assert given.name == "input"
    sizes = [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim]
    assert isinstance(sizes[0], str)
    assert sizes[1:] == [3, 6, 6]


def test_metadata(exported: Exported) -> None:
    proto = onnx.load(exported.done.path)
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    assert list(entries) == ["bnfuse.version", "bnfuse.source", "torch.version", "bnfuse.report"]
    assert entries["bnfuse.source"] == "torch.nn.modules.container.Sequential"
    assert entries["torch.version"] == torch.__version__.partition("+")[0]
    assert proto.doc_string == "Sequential: 2 of 2 batch norms folded."
    assert entries["bnfuse.version"] == bnfuse.__version__ == proto.producer_version
    assert proto.producer_name == "bnfuse"
    # How long the checks took is left out, since a file made twice has the same bytes.
    untimed = replace(exported.done.report, check_seconds=None)
    assert json.loads(entries["bnfuse.report"]) == untimed.to_dict()


def test_report_is_read_back(exported: Exported) -> None:
    made = read_report(str(exported.done.path))
    assert made == exported.done.report == bnfuse.explain(exported.model)
    assert len(made.folded) == 2


def test_model_that_fixes_its_batch_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    example = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    done = export_onnx(FixedBatch().eval(), tmp_path / "net.onnx", (example,))
    assert not done.dynamic_batch
    assert done.verification is not None
    assert [o.name for o in done.verification.outputs] == ["output"]
    (given,) = onnx.load(tmp_path / "net.onnx").graph.input
    assert [axis.dim_value for axis in given.type.tensor_type.shape.dim] == [2, 4]
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_batch_is_fixed_on_request_and_check_left_out(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    one_tensor: Any = torch.zeros(2, 4)
    done = export_onnx(small(), path, one_tensor, dynamic_batch=False, verify=False)
    assert not done.dynamic_batch
    assert done.verification is None
    (given,) = onnx.load(path).graph.input
    assert [axis.dim_value for axis in given.type.tensor_type.shape.dim] == [2, 4]


def test_nested_and_keyword_arguments(tmp_path: Path) -> None:
    model, path = Several().eval(), tmp_path / "net.onnx"
    pair = (torch.randn(2, 4), torch.randn(2, 4))
    done = export_onnx(model, path, (pair,), {"scale": torch.tensor(0.5)})
    assert done.dynamic_batch
    assert done.verification is not None
    assert [o.name for o in done.verification.outputs] == [
        *("['sum'], example's batch", "['product'], example's batch"),
        *("['sum'], batch 1", "['product'], batch 1"),
        *("['sum'], batch 3", "['product'], batch 3"),
    ]
    assert bnfuse.verify(model, path, (pair,), {"scale": torch.tensor(0.5)}).passed


def test_optimized_model_is_its_own_reference(tmp_path: Path) -> None:
    optimized = bnfuse.optimize(small())
    before = copy.deepcopy(optimized.state_dict())
    done = export_onnx(optimized, tmp_path / "net.onnx", (torch.randn(2, 4),))
    assert done.report == bnfuse.report(optimized)
    assert done.verification is not None
    assert done.verification.passed
    assert all(torch.equal(before[key], value) for key, value in optimized.state_dict().items())


def test_skipped_layers_stay_in_the_file(tmp_path: Path) -> None:
    call = ((torch.randn(2, 4),), dict[str, Any]())
    model = sequential(nn.Linear(4, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 2)).float()
    done = write_onnx(
        model, None, tmp_path / "net.onnx", call, OnnxOptions(verify=False, skip=("2",))
    )
    assert done.nodes["BatchNormalization"] == 1
    assert [row.reason for row in done.report.kept] == ["skipped"]


@pytest.mark.parametrize("old", [None, b"old"])
def test_wrong_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    monkeypatch.setattr(preparing, "rewritten", wrong_optimize)
    torch.manual_seed(0)  # by chance one sample may be answered alike
    path = tmp_path / "net.onnx"
    if old:
        path.write_bytes(old)
    message = (
        r"^net\.onnx is not equal to the unfused model in float64: "
        r"output, example's batch errs \S+, allowed \S+, output, batch 1 errs \S+, allowed \S+, "
        r"output, batch 3 errs \S+, allowed \S+; "
        r"do not deploy it, and please report the model\.$"
    )
    with pytest.raises(VerificationError, match=message):
        export_onnx(small(), path, (torch.randn(2, 4),))
    left = {found.name: found.read_bytes() for found in tmp_path.iterdir()}
    assert left == ({"net.onnx": old} if old else {})
