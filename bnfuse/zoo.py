"""Models by name, and batch-norm statistics that are worth folding."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnfuse.checkpoint import load_weights
from bnfuse.errors import MissingDependencyError, RequestError
from bnfuse.extras import require
from bnfuse.factory import FORMS, from_factory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfuse.importing.convert import Imported

_IMAGE = (1, 3, 224, 224)
_VIDEO = (1, 3, 16, 112, 112)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in eval mode, made by name.

    Attributes:
        model: The model.
        example_inputs: Positional arguments of a call.
        is_random: Whether its weights are random.
        imported: The file it was read from.
        is_guessed: Whether nobody said what the inputs are: they are an image of the usual size.
    """

    model: nn.Module
    example_inputs: tuple[Any, ...]
    is_random: bool
    imported: Imported | None = None
    is_guessed: bool = False


def load_model(
    spec: str,
    weights: Path | None = None,
    shapes: Sequence[str] = (),
    seed: int = 0,
    *,
    allow_pickle: bool = False,
) -> LoadedModel:
    """Make a model from its name on the command line.

    A model of torchvision or timm without a weights file has random weights and randomized
    batch-norm statistics, since the defaults are nearly the identity. Nothing is downloaded.

    Args:
        spec: ``torchvision:NAME``, ``timm:NAME``, ``package.module:FACTORY``, where the factory
            takes no arguments and returns a module, or a module and a tuple of example inputs, or
            the path of an ``.onnx`` or a ``.pt2`` file.
        weights: A file with a state dict, loaded without running code in it.
        shapes: The shape of each input, like ``1x3x224x224``.
        seed: The seed for random weights and inputs.
        allow_pickle: Whether to load a ``.pt2`` file that can run code while it is loaded.

    Raises:
        RequestError: There is no such model or file, or they do not fit.
        MissingDependencyError: torchvision or timm is not installed.
    """
    if Path(spec).suffix in (".onnx", ".pt2"):
        return _from_file(Path(spec), weights, shapes, seed, allow_pickle)
    is_guessed = False
    source, _, name = spec.partition(":")
    if not source or not name:
        raise RequestError(f"there is no model {spec!r}: {_meant(spec)}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if source == "torchvision":
            model, example = _from_torchvision(name)
        elif source == "timm":
            model, example = _from_timm(name)
        else:
            model, given = from_factory(source, name)
            example = (torch.randn(_IMAGE),) if given is None else given
            is_guessed = given is None and not shapes
        is_random = source in ("torchvision", "timm") and weights is None
        if weights is not None:
            load_weights(model, weights)
        elif is_random:
            randomize_statistics(model, seed)
        if shapes:
            example = tuple(torch.randn(*_as_shape(shape)) for shape in shapes)
    return LoadedModel(model.eval(), example, is_random, is_guessed=is_guessed)


def randomize_statistics(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch norm random statistics, scales of both signs and shifts, and return it.

    Means, scales and shifts are drawn from N(0, 1), variances from U(0.5, 2). A wrong fold cannot
    hide behind them, as it can behind the defaults.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            variance = getattr(module, "running_var", None)
            if not isinstance(variance, torch.Tensor):
                continue
            for name in ("running_mean", "weight", "bias"):
                tensor = getattr(module, name, None)
                if isinstance(tensor, torch.Tensor):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator))
            variance.copy_(torch.rand(variance.shape, generator=generator) * 1.5 + 0.5)
    return model


def _from_torchvision(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    models = require("torchvision.models", "for models named torchvision:...")
    known = models.list_models()
    if name not in known:
        raise _unknown("torchvision", name, known)
    model = models.get_model(name, weights=None, **_without_backbone_weights(models, name))
    shape = _VIDEO if name in models.list_models(models.video) else _IMAGE
    return model, (torch.randn(shape),)


def _without_backbone_weights(models: Any, name: str) -> dict[str, Any]:
    """Segmentation and detection models would download their backbone's weights."""
    composite = (*models.list_models(models.segmentation), *models.list_models(models.detection))
    return {"weights_backbone": None} if name in composite else {}


def _from_timm(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    timm = require("timm", "for models named timm:...")
    known = timm.list_models()
    if name not in known:
        raise _unknown("timm", name, known)
    model = timm.create_model(name, pretrained=False)
    size = model.default_cfg.get("input_size", _IMAGE[1:])
    return model, (torch.randn(1, *size),)


def _from_file(
    path: Path, weights: Path | None, shapes: Sequence[str], seed: int, allow_pickle: bool
) -> LoadedModel:
    """Load an ONNX file, or an archive of torch.export."""
    if weights is not None:
        raise RequestError(f"{path} holds its own weights: leave out --weights.")
    sizes = [_as_shape(shape) for shape in shapes]
    if path.suffix == ".onnx":
        from bnfuse.importing.convert import imported
        from bnfuse.importing.example import example_of

        read = imported(path)
        example = example_of(read.file, sizes, seed)
        return LoadedModel(read.module, example, is_random=False, imported=read)
    from bnfuse.export.example import example_for
    from bnfuse.export.pt2 import load

    model = load(path, allow_pickle=allow_pickle)
    return LoadedModel(model, example_for(model, sizes, seed), is_random=False)


def _unknown(source: str, name: str, known: Sequence[str]) -> RequestError:
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"see {source}'s list of models."
    return RequestError(f"{source} has no model {name!r}: {hint}")


def _meant(spec: str) -> str:
    """Return what a user may have meant by a name that does not say where the model is from."""
    path = Path(spec)
    if path.suffix in (".engine", ".plan"):
        return "an engine has no layers to read, so name the model it was built from."
    if path.is_file() and path.suffix == ".py":
        return f"name a function in the file, like {path.stem}:load."
    if path.is_file():
        return f"write one like {FORMS}, and give a file of weights with --weights."
    known = _listed() if ":" not in spec else {}
    names = {name for listed in known.values() for name in listed}
    close = [spec] if spec in names else difflib.get_close_matches(spec, names, cutoff=0.8)
    full = [f"{source}:{name}" for name in close for source in known if name in known[source]]
    return f"did you mean {' or '.join(full[:3])}?" if full else f"write one like {FORMS}."


def _listed() -> dict[str, frozenset[str]]:
    """Return the names of models, by the package that has them, as far as they are installed."""
    found: dict[str, frozenset[str]] = {}
    for source, module in (("torchvision", "torchvision.models"), ("timm", "timm")):
        with suppress(MissingDependencyError):
            package = require(module, f"for models named {source}:...")
            found[source] = frozenset(package.list_models())
    return found


def _as_shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise RequestError(f"{text!r} is no shape: write one like 1x3x224x224.")
    return shape
