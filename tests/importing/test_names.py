"""Names of files as names of layers and arguments."""

from __future__ import annotations

import pytest
from torch import fx, nn

from bnfuse.importing.names import Paths, identifier, path

HOSTILE = (
    'x"); import os; os.system("true"); ("',
    "a\nb",
    "def",
    "self",
    "0",
    "",
    "größe",
    "__class__",
    "training",
    "graph",
    "add_module",
    "_parameters",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_any_text_becomes_part_of_source_that_runs(name: str) -> None:
    part = identifier(name)
    root, graph = nn.Module(), fx.Graph()
    root.add_module(part, nn.Identity())
    argument = graph.placeholder(f"x{part}")
    graph.output(graph.call_module(part, (argument,)))
    module = fx.GraphModule(root, graph)
    assert module(3) == 3
    assert part.replace("_", "a").isalnum()
    assert part.isascii()


def test_paths_are_split_where_the_name_is() -> None:
    assert path("/a/b.c/Conv") == "a.b.c.Conv"
    assert path("...") == "_"
    assert path("a/class/0") == "a.class_.0"


def test_no_path_is_given_twice_or_inside_another() -> None:
    taken = Paths()
    assert [taken.unused(name) for name in ("a.b", "a.b", "a", "a.b.c", "a_1")] == [
        "a.b",
        "a.b_1",
        "a_1",
        "a_b_c",
        "a_1_1",
    ]
