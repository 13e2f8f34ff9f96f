"""Weights from a file that may be anything, loaded without running code in it."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.errors import RequestError, first_line

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_WRAPPERS = ("state_dict", "model")
_SAVE = "save model.state_dict() with torch.save and give that file"
_OTHER_PICKLE = "is a pickle of another kind than torch.save makes by default"
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
# What files of torch.save begin with, now and before PyTorch 1.6.
_ZIP, _LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_HEAD = 64  # bytes that are looked at to say what a file is


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict, plain or under the key ``state_dict`` or ``model``.

    The file is read with ``weights_only=True``, which builds tensors and containers and runs no
    code.

    Raises:
        RequestError: There is no such file, it holds more than weights, or they do not fit.
    """
    if not path.is_file():
        raise RequestError(f"there is no file {path}: check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the file's format; what matters is raised
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes of another kind can raise anything
        raise RequestError(f"{path} {_why_unread(path, error)}.") from error
    for key in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    try:
        model.load_state_dict(state)
    except Exception as error:  # models may load in their own way
        if why := _why_no_state_dict(state):
            raise RequestError(f"{path} holds {why}, not a state dict: {_SAVE}.") from error
        raise RequestError(
            f"{path} does not fit {type(model).__name__} ({_misfit(model, state, error)}): "
            "give the weights of this very model."
        ) from error


def _why_unread(path: Path, error: Exception) -> str:
    """Return what is wrong with a file that cannot be read as weights, and the remedy."""
    if path.stat().st_size == 0:
        return f"is empty: {_SAVE}"
    if path.suffix == ".safetensors" and "not installed" in str(error):
        return "needs the package safetensors: pip install safetensors"
    if path.suffix == ".safetensors":
        said = first_line(error) or type(error).__name__
        return f"cannot be read by safetensors ({said}): copy or save it again"
    if "TorchScript" in str(error):
        return f"is a TorchScript archive, which holds a program: {_SAVE}"
    if found := _GLOBAL.search(str(error)):
        return f"holds more than weights ({found[1]}), and loading it could run code: {_SAVE}"
    if isinstance(error, pickle.UnpicklingError) and _has_pickle(path):
        return f"{_OTHER_PICKLE}: {_SAVE}"
    return _by_its_bytes(path)


def _by_its_bytes(path: Path) -> str:
    """Return what kind of file it is, and the remedy."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if zipfile.is_zipfile(path) and not _has_pickle(path):
        return f"is a zip archive that torch.save did not write: {_SAVE}"
    if any(known.startswith(head[: len(known)]) for known in (_ZIP, _LEGACY)):
        return "is damaged or was cut off: copy or save it again"
    if head.startswith(b"\x80"):
        return f"{_OTHER_PICKLE}: {_SAVE}"
    return f"holds {_described(head)}, not weights: {_SAVE}"


def _described(head: bytes) -> str:
    """Return what a file of another kind begins with."""
    if not head.isascii() or b"\0" in head:
        return "data of another kind"
    return f"text that begins with {head.decode().strip().split(chr(10))[0][:40]!r}"


def _has_pickle(path: Path) -> bool:
    """Whether a file is a zip archive with the entry that torch.save describes the weights in."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("data.pkl") for name in archive.namelist())


def _why_no_state_dict(state: Any) -> str:
    """Return what an object is, if it cannot be a state dict at all, else an empty string."""
    if not isinstance(state, dict):
        return f"an object of type {type(state).__name__}"
    if not state:
        return "an empty dict"
    if any(isinstance(value, torch.Tensor) for value in state.values()):
        return ""
    shown = ", ".join(repr(key) for key in list(state)[:4])
    more = ", ..." if len(state) > 4 else ""
    return f"a dict without tensors (its keys are {shown}{more})"


def _misfit(model: nn.Module, state: dict[Any, Any], error: Exception) -> str:
    """Return how a state dict differs from the one that a model has."""
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    strange = [name for name in state if name not in own]
    facts = []
    if missing:
        facts.append(f"it lacks {len(missing)} of {len(own)} entries, such as {missing[0]!r}")
    if strange:
        facts.append(f"it has {len(strange)} that the model lacks, such as {strange[0]!r}")
    for name in [name for name in own if name in state][: 0 if facts else None]:
        mine, given = (getattr(found, "shape", None) for found in (own[name], state[name]))
        if given is None:
            return f"{name!r} is of type {type(state[name]).__name__} in it, not a tensor"
        if mine is not None and mine != given:
            return f"{name!r} has the shape {_shown(given)} in it and {_shown(mine)} in the model"
    return (
        ", and ".join(facts)
        or f"{type(error).__name__}: {first_line(error) or type(error).__name__}"
    )


def _shown(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "()"
