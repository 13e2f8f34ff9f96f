"""Deviations of outputs, accumulated over several sets of inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.validation.inputs import is_dense
from bnfuse.validation.result import OutputError

if TYPE_CHECKING:
    from torch import Tensor

OWN_ERROR_FACTOR = 4.0
LEAST_ULPS = 16.0
INNER_ULPS = 4.0
LARGEST_SHARE = 0.01
_FLOAT64_ULP = torch.finfo(torch.float64).eps


@dataclass(slots=True)
class _Tally:
    """The largest figures of one output so far."""

    error: float = 0.0
    own: float = 0.0
    scale: float = 0.0
    complaint: str = ""
    is_floating: bool = False


@dataclass(slots=True)
class OutputComparison:
    """Compares outputs, a set at a time.

    Attributes:
        ulp: The spacing of numbers just above 1 in the candidate's dtype.
        structured: Whether containers and dtypes have to agree too.
    """

    ulp: float
    structured: bool = True
    _tallies: dict[str, _Tally] = field(default_factory=dict)

    def add(self, *, exact: Any, rounded: Any, candidate: Any) -> None:
        """Take in the outputs for one set of inputs.

        Args:
            exact: The reference's.
            rounded: The unfused model's, in the candidate's dtype; in a narrower one where the
                candidate's is float64.
            candidate: The candidate's.
        """
        exact_leaves, exact_spec = _flatten(exact)
        rounded_leaves, _ = _flatten(rounded)
        candidate_leaves, candidate_spec = _flatten(candidate)
        if not self.structured:
            exact_leaves = {k: v for k, v in exact_leaves.items() if isinstance(v, torch.Tensor)}
            candidate_leaves = dict(zip(exact_leaves, candidate_leaves.values(), strict=False))
        elif exact_spec != candidate_spec:
            self._tally("outputs").complaint = f"{candidate_spec} instead of {exact_spec}"
            return
        for name, value in exact_leaves.items():
            tally = self._tally(name)
            if name not in candidate_leaves:
                tally.complaint = "missing"
                continue
            mine = candidate_leaves[name]
            tally.complaint = tally.complaint or self._mismatch(value, rounded_leaves[name], mine)
            if not tally.complaint:
                _compare(tally, value, rounded_leaves[name], mine)

    def outcome(self, own_error_ratio: float, inner: float = 0.0) -> tuple[OutputError, ...]:
        """Return a row for each output.

        Args:
            own_error_ratio: What the deviations of ``rounded`` count for.
            inner: The scale of an output that is zero throughout, which has none of its own.
        """
        return tuple(
            OutputError(
                name=name,
                max_abs_error=tally.error,
                scale=tally.scale,
                own_error=tally.own * own_error_ratio,
                tolerance=tolerance(tally.own * own_error_ratio, tally.scale, self.ulp)
                if tally.scale or not tally.is_floating
                else tolerance_of_zeros(inner, self.ulp),
                complaint=tally.complaint,
            )
            for name, tally in self._tallies.items()
        )

    def _tally(self, name: str) -> _Tally:
        return self._tallies.setdefault(name, _Tally())

    def _mismatch(self, exact: Any, rounded: Any, candidate: Any) -> str:
        """Return how a candidate's output differs in kind from the unfused model's, or ""."""
        if not isinstance(exact, torch.Tensor):
            return "" if _is_same(exact, candidate) else f"{candidate!r} instead of {exact!r}"
        if not isinstance(candidate, torch.Tensor):
            return f"a {type(candidate).__name__} instead of a tensor"
        if candidate.is_meta != exact.is_meta:
            return f"on {candidate.device} instead of {exact.device}"
        if candidate.shape != exact.shape:
            return f"shape {tuple(candidate.shape)} instead of {tuple(exact.shape)}"
        wanted = exact.dtype if self.ulp == _FLOAT64_ULP else rounded.dtype
        if self.structured and candidate.dtype != wanted:
            return f"{candidate.dtype} instead of {wanted}"
        return ""


def tolerance(own_error: float, scale: float, ulp: float) -> float:
    """Return the deviation an output may have.

    It is 4 times the unfused model's own error, and at least 16 units in the last place of the
    largest output.

    Args:
        own_error: The unfused model's own largest error.
        scale: The largest absolute value of the output.
        ulp: The spacing of numbers just above 1.

    >>> tolerance(own_error=0.0, scale=3.0, ulp=2.0**-10) == 16 * 2.0**-9
    True
    """
    largest_ulp = ulp * 2.0 ** math.floor(math.log2(scale)) if scale > 0 else 0.0
    return max(OWN_ERROR_FACTOR * own_error, LEAST_ULPS * largest_ulp)


def tolerance_of_zeros(inner: float, ulp: float) -> float:
    """Return the deviation that an output may have which is zero throughout.

    It is 4 units in the last place of what is computed on the way, and 1% of that at most.

    Args:
        inner: The largest value that a layer inside computes.
        ulp: The spacing of numbers just above 1.

    >>> tolerance_of_zeros(5.0, 2.0**-10) == 4 * 2.0**-8, tolerance_of_zeros(5.0, 2.0**-7)
    (True, 0.05)
    """
    return min(tolerance(0.0, inner, ulp) / LEAST_ULPS * INNER_ULPS, LARGEST_SHARE * inner)


def _flatten(outputs: Any) -> tuple[dict[str, Any], Any]:
    """Return the leaves of an output by their place, and its structure."""
    leaves: dict[str, Any] = {}
    spec = _gather(outputs, "", leaves)
    return leaves, spec


def _gather(value: Any, place: str, leaves: dict[str, Any]) -> Any:
    """Put the leaves of a value into ``leaves`` and return its structure."""
    if isinstance(value, Mapping):
        parts = {f"{place}[{key!r}]": part for key, part in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {f"{place}.{f.name}": getattr(value, f.name) for f in fields(value)}
    elif isinstance(value, list | tuple):
        parts = {f"{place}[{number}]": part for number, part in enumerate(value)}
    elif isinstance(value, torch.Tensor):
        leaves[place or "output"] = dense = _dense(value)
        return "*" if dense is value else str(value.dtype if value.is_quantized else value.layout)
    else:
        leaves[place or "output"] = value
        return "*"
    inner = [(name, _gather(part, name, leaves)) for name, part in parts.items()]
    return type(value).__name__, inner


def _dense(tensor: Tensor) -> Tensor:
    """Return a tensor of any layout as one that stores each of its elements."""
    if tensor.is_nested:
        return tensor.to_padded_tensor(0.0)
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor if is_dense(tensor) else tensor.to_dense()


def _compare(tally: _Tally, exact: Any, rounded: Any, candidate: Any) -> None:
    """Take one output of one set of inputs into its tally."""
    if not isinstance(exact, torch.Tensor) or exact.is_meta:
        return
    wide = _as_real(exact)
    finite = torch.isfinite(wide)
    if not finite.any() and wide.numel():
        tally.complaint = "the reference has no finite value"
        return
    deviation = (_as_real(candidate).to(wide) - wide).abs()[finite]
    if not torch.isfinite(deviation).all():
        tally.complaint = "not finite where the reference is"
        return
    own = (_as_real(rounded).to(wide) - wide).abs()[finite]
    tally.error = max(tally.error, _largest(deviation))
    tally.own = max(tally.own, _largest(own[torch.isfinite(own)]))
    tally.scale = max(tally.scale, _largest(wide.abs()[finite]))
    tally.is_floating = exact.is_floating_point() or exact.is_complex()


def _as_real(tensor: Tensor) -> Tensor:
    """Return a tensor as float64, complex numbers as pairs."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.detach().to(torch.float64)


def _is_same(exact: Any, candidate: Any) -> bool:
    """Whether two values that are no tensors are equal, as far as their type can tell."""
    try:
        return type(exact) is type(candidate) and bool(exact == candidate)
    except Exception:
        return True  # a type whose equality raises says nothing


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0
