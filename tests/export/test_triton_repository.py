"""Versions put into a repository whole, beside what is live, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bnfuse.errors import ExportError, RequestError
from bnfuse.export.triton_repository import CONFIG, new_version
from tests.export.support import contents

if TYPE_CHECKING:
    from pathlib import Path

pb = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="no tritonclient")


def config(**more: Any) -> Any:
    """Return a configuration."""
    return pb.ModelConfig(name="net", backend="python", max_batch_size=4, **more)


def write(repository: Path, *, beside_live: bool = False, **more: Any) -> bool:
    """Write a version and return whether its configuration was taken."""
    with new_version(repository, "net", beside_live=beside_live) as draft:
        (draft.folder / "model.py").write_text(f"version {draft.version}")
        return draft.configure(config(**more), f'backend: "python" max_batch_size: 4 #{more}')


def seen(folder: Path) -> list[str]:
    """Return the names in a folder that are not hidden."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_new_model(tmp_path: Path) -> None:
    assert write(tmp_path / "models")
    made = contents(tmp_path)
    assert sorted(made) == ["models/net/1/model.py", "models/net/config.pbtxt"]
    assert made["models/net/1/model.py"] == b"version 1"


def test_version_beside_live_ones(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "net" / "7").mkdir()
    (tmp_path / "net" / "notes").mkdir()
    before = contents(tmp_path)
    assert not write(tmp_path, beside_live=True, instance_group=[{"count": 2}])
    after = contents(tmp_path)
    assert after.pop("net/8/model.py") == b"version 8"
    assert after == before  # what is live stays as it is, its configuration included


def test_nothing_is_seen_before_it_is_whole(tmp_path: Path) -> None:
    """A server that looks meanwhile finds no model, and then no version, but hidden folders."""
    with new_version(tmp_path, "net", beside_live=False) as draft:
        draft.configure(config(), 'backend: "python" max_batch_size: 4')
        assert seen(tmp_path) == []
    with new_version(tmp_path, "net", beside_live=True) as draft:
        assert draft.version == 2
        assert seen(tmp_path / "net") == ["1", CONFIG]
    assert seen(tmp_path / "net") == ["1", "2", CONFIG]


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_what_fails_leaves_nothing(
    tmp_path: Path, is_live: bool, error: type[BaseException]
) -> None:
    repository = tmp_path / "models"
    if is_live:
        write(repository)
    before, listed = contents(tmp_path), sorted(tmp_path.rglob("*"))
    wanted = ExportError if error is OSError else error

    def fail(folder: Path) -> None:
        (folder / "model.py").write_text("half")
        raise error("disk full")

    with pytest.raises(wanted), new_version(repository, "net", beside_live=True) as draft:
        fail(draft.folder)
    assert contents(tmp_path) == before
    assert sorted(tmp_path.rglob("*")) == listed


def test_errors_name_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    with (
        pytest.raises(ExportError, match=r"net/1/model\.onnx is bad") as caught,
        new_version(tmp_path, "net", beside_live=False) as draft,
    ):
        raise ExportError(f"{draft.folder}/model.onnx is bad.")
    assert "/." not in str(caught.value)


def refused(repository: Path, error: type[Exception], pattern: str, **more: Any) -> None:
    """Check that a version is refused and the repository stays as it is."""
    before = contents(repository)
    with pytest.raises(error, match=pattern):
        write(repository, **more)
    assert contents(repository) == before


def test_name_that_is_live(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, beside_live=True)
    pattern = r"net is there already, with versions 1, 2: pass new_version=True"
    refused(tmp_path, RequestError, pattern)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"input": [{"name": "x"}]}, "input"),
        ({"output": [{"name": "x"}]}, "output"),
        ({"platform": "tensorrt_plan"}, "platform"),
    ],
)
def test_version_that_does_not_fit_the_live_one(
    tmp_path: Path, more: dict[str, Any], field: str
) -> None:
    write(tmp_path)
    pattern = f"is live with another {field}, and versions share their configuration"
    refused(tmp_path, RequestError, pattern, beside_live=True, **more)


def test_live_model_without_a_readable_configuration(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    refused(tmp_path, RequestError, r"config\.pbtxt cannot be read \(No such", beside_live=True)
    (tmp_path / "net" / CONFIG).write_text("what: is this")
    refused(tmp_path, RequestError, "is not one of Triton's", beside_live=True)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "-rf"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(RequestError, match="cannot be the name of a model"),
        new_version(tmp_path, name, beside_live=False),
    ):
        pass
    assert contents(tmp_path) == {}


def test_repository_that_cannot_be_written(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "models"
    refused(missing, ExportError, r"missing/models cannot be written \(No such file")
    (tmp_path / "file").write_text("a file")
    refused(tmp_path / "file", ExportError, r"file cannot be written \(Not a directory")


def test_name_taken_meanwhile(tmp_path: Path) -> None:
    with (
        pytest.raises(ExportError, match="net could not be written: "),
        new_version(tmp_path, "net", beside_live=False),
    ):
        (tmp_path / "net" / "1").mkdir(parents=True)
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
