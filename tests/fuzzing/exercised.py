"""What a program exercises, read from its text: every operator, function, method and layer."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzzing.program import Program

_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.MatMult: "@"}


def exercised(program: Program) -> Counter[str]:
    """Return what a program exercises, a layer once for each call, the rest as often as written."""
    layers = dict(program.layers)
    found: Counter[str] = Counter()
    called: Counter[str] = Counter()
    for _, line in program.steps:
        for node in ast.walk(ast.parse(line)):
            found.update(_of_node(node, layers))
            called.update([name] if (name := _layer(node)) else [])
    for name, times in called.items():
        is_norm = "Norm" in layers[name]
        found["norm called again" if is_norm else "layer called again"] += times - 1
    found["weight shared by two layers"] += len(program.ties)
    found.update([program.dtype])
    return +found


def _of_node(node: ast.AST, layers: dict[str, str]) -> Iterator[str]:
    """Give what a node of a step's syntax stands for."""
    if isinstance(node, ast.Call):
        yield from _of_call(node, layers)
    elif isinstance(node, ast.BinOp):
        yield f"v {_SIGNS[type(node.op)]} {_operand(node)}"
    elif isinstance(node, ast.UnaryOp) and _has_value(node.operand):
        yield "-v"
    elif isinstance(node, ast.AugAssign):
        target = "v[..]" if isinstance(node.target, ast.Subscript) else "v"
        yield f"{target} {_SIGNS[type(node.op)]}= {'v' if _has_value(node.value) else 'c'}"
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        yield "v[..] = c"
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield from _of_index(node)


def _of_call(node: ast.Call, layers: dict[str, str]) -> Iterator[str]:
    """Give the function, the method or the classes of the layer that is called."""
    text = ast.unparse(node)
    suffix = ", in place" if re.search(r"inplace=True|, True\)$", text) else ""
    if name := _layer(node):
        yield from _of_layer(layers[name])
    elif isinstance(node.func, ast.Attribute):
        owner = ast.unparse(node.func.value)
        known = suffix if owner == "F" and "relu" in node.func.attr else ""
        yield f"{owner if owner in ('F', 'torch') else ''}.{node.func.attr}{known}"


def _of_layer(expression: str) -> Iterator[str]:
    """Give the classes in the expression that makes a layer."""
    for node in ast.walk(ast.parse(expression)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_in_place = any(option.arg == "inplace" for option in node.keywords)
            yield f"{ast.unparse(node.func)}" + (", in place" if is_in_place else "")


def _of_index(node: ast.Subscript) -> Iterator[str]:
    """Give how a value is indexed; parts of tuples and of shapes are counted by who makes them."""
    if not isinstance(node.value, ast.Name):
        return
    if isinstance(node.slice, ast.Constant):
        yield "piece"
        return
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    values = [part.value for part in parts if isinstance(part, ast.Constant)]
    if None in values:
        yield "v[None]"
    elif any(isinstance(part, ast.List) for part in parts):
        yield "v[list]"
    else:
        yield "v[index]" if any(isinstance(value, int) for value in values) else "v[slice]"


def _layer(node: ast.AST) -> str:
    """Return the name of the layer that a node calls, or nothing."""
    func = node.func if isinstance(node, ast.Call) else None
    is_layer = isinstance(func, ast.Attribute) and ast.unparse(func.value) == "self"
    return func.attr if isinstance(func, ast.Attribute) and is_layer else ""


def _operand(node: ast.BinOp) -> str:
    return "v" if _has_value(node.left) and _has_value(node.right) else "c"


def _has_value(node: ast.AST) -> bool:
    """Whether a value of the forward is read inside."""
    return bool(re.search(r"\b[vx]\d+\b", ast.unparse(node)))
