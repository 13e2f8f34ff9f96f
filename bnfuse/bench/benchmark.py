"""``benchmark``: the optimized model beside what a user would run instead."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.bench.environment import environment
from bnfuse.bench.measure import alternating_blocks
from bnfuse.bench.result import Benchmark, Timing
from bnfuse.capture import check_request, copy_model
from bnfuse.device import chosen_device
from bnfuse.errors import BnfuseError, RequestError
from bnfuse.optimizer import optimize
from bnfuse.validation.inputs import map_tensors
from bnfuse.validation.obstacle import cannot_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from bnfuse.validation.inputs import Arguments

Calls = dict[str, "Callable[[], object]"]


def benchmark(
    model: nn.Module,
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    seconds: float = 10.0,
    onnx: str | Path | None = None,
    device: str | torch.device | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Benchmark:
    """Time a model as it is, optimized, and in ONNX Runtime, in alternating blocks of calls.

    Args:
        model: The unfused model in eval mode; it is copied, not changed.
        example_inputs: Positional arguments of the call to time.
        example_kwargs: Keyword arguments of that call.
        seconds: About how long to measure, preparation apart.
        onnx: An exported ``.onnx`` file to time; by default the optimized model is exported to a
            temporary one.
        device: Where to run; a CUDA device where there is one, by default.
        on_progress: Called with the fraction of the measuring that is done.

    Raises:
        RequestError: The model is not one that ``optimize`` takes, or cannot run on the inputs, or
            the given file cannot, or is of another kind.
    """
    check_request(model)
    if onnx is not None:
        check_file(Path(onnx))
    if not 0 < seconds < math.inf:
        raise RequestError(f"seconds is {seconds}: pass how long to measure, such as 10.")
    place = chosen_device(device)
    args = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    call: Arguments = map_tensors(lambda t: t.to(place), (args, dict(example_kwargs or {})))
    left_out: list[Timing] = []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        calls = _torch_calls(model, call, place)
        try:
            calls["onnxruntime"] = _onnx_call(model, call, place, onnx, Path(folder))
        except BnfuseError as error:
            if onnx is not None:
                raise
            left_out.append(Timing("onnxruntime", note=str(error)))
        blocks = _measure(calls, seconds, place.type == "cuda", on_progress)
    timings = tuple(Timing(name, tuple(map(tuple, blocks[name]))) for name in calls)
    return Benchmark(type(model).__name__, environment(), timings, tuple(left_out))


def check_file(path: Path) -> None:
    """Look at the file that is to be timed, before anything is done for it.

    Raises:
        RequestError: There is no such file, or onnxruntime runs none of its kind.
    """
    if path.suffix != ".onnx":
        what = f"ends in {path.suffix}" if path.suffix else "has no suffix"
        instead = "leave it out to time the optimized model"
        if path.suffix == ".pt2":
            instead = f"time it as the model itself, as bnfuse bench {path} does"
        raise RequestError(
            f"bench times .onnx files beside the model, and {path} {what}: pass a file that "
            f"bnfuse.export_onnx wrote, or {instead}."
        )
    if not path.is_file():
        raise RequestError(f"there is no file {path}: check the path.")


def _torch_calls(model: nn.Module, call: Arguments, place: torch.device) -> Calls:
    """Return the calls that run in PyTorch, each tried once."""
    args, kwargs = call
    eager = copy_model(model).model.to(place)
    try:
        eager(*args, **kwargs)
    except Exception as error:
        raise cannot_run(model, error) from error
    optimized = optimize(eager, args, kwargs, validate=False)
    return {
        "eager": lambda: eager(*args, **kwargs),
        "bnfuse": lambda: optimized(*args, **kwargs),
    }


def _onnx_call(
    model: nn.Module, call: Arguments, place: torch.device, onnx: str | Path | None, folder: Path
) -> Callable[[], object]:
    """Return the call that runs an exported file in ONNX Runtime."""
    from bnfuse.export import export_onnx
    from bnfuse.export.runtime import OnnxSession

    path = Path(onnx) if onnx is not None else folder / "model.onnx"
    if onnx is None:
        host_call = map_tensors(lambda t: t.cpu(), call)
        export_onnx(copy_model(model).model.cpu(), path, *host_call, verify=False)
    session = OnnxSession(path, cuda=place.type == "cuda")
    feed = session.feed(call)
    session.time_feed(feed)  # a file that cannot run is left out before any measuring
    return lambda: session.time_feed(feed)


def _measure(
    calls: Calls, seconds: float, is_cuda: bool, on_progress: Callable[[float], None]
) -> dict[str, list[list[float]]]:
    """Choose the number of rounds that fills the time, and run them."""
    start = time.perf_counter()
    alternating_blocks(calls, rounds=1, is_cuda=is_cuda)  # warm-up, and the length of a round
    round_seconds = time.perf_counter() - start
    rounds = max(len(calls), round(seconds / round_seconds))
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        on_progress(done / rounds)

    return alternating_blocks(calls, rounds, is_cuda=is_cuda, on_round=step)
