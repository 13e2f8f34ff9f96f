"""From a module to a program: what can be asked for, the copy, the tracer."""

from bnfuse.capture.capture import Capture, capture
from bnfuse.capture.copying import copy_model
from bnfuse.capture.request import check_request

__all__ = ["Capture", "capture", "check_request", "copy_model"]
