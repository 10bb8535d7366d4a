"""The bounds: the documentation lists each one with its default, and no bound is without a limit."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import partsong
from partsong.bounds import Bounds
from partsong.configuration import DocumentLimits, Serving

PAGE = Path(__file__).parent.parent / "docs" / "bounds.md"


def test_the_documentation_lists_every_bound_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.,]+) \|", PAGE.read_text(), re.MULTILINE)
    documented = {name: float(default.replace(",", "")) for name, default in rows}
    assert documented == {name: float(getattr(Bounds(), name)) for name in Bounds.__struct_fields__}


@pytest.mark.parametrize("name", Bounds.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_bound_without_a_limit_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}, but must be a number above 0"):
        msgspec.structs.replace(Bounds(), **{name: value})


SOURCE = Path(partsong.__file__).parent
# What these rooms take comes from the operator, or has bounds in a table of its own.
OPERATORS = ("bench", "cli", "weights", "money", "middleware")
BOUND = re.compile(r"(LONGEST|LARGEST|MOST|DEEPEST)(_|$)")


def constants() -> Iterator[tuple[str, float]]:
    """The name of each constant that is called a bound, with its module, and its value."""
    for file in SOURCE.rglob("*.py"):
        place = file.relative_to(SOURCE).with_suffix("").parts
        if place[0] in OPERATORS:
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if BOUND.match(name):
                    value = getattr(importlib.import_module(".".join(("partsong", *place))), name)
                    yield f"{'.'.join(place)}.{name}", float(value)


def test_the_documentation_lists_every_constant_that_is_called_a_bound() -> None:
    rows = re.findall(r"^\| `([\w.]+\.[A-Z_]+)` \| (\S+) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: float(value.replace(",", "")) for name, value, _ in rows} == dict(constants())
    assert all(meaning for _, _, meaning in rows)


@pytest.mark.parametrize(("table", "kind"), [("server", Serving), ("documents", DocumentLimits)])
def test_the_bounds_of_other_tables_are_fields_of_these_tables(
    table: str, kind: type[Serving | DocumentLimits]
) -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith(f"| `[{table}]` |"))
    named = set(re.findall(r"`(\w+)`", row))
    assert named <= set(kind.__struct_fields__)
    if kind is DocumentLimits:
        assert named == set(kind.__struct_fields__)
