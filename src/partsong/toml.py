"""Reads TOML that people wrote into structs. An error names the file, the wrong field and the allowed values."""

import difflib
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from partsong.errors import InputError

T = TypeVar("T")


def load(path: Path, error: type[InputError]) -> dict[str, Any]:
    """The top-level table of a TOML file, as a dict. Raises `error` if the file cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: there is no such file") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path}: is not UTF-8 text (byte {problem.start})") from None
    except tomllib.TOMLDecodeError as problem:
        raise error(f"{path}: is not valid TOML: {problem}") from None


def convert(tables: Any, kind: type[T], where: str, error: type[InputError], prefix: str = "") -> T:
    """Convert plain values that were read from TOML into a value of the type `kind`.

    where: name of the file, for error messages
    error: class of the exception to raise if the values do not fit `kind`
    prefix: path of `tables` in the file, such as `server`; "" (default) if `tables` is the whole file

    The message of the exception has the form `where: field: what is wrong, and the allowed values`.
    """
    try:
        return msgspec.convert(tables, kind)
    except msgspec.ValidationError as problem:
        place, reason = explain(problem, kind, prefix)
        raise error(f"{where}: {place}: {reason}" if place else f"{where}: {reason}") from None


def closest(word: str, known: Iterable[str]) -> str:
    """The text `; did you mean "…"?` with the known word most similar to `word`; "" if no known word is similar."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def explain(problem: msgspec.ValidationError, kind: Any, prefix: str = "") -> tuple[str, str]:
    """The path of the wrong field ("" for the whole value), and a text with the mistake and the allowed values.

    problem: the error of converting plain values to the type `kind`
    prefix: path of these values in the file; "" (default) if they are the whole file
    """
    reason, at, path = str(problem).rpartition(" - at `$")
    reason, path = (reason, path.rstrip("`")) if at else (path, "")
    place = (prefix + path).lstrip(".")
    if unknown := re.match(r"Object contains unknown field `(.+)`", reason):
        place = f"{place}.{unknown[1]}" if place else unknown[1]
        known = [field.encode_name for field in _struct_in(_type_at(kind, path)).fields]
        reason = f"there is no such field; known here: {', '.join(known)}{closest(unknown[1], known)}"
    elif missing := re.match(r"Object missing required field `(.+)`", reason):
        place = f"{place}.{missing[1]}" if place else missing[1]
        reason = "is missing"
    elif wrong := re.match(r"Invalid enum value '(.*)'", reason):
        choices = _choices(_type_at(kind, path))
        reason = f'is "{wrong[1]}", but must be one of: {", ".join(choices)}{closest(wrong[1], choices)}'
    else:
        reason = reason[0].lower() + reason[1:]
    return place, reason


def _type_at(kind: Any, path: str) -> Any:
    """msgspec's description of the type at a path such as `.layers[0].agents[1]` below the type `kind`."""
    info: Any = msgspec.inspect.type_info(kind)
    for step in re.findall(r"\.[^.\[]+|\[[^\]]*\]", path):
        if step.startswith("."):
            info = next(field.type for field in _struct_in(info).fields if field.encode_name == step[1:])
        else:
            info = info.item_type if hasattr(info, "item_type") else info.value_type
    return info


def _struct_in(info: Any) -> Any:
    """The struct type in `info`: the type itself, or the first struct of a union such as `Layer | None`."""
    if isinstance(info, msgspec.inspect.UnionType):
        return next(kind for kind in info.types if isinstance(kind, msgspec.inspect.StructType))
    return info


def _choices(info: Any) -> list[str]:
    """The allowed values of a `Literal` type, or of the `Literal` types in a union."""
    kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    return [str(value) for kind in kinds if isinstance(kind, msgspec.inspect.LiteralType) for value in kind.values]
