"""Archives that could run code are found before they are loaded."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import RequestError
from bnfuse.export.archive import Archive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
Entries = dict[str, bytes]


class Bomb:
    """Says that it was unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Raise when unpickled."""
        return exploded, ("unpickled",)


def exploded(what: str) -> None:
    """Stand for whatever code a file could run."""
    raise AssertionError(what)


def bomb() -> bytes:
    """Return a tensor file of torch with a pickle that runs code."""
    buffer = io.BytesIO()
    torch.save(Bomb(), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Entries:
    """Return the entries of an archive that is fine, by their names in its folder."""
    path = tmp_path_factory.mktemp("archive") / "net.pt2"
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    bnfuse.export_pt2(model, path, (X,), verify=False)
    with zipfile.ZipFile(path) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def packed(path: Path, entries: Entries) -> Path:
    """Write entries into an archive."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(f"net/{name}", content)
    return path


def with_json(name: str, change: Callable[[Any], object]) -> Callable[[Entries], Entries]:
    """Return how to change an entry that is JSON."""

    def changed(entries: Entries) -> Entries:
        data = json.loads(entries[name])
        change(data)
        return {**entries, name: json.dumps(data).encode()}

    return changed


def weights(key: str, value: Any) -> Callable[[Entries], Entries]:
    """Return how to change what is said about a weight."""
    name = "data/weights/model_weights_config.json"
    return with_json(name, lambda data: data["config"]["0.weight"].update({key: value}))


def model(change: Callable[[Any], object]) -> Callable[[Entries], Entries]:
    """Return how to change the description of the program."""
    return with_json("models/model.json", change)


def refused(path: Path, what: str) -> None:
    """Check that an archive is refused, by its check and by ``load``, and that no code runs."""
    wanted = (
        f"{path} can run code when it is loaded ({what}): if you trust where it is from, pass "
        "allow_pickle=True, or --allow-pickle on the command line."
    )
    for call in (Archive.of(path).check_inert, lambda: bnfuse.load(path)):
        with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
            call()


def test_fine_archive_passes(tmp_path: Path, entries: Entries) -> None:
    path = packed(tmp_path / "net.pt2", entries)
    Archive.of(path).check_inert()
    assert bnfuse.load(path)(X).shape == (2, 3)
    assert Archive.of(path).extra("bnfuse.version") == bnfuse.__version__
    assert Archive.of(path).extra("nothing") is None


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda e: {**e, "data/sample_inputs/model.pt": bomb()},
            "the entry data/sample_inputs/model.pt, which is pickled or of an unknown kind",
        ),
        (
            lambda e: {**e, "data/weights/model.pt": bomb()},
            "the entry data/weights/model.pt, which is pickled or of an unknown kind",
        ),
        (
            lambda e: {**e, "data/aotinductor/model/a.so": b"\x7fELF"},
            "the entry data/aotinductor/model/a.so, which is pickled or of an unknown kind",
        ),
        (weights("use_pickle", True), "0.weight, which is pickled"),
        (weights("use_pickle", None), "0.weight, which is pickled"),
        (weights("path_name", "opaque_obj_0"), "0.weight, which is pickled"),
        (weights("path_name", "../x"), "the tensor 0.weight, which is of an unknown kind"),
        (
            lambda e: {**e, "data/constants/model_constants_config.json": b"[]"},
            "a list of tensors of an unknown kind",
        ),
        (
            model(lambda d: d["guards_code"].append("exploded('guard')")),
            "the guard exploded('guard')",
        ),
        (
            model(
                lambda d: d["graph_module"]["graph"]["nodes"][0].update(target="torch.os.system")
            ),
            "the operator torch.os.system",
        ),
        (
            lambda e: {**e, "MODELS/model.json": b"{}", "models/MODEL.json": b"{}"},
            "two entries of one name",
        ),
    ],
)
def test_what_could_run_code_is_found(
    tmp_path: Path, entries: Entries, change: Callable[[Entries], Entries], what: str
) -> None:
    refused(packed(tmp_path / "net.pt2", change(entries)), what)


def test_size_that_is_code_is_found(tmp_path: Path, entries: Entries) -> None:
    text = entries["models/model.json"].decode()
    sizes = re.findall(r'"expr_str": "(.*?)"', text)
    assert sizes
    code = "__import__('pathlib').Path('ran').touch()"
    changed = {**entries, "models/model.json": text.replace(sizes[0], code).encode()}
    refused(packed(tmp_path / "net.pt2", changed), f"the size {code}")


def test_entries_outside_of_the_folder(tmp_path: Path, entries: Entries) -> None:
    path = packed(tmp_path / "net.pt2", entries)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("serialized_state_dict.pt", bomb())
    refused(path, "entries outside of its folder")


def test_archive_is_loaded_with_the_flag(tmp_path: Path, entries: Entries) -> None:
    """The same pickle runs once that is allowed, so it was the check that held it back."""
    example = io.BytesIO()
    torch.save(((X,), {}), example)
    changed = {**entries, "data/sample_inputs/model.pt": example.getvalue()}
    path = packed(tmp_path / "net.pt2", changed)
    with pytest.raises(RequestError, match=r"can run code when it is loaded"):
        bnfuse.load(path)
    assert bnfuse.load(path, allow_pickle=True)(X).shape == (2, 3)
    path = packed(tmp_path / "bomb.pt2", {**entries, "data/sample_inputs/model.pt": bomb()})
    with pytest.raises(RequestError, match=r"\(AssertionError: unpickled\)"):
        bnfuse.load(path, allow_pickle=True)
    with pytest.raises(AssertionError, match=r"^unpickled$"):
        pickle.loads(pickle.dumps(Bomb()))


def test_torchs_own_archive_with_example_inputs(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 3).eval(), (X,)), path)
    refused(path, "the entry data/sample_inputs/model.pt, which is pickled or of an unknown kind")
    assert bnfuse.load(path, allow_pickle=True)(X).shape == (2, 3)


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    with pytest.raises(RequestError, match=f"^there is no file {re.escape(str(path))}: check the"):
        Archive.of(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 neither"])
def test_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(content)
    start = re.escape(f"{path} is no .pt2 archive, or a damaged one (BadZipFile: ")
    with pytest.raises(
        RequestError, match=rf"^{start}.+\): write it again with bnfuse\.export_pt2"
    ):
        bnfuse.load(path)


def test_zip_file_of_another_kind(tmp_path: Path) -> None:
    path = packed(tmp_path / "net.pt2", {"a": b"b"})
    wanted = (
        f"{path} is a zip file and no archive of an exported program: write one with "
        "bnfuse.export_pt2."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        bnfuse.load(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        bnfuse.load(path)


def test_description_that_is_no_json(tmp_path: Path, entries: Entries) -> None:
    path = packed(tmp_path / "net.pt2", {**entries, "models/model.json": b"{"})
    start = re.escape(f"{path} is damaged: models/model.json in it cannot be read (")
    with pytest.raises(RequestError, match=f"^{start}"):
        bnfuse.load(path)


def test_truncated_archive(tmp_path: Path, entries: Entries) -> None:
    path = packed(tmp_path / "net.pt2", entries)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        RequestError, match=re.escape(f"{path} is no .pt2 archive, or a damaged one")
    ):
        bnfuse.load(path)
