"""Compare what two models did: outputs of any structure, arguments, errors and aliases."""

from __future__ import annotations

import dataclasses
import random
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from tests.conformance.case import Call, Case


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a call did.

    Attributes:
        output: What it returned, or None where it raised.
        args: Its positional arguments, as the call left them.
        kwargs: Its keyword arguments, likewise.
        error: What it raised, or None.
    """

    output: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    error: Exception | None = None


def run(model: nn.Module, call: Call, case: Case, *, grad: bool = False) -> Outcome:
    """Call a model with fixed seeds, and return what it did."""
    with (
        torch.random.fork_rng(devices=[]),
        torch.set_grad_enabled(grad),
        warnings.catch_warnings(),  # some models make torch warn, once or at each call
        case.around(),
    ):
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        random.seed(3)
        try:
            output = model(*call.args, **call.kwargs)
        except Exception as error:
            return Outcome(None, call.args, call.kwargs, error)
    return Outcome(output, call.args, call.kwargs)


def outcome_differences(wanted: Outcome, got: Outcome, rtol: float) -> list[str]:
    """Return how two calls differ; nothing where they did the same."""
    if got.error is not None and wanted.error is None:
        return [f"raised {got.error!r}"]
    if type(wanted.error) is not type(got.error):
        return [f"did not raise {wanted.error!r}, but {got.error!r}"]
    if wanted.error is not None:
        return []
    found = differences(wanted.output, got.output, rtol, "output")
    found += differences(list(wanted.args), list(got.args), rtol, "args")
    found += differences(dict(wanted.kwargs), dict(got.kwargs), rtol, "kwargs")
    if not found and _aliases(wanted) != _aliases(got):
        found.append(f"aliases {_aliases(got)} instead of {_aliases(wanted)}")
    return found


def differences(wanted: Any, got: Any, rtol: float, place: str = "output") -> list[str]:
    """Return how two values differ: in type, dtype, shape, keys or elements.

    Args:
        wanted: The value of the unfused model.
        got: The value of the optimized one.
        rtol: The largest deviation of a tensor, relative to its largest element.
        place: What the values are called.
    """
    if isinstance(wanted, Tensor) and isinstance(got, Tensor):
        return _tensor_differences(wanted, got, rtol, place)
    if type(wanted) is not type(got):
        return [f"{place} is a {type(got).__name__} instead of a {type(wanted).__name__}"]
    ours, theirs = dict(_parts(wanted)), dict(_parts(got))
    if list(ours) != list(theirs):
        return [f"{place} has {list(theirs)} instead of {list(ours)}"]
    if not ours and wanted is not got and wanted != got:
        return [f"{place} is {got!r} instead of {wanted!r}"]
    return [
        text
        for key, value in ours.items()
        for text in differences(value, theirs[key], rtol, f"{place}{key}")
    ]


def _tensor_differences(wanted: Tensor, got: Tensor, rtol: float, place: str) -> list[str]:
    for name in ("dtype", "shape", "device", "layout"):
        if getattr(wanted, name) != getattr(got, name):
            return [f"{place} has {name} {getattr(got, name)} instead of {getattr(wanted, name)}"]
    if not wanted.numel():
        return []
    ours, theirs = (t.detach().to(torch.float64) for t in (wanted, got))
    off = (ours - theirs).abs()
    off[(ours == theirs) | (ours.isnan() & theirs.isnan())] = 0.0  # infinities are equal too
    largest = float(off.nan_to_num(nan=torch.inf).max())
    finite = ours.abs().nan_to_num(nan=0.0, posinf=0.0)
    if largest > rtol * float(finite.max()):
        return [f"{place} is off by {largest:.3g}"]
    return []


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Give the parts of a container by their place; nothing for anything else."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif dataclasses.is_dataclass(value):
        yield from ((f".{f.name}", getattr(value, f.name)) for f in dataclasses.fields(value))


def _leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    for _, part in _parts(value):
        yield from _leaves(part)


def _aliases(outcome: Outcome) -> list[int]:
    """Return for each tensor of outputs and arguments which earlier one shares its memory."""
    leaves = list(_leaves([outcome.args, outcome.kwargs, outcome.output]))
    storages = [leaf.untyped_storage().data_ptr() for leaf in leaves]
    return [storages.index(storage) if storage else -1 for storage in storages]


class Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    """Counts the aten operations that run inside it.

    Attributes:
        count: How often each ran, by name.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # the signature is torch's
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def norms(self) -> int:
        """How many batch norms ran."""
        return sum(n for name, n in self.count.items() if "batch_norm" in name)


def kernels(model: nn.Module, case: Case) -> Kernels:
    """Return what runs in a call of a model with the example of its case."""
    call = case.example
    counted = Kernels()
    with counted:
        run(model, call, case)
    return counted
