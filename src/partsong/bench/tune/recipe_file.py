"""Writes a recipe as TOML, with its evidence in comments above it."""

import datetime
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import NODEFAULT
from msgspec.structs import FieldInfo, fields

from partsong.recipe import Recipe


def recipe_toml(recipe: Recipe, evidence: Sequence[str] = ()) -> str:
    """Return a recipe as TOML. Fields with their default value are left out. A recipe without layers says so.

    evidence: lines of text, which are written as comments
    """
    comments = [f"# {line}".rstrip() for each in evidence for line in (each.splitlines() or [""])]
    tables = _set(recipe)
    layers, aggregator = tables.pop("layers"), tables.pop("aggregator")
    lines = [*comments, *([""] if comments else []), *_lines(tables)]
    if not layers:
        lines.append("layers = []")
    for layer in layers:
        own = _set(layer)
        agents = own.pop("agents")
        lines += ["", "[[layers]]", *_lines(own), "agents = ["]
        lines += [f"    {_value(_set(agent))}," for agent in agents]
        lines.append("]")
    lines += ["", "[aggregator]", *_lines(_set(aggregator))]
    return "\n".join(lines) + "\n"


def _set(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a struct that are required or differ from their default."""
    return {
        each.name: getattr(struct, each.name)
        for each in fields(struct)
        if each.required or each.name == "model" or getattr(struct, each.name) != _default(each)
    }


def _default(field: FieldInfo) -> Any:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in table.items() if value is not None]


def _key(name: str) -> str:
    """Return the name of a field in TOML. The names of `extra` are those of a provider, and may have any character."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    """Return a value in TOML. A string in JSON is a basic string of TOML, except for the character DEL."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() | Decimal():
            text = format(value, "f") if isinstance(value, Decimal) else repr(value)
            return text if any(sign in text for sign in ".en") else f"{text}.0"
        case datetime.date():
            return value.isoformat()
        case Mapping():
            inside = (f"{_key(name)} = {_value(each)}" for name, each in value.items() if each is not None)
            return f"{{ {', '.join(inside)} }}"
        case list() | tuple():
            return f"[{', '.join(_value(each) for each in value)}]"
        case _:
            return msgspec.json.encode(str(value)).decode().replace("\x7f", "\\u007f")
