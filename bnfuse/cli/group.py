"""What all commands have in common: the version, exit codes, and a word about an interrupt."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from bnfuse import __version__
from bnfuse.cli.terminal import OUT, note

INTERRUPTED = 130
EXIT_CODES = (
    "Exit codes: 0 where all went well; 1 for an error, which stderr has in one sentence, for a "
    "difference that verify found and for a conflict that doctor found; 2 for an unknown command "
    f"or option; {INTERRUPTED} after Ctrl-C. A file that a command did not finish is as it was "
    "before."
)


class Commands(TyperGroup):
    """The commands, of which an interrupt says a word."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            typer.Exit: It was interrupted.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            note("interrupted: no file was left half-written.")
            raise typer.Exit(INTERRUPTED) from None


def show_version(wanted: bool) -> None:
    """Print the version where that is asked for, and end."""
    if wanted:
        OUT.print(f"bnfuse {__version__}", highlight=False)
        raise typer.Exit
