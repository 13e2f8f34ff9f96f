"""Put every conformance case to the tools that fold batch norms today, and to bnfuse.

``python benchmarks/peers.py`` prints what became of the cases, by group and by tool. Results go to
``benchmarks/results/peers.json`` after each case; a second run goes on where the first stopped,
``--again`` starts over, ``--only TOOL`` takes one tool.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the cases are among the tests

from benchmarks.peer_judge import expects_fold
from benchmarks.peer_table import by_group, by_tool
from benchmarks.peer_tools import TOOLS
from benchmarks.peer_worker import Worker
from bnfuse.bench.environment import environment
from bnfuse.export.atomic import atomic_file
from tests.conformance.case import Case
from tests.conformance.collection import CASES, MODULES

RESULTS = Path(__file__).parent / "results" / "peers.json"
TITLES = {name: tool.title for name, tool in TOOLS.items()}


def groups() -> dict[str, str]:
    """Return the group of each case: the module of the collection it stands in."""
    return {
        case.name: module
        for module in MODULES
        for case in importlib.import_module(f"tests.conformance.{module}").CASES
    }


def save(rows: list[dict[str, Any]]) -> None:
    """Write what is known so far, a line for each case and tool."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    made = {
        "commit": commit.stdout.strip(),
        "environment": environment() | {"onnxscript": metadata.version("onnxscript")},
        "tools": {n: {"title": t.title, "counted": t.counted} for n, t in TOOLS.items()},
    }
    tools, cases = list(TOOLS), [case.name for case in CASES]
    rows.sort(key=lambda row: (tools.index(row["tool"]), cases.index(row["case"])))
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    head = json.dumps(made, indent=1).removesuffix("\n}")
    with atomic_file(RESULTS) as temporary:
        temporary.write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n')


def measure(tools: list[str], rows: list[dict[str, Any]], timeout: float) -> None:
    """Add the rows that are missing, one case after the other."""
    known = {(row["case"], row["tool"]) for row in rows}
    group = groups()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        for tool in tools:
            missing = [case for case in CASES if (case.name, tool) not in known]
            worker = Worker(tool, timeout)
            for case in progress.track(missing, description=TITLES[tool]):
                rows.append(row(tool, case, group[case.name], worker))
                save(rows)
            worker.stop()


def row(tool: str, case: Case, group: str, worker: Worker) -> dict[str, Any]:
    """Return what became of a case."""
    told = {"case": case.name, "group": group, "tool": tool, "expects_fold": expects_fold(case)}
    return told | worker.judged(case.name)


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(TOOLS)}.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for a case.")] = 120.0,
) -> None:
    """Measure what is missing, save after each case, print the tables."""
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    tools = only or list(TOOLS)
    if unknown := set(tools) - set(TOOLS):
        raise typer.BadParameter(f"there is no tool {', '.join(sorted(unknown))}")
    if again:
        rows = [row for row in rows if row["tool"] not in tools]
    measure(tools, rows, timeout)
    console = Console()
    console.print(by_group(rows, TITLES))
    print(by_tool(rows, TITLES))


if __name__ == "__main__":
    typer.run(main)
