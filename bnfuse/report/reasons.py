"""The closed list of reasons why a batch norm stays, each with what the user could do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason code.

    Attributes:
        code: The stable name, in kebab case.
        why: What the obstacle is, a sentence with the facts in braces.
        remedy: What the user could do about it, a sentence.
    """

    code: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Decline:
    """A reason with the facts of one call site filled in."""

    code: str
    why: str
    remedy: str


_REASONS = (
    Reason(
        "training-mode",
        "{name} is in training mode inside a model in eval mode: it normalizes with the statistics "
        "of each batch.",
        "Call eval() on it if that is not meant.",
    ),
    Reason(
        "batch-statistics",
        "{name} keeps no running statistics and uses those of each batch, in eval mode too.",
        "Train it with track_running_stats=True.",
    ),
    Reason(
        "computed-constants",
        "{name} reads tensors that the forward computes: {facts}.",
        "Nothing to do: this is a limit of bnfuse today.",
    ),
    Reason(
        "written-constants",
        "The forward writes into tensors that {name} reads: {facts}.",
        "Move the update out of the forward.",
    ),
    Reason(
        "odd-constants",
        "{name} or the layer before it computes with what does not fold: {facts}.",
        "Give the two plain dense tensors.",
    ),
    Reason(
        "not-finite",
        "The statistics of {name} give a scale or a shift that is infinite or not a number.",
        "Look at its running_var and eps: the layer does not work as it is.",
    ),
    Reason(
        "hooked",
        "{name} has forward hooks, or a forward replaced on the instance, which would run on other "
        "values or not at all.",
        "Remove the hooks before optimizing.",
    ),
    Reason(
        "no-linear-producer",
        "What {name} normalizes comes from {facts}, which has no weight to fold into.",
        "Nothing to do: this is a limit of bnfuse today.",
    ),
    Reason(
        "no-linear-reader",
        "What reads the result of {name} is {facts}, which has no weight to fold into.",
        "Nothing to do: this is a limit of bnfuse today.",
    ),
    Reason(
        "zero-padding",
        "What reads the result of {name} is {facts}, which pads it with zeros that the shift would "
        "have to leave alone.",
        "Nothing to do: this is a limit of bnfuse today.",
    ),
    Reason(
        "written-value",
        "What {name} reads, or what it returns, may be written by an in-place operation, which "
        "would see another tensor.",
        "Use the operation that makes a new tensor instead.",
    ),
    Reason(
        "several-readers",
        "The value that {name} normalizes, made by {facts}.",
        "Nothing to do: the other readers need the value as it is.",
    ),
    Reason(
        "slow-clamp",
        "The activation behind {name} would become a clamp of several operations, for which ONNX "
        "Runtime takes longer than for the batch norm.",
        "Use the module or an archive of torch.export, in which it folds.",
    ),
    Reason(
        "other-axis",
        "{name} normalizes another axis than the one {facts} writes its channels on.",
        "Nothing to do: the two do not commute.",
    ),
    Reason(
        "mixed-dtype",
        "{name} and the layer before it have dtypes that do not fold: {facts}.",
        "Convert the model to one floating-point dtype.",
    ),
    Reason(
        "overflow",
        "The folded weights of {facts} do not fit their dtype: they are too large, or too small to "
        "be precise.",
        "Optimize the model in a wider dtype.",
    ),
    Reason(
        "skipped",
        "{name} was named in skip.",
        "Leave it out of skip to fold it.",
    ),
    Reason(
        "not-captured",
        "{name} is called by a forward of which no graph can be made: {facts}.",
        "Put it and the layer before it into a module of their own, such as nn.Sequential.",
    ),
    Reason(
        "inside-opaque-call",
        "{name} is run inside {facts}, which is TorchScript and stays one call.",
        "Put the module it was scripted from in its place.",
    ),
    Reason(
        "not-copyable",
        "{name} is inside a module that cannot be copied, and the model itself is never changed.",
        "Give the module that refuses a __deepcopy__.",
    ),
    Reason(
        "not-checkable",
        "No input was found on which the rewrite of {name} could be checked.",
        "Pass example_inputs, which tell the sizes of its input, or validate=False.",
    ),
    Reason(
        "check-failed",
        "What was made of {name} failed its check against the unfused model and was undone: "
        "{facts}.",
        "Please report the model: this is a defect in bnfuse.",
    ),
)

REASONS = {reason.code: reason for reason in _REASONS}
"""Every reason by its code."""


def decline(code: str, name: str, facts: str = "") -> Decline:
    """Return the reason ``code`` for the batch norm ``name``, with its facts filled in.

    >>> decline("skipped", "layer1.0.bn1").why
    'layer1.0.bn1 was named in skip.'
    """
    reason = REASONS[code]
    return Decline(code, reason.why.format(name=name, facts=facts), reason.remedy)
