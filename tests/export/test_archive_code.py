"""What would run as code in the description of a program."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bnfuse.export.archive_code import code_in, is_arithmetic, is_guard

DEFAULT = {"default_factory_module": "subprocess", "default_factory_name": "getoutput"}


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Add(Mul(Integer(24), Symbol('s49', integer=True)), FloorDiv(Symbol('s4'), Integer(2)))",
        "Mul(Integer(39), Max(Integer(1), TruncToInt(Mul(Float('1.7', precision=53), s4))))",
        "Pow(Integer(2), Rational(1, 2))",
        "Eq(s0, 4) & (s1 >= 2)",
        "3",
        "2*s0 + 1",
        "int_oo",
    ],
)
def test_sizes_that_are_arithmetic(text: str) -> None:
    assert is_arithmetic(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "Symbol(__import__('os').name)",
        "Integer('__import__(\"os\").getpid()')",
        "Add('__import__(\"os\").getpid()')",
        "Float('__import__(\"os\").getpid()')",
        "Symbol('a b')",
        "Symbol('s0', positive='x')",
        "Symbol('s0', **{'a': 1})",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "s0.__class__",
        "open('f')",
        "exec",
        "Mul(*s0)",
        "'text'",
        "(s0 := 3)",
        "s0; s1",
        "",
        "(" * 500,
        3,
        None,
    ],
)
def test_sizes_that_are_not(text: Any) -> None:
    assert not is_arithmetic(text)


def test_sympy_does_evaluate_a_size() -> None:
    """Which is why sizes are read first: ``torch.export.load`` gives them to ``sympify``."""
    sympy = pytest.importorskip("sympy")
    assert sympy.sympify("__import__('math').factorial(5)") == 120


@pytest.mark.parametrize(
    "text",
    [
        "L['x'].size()[0] != 1",
        "L['pair']['a'].size()[2] >= 4 and L['pair'][0].stride()[1] <= 99",
        "math.trunc(L['x'].size()[0] / 2) == 3",
        "Max(1, L['x'].size()[0]) < inf",
        "L['n'] == 3",
    ],
)
def test_guards_that_compare(text: str) -> None:
    assert is_guard(text)


@pytest.mark.parametrize(
    "text",
    [
        "L['x'].__class__.__mro__",
        "__import__('os').system('true') == 0",
        "L[__import__('os')].size()[0] == 1",
        "L['x'].tofile('f')",
        "L['x'].size(out=print)",
        "math.__loader__",
        "os.system",
        "torch._assert",
        "1), print(2",
    ],
)
def test_guards_that_do_more(text: str) -> None:
    assert not is_guard(text)


@pytest.mark.parametrize(
    ("description", "wanted"),
    [
        ({"nodes": [{"target": "torch.ops.aten.conv2d.default"}]}, ""),
        ({"nodes": [{"target": "_operator.add"}, {"target": "torch.sym_not"}]}, ""),
        ({"nodes": [{"target": "torch.os.system"}]}, "the operator torch.os.system"),
        ({"nodes": [{"target": "#x:y"}]}, "the operator #x:y"),
        ({"guards_code": ["1 == 1", "print(1)"]}, "the guard print(1)"),
        ({"a": [{"expr_str": "s0"}, {"b": {"expr_str": "quit()"}}]}, "the size quit()"),
        ({"in_spec": json.dumps([1, {"type": "builtins.tuple", "context": "null"}])}, ""),
        (
            {"out_spec": json.dumps([1, {"children_spec": [{"context": json.dumps(DEFAULT)}]}])},
            "a container of subprocess",
        ),
        (
            {
                "in_spec": json.dumps(
                    [1, {"context": json.dumps([{"__enum__": True, "fqn": "a:B"}])}]
                )
            },
            "a container of True",
        ),
    ],
)
def test_what_is_found_in_a_description(description: Any, wanted: str) -> None:
    assert code_in(description) == wanted
