"""Every option of an ONNX file, and what it makes of the file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import ExportError, RequestError
from tests.export.support import contents
from tests.support import sequential

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    """A model that asks for sizes, reshapes by them, and has nothing to convert."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.bn(self.conv(image))
        n, c, h, w = x.shape
        q = x.reshape(n, c, h * w)
        mixed = (q.transpose(1, 2) @ q / c).softmax(-1)
        return q[:, :8] @ mixed, x[:, :, : h // 2].mean((2, 3))


class Lstm(nn.Module):
    """A model whose program is guarded against a batch of one, as torch's LSTM is."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.bn = nn.LSTM(8, 4, batch_first=True), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.lstm(x)[0])


def small() -> nn.Module:
    """Return a small model in float32."""
    return sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).float()


def ends(path: Path) -> dict[str, list[int | str]]:
    """Return the inputs and outputs of a file with their sizes."""
    graph = onnx.load(path).graph
    return {
        end.name: [axis.dim_param or axis.dim_value for axis in end.type.tensor_type.shape.dim]
        for end in (*graph.input, *graph.output)
    }


def without_shape(path: Path) -> list[str]:
    """Return the values of a file whose type or number of axes it does not tell."""
    graph = onnx.load(path).graph
    told = [*graph.value_info, *graph.input, *graph.output]
    known = {v.name for v in told if v.type.tensor_type.HasField("shape")}
    return [name for node in graph.node for name in node.output if name not in known]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    done = bnfuse.export_onnx(Attention().eval(), tmp_path / "net.onnx", (X,), dtype=dtype)
    assert done.verification is not None
    assert done.verification.passed
    assert done.dynamic_batch
    graph = onnx.load(tmp_path / "net.onnx").graph
    wanted = {torch.float16: onnx.TensorProto.FLOAT16, torch.float32: onnx.TensorProto.FLOAT}
    kinds = {end.type.tensor_type.elem_type for end in (*graph.input, *graph.output)}
    assert kinds == {wanted[dtype]}
    assert "Cast" not in done.nodes
    assert bnfuse.verify(Attention().eval(), tmp_path / "net.onnx", (X,)).passed is False


def test_half_file_is_compared_with_a_float_model(tmp_path: Path) -> None:
    model = small()
    bnfuse.export_onnx(model, tmp_path / "net.onnx", (X,), dtype=torch.float16)
    found = bnfuse.verify(model, tmp_path / "net.onnx", (X,))
    assert found.passed
    assert found.outputs[0].own_error > 1e-4  # that of half precision


def test_bfloat16_has_an_opset_that_takes_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"dtype": torch.bfloat16, "verify": False}
    done = bnfuse.export_onnx(small(), tmp_path / "net.onnx", (X,), **options)
    assert done.opset == 22
    (given, _) = onnx.load(tmp_path / "net.onnx").graph.input[0], None
    assert given.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16
    start = re.escape(f"CPUExecutionProvider cannot run {tmp_path / 'net.onnx'} (")
    with pytest.raises(ExportError, match=rf"^{start}.+\): name other providers, or leave the"):
        bnfuse.export_onnx(small(), tmp_path / "net.onnx", (X,), dtype=torch.bfloat16)


def test_optimized_model_is_not_rounded_again(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^the model is optimized already, and dtype="):
        bnfuse.export_onnx(
            bnfuse.optimize(small()), tmp_path / "net.onnx", (X,), dtype=torch.float16
        )


@pytest.mark.parametrize("opset", [18, 21])
def test_opset(tmp_path: Path, opset: int) -> None:
    done = bnfuse.export_onnx(small(), tmp_path / "net.onnx", (X,), opset_version=opset)
    assert done.opset == opset
    imports = onnx.load(tmp_path / "net.onnx").opset_import
    assert [(entry.domain, entry.version) for entry in imports] == [("", opset)]


def test_opset_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = torch.onnx.export
    monkeypatch.setattr(
        torch.onnx, "export", lambda *a, **o: export(*a, **{**o, "opset_version": 18})
    )
    wanted = "Sequential cannot be written in opset 21, only in 18: pass opset_version=18, or none."
    with pytest.raises(ExportError, match=f"^{re.escape(wanted)}$"):
        bnfuse.export_onnx(small(), tmp_path / "net.onnx", (X,), opset_version=21)
    assert contents(tmp_path) == {}


def test_names(tmp_path: Path) -> None:
    done = bnfuse.export_onnx(
        Attention().eval(),
        tmp_path / "net.onnx",
        (X,),
        input_names=["pixels"],
        output_names=["mixed", "scores"],
    )
    assert ends(done.path) == {
        "pixels": ["batch", 3, 8, 8],
        "mixed": ["batch", 8, 64],
        "scores": ["batch", 8],
    }
    session = onnxruntime.InferenceSession(done.path)
    assert session.run(["scores"], {"pixels": X.numpy()})[0].shape == (2, 8)


TWICE = " of the file: give every input and output a name of its own."


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (
            {"input_names": ["a", "b"]},
            "input_names has 2 names and the file 1 inputs (image): name each of them.",
        ),
        (
            {"output_names": ["a"]},
            r"output_names has 1 names and the file 2 outputs \(\w+, \w+\): name each of them.",
        ),
        (
            {"output_names": ["image", "b"]},
            f"'image' would name two values{TWICE}",
        ),
        (
            {"output_names": ["a", "a"]},
            f"'a' would name two values{TWICE}",
        ),
        (
            {"input_names": ["conv.weight"]},
            f"'conv.weight' would name two values{TWICE}",
        ),
    ],
)
def test_names_that_do_not_fit(tmp_path: Path, names: dict[str, Any], wanted: str) -> None:
    pattern = wanted if "\\" in wanted else re.escape(wanted)
    with pytest.raises(RequestError, match=f"^{pattern}$"):
        bnfuse.export_onnx(Attention().eval(), tmp_path / "net.onnx", (X,), **names)
    assert contents(tmp_path) == {}


def test_open_sizes(tmp_path: Path) -> None:
    shapes = {"image": {0: "batch", 2: "height"}}
    done = bnfuse.export_onnx(
        Attention().eval(), tmp_path / "net.onnx", (X,), dynamic_shapes=shapes
    )
    assert ends(done.path)["image"] == ["batch", 3, "height", 8]
    assert done.verification is not None
    names = [output.name for output in done.verification.outputs]
    assert "[0], twice the size" in names
    assert "[1], batch 1" in names
    session = onnxruntime.InferenceSession(done.path)
    assert session.run(None, {"image": X[:1, :, :6].numpy()})[0].shape == (1, 8, 48)


def test_guard_against_a_batch_of_one_is_not_in_the_file(tmp_path: Path) -> None:
    x = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    done = bnfuse.export_onnx(Lstm().eval(), tmp_path / "net.onnx", (x,))
    assert done.dynamic_batch
    assert done.verification is not None
    assert [o.name for o in done.verification.outputs] == [
        *("output, example's batch", "output, batch 3"),
    ]


def test_every_value_has_its_shape(tmp_path: Path) -> None:
    bnfuse.export_onnx(Attention().eval(), tmp_path / "net.onnx", (X,))
    assert without_shape(tmp_path / "net.onnx") == []


def test_provider_is_checked_and_told(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    with pytest.raises(RequestError, match=r"^onnxruntime has no CoreMLExecutionProvider here, "):
        bnfuse.export_onnx(small(), path, (X,), providers=["CoreMLExecutionProvider"])
    assert contents(tmp_path) == {"net.onnx": b"old"}
    done = bnfuse.export_onnx(small(), path, (X,), providers=["CPUExecutionProvider"])
    assert done.verification is not None
    assert done.verification.device == "cpu, onnxruntime CPUExecutionProvider"
    found = bnfuse.verify(small(), path, (X,), providers=["CPUExecutionProvider"])
    assert found.device == "cpu, onnxruntime CPUExecutionProvider"


def test_provider_that_is_not_used_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider is listed, and onnxruntime falls back from it without a word."""
    monkeypatch.setattr(
        "onnxruntime.get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    wanted = (
        f"onnxruntime runs {path} with CPUExecutionProvider, not with CUDAExecutionProvider: "
        "install 'bnfuse[gpu]' in place of 'bnfuse[cpu]', see bnfuse doctor, or run it on the CPU."
    )
    with (
        pytest.raises(ExportError, match=f"^{re.escape(wanted)}$"),
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
    ):
        bnfuse.export_onnx(small(), path, (X,), providers=["CUDAExecutionProvider"])
    assert contents(tmp_path) == {"net.onnx": b"old"}
