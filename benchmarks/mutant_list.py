"""Mistakes to make in bnfuse on purpose: in its algebra, and in the guards before it.

Each is a piece of source and what stands in its place. A piece that is not found any more, or more
than once, has to be brought up to date here.
"""

from __future__ import annotations

from dataclasses import dataclass

_ABSORB = "bnfuse/affine/absorb.py"
_VALUES = "bnfuse/affine/values.py"
_LAYOUT = "bnfuse/affine/layout.py"
_MERGE = "bnfuse/affine/merge.py"
_ARITHMETIC = "bnfuse/moves/arithmetic.py"
_WEIGHTS = "bnfuse/moves/weights.py"
_ORIGIN = "bnfuse/moves/origin.py"
_WAYS = "bnfuse/moves/ways.py"
_SEARCH = "bnfuse/moves/search.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake.

    Attributes:
        name: What is wrong.
        path: The file it is made in.
        old: The source there.
        new: What takes its place.
    """

    name: str
    path: str
    old: str
    new: str


ALGEBRA = (
    Mutant("bias forgotten", _ABSORB, "affine.scale * as_float64(bias) + affine.shift",
           "affine.shift"),
    Mutant("bias not scaled", _ABSORB, "affine.scale * as_float64(bias) + affine.shift",
           "as_float64(bias) + affine.shift"),
    Mutant("shift forgotten", _ABSORB, "affine.scale * as_float64(bias) + affine.shift",
           "affine.scale * as_float64(bias)"),
    Mutant("rows and columns swapped", _ABSORB,
           "rows = affine.scale.to(exact.device).view(-1, *[1] * (weight.ndim - 1))",
           "rows = affine.scale.to(exact.device).view(1, -1, *[1] * (weight.ndim - 2))"),
    Mutant("groups of a transposed convolution swapped", _ABSORB,
           "view(groups, 1, outputs_per_group, *[1] * len(kernel))",
           "view(outputs_per_group, groups).t().reshape(groups, 1, -1, *[1] * len(kernel))"),
    Mutant("groups of the columns swapped", _ABSORB,
           ".reshape(groups, 1, inputs_per_group).expand(rows)",
           ".reshape(inputs_per_group, groups).t().reshape(groups, 1, -1).expand(rows)"),
    Mutant("shift of the first tap alone", _ABSORB,
           "(exact * by_output(affine.shift)).flatten(1).sum(1)",
           "(exact * by_output(affine.shift)).sum(1).flatten(1)[:, 0]"),
    Mutant("shift through the scaled weight", _ABSORB, "exact * by_output(affine.shift)",
           "scaled * by_output(affine.shift)"),
    Mutant("eps dropped", _VALUES, "as_float64(variance) + eps", "as_float64(variance)"),
    Mutant("variance for deviation", _VALUES, "torch.rsqrt(as_float64(variance) + eps)",
           "1 / (as_float64(variance) + eps)"),
    Mutant("mean not scaled", _VALUES, "shift = -scale * as_float64(mean)",
           "shift = -as_float64(mean)"),
    Mutant("mean added", _VALUES, "shift = -scale * as_float64(mean)",
           "shift = scale * as_float64(mean)"),
    Mutant("gamma forgotten", _VALUES, "scale = as_float64(gamma) * scale", "scale = 1 * scale"),
    Mutant("transposed weight read as a plain one", "bnfuse/ops/linear.py",
           "if call.kind is Kind.TRANSPOSED_CONVOLUTION:\n        return absorb_into_transposed",
           "if call.kind is Kind.LINEAR:\n        return absorb_into_transposed"),
    Mutant("shift on both arms of a sum", _ARITHMETIC,
           "    Moved(((one, affine), (other, scale)), ranks=ranks),\n            Moved(",
           "    Moved(((one, affine), (other, affine)), ranks=ranks),\n            Moved("),
    Mutant("sign of a difference lost", _ARITHMETIC, "sign = -1 if is_taken_away else 1",
           "sign = 1 if is_taken_away else 1"),
    Mutant("tiles for blocks", _LAYOUT, "return coefficients.expand(expanded).reshape(shape)",
           "return coefficients.expand(expanded).movedim(1, -1).reshape(shape)"),
    Mutant("pieces in the wrong order", _LAYOUT, "zip(starts, sizes, strict=True)",
           "zip(reversed(starts), reversed(sizes), strict=True)"),
    Mutant("a smaller kernel in the corner", _MERGE, "(whole - own + d * j) // step",
           "(d * j) // step"),
    Mutant("bias between two layers forgotten", _MERGE, "bias = second.bias + inner",
           "bias = second.bias + 0 * inner"),
)  # fmt: skip
"""Mistakes in the algebra; the check of each rewrite has to find all."""

GUARDS = (
    Mutant("aliasing", _WAYS,
           "if origin.value in traveller.program.written_values or "
           "_is_overwritten(traveller, origin):", "if False:"),
    Mutant("readers", _SEARCH, "if first := list(islice(others, 3)):",
           "if (first := list(islice(others, 3))) and False:"),
    Mutant("axis", _WEIGHTS,
           "return affine.along(1, channels) if affine.rank == call.weight.ndim else None",
           "return affine.map(lambda c: c.flatten())"),
    Mutant("padding", _WEIGHTS, 'if call.options["padding_mode"] != "zeros":', "if True:"),
    Mutant("training flag", _ORIGIN, 'if call.options["training"]:', "if False:"),
    Mutant("rank", _WAYS, "return Plan(plan.edits, needed, plan.passed, plan.clamps)",
           "return Plan(plan.edits, [], plan.passed, plan.clamps)"),
)  # fmt: skip
"""Mistakes in guards; the tests have to find all."""

CHECK_OFF = Mutant(
    "check of each rewrite", "bnfuse/attempts.py",
    "RewriteChecks(known.refused, known.only, known.suspects, request.is_checked)",
    "RewriteChecks(known.refused, known.only, known.suspects, is_on=False)",
)  # fmt: skip
"""Not a mistake: what switches the check of each rewrite off."""
