"""The terminal: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OUT = Console()
ERR = Console(stderr=True)


def error(text: str) -> None:
    """Print an error on one line."""
    ERR.print("[bold red]error:[/]", end=" ")
    text = " ".join(line.strip() for line in text.splitlines())
    ERR.print(text, markup=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a remark."""
    ERR.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Show that something is being done, and how long it took."""
    start = time.perf_counter()
    with ERR.status(f"{what} ..."):
        yield
    ERR.print(f"{what}: {time.perf_counter() - start:.1f} s", style="dim", highlight=False)


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """Show a bar; give the function that moves it to a fraction of its length."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    hidden = not ERR.is_terminal  # it would leave an empty line in a file
    with Progress(*columns, console=ERR, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
