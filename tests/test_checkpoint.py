"""Files of weights: what is loaded, and what a file that holds none is said to be."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from bnfuse.checkpoint import load_weights
from bnfuse.errors import RequestError
from bnfuse.zoo import randomize_statistics

if TYPE_CHECKING:
    from pathlib import Path

SAVE = "save model.state_dict() with torch.save and give that file."
PICKLE = "is a pickle of another kind than torch.save makes by default"
RUN: list[str] = []


class Attack:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return note, ("ran",)


def note(what: str) -> None:
    """Remember that it was called."""
    RUN.append(what)


def small() -> nn.Module:
    """Return a small model whose weights are those of its seed."""
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def refused(wanted: str, path: Path) -> None:
    """Check that weights are refused with a message."""
    with pytest.raises(RequestError, match=f"^{re.escape(f'{path} {wanted}')}$"):
        load_weights(small(), path)


def saved(path: Path, state: object, **options: Any) -> Path:
    """Return where an object was saved."""
    torch.save(state, path, **options)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a test may write a file of weights."""
    return tmp_path / "w.pt"


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
def test_weights_are_loaded(path: Path, wrapped: str | None) -> None:
    source, target = randomize_statistics(small(), 1), small()
    state: dict[str, Any] = source.state_dict()
    saved(path, {wrapped: state, "epoch": 3} if wrapped else state)
    load_weights(target, path)
    assert all(torch.equal(state[key], value) for key, value in target.state_dict().items())


def test_missing(tmp_path: Path, path: Path) -> None:
    for absent in (path, tmp_path):
        with pytest.raises(RequestError, match=f"^there is no file {absent}: check the path.$"):
            load_weights(small(), absent)


@pytest.mark.parametrize("kept", [1, 10, 100, -100, -1])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated(path: Path, kept: int, zipped: bool) -> None:
    saved(path, small().state_dict(), _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:kept])
    refused("is damaged or was cut off: copy or save it again.", path)


def zip_of(name: str) -> bytes:
    """Return a zip archive of one entry."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, b"text")
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", f"is empty: {SAVE}"),
        (b"not weights\nat all", f"holds text that begins with 'not weights', not weights: {SAVE}"),
        (b"123\n", f"holds text that begins with '123', not weights: {SAVE}"),
        (b"\x00\x01", f"holds data of another kind, not weights: {SAVE}"),
        (bytes(range(255, 150, -1)), f"holds data of another kind, not weights: {SAVE}"),
        (zip_of("a.npy"), f"is a zip archive that torch.save did not write: {SAVE}"),
        (zip_of("net/data.pkl"), "is damaged or was cut off: copy or save it again."),
        (pickle.dumps({"0.weight": np.ones(2)}), f"{PICKLE}: {SAVE}"),
        (b"PK\x03\x04 not a zip", "is damaged or was cut off: copy or save it again."),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value)[:12],
)  # fmt: skip
def test_content_of_another_kind(path: Path, content: bytes, wanted: str) -> None:
    path.write_bytes(content)
    refused(wanted, path)


@pytest.mark.parametrize("zipped", [True, False])
def test_another_protocol(path: Path, zipped: bool) -> None:
    options = {"pickle_protocol": 4, "_use_new_zipfile_serialization": zipped}
    refused(f"{PICKLE}: {SAVE}", saved(path, small().state_dict(), **options))


def test_text_under_the_name_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("text")
    pattern = r"w\.safetensors (cannot be read by safetensors \(.+\): copy|needs the package) .+\.$"
    with pytest.raises(RequestError, match=pattern):
        load_weights(small(), path)


def test_a_program(path: Path) -> None:
    with pytest.warns(Warning, match="torch.jit"):
        program: Any = torch.jit.script(nn.Linear(2, 2))
    program.save(path)
    refused(f"is a TorchScript archive, which holds a program: {SAVE}", path)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_not_run(path: Path, zipped: bool) -> None:
    saved(path, {"0.weight": Attack()}, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        RequestError, match=r"holds more than weights .+ could run code: save model"
    ):
        load_weights(small(), path)
    saved(path, nn.Linear(3, 2), _use_new_zipfile_serialization=zipped)
    linear = "torch.nn.modules.linear.Linear"
    refused(f"holds more than weights ({linear}), and loading it could run code: {SAVE}", path)
    path.write_bytes(pickle.dumps(Attack()))
    refused(f"{PICKLE}: {SAVE}", path)
    assert RUN == []
    pickle.loads(pickle.dumps(Attack()))
    assert RUN.pop() == "ran"


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ({}, "an empty dict"),
        ([1, 2], "an object of type list"),
        (3, "an object of type int"),
        (torch.zeros(2), "an object of type Tensor"),
        ({"0.weight": "text"}, "a dict without tensors (its keys are '0.weight')"),
        ({"net": {}, "step": 1, 2: 2, 3: 3, 4: 4}, (
            "a dict without tensors (its keys are 'net', 'step', 2, 3, ...)"
        )),
    ],
)  # fmt: skip
def test_what_is_no_state_dict(path: Path, state: object, what: str) -> None:
    refused(f"holds {what}, not a state dict: {SAVE}", saved(path, state))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"0.weight": None}, "it lacks 1 of 7 entries, such as '0.weight'"),
        ({"fc.bias": torch.zeros(1)}, "it has 1 that the model lacks, such as 'fc.bias'"),
        ({1: torch.zeros(2)}, "it has 1 that the model lacks, such as 1"),
        ({"1.bias": None, "fc": torch.zeros(1)}, (
            "it lacks 1 of 7 entries, such as '1.bias', and it has 1 that the model lacks, such "
            "as 'fc'"
        )),
        ({"0.weight": torch.zeros(9)}, "'0.weight' has the shape 9 in it and 2x3 in the model"),
        ({"0.weight": torch.zeros(())}, "'0.weight' has the shape () in it and 2x3 in the model"),
        ({"0.weight": "text"}, "'0.weight' is of type str in it, not a tensor"),
    ],
)  # fmt: skip
def test_weights_of_another_model(path: Path, change: dict[Any, Any], why: str) -> None:
    state = {**small().state_dict(), **change}
    saved(path, {key: value for key, value in state.items() if value is not None})
    refused(f"does not fit Sequential ({why}): give the weights of this very model.", path)


class Choosy(nn.Linear):
    """Loads in its own way."""

    def load_state_dict(self, *_: Any, **__: Any) -> Any:
        raise KeyError("version")


def test_a_model_that_loads_in_its_own_way(path: Path) -> None:
    saved(path, nn.Linear(2, 2).state_dict())
    wanted = f"{path} does not fit Choosy (KeyError: 'version'): give the weights of this very "
    with pytest.raises(RequestError, match=re.escape(wanted)):
        load_weights(Choosy(2, 2), path)
