"""Resize, in the forms that PyTorch has too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.importing.site import Operand, Site

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_CENTRES = ("half_pixel", "pytorch_half_pixel")
_TORCH_CUBIC = -0.75


def _resize(site: Site) -> Operand:
    """Resize: to sizes, or by scales, along all axes but the first two."""
    options = _mode(site)
    axes = site.attribute("axes", None)
    rank = site.rank(0)
    named = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    if site.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise site.error("it keeps the ratio of the sides")
    if site.has(3) and not _is_empty(site, 3):
        given = dict(zip(named, site.sizes(3), strict=True))
        kept = [axis not in given or given.pop(axis) == site.size(0, axis) for axis in (0, 1)]
        wanted = tuple(given.get(axis, site.size(0, axis)) for axis in range(2, rank))
        how: dict[str, Any] = {"size": wanted}
    else:
        scales = site.known(2)
        if scales is None or scales.numel() != len(named):
            raise site.error("its scales are computed")
        factors = dict(zip(named, scales.tolist(), strict=True))
        kept = [factors.pop(axis, 1.0) == 1.0 for axis in (0, 1)]
        how = {"scale_factor": tuple(factors.get(axis, 1.0) for axis in range(2, rank))}
    if not all(kept):
        raise site.error("it resizes batches or channels")
    return site.call(F.interpolate, site.value(0), **how, **options)


def _is_empty(site: Site, index: int) -> bool:
    known = site.known(index)
    return known is not None and not known.numel()


def _mode(site: Site) -> dict[str, Any]:
    """Return how PyTorch is to compute it."""
    mode = site.attribute("mode", "nearest")
    where = site.attribute("coordinate_transformation_mode", "half_pixel")
    if site.attribute("antialias", 0):
        raise site.error("PyTorch smooths otherwise")
    space = site.rank(0) - 2
    if mode == "nearest":
        rounding = site.attribute("nearest_mode", "round_prefer_floor")
        if where == "asymmetric" and rounding == "floor":
            return {"mode": "nearest"}
        if where in _CENTRES and rounding == "round_prefer_ceil":
            return {"mode": "nearest-exact"}
        raise site.error(f"PyTorch has no mode nearest, {where}, {rounding}")
    is_known = where in (*_CENTRES, "align_corners") and not site.attribute("exclude_outside", 0)
    is_cubic = mode == "cubic" and site.attribute("cubic_coeff_a", _TORCH_CUBIC) == _TORCH_CUBIC
    if not is_known or (mode != "linear" and not is_cubic) or (is_cubic and space != 2):
        raise site.error(f"PyTorch has no mode {mode}, {where} over {space} axes")
    name = "bicubic" if is_cubic else _LINEAR.get(space, "")
    return {"mode": name, "align_corners": where == "align_corners"}


OPERATORS: dict[str, Callable[[Site], Operand]] = {"Resize": _resize}
"""Resizing."""
