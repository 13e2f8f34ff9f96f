"""From a module to a program: what can be asked for, the copy, the tracer."""

from bnfuse.capture.by_example import capture_by_example
from bnfuse.capture.capture import Capture, capture
from bnfuse.capture.copying import ModelCopy, copy_model
from bnfuse.capture.request import check_example, check_request
from bnfuse.capture.signature import Assumptions
from bnfuse.capture.trial import call_inside

__all__ = [
    "Assumptions",
    "Capture",
    "ModelCopy",
    "call_inside",
    "capture",
    "capture_by_example",
    "check_example",
    "check_request",
    "copy_model",
]
