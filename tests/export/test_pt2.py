"""Writing and loading archives of ``torch.export``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
import bnfuse.export.pt2 as writing
from bnfuse.errors import ExportError, RequestError, VerificationError
from bnfuse.export.stored_report import read_report
from tests.export.support import contents
from tests.support import ready, relative_error, sequential

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LIMITED = """
import resource, sys, torch, bnfuse
from tests.export.test_pt2 import X, small
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
try:
    bnfuse.export_pt2(small(), sys.argv[1], (X,), verify=False)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


class Several(nn.Module):
    """A model with a nested argument, a keyword and a dictionary of results."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, pair: tuple[Tensor, Tensor], *, scale: Tensor) -> dict[str, Tensor]:
        x = self.bn(self.fc(pair[0]))
        return {"sum": x + pair[1], "product": x * scale}


class OnlyTwo(nn.Module):
    """A model for two samples."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 3, 36)


def small() -> nn.Module:
    """Return a small model in float32."""
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    return sequential(*layers, nn.BatchNorm2d(2), nn.ReLU()).float()


def test_archive_computes_what_the_model_does(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "net.pt2"
    done = bnfuse.export_pt2(model, path, (X,))
    assert done.path == path
    assert done.dynamic_batch
    assert done.verification is not None
    assert done.verification.candidate == "net.pt2"
    assert done.verification.reference == "unfused model in float64"
    assert [o.name for o in done.verification.outputs] == [
        *("output, example's batch", "output, batch 1", "output, batch 3"),
    ]
    loaded = bnfuse.load(str(path))
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 6, 6, generator=torch.Generator().manual_seed(batch))
        assert relative_error(loaded(x), model(x)) < 1e-6
    assert list(contents(tmp_path)) == ["net.pt2"]


def test_loaded_module_is_for_inference(tmp_path: Path) -> None:
    bnfuse.export_pt2(small(), tmp_path / "net.pt2", (X,), verify=False)
    loaded = bnfuse.load(tmp_path / "net.pt2")
    assert [p.requires_grad for p in loaded.parameters()] == [False] * 4
    assert not any(module.training for module in loaded.modules())
    assert not loaded(X).requires_grad
    assert loaded.state_dict().keys() == bnfuse.optimize(small()).state_dict().keys()


def test_weights_are_the_optimized_ones_bit_for_bit(tmp_path: Path) -> None:
    model = small()
    bnfuse.export_pt2(model, tmp_path / "net.pt2", (X,), verify=False)
    loaded, wanted = bnfuse.load(tmp_path / "net.pt2"), bnfuse.optimize(model)
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in wanted.state_dict().items())


