"""The index of nodes by path."""

from __future__ import annotations

from torch import fx

from bnfuse.graph.index import PathIndex


def graph_of() -> tuple[fx.Graph, dict[str, fx.Node]]:
    graph = fx.Graph()
    x = graph.placeholder("x")
    nodes = {"one": graph.call_module("a.b", (x,)), "read": graph.get_attr("a.b")}
    nodes["other"] = graph.call_module("a.b", (nodes["one"],))
    nodes["else"] = graph.call_module("a.c", (nodes["other"],))
    nodes["method"] = graph.call_method("relu", (nodes["else"],))
    graph.output(nodes["method"])
    return graph, nodes


def test_nodes_are_found_by_operation_and_path_in_order() -> None:
    graph, nodes = graph_of()
    index = PathIndex(graph)
    assert index.at("call_module", "a.b") == [nodes["one"], nodes["other"]]
    assert index.at("call_module", "a.c") == [nodes["else"]]
    assert index.at("get_attr", "a.b") == [nodes["read"]]


def test_what_is_not_there_is_not_found() -> None:
    index = PathIndex(graph_of()[0])
    assert index.at("call_module", "a") == []
    assert index.at("get_attr", "a.c") == []
    assert index.at("call_method", "relu") == []


def test_erased_nodes_are_forgotten() -> None:
    graph, nodes = graph_of()
    index = PathIndex(graph)
    assert index.at("get_attr", "a.b") == [nodes["read"]]
    graph.erase_node(nodes["read"])
    assert index.at("get_attr", "a.b") == []


def test_nodes_that_call_something_else_now_are_forgotten() -> None:
    graph, nodes = graph_of()
    index = PathIndex(graph)
    assert len(index.at("call_module", "a.b")) == 2
    nodes["one"].target = "a.b_2"
    assert index.at("call_module", "a.b") == [nodes["other"]]


def test_whoever_puts_in_a_node_adds_it() -> None:
    graph, nodes = graph_of()
    index = PathIndex(graph)
    assert index.at("get_attr", "w") == []
    with graph.inserting_before(nodes["one"]):
        reader = graph.get_attr("w")
    index.at("get_attr", "w").append(reader)
    assert index.at("get_attr", "w") == [reader]


def test_it_is_made_when_it_is_first_asked() -> None:
    graph, nodes = graph_of()
    index = PathIndex(graph)
    graph.erase_node(nodes["read"])
    nodes["else"].target = "late"
    assert index.at("get_attr", "a.b") == []
    assert index.at("call_module", "late") == [nodes["else"]]
