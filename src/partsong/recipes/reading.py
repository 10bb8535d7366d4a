"""Reads recipes from TOML, with the recipes that they include and their instruction files.

Errors name the file, the field and the allowed values.
"""

import datetime
import re
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from partsong import toml
from partsong.errors import RecipeError
from partsong.ids import fault, provider_of, shown
from partsong.recipe import Recipe


def read(path: Path) -> Recipe:
    """The recipe in the TOML file `path`.

    Raises `RecipeError`, with the file and the field, if a file cannot be read or a field is wrong.
    """
    tables = _including(path, ())
    return toml.convert(with_tables(tables), Recipe, str(path), RecipeError)


def tables_in(text: str) -> dict[str, Any]:
    """The fields of a recipe in the TOML text `text`, as plain values, with those of the recipe that it includes.

    The text may come from an untrusted client. It may include shipped recipes, and no other file is read. Raises
    `RecipeError` if the text names another file, and `tomllib.TOMLDecodeError` if the text is not TOML.
    """
    tables = tomllib.loads(text)
    _refuse_files(tables)
    other = tables.pop("include", None)
    if other is None:
        return with_tables(tables)
    if not isinstance(other, str) or not re.fullmatch(r"[\w-]+", other):
        raise RecipeError("include: must be the name of a shipped recipe: no other file is read for this recipe")
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        try:
            below = _including(locate(other, Path(), folder), ())
        except RecipeError as problem:
            raise RecipeError(f"include: {problem}") from None
    return with_tables(below | tables)


def _including(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    """The fields of the recipe in `path`, completed by the fields of the recipe that it includes, and so on.

    Every `instruction_file` is replaced by the text of the file, whose path counts from the recipe that names it.

    chain: resolved paths of the recipes that include `path`, outermost first, to find circles
    """
    here = path.resolve()
    if here in chain:
        circle = " → ".join(item.name for item in (*chain[chain.index(here) :], here))
        raise RecipeError(f"{path}: include: recipes include each other in a circle: {circle}")
    tables = toml.load(path, RecipeError)
    for place, table in _instructed(tables):
        _read_instruction(table, place, path)
    other = tables.pop("include", None)
    if other is None:
        return tables
    if not isinstance(other, str) or not other:
        raise RecipeError(f"{path}: include: must be the name of a recipe or a .toml file, as a string")
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        try:
            target = locate(other, path.parent, folder)
        except RecipeError as problem:
            raise RecipeError(f"{path}: include: {problem}") from None
        below = _including(target, (*chain, here))
    return below | tables


def locate(name: str, base: Path, folder: Path) -> Path:
    """The path of the recipe called `name`.

    base: folder from which the path counts, if `name` ends in `.toml` or has a slash
    folder: folder of the shipped recipes

    Raises `RecipeError` with the known names if no shipped recipe has this name. Whether a file exists is not checked.
    """
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return base / Path(name).expanduser()
    # The name is looked up among those of the files, so that no name of a caller becomes part of a path.
    known = {item.stem: item for item in sorted(folder.glob("*.toml"))}
    if name not in known:
        raise RecipeError(
            f'there is no recipe "{shown(name)}"; known: {", ".join(known)}{toml.closest(name, known)} (a file ends in'
            f" .toml{_single(name)})"
        )
    return known[name]


def _single(name: str) -> str:
    """How to ask the model that `name` seems to be; "" if `name` looks like no model's."""
    provider, colon, model = name.partition(":")
    if (meant := provider_of(name)) is not None:
        return f"; one model alone: --model {meant}:{name}"
    return f"; one model alone: --model {name}" if provider and colon and model and not fault(name, 100) else ""


def _instructed(tables: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every table that may have an instruction, with its place: the recipe, its layers, its agents, the aggregator."""
    yield "", tables
    layers = tables.get("layers")
    for index, layer in enumerate(layers if isinstance(layers, list) else ()):
        if isinstance(layer, dict):
            yield f"layers[{index}].", layer
            agents = layer.get("agents")
            for number, agent in enumerate(agents if isinstance(agents, list) else ()):
                if isinstance(agent, dict):
                    yield f"layers[{index}].agents[{number}].", agent
    for name in ("analyst", "aggregator"):
        if isinstance(agent := tables.get(name), dict):
            yield f"{name}.", agent


def _read_instruction(table: dict[str, Any], place: str, path: Path) -> None:
    """Replace `instruction_file` in a table by the text of the file.

    place: where the table stands in the recipe, such as `layers[0].`; "" for the recipe itself
    path: the recipe file, from whose folder the path of the instruction file counts
    """
    if "instruction_file" not in table:
        return
    if "instruction" in table:
        raise RecipeError(f"{path}: {place}instruction: give either it or instruction_file, not both")
    file = table.pop("instruction_file")
    if not isinstance(file, str):
        raise RecipeError(f"{path}: {place}instruction_file: must be the name of a text file, as a string")
    try:
        text = (path.parent / file).read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:  # ValueError: no UTF-8, or a null byte in the name
        raise RecipeError(f"{path}: {place}instruction_file: {path.parent / file} cannot be read: {problem}") from None
    # Editors put a newline at the end of a file, which is no part of the instruction.
    table["instruction"] = text.removesuffix("\n").removesuffix("\r")


def _refuse_files(tables: dict[str, Any], where: str = "") -> None:
    """Raise `RecipeError` if a table names an instruction file: the tables may come from an untrusted client."""
    for place, table in _instructed(tables):
        if "instruction_file" in table:
            place = f"{where}{place}instruction_file"
            raise RecipeError(f"{place}: no file is read for this recipe; write the instruction here")


def with_tables(tables: dict[str, Any]) -> dict[str, Any]:
    """The fields of a recipe, with every agent that is written as a bare model id replaced by a table.

    A `fallback` or `tools` that is a single name becomes a list. Values of a wrong type stay, so that later checks
    report them.
    """

    def written_out(agent: Any) -> Any:
        if isinstance(agent, str):
            return {"model": agent}
        if isinstance(agent, dict):
            single = {name: [agent[name]] for name in ("fallback", "tools") if isinstance(agent.get(name), str)}
            return agent | single
        return agent

    tables = dict(tables)
    for name in ("analyst", "aggregator"):
        if name in tables:
            tables[name] = written_out(tables[name])
    if isinstance(layers := tables.get("layers"), list):
        tables["layers"] = [
            layer | {"agents": [written_out(agent) for agent in layer["agents"]]}
            if isinstance(layer, dict) and isinstance(layer.get("agents"), list)
            else layer
            for layer in layers
        ]
    return tables


def overridden(recipe: Recipe, fields: dict[str, Any]) -> Recipe:
    """The recipe with some fields replaced. Raises `RecipeError` if a field is wrong, or if `name` is among them.

    fields: new values, by the name of the field, as plain values that TOML could hold
    """
    if "name" in fields:
        raise RecipeError(f"{recipe.name}: name: cannot be replaced")
    _refuse_files(fields, f"{recipe.name}: ")
    whole = msgspec.to_builtins(recipe, builtin_types=(datetime.date, Decimal)) | fields
    return toml.convert(with_tables(whole), Recipe, recipe.name, RecipeError)
