"""The computations of oneDNN that are prepared: convolutions, transposed ones, products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfuse.kernels.library import Library, Owned, dims
from bnfuse.kernels.post_operations import attributes
from bnfuse.kernels.prepared import BIAS, DTYPES, OTHER, RESULT, SOURCE, Prepared, Problem, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfuse.kernels.onednn_calls import Geometry

_INFERENCE = 96
_SLOW = frozenset({"ref", "simple"})
"""In the names of kernels for what nothing faster was written for: PyTorch's do as well."""
_SLOW_ON_IMAGES = _SLOW | {"gemm"}
_DIRECT_CONVOLUTION, _DIRECT_DECONVOLUTION = 0x1, 0xA


def convolution(
    library: Library, problem: Problem, geometry: Geometry, weights: Weights
) -> Prepared:
    """Prepare a convolution of any rank.

    Raises:
        UnsupportedError: The library has no fast kernel for it.
    """
    padding, stride, dilation, _ = geometry
    window = (*_window(stride, dilation), dims(padding), dims(padding))
    head = (_INFERENCE, _DIRECT_CONVOLUTION)
    return _prepared(library, "convolution_forward", problem, weights, head, window)


def transposed(
    library: Library,
    problem: Problem,
    geometry: Geometry,
    output_padding: Sequence[int],
    weights: Weights,
) -> Prepared:
    """Prepare a transposed convolution; its weight is ``(out, in, *kernel)``.

    Raises:
        UnsupportedError: The library has no fast kernel for it.
    """
    padding, stride, dilation, _ = geometry
    after = [p - extra for p, extra in zip(padding, output_padding, strict=True)]
    window = (*_window(stride, dilation), dims(padding), dims(after))
    head = (_INFERENCE, _DIRECT_DECONVOLUTION)
    return _prepared(library, "deconvolution_forward", problem, weights, head, window)


def product(library: Library, problem: Problem, weights: Weights) -> Prepared:
    """Prepare the product of a matrix and a weight ``(in, out)``.

    Raises:
        UnsupportedError: The library has no fast kernel for it.
    """
    return _prepared(library, "matmul", problem, weights, (), ())


def _prepared(
    library: Library,
    kind: str,
    problem: Problem,
    weights: Weights,
    head: tuple[int, ...],
    window: tuple[Any, ...],
) -> Prepared:
    dtype = DTYPES[problem.weight.dtype]
    source = library.layout(problem.source.shape, problem.source.strides, dtype)
    result = library.layout(problem.result.shape, problem.result.strides, dtype)
    weight = library.any_layout(problem.weight.shape, dtype)
    layouts = {SOURCE: source, RESULT: result}
    if problem.has_bias:
        layouts[BIAS] = _of_bias(library, problem, dtype)
    if problem.epilogue.binary:
        layouts[OTHER] = result
    description = library.made(
        f"{kind}_primitive_desc",
        library.engine,
        *head,
        source,
        weight,
        layouts[BIAS] if problem.has_bias else None,
        result,
        *window,
        attributes(library, problem.epilogue, result),
    )
    slow = _SLOW_ON_IMAGES if window else _SLOW
    return Prepared(library, description, layouts, problem, weights, slow)


def _of_bias(library: Library, problem: Problem, dtype: int) -> Owned:
    """Return the layout of a bias: a vector, or a row of a matrix."""
    if len(problem.result.shape) == 2:
        columns = problem.result.shape[1]
        return library.layout((1, columns), (columns, 1), dtype)
    return library.layout((problem.result.shape[1],), (1,), dtype)


def _window(stride: Sequence[int], dilation: Sequence[int]) -> tuple[Any, Any]:
    return dims(stride), dims([d - 1 for d in dilation])
