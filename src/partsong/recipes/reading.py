"""Recipes read from TOML, with the recipes that they include and the files of their instructions.

Errors name the file, the field, and what would be right.
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
from partsong.recipe import Recipe


def read(path: Path) -> Recipe:
    """The recipe in a TOML file. Raises `RecipeError`, naming the file and the field."""
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
    """The tables of a recipe that stands in no file: it may include shipped recipes, and nothing else of the disk.

    Raises `RecipeError`, and what `tomllib` raises.
    """
    tables = tomllib.loads(text)
    if "instruction_file" in tables:
        raise RecipeError("instruction_file: no file is read for this recipe; write the instruction here")
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
    """The file's tables over those of the recipe that it includes, and so on down."""
    here = path.resolve()
    if here in chain:
        circle = " → ".join(item.name for item in (*chain[chain.index(here) :], here))
        raise RecipeError(f"{path}: include: recipes include each other in a circle: {circle}")
    tables = toml.load(path, RecipeError)
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
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return base / Path(name).expanduser()
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = sorted(item.stem for item in folder.glob("*.toml"))
        raise RecipeError(
            f'there is no recipe "{name}"; known: {", ".join(known)}{toml.closest(name, known)} (a file ends in .toml)'
        )
    return path


def _instruction(file: Any, path: Path) -> str:
    if not isinstance(file, str):
        raise RecipeError(f"{path}: instruction_file: must be the name of a text file, as a string")
    try:
        text = (path.parent / file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise RecipeError(f"{path}: instruction_file: {path.parent / file} cannot be read: {problem}") from None
    # The newline that editors put at a file's end is not part of what the model is told.
    return text.removesuffix("\n").removesuffix("\r")


def with_tables(tables: dict[str, Any]) -> dict[str, Any]:
    """The same with each bare model id written out as the table that it stands for."""

    def written_out(agent: Any) -> Any:
        if isinstance(agent, str):
            return {"model": agent}
        if isinstance(agent, dict) and isinstance(agent.get("fallback"), str):
            return agent | {"fallback": [agent["fallback"]]}
        return agent

    tables = dict(tables)
    if "aggregator" in tables:
        tables["aggregator"] = written_out(tables["aggregator"])
    if isinstance(layers := tables.get("layers"), list):
        tables["layers"] = [
            layer | {"agents": [written_out(agent) for agent in layer["agents"]]}
            if isinstance(layer, dict) and isinstance(layer.get("agents"), list)
            else layer
            for layer in layers
        ]
    return tables


def overridden(recipe: Recipe, fields: dict[str, Any]) -> Recipe:
    """The recipe with these fields, written as in TOML, in place of its own. Raises `RecipeError`."""
    if "name" in fields:
        raise RecipeError(f"{recipe.name}: name: cannot be replaced")
    whole = msgspec.to_builtins(recipe, builtin_types=(datetime.date, Decimal)) | fields
    return toml.convert(with_tables(whole), Recipe, recipe.name, RecipeError)
