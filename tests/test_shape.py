"""The shape of functions: none has a body of more than 50 lines, and in the engine no closure stands in a closure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import partsong

SOURCE = Path(partsong.__file__).parent
LONGEST = 50  # lines of a body, without signature and docstring
# Functions that are still too long, by file. Who shortens one takes it out of here; the set must become empty.
STILL_TOO_LONG: set[str] = set()

Function = ast.FunctionDef | ast.AsyncFunctionDef
Closure = Function | ast.Lambda


def functions(tree: ast.AST, name: str = "", depth: int = 0) -> Iterator[tuple[str, int, Closure]]:
    """Every function with its dotted name, and in how many functions it stands. A method stands in none."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Lambda):
            yield f"{name}lambda", depth, child
            yield from functions(child, f"{name}lambda.", depth + 1)
        elif isinstance(child, Function):
            yield f"{name}{child.name}", depth, child
            yield from functions(child, f"{name}{child.name}.", depth + 1)
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{name}{child.name}.", depth)
        else:
            yield from functions(child, name, depth)


def lines_of(function: Closure) -> int:
    """The lines of the body, from its first statement to its last."""
    if isinstance(function, ast.Lambda):
        return 1
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and len(body) > 1:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def all_functions(folder: Path) -> Iterator[tuple[str, int, Closure]]:
    for file in sorted(folder.rglob("*.py")):
        path = file.relative_to(SOURCE).as_posix()
        for name, depth, function in functions(ast.parse(file.read_text(encoding="utf-8"))):
            yield f"{path}:{name}", depth, function


def test_no_functions_body_is_too_long() -> None:
    long = {name for name, _, function in all_functions(SOURCE) if lines_of(function) > LONGEST}
    assert long == STILL_TOO_LONG


def test_in_the_engine_no_closure_stands_in_a_closure() -> None:
    assert [name for name, depth, _ in all_functions(SOURCE / "engine") if depth > 1] == []
