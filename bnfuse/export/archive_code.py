"""What in the description of an exported program would run as code when it is loaded.

``torch.export.load`` evaluates the sizes in ``expr_str`` with sympy, which is Python's ``eval``;
the module it returns executes ``guards_code``; operators are looked up by name; and containers may
name a module to import. Each is read here as text, and is fine only if it is arithmetic, or an
operator that PyTorch has registered.
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPERATOR = re.compile(
    r"torch\.ops\.\w+\.\w+(\.\w+)?|_operator\.[a-z]+_?|math\.[a-z0-9]+|torch\._?sym_\w+"
)
_NUMBER = re.compile(r"[-+0-9.eE]+")
_SYMBOL = re.compile(r"\w+")
_FUNCTIONS = frozenset((
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Mod", "Max", "Min", "Abs",
    "Piecewise", "ceiling", "floor", "And", "Or", "Not", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
    "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan",
    "ExprCondPair", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt",
    "FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv",
    "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt", "RoundToInt",
    "RoundDecimal", "ToFloat", "Identity",
))  # fmt: skip
_VALUES = frozenset(("true", "false", "oo", "int_oo", "inf", "True", "False"))
_METHODS = frozenset(("size", "stride", "storage_offset", "dim", "numel", "item"))
_ARITHMETIC = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Load),
)


def code_in(description: Any) -> str:
    """Return what would run as code in the parsed ``model.json`` of an archive, or an empty string.

    >>> code_in({"sizes": [{"as_expr": {"expr_str": "Mul(Integer(2), Symbol('s0'))"}}]})
    ''
    >>> code_in({"sizes": [{"as_expr": {"expr_str": "__import__('os').getpid()"}}]})
    "the size __import__('os').getpid()"
    """
    for key, value in _entries(description):
        if key == "expr_str" and not is_arithmetic(value):
            return f"the size {value}"
        if key == "guards_code" and not is_guard(value):
            return f"the guard {value}"
        if key == "target" and not _OPERATOR.fullmatch(str(value)):
            return f"the operator {value}"
        if key in ("in_spec", "out_spec") and (module := _imported(value)):
            return f"a container of {module}"
    return ""


def is_arithmetic(text: Any) -> bool:
    """Whether a text is arithmetic on numbers and symbols, as sympy writes it."""
    tree = _parsed(text)
    return tree is not None and _is_arithmetic(tree)


def is_guard(text: Any) -> bool:
    """Whether a text compares sizes of inputs and numbers, and does nothing else.

    >>> is_guard("L['x'].size()[0] != 1"), is_guard("L['x'].__class__")
    (True, False)
    """
    tree = _parsed(text)
    return tree is not None and _is_guard(tree)


def _parsed(text: Any) -> ast.AST | None:
    try:
        return ast.parse(text, mode="eval") if isinstance(text, str) else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float)
    if isinstance(node, ast.Name):
        return node.id in _VALUES or bool(re.fullmatch(r"[a-z]+\d+", node.id))
    if isinstance(node, ast.Call):
        return _is_function_call(node)
    return isinstance(node, _ARITHMETIC) and all(map(_is_arithmetic, ast.iter_child_nodes(node)))


def _is_function_call(node: ast.Call) -> bool:
    """Whether a function of arithmetic is called; texts are for symbols and decimal numbers only.

    Any other function of sympy's would evaluate a text.
    """
    if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
        return False
    if any(not isinstance(word.value, ast.Constant) or not word.arg for word in node.keywords):
        return False
    if any(isinstance(word.value.value, str) for word in node.keywords):  # type: ignore[attr-defined]  # checked above
        return False
    texts = {"Symbol": _SYMBOL, "Float": _NUMBER}.get(node.func.id)
    first = node.args[0] if len(node.args) == 1 else None
    if texts and isinstance(first, ast.Constant) and isinstance(first.value, str):
        return bool(texts.fullmatch(first.value))
    return all(map(_is_arithmetic, node.args))


def _is_guard(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float)
    if isinstance(node, ast.Name):
        return node.id in _VALUES
    if isinstance(node, ast.Subscript):
        return _is_input(node) or (_is_guard(node.value) and _is_guard(node.slice))
    if isinstance(node, ast.Call):
        function, arguments = node.func, all(map(_is_guard, node.args))
        if node.keywords or not arguments:
            return False
        if isinstance(function, ast.Name):
            return function.id in _FUNCTIONS
        if not isinstance(function, ast.Attribute):
            return False
        is_math = isinstance(function.value, ast.Name) and function.value.id == "math"
        return is_math or (function.attr in _METHODS and _is_input(function.value))
    return isinstance(node, _ARITHMETIC) and all(map(_is_guard, ast.iter_child_nodes(node)))


def _is_input(node: ast.AST) -> bool:
    """Whether an expression is an input, or a part of one: ``L['pair'][0]``."""
    while isinstance(node, ast.Subscript):
        if not isinstance(node.slice, ast.Constant):
            return False
        node = node.value
    return isinstance(node, ast.Name) and node.id == "L"


def _imported(text: Any) -> str:
    """Return the module that the description of a container names to import, or nothing."""
    for key, value in _entries(text):
        if key in ("default_factory_module", "fqn", "__enum__"):
            return str(value)
    return ""


def _entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key with each value below it, JSON in texts included."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _entries(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner, key)
    else:
        yield key, value
        if isinstance(value, str) and value[:1] in ("[", "{", '"'):
            try:
                inner = json.loads(value)
            except ValueError:
                return
            yield from _entries(inner, key)
