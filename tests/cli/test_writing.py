"""An ONNX file as the model on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import helper

from tests.cli.support import TINY, refused
from tests.importing.support import model, numbers, value

if TYPE_CHECKING:
    from tests.cli.support import Run


@pytest.fixture
def source(folder: Path) -> Path:
    """Return a file with a batch norm that can be folded."""
    nodes = [
        helper.make_node("BatchNormalization", ["input", "s", "s", "s", "v"], ["a"], name="bn"),
        helper.make_node("MatMul", ["a", "head.weight"], ["output"], name="product"),
    ]
    kept = {"s": numbers(4), "v": numbers(4) ** 2 + 1, "head.weight": numbers(4, 3)}
    path = folder / "net.onnx"
    onnx.save(model(nodes, [value("input", ["n", 4])], ["output"], kept), path)
    return path


def test_a_file_is_optimized_to_a_file(run: Run, folder: Path, source: Path) -> None:
    outcome = run("optimize", source.name, "-o", "out.onnx")
    assert outcome.code == 0
    assert "out.onnx is equal to the graph of net.onnx in float64" in outcome.words
    assert [node.op_type for node in onnx.load(folder / "out.onnx").graph.node] == ["Gemm"]


def test_a_file_is_optimized_to_an_archive(run: Run, folder: Path, source: Path) -> None:
    assert run("optimize", source.name, "-o", "out.pt2").code == 0
    assert (folder / "out.pt2").is_file()


def test_a_file_is_explained_and_verified(run: Run, folder: Path, source: Path) -> None:
    assert "net: 1 of 1 batch norms folded" in run("explain", source.name).words
    assert run("optimize", source.name, "-o", "out.onnx").code == 0
    assert run("verify", source.name, "out.onnx").code == 0


def test_a_file_that_is_wrong(run: Run, folder: Path, source: Path) -> None:
    refused(
        run, folder, "there is no file no.onnx: check the path.",
        "optimize", "no.onnx", "-o", "out.onnx",
    )  # fmt: skip
    refused(
        run, folder, "net.onnx holds its own weights: leave out --weights.",
        "optimize", "net.onnx", "-o", "out.onnx", "--weights", "w.pt",
    )  # fmt: skip
    refused(
        run, folder,
        "the input 'input' of net.onnx has the shape ?x4, and 2x5 is given: give one that fits.",
        "optimize", "net.onnx", "-o", "out.onnx", "--input", "2x5",
    )  # fmt: skip
    proto = onnx.load(source)
    proto.graph.node[0].CopyFrom(helper.make_node("Det", ["x"], ["y"], name="det"))
    source.write_bytes(proto.SerializeToString())
    refused(
        run, folder,
        "the node 'det' of net.onnx is the operator Det, which bnfuse does not convert: optimize "
        "the PyTorch model it was exported from, or ask for the operator.",
        "optimize", "net.onnx", "-o", "out.onnx",
    )  # fmt: skip


def test_a_name_of_no_kind(run: Run, folder: Path) -> None:
    refused(
        run, folder,
        "out.txt ends in none of .onnx, .pt2 and .engine: name the file like net.onnx.",
        "optimize", TINY, "-o", "out.txt",
    )  # fmt: skip


def test_the_name_is_looked_at_before_the_model_is_made(run: Run, folder: Path) -> None:
    refused(
        run, folder,
        "out.txt ends in none of .onnx, .pt2 and .engine: name the file like net.onnx.",
        "optimize", "nowhere:model", "-o", "out.txt",
    )  # fmt: skip


SAME = "--output {} is the file that {} {} names, which is never overwritten: name another file "


@pytest.mark.parametrize("way", ["itself", "spelled", "absolute", "symbolic", "hard"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_file_that_is_read_is_not_written(
    run: Run, folder: Path, source: Path, way: str, turned: bool
) -> None:
    (folder / "inner").mkdir()
    other = {
        "itself": Path("net.onnx"),
        "spelled": Path("inner/../net.onnx"),
        "absolute": source,
        "symbolic": Path("link.onnx"),
        "hard": Path("link.onnx"),
    }[way]
    if way == "symbolic":
        other.symlink_to("net.onnx")
    if way == "hard":
        other.hardlink_to("net.onnx")
    given, output = (other, source.name) if turned else (source.name, other)
    wanted = SAME.format(output, "MODEL", given) + "to write."
    refused(run, folder, wanted, "optimize", given, "-o", output)


def test_no_other_file_that_is_read_is_written(
    run: Run, folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnfuse.cli.app.load_model", lambda *_, **__: pytest.fail("too late"))
    (folder / "w.onnx").touch()
    options = ("--weights", "w.onnx")
    wanted = SAME.format("w.onnx", "--weights", "w.onnx") + "to write."
    refused(run, folder, wanted, "optimize", TINY, "-o", "w.onnx", *options)
    refused(run, folder, wanted, "bench", TINY, "-o", "w.onnx", *options)
    wanted = SAME.format("net.onnx", "FILE", "net.onnx") + "to write."
    refused(run, folder, wanted, "bench", TINY, "net.onnx", "-o", "net.onnx")
    wanted = SAME.format("net.onnx", "MODEL", "net.onnx") + "to write."
    refused(run, folder, wanted, "bench", "net.onnx", "-o", "net.onnx")


def test_a_file_that_is_not_read_is_written_over(run: Run, folder: Path, source: Path) -> None:
    (folder / "out.onnx").write_bytes(source.read_bytes())
    assert run("optimize", source.name, "-o", "out.onnx").code == 0
    assert (folder / "out.onnx").read_bytes() != source.read_bytes()


def with_weights_in(
    source: Path, name: str, made: str = "ext.onnx", convert_attribute: bool = False
) -> None:
    """Write a file anew with its weights in another beside it."""
    onnx.save(
        onnx.load(source),
        source.with_name(made),
        save_as_external_data=True,
        location=name,
        size_threshold=0,
        convert_attribute=convert_attribute,
    )


@pytest.mark.parametrize("way", ["itself", "linked", "of an attribute"])
def test_weights_beside_a_file_that_is_read_are_not_written(
    run: Run, folder: Path, source: Path, way: str
) -> None:
    is_attribute = way == "of an attribute"
    if is_attribute:
        proto = onnx.load(source)
        kept = proto.graph.initializer.pop()
        proto.graph.node.insert(0, helper.make_node("Constant", [], [kept.name], value=kept))
        del proto.graph.initializer[:]
        onnx.save(proto, source)
    with_weights_in(source, "w.onnx", convert_attribute=is_attribute)
    output = "w.onnx"
    if way == "linked":
        output = "link.onnx"
        (folder / output).symlink_to("w.onnx")
    said = (
        f"--output {output} would replace weights of {{}} ext.onnx, which are in {output}: name "
        "another file to write."
    )
    refused(run, folder, said.format("MODEL"), "optimize", "ext.onnx", "-o", output)
    refused(run, folder, said.format("MODEL"), "bench", "ext.onnx", "-o", output)
    refused(run, folder, said.format("FILE"), "bench", TINY, "ext.onnx", "-o", output)


def test_weights_that_two_files_share_stay(run: Run, folder: Path, source: Path) -> None:
    """What stands beside a file that is written goes with the file that was there."""
    with_weights_in(source, "out.onnx.0123456789abcdef.data", "out.onnx")
    (folder / "copy.onnx").write_bytes((folder / "out.onnx").read_bytes())
    refused(
        run, folder,
        "--output out.onnx would replace weights of MODEL copy.onnx, which are in "
        "out.onnx.0123456789abcdef.data: name another file to write.",
        "optimize", "copy.onnx", "-o", "out.onnx",
    )  # fmt: skip


def test_the_picture_is_written_over_nothing_that_is_read(
    run: Run, folder: Path, source: Path
) -> None:
    with_weights_in(source, "w.png")
    refused(
        run, folder,
        "--plot w.png would replace weights of MODEL ext.onnx, which are in w.png: name another "
        "file to write.",
        "verify", "ext.onnx", "--per-layer", "--plot", "w.png",
    )  # fmt: skip


@pytest.mark.parametrize("output", ["tinymodels.py", "./tinymodels.py", "link.json", "parts.py"])
def test_the_source_of_the_model_is_not_written(
    run: Run, folder: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("parts", "whole"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (folder / "parts.py").write_text("from tinymodels import tiny\n")
    (folder / "whole.py").write_text("from parts import tiny\n")
    if output == "link.json":
        (folder / output).symlink_to("tinymodels.py")
    source = "parts" if output == "parts.py" else "tinymodels"
    refused(
        run, folder,
        f"--output {Path(output)} is the source of the module {source}, which is never "
        "overwritten: name another file to write.",
        "bench", "whole:tiny", "-o", output,
    )  # fmt: skip
