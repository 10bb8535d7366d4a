"""Finds the faults in the text of a recipe: each with its field and the line of the field.

The text comes from a caller, so its size and its nesting are checked before it is parsed. It is parsed once.
"""

import re
import tomllib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct, structs

from partsong import toml
from partsong.bounds import Bounds
from partsong.errors import RecipeError
from partsong.recipe import Agent, Aggregator, Layer, Recipe
from partsong.recipes.bounding import check_text, foreign, too_large
from partsong.recipes.reading import tables_in
from partsong.server.pages.lines import Path, lines_of

MOST = 50  # faults that are told at once
LONGEST = 1000  # characters of a message, which may repeat a part of the text
FIELDS = {field.name for kind in (Aggregator, Layer, Recipe) for field in msgspec.structs.fields(kind)}


class Fault(Struct, frozen=True):
    """One fault in a text.

    field: path of the field with dots; empty for a fault of the whole text
    line: line of the field, counted from 1; `None` if it is unknown
    """

    field: str
    line: int | None
    message: str


def read_recipe(text: str, bounds: Bounds = Bounds()) -> tuple[Recipe | None, list[Fault]]:  # noqa: B008
    """The recipe in a TOML text and no faults, or `None` and the faults (at least one, and at most 50).

    The text may include shipped recipes, and no other file is read.
    """
    try:
        check_text(text, bounds)
    except RecipeError as problem:
        return None, [Fault("", None, str(problem))]
    recipe, faults = _read(text, bounds)
    return recipe, [structs.replace(fault, message=_shortened(fault.message)) for fault in faults]


def _shortened(message: str) -> str:
    return message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} […] {message[-LONGEST // 2 :]}"


def _read(text: str, bounds: Bounds) -> tuple[Recipe | None, list[Fault]]:
    """The recipe in a text that is not too long, or its faults."""
    try:
        tables = tables_in(text)
    except RecipeError as problem:
        field, _, message = str(problem).partition(": ")
        return None, located(text, [(field, message)])
    except tomllib.TOMLDecodeError as problem:
        found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", str(problem))
        line = int(found[1]) if found and found[1] else max(1, len(text.splitlines()))
        return None, [Fault("", line, f"this is not TOML: {problem}")]
    except (ValueError, RecursionError) as problem:  # a number with thousands of digits, or lists nested too deeply
        return None, [Fault("", None, f"this cannot be read: {problem}")]
    faults = [*islice(agents_faults(tables), MOST)] or [*size_faults(tables, bounds)]
    if not faults:
        recipe, faults = converted(tables)
        if recipe is not None and (wrong := too_large(recipe, bounds) or foreign(recipe)):
            recipe, faults = None, [wrong]
        if recipe is not None:
            return recipe, []
    return None, located(text, faults)


def size_faults(tables: dict[str, Any], bounds: Bounds) -> Iterator[tuple[str, str]]:
    """The fault of a list of layers or agents that is too long for a recipe to be made of it."""
    layers = tables.get("layers")
    if not isinstance(layers, list):
        return
    if len(layers) > bounds.recipe_layers:
        yield "layers", f"there are {len(layers):,}, but at most {bounds.recipe_layers:,} are taken"
    agents = [each.get("agents") for each in layers if isinstance(each, dict)]
    number = sum(len(each) for each in agents if isinstance(each, list))
    if number > bounds.recipe_seats:
        yield "layers", f"they have {number:,} seats together, but at most {bounds.recipe_seats:,} are taken"


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


def located(text: str, faults: list[tuple[str, str]]) -> list[Fault]:
    """The faults with the line in which the field of each begins.

    For a missing field, this is the line of the nearest table around it.
    """
    lines = lines_of(text)
    return [Fault(field, line_of(lines, field), message) for field, message in faults]


def line_of(lines: dict[Path, int], field: str) -> int | None:
    """The line of a field, whose path is written with dots; `None` if nothing of its path stands in the text."""
    path: Path = tuple(int(step) if step.isdecimal() else step for step in field.split("."))
    return next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), None)
