"""Finds the faults in the text of a recipe: each with its field and the line of the field.

The TOML parser of the standard library tells no line numbers. So `line_of` parses ever shorter beginnings of the text:
a field begins in the first line with which the field appears.
"""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from partsong import toml
from partsong.errors import RecipeError
from partsong.recipe import Agent, Aggregator, Layer, Recipe
from partsong.recipes.reading import tables_in

LONGEST = 64 * 1024  # characters: a hundred times the longest shipped recipe
MOST_TRIES = 400  # attempts to parse a beginning of the text, for one line
ENDS = ("", "]", "]}", "]}]", '"""', "'''")  # possible ends of a value that spans several lines
FIELDS = {field.name for kind in (Aggregator, Layer, Recipe) for field in msgspec.structs.fields(kind)}


class Fault(Struct, frozen=True):
    """One fault in a text.

    field: path of the field with dots; empty for a fault of the whole text
    line: line of the field, counted from 1; `None` if it is unknown
    """

    field: str
    line: int | None
    message: str


def read_recipe(text: str) -> tuple[Recipe | None, list[Fault]]:
    """The recipe in a TOML text and no faults, or `None` and the faults (at least one).

    The text may include shipped recipes, and no other file is read.
    """
    if len(text) > LONGEST:
        return None, [Fault("", None, f"the text has {len(text):,} characters, but a recipe has at most {LONGEST:,}")]
    try:
        tables = tables_in(text)
    except RecipeError as problem:
        field, _, message = str(problem).partition(": ")
        return None, [Fault(field, line_of(text, field), message)]
    except tomllib.TOMLDecodeError as problem:
        found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", str(problem))
        line = int(found[1]) if found and found[1] else max(1, len(text.splitlines()))
        return None, [Fault("", line, f"this is not TOML: {problem}")]
    except (ValueError, RecursionError) as problem:  # a number with thousands of digits, or lists nested too deeply
        return None, [Fault("", None, f"this cannot be read: {problem}")]
    if tables.get("layers") == []:
        return None, [Fault("layers", line_of(text, "layers"), "is empty, but a recipe needs at least one layer")]
    faults = list(agents_faults(tables))
    if not faults:
        recipe, faults = converted(tables)
        if recipe is not None:
            return recipe, []
    return None, [Fault(field, line_of(text, field), message) for field, message in faults]


def converted(tables: dict[str, Any]) -> tuple[Recipe | None, list[tuple[str, str]]]:
    """The recipe and no faults, or `None` and the first fault, as the path of its field and a message."""
    try:
        return msgspec.convert(tables, Recipe), []
    except msgspec.ValidationError as problem:
        return None, [placed(problem, Recipe)]


def agents_faults(tables: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The first fault of each agent, as the path of its field and a message, so that the page can show all at once."""
    agents: list[tuple[str, Any, type]] = []
    layers = tables.get("layers")
    for index, layer in enumerate(layers if isinstance(layers, list) else []):
        those = layer.get("agents") if isinstance(layer, dict) else None
        for seat, agent in enumerate(those if isinstance(those, list) else []):
            agents.append((f"layers.{index}.agents.{seat}", agent, Agent))
    if "aggregator" in tables:
        agents.append(("aggregator", tables["aggregator"], Aggregator))
    for where, agent, kind in agents:
        try:
            msgspec.convert(agent, kind)
        except msgspec.ValidationError as problem:
            field, message = placed(problem, kind)
            yield f"{where}.{field}".rstrip("."), message


def placed(problem: msgspec.ValidationError, kind: type) -> tuple[str, str]:
    """The path of the field with dots, and the message of the problem."""
    place, message = toml.explain(problem, kind)
    field = re.sub(r"\[(\d+)\]", r".\1", place).lstrip(".")
    # A message of a struct's own check begins with the name of the field.
    first = re.match(r"([a-z_]+)(\.[a-z_]+)? (?=is |names |has )", message)
    if first and first[1] in FIELDS and field.rpartition(".")[2] != first[1]:
        field, message = f"{field}.{first[0].strip()}".lstrip("."), message.removeprefix(first[0])
    return field, message


def line_of(text: str, field: str) -> int | None:
    """The line in which the field begins. For a missing field: the line of the nearest table around it."""
    readings = _Readings(text.splitlines())
    steps = field.split(".") if field else []
    while steps and not readings.has(len(readings.lines), steps):
        steps.pop()
    return readings.first(steps) if steps else None


class _Readings:
    """A text, parsed up to any of its lines, `MOST_TRIES` times at most."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.tries = 0

    def has(self, number: int, steps: list[str], ends: tuple[str, ...] = ("",)) -> bool | None:
        """Whether the first `number` lines hold the field, with any of the `ends`; `None` if they cannot be parsed."""
        found = None
        for end in ends:
            self.tries += 1
            try:
                found = there(tomllib.loads("\n".join(self.lines[:number]) + end), steps)
            except (ValueError, RecursionError):
                continue
            if found:
                return True
        return found

    def first(self, steps: list[str]) -> int:
        """The line in which an existing field begins."""
        before, upto, last = 0, len(self.lines), len(self.lines)
        while before + 1 < upto and self.tries < MOST_TRIES:
            number = middle = (before + upto) // 2
            while number < upto and (found := self.has(number, steps)) is None and self.tries < MOST_TRIES:
                number += 1
            if number >= upto or found is None:
                upto = middle  # no later line can be parsed, except the end of the statement itself
            elif found:
                upto = last = number
            else:
                before = number
        # The statement begins after the last lines without the field. Of its lines, one has the field.
        for number in range(before + 1, last):
            if self.tries >= MOST_TRIES:
                break
            if self.has(number, steps, ENDS):
                return number
        return last if before + 1 == last or self.tries < MOST_TRIES else before + 1


def there(tables: Any, steps: list[str]) -> bool:
    """Whether the tables hold the field."""
    for step in steps:
        if isinstance(tables, list):
            if not step.isdecimal() or int(step) >= len(tables):
                return False
            tables = tables[int(step)]
        elif isinstance(tables, dict) and step in tables:
            tables = tables[step]
        else:  # the id of a model is short for a table with the field `model`
            return isinstance(tables, str) and step == "model"
    return True
