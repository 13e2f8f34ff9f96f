"""Make a failing program smaller while it fails in the same way."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from tests.fuzzing.checking import check
from tests.fuzzing.program import NAMES, Program

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_TRIALS = 2500


def shrunk(program: Program) -> Program:
    """Return a smaller program with a failure of the same kind; a program that passes as it is."""
    kinds = check(program).kinds
    if not kinds:
        return program
    trials = 0
    while True:
        for candidate in smaller(program):
            trials += 1
            if runs(candidate) and check(candidate).kinds & kinds:
                program = candidate
                break
            if trials > MOST_TRIALS:
                return program
        else:
            return program


def runs(program: Program) -> bool:
    """Whether the model can be called at all."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program.build()(*program.example_inputs())
    except Exception:
        return False
    return True


def smaller(program: Program) -> Iterator[Program]:
    """Give programs that lack something of the program, the largest part first."""
    for candidate in (*with_other_results(program), *without_steps(program)):
        yield without_unused(candidate)
    yield from with_plainer_calls(program)
    if program.dtype != "float64":
        yield replace(program, dtype="float64")
    if program.example:
        yield replace(program, example=False)
    if program.ties:
        yield replace(program, ties=program.ties[1:])
    if len({shape[0] for shape in program.inputs} | {1}) > 1:
        yield replace(program, inputs=tuple((1, *shape[1:]) for shape in program.inputs))


def with_other_results(program: Program) -> list[Program]:
    """Return programs that return one value, or end earlier."""
    found = []
    names = list(dict.fromkeys(re.findall(r"\b[vx]\d+\b", program.result)))
    if len(names) > 1 or program.result not in names:
        found += [replace(program, result=name) for name in names]
    for end in range(1, len(program.steps)):
        written = program.steps[end - 1][1].split(" = ")[0]
        if re.fullmatch(r"v\d+", written):
            found.append(replace(program, steps=program.steps[:end], result=written))
    return found


def without_steps(program: Program) -> Iterator[Program]:
    """Give programs without one step, whose value is replaced by one it reads."""
    for index in reversed(range(len(program.steps))):
        text = program.steps[index][1]
        rest = (*program.steps[:index], *program.steps[index + 1 :])
        name, _, expression = text.partition(" = ")
        if not re.fullmatch(r"v\d+", name):
            yield replace(program, steps=rest)
            continue
        earlier = [f"x{number}" for number in range(len(program.inputs))]
        for other in dict.fromkeys((*re.findall(r"\b[vx]\d+\b", expression), *earlier)):
            renamed = tuple((op, re.sub(rf"\b{name}\b", other, line)) for op, line in rest)
            result = re.sub(rf"\b{name}\b", other, program.result)
            yield replace(program, steps=renamed, result=result)


def without_unused(program: Program) -> Program:
    """Return the program without the layers that nothing reads, and without unread inputs."""
    read = " ".join(text for _, text in program.steps)
    layers = tuple(pair for pair in program.layers if re.search(rf"self\.{pair[0]}\b", read))
    names = {name for name, _ in layers}
    ties = tuple(pair for pair in program.ties if set(pair) <= names)
    inputs = program.inputs
    while len(inputs) > 1 and not re.search(rf"\bx{len(inputs) - 1}\b", read + program.result):
        inputs = inputs[:-1]
    return replace(program, layers=layers, ties=ties, inputs=inputs)


def with_plainer_calls(program: Program) -> Iterator[Program]:
    """Give programs with a keyword left out, one at a time, where a layer is made."""
    for index, (name, expression) in enumerate(program.layers):
        tree = ast.parse(expression, mode="eval")
        for number in range(len(tree.body.keywords) if isinstance(tree.body, ast.Call) else 0):
            copy: Any = ast.parse(expression, mode="eval")
            del copy.body.keywords[number]
            layers = list(program.layers)
            layers[index] = (name, ast.unparse(copy))
            if can_be_made(layers[index][1]):
                yield replace(program, layers=tuple(layers))


def can_be_made(expression: str) -> bool:
    """Whether a layer can be made of an expression."""
    try:
        eval(expression, dict(NAMES))
    except Exception:
        return False
    return True


def as_test(program: Program) -> str:
    """Return a failing program as a case to be added to the regressions."""
    lines = [f"# {line}" for line in str(program).splitlines()]
    return "\n".join([*lines, program.as_json()])
