"""Compare an optimized model, or an exported file, with the unfused model in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnfuse.capture import check_example, check_request
from bnfuse.device import chosen_device
from bnfuse.errors import RequestError
from bnfuse.validation.compare import OutputComparison
from bnfuse.validation.inner import largest_inner_value
from bnfuse.validation.inputs import input_sets, map_tensors
from bnfuse.validation.layers import LayerComparison
from bnfuse.validation.precision import full_precision
from bnfuse.validation.reference import make_reference
from bnfuse.validation.result import Verification
from bnfuse.validation.runners import Candidate, ModuleRun, candidate_runner, narrower

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.export import ExportedProgram

    from bnfuse.validation.inputs import Arguments
    from bnfuse.validation.reference import Reference
    from bnfuse.validation.result import OutputError

INPUT_SETS = 3


def verify(
    model: nn.Module | ExportedProgram,
    fused: nn.Module | str | Path,
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    device: str | torch.device | None = None,
    seed: int = 0,
    per_layer: bool = False,
    by_parts: bool | None = None,
    providers: Sequence[Any] | None = None,
) -> Verification:
    """Compare a candidate with the unfused model on several sets of inputs.

    The reference is the unfused model in float64. The candidate passes when its error is at most 4
    times the unfused model's own error in the candidate's dtype, and 16 units in the last place of
    the largest output at least. In float64 the own error is estimated from the float32 one, scaled
    by the ratio of the two unit roundoffs. An output that is zero throughout may deviate by 4 units
    of the largest value that a layer inside the unfused model computes, and by 1% of it at most.

    Args:
        model: The unfused model, or an exported program; it is copied, not changed.
        fused: What ``optimize`` returned, or the path of an exported ``.onnx`` or ``.pt2`` file. A
            file in another dtype than the model's is given its inputs in that dtype.
        example_inputs: Positional arguments of a call, which give shapes and dtypes.
        example_kwargs: Keyword arguments of that call.
        device: Where to run; by default a CUDA device where there is one, and for a file where
            onnxruntime can use it too.
        seed: The seed of the further sets of inputs.
        per_layer: Whether to compare what the layers of a module compute as well: ``.layers`` has
            a row for each, and ``.plot(path)`` draws them. Only outputs decide ``.passed``. Takes
            the memory of all their values in float64.
        by_parts: Whether to run the reference without a float64 copy of the model: each layer is
            converted while it is called. By default where that copy and another may not fit into
            memory. A forward that reads the weights of a layer it does not call
            gets a copy nevertheless, and ``.reference`` says so.
        providers: Execution providers of onnxruntime to run an ``.onnx`` file with, in order; by
            default the one of ``device``. ``.device`` names the one that ran it.

    Raises:
        RequestError: The model cannot run on the example inputs, or ``fused`` is a file of another
            kind, or one whose layers cannot be seen, or there is no such provider.
        ExportError: onnxruntime runs the file with another provider than the first of them.
        MissingDependencyError: An ``.onnx`` file is given and onnxruntime is not installed.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    >>> verify(net, net, (torch.randn(1, 3, 8, 8),)).passed
    True
    """
    model = check_request(model)
    example = check_example(example_inputs, example_kwargs)
    if device is None and isinstance(fused, str | Path) and Path(fused).suffix == ".onnx":
        from bnfuse.export.runtime import file_device

        device = file_device()
    place = chosen_device(device)
    with torch.no_grad(), full_precision(), torch.random.fork_rng():
        is_module = isinstance(fused, nn.Module)
        given = None if is_module else candidate_runner(fused, place, model, example, providers)
        if given is not None and per_layer:
            _watchable(given)
        narrow = _narrow(model, fused, given)
        sets = [
            map_tensors(lambda t: t.to(place), arguments)
            for arguments in input_sets(*example, INPUT_SETS, seed)
        ]
        reference = make_reference(model, place, sets, seed, narrow, by_parts)
        candidate = given or candidate_runner(fused, place, model, example)
        outputs = _compared(reference, candidate, sets, seed)
        found = Verification(candidate.name, reference.name, candidate.device, len(sets), outputs)
        if not per_layer:
            return found
        comparison = LayerComparison(reference, _watchable(candidate), seed)
        for arguments in sets:
            comparison.add(arguments)
        layers, left_out = comparison.outcome(is_equal=found.passed)
    return replace(found, layers=layers, left_out=left_out)


def _narrow(
    model: nn.Module, fused: nn.Module | str | Path, given: Candidate | None
) -> torch.dtype | None:
    """Return the candidate's dtype where it is another; a module is copied when it is needed."""
    if given is not None or not isinstance(fused, nn.Module):
        return None if given is None else given.narrow
    return narrower(model, fused)


def _compared(
    reference: Reference, candidate: Candidate, sets: Sequence[Arguments], seed: int
) -> tuple[OutputError, ...]:
    """Run the candidate on each set of inputs and return a row for each output."""
    comparison = OutputComparison(reference.ulp, structured=candidate.structured)
    known = zip(reference.exact.outputs, reference.rounded.outputs, strict=True)
    for arguments, (exact, rounded) in zip(sets, known, strict=True):
        torch.manual_seed(seed)  # the same random numbers for all, if they draw any
        comparison.add(exact=exact, rounded=rounded, candidate=candidate.run(arguments))
    found = comparison.outcome(reference.own_error_ratio)
    if all(output.scale or output.passed for output in found):
        return found
    try:
        inner = largest_inner_value(reference.exact.make(), sets, seed)
    except Exception:  # what cannot be watched has no other measure
        return found
    return comparison.outcome(reference.own_error_ratio, inner)


def _watchable(candidate: Candidate) -> ModuleRun:
    """Return how to run a candidate whose layers can be seen."""
    if not isinstance(candidate.run, ModuleRun):
        raise RequestError(
            f"per_layer compares the layers of a module, and {candidate.name} is a file: "
            "pass what bnfuse.optimize returned."
        )
    return candidate.run
