"""What happened to every batch norm, and why."""

from bnfuse.report.reasons import REASONS, Decline, Reason, decline
from bnfuse.report.report import Report, Row, report

__all__ = ["REASONS", "Decline", "Reason", "Report", "Row", "decline", "report"]
