"""What became of a conformance case in the hands of a tool: right, wrong or refused; folded or not.

A tool is judged as the conformance tests judge bnfuse, on calls under ``torch.no_grad()``: the
example twice, then every further call of the case. Raising is never wrong: on the example it is
``refused``, on a further call it is let pass. What a tool does not offer by design is not asked of
it (``Tool`` says what).
"""

from __future__ import annotations

import operator
import re
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.peer_cases import (
    EXAMPLE_CALLS,
    UnfairError,
    calls,
    cast,
    check_single,
    draws,
    prepared,
    single,
    tolerance,
)
from tests.conformance.compare import (
    Outcome,
    _leaves,
    differences,
    kernels,
    outcome_differences,
    run,
)
from tests.conformance.snapshot import snapshot

if TYPE_CHECKING:
    from collections import Counter

    from torch import nn

    from benchmarks.peer_made import Made, Tool
    from tests.conformance.case import Case

NOISE = (r"\x1b\[[0-9;]*m", r"(?:/[\w.+-]+)+/(?=\w)")  # colours; folders
ROUTINE = (DeprecationWarning, FutureWarning)
VALUES = (" is off by ", " has shape ", " has dtype ", "did not raise")
OWN_NOTES = (":__overloads__", ":_is_torch_compile")  # what torch's compilers note in a model


@dataclass(slots=True)
class Seen:
    """What calls of a tool's result showed.

    Attributes:
        values: How tensors differed from the model's, or that nothing was raised.
        effects: What else differed: attributes the calls write, types, what shares memory.
        raised: What the example raised, if it did.
    """

    values: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    raised: str = ""

    def add(self, call: str, found: list[str]) -> None:
        """Sort in what was found different."""
        for text in found:
            values = any(part in text for part in VALUES) and not text.startswith("state ")
            (self.values if values else self.effects).append(f"{call}{text}")


def expects_fold(case: Case) -> bool:
    """Whether there is something to fold."""
    return case.expect.gone is None or case.expect.gone > 0


def judged(tool: Tool, case: Case) -> dict[str, Any]:
    """Return the outcome of one case, with what led to it."""
    try:
        return _judged(tool, case)
    except UnfairError as error:
        return {"outcome": "not comparable", "detail": str(error)}


def _judged(tool: Tool, case: Case) -> dict[str, Any]:
    if single(tool, case):
        check_single(tool, case)
    model = prepared(tool, case)
    ignored = own_changes(tool, case)
    before = untouched(model, ignored)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            made = made_by(tool, case, model)
        except Exception as error:
            return {"outcome": "refused", "detail": fair_text(tool, error)}
    messages = sorted({str(w.message)[:160] for w in caught if w.category not in ROUTINE})
    found = outcome(tool, case, made)
    if found["outcome"] in ("folded", "kept") and untouched(model, ignored) != before:
        found["outcome"] = "original changed"
    return found | ({"warned": messages} if messages else {})


def outcome(tool: Tool, case: Case, made: Made) -> dict[str, Any]:
    """Return what came of what a tool has made."""
    seen = compared(tool, case, made)
    if seen.values or seen.effects:
        if tool.own_random and draws(case):
            raise UnfairError("the model draws random numbers, the tool has its own")
        detail = "; ".join(seen.values + seen.effects)[:300]
        return {"outcome": "wrong", "values": bool(seen.values), "detail": detail}
    if seen.raised:
        return {"outcome": "refused", "detail": seen.raised}
    try:
        left = made.ops(cast(tool, case, case.example), case)
    except Exception as error:
        return {"outcome": "refused", "detail": fair_text(tool, error)}
    counts = [kernels(case.build(), case).norms, norms(left)]
    return {"outcome": "folded" if folded(case, left) else "kept", "norms": counts}


def made_by(tool: Tool, case: Case, model: nn.Module) -> Made:
    """Let a tool make what it makes, with a seed that no call uses."""
    call = cast(tool, case, case.example)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(11)
        if not tool.traces:
            return tool.make(model, call)
        with case.around():
            return tool.make(model, call)


def compared(tool: Tool, case: Case, made: Made) -> Seen:
    """Make all calls of the model and of a tool's result."""
    seen, reference = Seen(), prepared(tool, case)
    for number, call in enumerate(calls(case)):
        model = prepared(tool, case) if tool.pure else reference
        wanted = run(model, cast(tool, case, call()), case)
        got = run(made.call, cast(tool, case, call()), case)  # type: ignore[arg-type]
        if got.error is None:
            rtol = tolerance(tool, case, wanted, call())
            seen.add(f"call {number}: ", call_differences(tool, wanted, got, rtol))
        elif wanted.error is None and number < EXAMPLE_CALLS:
            seen.raised = seen.raised or fair_text(tool, got.error)
    if not seen.raised and made.state is not None:
        seen.add("", state_differences(case, made.state, reference))
    return seen


def call_differences(tool: Tool, wanted: Outcome, got: Outcome, rtol: float) -> list[str]:
    """Return how a call that did not raise differs from the model's."""
    if wanted.error is not None:
        return [f"did not raise {wanted.error!r}"]
    if not tool.loose:
        return outcome_differences(wanted, got, rtol)
    ours, theirs = (list(_leaves(outcome.output)) for outcome in (wanted, got))
    found = differences(ours, theirs, rtol)
    if not tool.pure:
        bare, own = (replace(outcome, output=None) for outcome in (wanted, got))
        found += outcome_differences(bare, own, rtol)
    return found


def state_differences(case: Case, state: Any, reference: nn.Module) -> list[str]:
    """Return which watched attributes the calls left other than those of the model."""
    found: list[str] = []
    for name in case.watch:
        try:
            found += differences(
                operator.attrgetter(name)(reference),
                operator.attrgetter(name)(state),
                case.rtol,
                f"state {name}",
            )
        except AttributeError:
            found.append(f"state {name} is lost")
    return found


def norms(ops: Counter[str]) -> int:
    """Return how many batch norms are among counted operations."""
    return sum(count for name, count in ops.items() if "batch_norm" in name)


def folded(case: Case, left: Counter[str]) -> bool:
    """Whether the batch norms are gone: all of them, or as many as can be."""
    if case.expect.gone is None:
        within = all(left[name] <= most for name, most in case.expect.ops.items())
        return within and norms(left) == 0
    if case.expect.gone and not case.expect.kept:
        return norms(left) == 0
    return kernels(case.build(), case).norms - norms(left) >= max(case.expect.gone, 1)


def untouched(model: nn.Module, ignored: frozenset[str]) -> dict[str, Any]:
    """Return what a tool must not change in a model."""
    try:
        found = snapshot(model).items()
    except RuntimeError:  # a tensor without values was left in the model
        return {}
    return {k: v for k, v in found if k not in ignored and not k.endswith(OWN_NOTES)}


def own_changes(tool: Tool, case: Case) -> frozenset[str]:
    """Return what calls of the model itself change, where a tool may let that happen."""
    if not (tool.shared or tool.traces):
        return frozenset()
    model = prepared(tool, case)
    before = snapshot(model)
    for call in calls(case):
        run(model, cast(tool, case, call()), case)
    after = snapshot(model)
    return frozenset(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def fair_text(tool: Tool, error: Exception) -> str:
    """Return what was raised, without paths, unless the case is to blame for it."""
    text = f"{type(error).__name__}: {error}"
    for noise in NOISE:
        text = re.sub(noise, "", text)
    text = " ".join(text.split())[:200]
    if any(part in text for part in tool.unfair):
        raise UnfairError(text)
    return text
