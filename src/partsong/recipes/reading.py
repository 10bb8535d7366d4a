"""Reads recipes from TOML, with the recipes that they include and their instruction files.

Errors name the file, the field and the allowed values.
"""

import datetime
import re
import tomllib
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from partsong import toml
from partsong.errors import RecipeError
from partsong.ids import shown
from partsong.recipe import Recipe


def read(path: Path) -> Recipe:
    """The recipe in the TOML file `path`.

    Raises `RecipeError`, with the file and the field, if a file cannot be read or a field is wrong.
    """
    tables = _including(path, ())
    where = str(path)
    if "instruction" in tables and "instruction_file" in tables:
        raise RecipeError(f"{where}: instruction: give either it or instruction_file, not both")
    if (file := tables.pop("instruction_file", None)) is not None:
        tables["instruction"] = _instruction(file, path)
    if tables.get("layers") == []:
        raise RecipeError(f"{where}: layers: is empty, but a recipe needs at least one [[layers]] table with agents")
    return toml.convert(with_tables(tables), Recipe, where, RecipeError)


def tables_in(text: str) -> dict[str, Any]:
    """The fields of a recipe in the TOML text `text`, as plain values, with those of the recipe that it includes.

    The text may come from an untrusted client. It may include shipped recipes, and no other file is read. Raises
    `RecipeError` if the text names another file, and `tomllib.TOMLDecodeError` if the text is not TOML.
    """
    tables = tomllib.loads(text)
    if "instruction_file" in tables:
        raise RecipeError("instruction_file: no file is read for this recipe; write the instruction here")
    if isinstance(analyst := tables.get("analyst"), dict) and "instruction_file" in analyst:
        raise RecipeError("analyst.instruction_file: no file is read for this recipe; write the instruction here")
    other = tables.pop("include", None)
    if other is None:
        return with_tables(tables)
    if not isinstance(other, str) or not re.fullmatch(r"[\w-]+", other):
        raise RecipeError("include: must be the name of a shipped recipe: no other file is read for this recipe")
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        try:
            target = locate(other, Path(), folder)
            below = _including(target, ())
        except RecipeError as problem:
            raise RecipeError(f"include: {problem}") from None
        if "instruction_file" in below:
            below["instruction"] = _instruction(below.pop("instruction_file"), target)
    return with_tables(below | tables)


def _including(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    """The fields of the recipe in `path`, completed by the fields of the recipe that it includes, and so on.

    chain: resolved paths of the recipes that include `path`, outermost first, to find circles
    """
    here = path.resolve()
    if here in chain:
        circle = " → ".join(item.name for item in (*chain[chain.index(here) :], here))
        raise RecipeError(f"{path}: include: recipes include each other in a circle: {circle}")
    tables = toml.load(path, RecipeError)
    _read_analyst(tables, path)
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
        if "instruction_file" in below:
            below["instruction"] = _instruction(below.pop("instruction_file"), target)
    if "instruction" in tables or "instruction_file" in tables:
        below.pop("instruction", None)
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
            " .toml)"
        )
    return known[name]


def _read_analyst(tables: dict[str, Any], path: Path) -> None:
    """Put the text of the analyst's instruction file in the place of its name. The recipe is in the file `path`."""
    analyst = tables.get("analyst")
    if isinstance(analyst, dict) and "instruction_file" in analyst:
        if "instruction" in analyst:
            raise RecipeError(f"{path}: analyst: give either instruction or instruction_file, not both")
        analyst["instruction"] = _instruction(analyst.pop("instruction_file"), path)


def _instruction(file: Any, path: Path) -> str:
    """The text of the instruction file `file`, whose path counts from the folder of the recipe file `path`."""
    if not isinstance(file, str):
        raise RecipeError(f"{path}: instruction_file: must be the name of a text file, as a string")
    try:
        text = (path.parent / file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise RecipeError(f"{path}: instruction_file: {path.parent / file} cannot be read: {problem}") from None
    # Editors put a newline at the end of a file, which is no part of the instruction.
    return text.removesuffix("\n").removesuffix("\r")


def with_tables(tables: dict[str, Any]) -> dict[str, Any]:
    """The fields of a recipe, with every agent that is written as a bare model id replaced by a table.

    A `fallback` that is a single id becomes a list. Values of a wrong type stay, so that later checks report them.
    """

    def written_out(agent: Any) -> Any:
        if isinstance(agent, str):
            return {"model": agent}
        if isinstance(agent, dict) and isinstance(agent.get("fallback"), str):
            return agent | {"fallback": [agent["fallback"]]}
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
    whole = msgspec.to_builtins(recipe, builtin_types=(datetime.date, Decimal)) | fields
    return toml.convert(with_tables(whole), Recipe, recipe.name, RecipeError)
