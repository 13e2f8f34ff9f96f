"""Comparison of an optimized model with the unfused one."""

from bnfuse.validation.result import OutputError, Verification
from bnfuse.validation.verify import verify

__all__ = ["OutputError", "Verification", "verify"]