def test_report_travels(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "net.pt2"
    done = bnfuse.export_pt2(model, path, (X,), verify=False)
    loaded = bnfuse.load(path)
    assert bnfuse.report(loaded) == done.report == bnfuse.explain(model) == read_report(path)
    again = bnfuse.optimize(loaded)
    assert len(bnfuse.report(again).folded) == 2
    assert relative_error(again(X), model(X)) < 1e-6


def test_what_another_program_wrote_has_no_report(tmp_path: Path) -> None:
    program = torch.export.export(small(), (X,))
    program.example_inputs = None
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = bnfuse.load(tmp_path / "net.pt2")
    with pytest.raises(RequestError, match="carries no report"):
        bnfuse.report(loaded)
    with pytest.raises(RequestError, match="carries no report"):
        read_report(tmp_path / "net.pt2")
    assert len(bnfuse.report(bnfuse.optimize(loaded)).folded) == 2


def test_verify_runs_an_archive(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "net.pt2"
    bnfuse.export_pt2(model, path, (X,), verify=False)
    found = bnfuse.verify(model, path, (X,), device="cpu")
    assert found.passed
    assert (found.candidate, found.device) == ("net.pt2", "cpu")
    assert not bnfuse.verify(ready(small(), seed=1).float(), path, (X,)).passed


def test_archive_names_no_place_on_this_machine(tmp_path: Path) -> None:
    bnfuse.export_pt2(small(), tmp_path / "net.pt2", (X,), verify=False)
    content = (tmp_path / "net.pt2").read_bytes()
    places = [str(ROOT), str(Path(torch.__file__).parents[1]), str(Path.home()), "site-packages"]
    assert [place for place in places if place.encode() in content] == []
    torch.export.save(torch.export.export(small(), (X,)), tmp_path / "torch.pt2")
    assert b"site-packages" in (tmp_path / "torch.pt2").read_bytes()


def test_nested_and_keyword_arguments(tmp_path: Path) -> None:
    model, path = Several().eval(), tmp_path / "net.pt2"
    pair, scale = (torch.randn(2, 4), torch.randn(2, 4)), torch.tensor(0.5)
    done = bnfuse.export_pt2(model, path, (pair,), {"scale": scale})
    assert done.dynamic_batch
    wanted, got = model(pair, scale=scale), bnfuse.load(path)(pair, scale=scale)
    assert list(got) == list(wanted)
    assert all(relative_error(got[name], wanted[name]) < 1e-6 for name in wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    done = bnfuse.export_pt2(small(), tmp_path / "net.pt2", (X,), dtype=dtype)
    assert done.verification is not None
    assert done.verification.passed
    assert bnfuse.load(tmp_path / "net.pt2")(X.to(dtype)).dtype is dtype


def test_open_sizes(tmp_path: Path) -> None:
    shapes = {"input": {0: "batch", 3: "width"}}
    done = bnfuse.export_pt2(small(), tmp_path / "net.pt2", (X,), dynamic_shapes=shapes)
    assert done.verification is not None
    assert "output, twice the size" in [output.name for output in done.verification.outputs]
    assert bnfuse.load(tmp_path / "net.pt2")(torch.randn(4, 3, 6, 11)).shape == (4, 2, 4, 9)


def test_batch_that_the_model_fixes(tmp_path: Path) -> None:
    done = bnfuse.export_pt2(OnlyTwo().eval(), tmp_path / "net.pt2", (X,))
    assert not done.dynamic_batch
    assert done.verification is not None
    assert [output.name for output in done.verification.outputs] == ["output"]


def test_optimized_model_is_its_own_reference(tmp_path: Path) -> None:
    optimized = bnfuse.optimize(small())
    done = bnfuse.export_pt2(optimized, tmp_path / "net.pt2", (X,))
    assert done.verification is not None
    assert done.verification.reference == "optimized model given"


def wrong(ready: Any, temporary: Path, target: Path) -> None:
    """Write the archive of another model."""
    with torch.no_grad():
        next(iter(ready.captured.program.state_dict.values())).mul_(1.01)
    original_save(ready, temporary, target)


original_save = writing._save


@pytest.mark.parametrize("old", [None, b"old"])
def test_wrong_archive_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    monkeypatch.setattr(writing, "_save", wrong)
    path = tmp_path / "net.pt2"
    if old:
        path.write_bytes(old)
    with pytest.raises(VerificationError, match=r"^net\.pt2 is not equal to the unfused model"):
        bnfuse.export_pt2(small(), path, (X,))
    assert contents(tmp_path) == ({"net.pt2": old} if old else {})


def test_wrong_suffixes(tmp_path: Path) -> None:
    wanted = f"{tmp_path / 'net.onnx'} does not end in .pt2: name the file like net.pt2."
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        bnfuse.export_pt2(small(), tmp_path / "net.onnx", (X,))
    path = tmp_path / "net.engine"
    wanted = (
        f"{path} ends in neither .pt2 nor .onnx: load takes what export_pt2 and export_onnx write."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        bnfuse.load(path)


def test_loads_onnx_files_too(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    bnfuse.export_onnx(small(), path, (X,), verify=False)
    found = bnfuse.load(path)(X)
    torch.testing.assert_close(found, small()(X), rtol=1e-5, atol=1e-5)


def test_unwritable_path(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "net.pt2"
    with pytest.raises(ExportError, match=re.escape(f"{path} cannot be written (No such file")):
        bnfuse.export_pt2(small(), path, (X,))


def test_inputs_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^Sequential cannot run on the example inputs \("):
        bnfuse.export_pt2(small(), tmp_path / "net.pt2", (X[:, :2],))
    assert contents(tmp_path) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits on files")
def test_full_disk(tmp_path: Path) -> None:
    """The system refuses to make a file larger than a limit, as it does on a full disk."""
    path = tmp_path / "net.pt2"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    start = re.escape(f"ExportError: {path} could not be written (")
    assert re.fullmatch(rf"{start}[^\n]+\)\.\n", done.stdout), done.stdout
    assert contents(tmp_path) == {"net.pt2": b"old"}


def test_flipped_bits_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    bnfuse.export_pt2(small(), path, (X,), verify=False)
    content = bytearray(path.read_bytes())
    weight = bnfuse.load(path).get_parameter("0.weight").numpy().tobytes()
    content[content.index(weight) + 5] ^= 0x40
    path.write_bytes(content)
    wanted = f"{path} is damaged: data/weights/weight_0 in it cannot be read (BadZipFile: "
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}"):
        bnfuse.load(path)
