"""From a module to a program: what can be asked for, the copy, the tracer."""

from bnfuse.capture.capture import Capture, capture
from bnfuse.capture.copying import ModelCopy, copy_model
from bnfuse.capture.request import check_request
from bnfuse.capture.signature import Assumptions

__all__ = ["Assumptions", "Capture", "ModelCopy", "capture", "check_request", "copy_model"]
