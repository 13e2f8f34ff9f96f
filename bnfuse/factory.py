"""A model made by a function that the user names, and what is said where that goes wrong."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from bnfuse.errors import RequestError, first_line

if TYPE_CHECKING:
    from types import ModuleType

FORMS = "torchvision:resnet50, timm:levit_128s, package.module:factory, net.onnx or net.pt2"
_MEND = "mend the module, or install what it needs."
_RETURNS = "let it return a torch.nn.Module, or one and a tuple of example inputs"


def from_factory(module_name: str, name: str) -> tuple[nn.Module, tuple[Any, ...] | None]:
    """Return the model that a factory makes, and its example inputs, if it has any.

    Args:
        module_name: The module, looked for in the current folder too.
        name: The function in it, which is called without arguments.

    Raises:
        RequestError: There is no such module or function, one of them raises, or it returns
            something else.
    """
    spec = f"{module_name}:{name}"
    module = _imported(module_name, name)
    factory = _found(module, module_name, name)
    try:
        made = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it is the user's code and can raise anything
        raise RequestError(
            f"the factory {spec} raised {_raised(error, module)}: mend it, or name another."
        ) from error
    is_pair = isinstance(made, tuple) and len(made) == 2
    model, example = made if is_pair else (made, None)
    if not isinstance(model, nn.Module):
        raise RequestError(f"{spec} returned an object of type {type(model).__name__}: {_RETURNS}.")
    if not is_pair:
        return model, None
    return model, tuple(example) if isinstance(example, tuple | list) else (example,)


def _imported(module_name: str, name: str) -> ModuleType:
    """Import a module, whose own code runs and can raise anything."""
    folder = str(Path.cwd())
    if folder not in sys.path:  # a console script does not look in the current folder
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        is_there = _exists(module_name, error)
        remedy = _MEND if is_there else _meant(module_name, name)
        raise RequestError(
            f"{module_name!r} cannot be imported ({type(error).__name__}: {_message(error)}): "
            f"{remedy}"
        ) from error


def _exists(module_name: str, error: BaseException) -> bool:
    """Whether a module that cannot be imported is there: something else is missing, or wrong."""
    if isinstance(error, ModuleNotFoundError):
        return error.name is not None and not f"{module_name}.".startswith(f"{error.name}.")
    return not module_name.startswith(".")


def _meant(module_name: str, name: str) -> str:
    """Return what a user may have meant by a module that is not there."""
    parts = Path(module_name.removesuffix(".py")).parts
    if ".".join(parts) != module_name and all(part.isidentifier() for part in parts):
        return f"did you mean {'.'.join(parts)}:{name}?"
    close = difflib.get_close_matches(module_name, ("torchvision", "timm"), n=1)
    return f"did you mean {close[0]}:{name}?" if close else f"write a model like {FORMS}."


def _found(module: ModuleType, module_name: str, name: str) -> Any:
    """Return a factory, if it is one that can be called without arguments."""
    spec = f"{module_name}:{name}"
    factory = getattr(module, name, None)
    if factory is None:
        makers = [key for key, value in vars(module).items() if callable(value)]
        close = difflib.get_close_matches(name, makers, n=1)
        hint = f"did you mean {module_name}:{close[0]}?" if close else "name what is there."
        raise RequestError(f"there is no {name!r} in {module_name!r}: {hint}")
    if isinstance(factory, nn.Module) or not callable(factory):
        kind = type(factory).__name__
        raise RequestError(
            f"{spec} is an object of type {kind}: name a function that returns the model."
        )
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise RequestError(
            f"{spec} is called without arguments and cannot be ({error}): "
            "give all of them defaults, or name a function that needs none."
        ) from error
    except ValueError:  # not every callable tells its signature
        pass
    return factory


def _raised(error: BaseException, module: ModuleType) -> str:
    """Return what a factory raised, and the last line of its own file that was on the way."""
    file = getattr(module, "__file__", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    where = f", line {lines[-1]} of {Path(file).name}" if lines and file else ""
    return f"{type(error).__name__} ({_message(error)}{where})"


def _message(error: BaseException) -> str:
    return first_line(error) or "without a message"
