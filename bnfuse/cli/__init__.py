"""The command line: the abilities of the library, with progress, tables and exit codes."""

from bnfuse.cli.app import main

__all__ = ["main"]
