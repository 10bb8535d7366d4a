"""Checks callers' JSON Schemas, and values against them, within bounds of time and memory.

A schema is a program that a caller writes. A schema of 47 characters (`anyOf` of itself twice) once kept a server busy
for 30 s with an answer 18 levels deep, and took 1.4 GB. So a schema is tried in this process only if its worst case is
known to be small: it has no recursion and no pattern, and its size times the size of the value is bounded. Every other
schema is tried in a process of its own, which the operating system ends after a second (`schema_process`).
"""

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from partsong.engine import schema_process
from partsong.wire.json import UNREADABLE

LARGEST = 256 * 1024  # bytes of one schema
LARGEST_TOGETHER = 1024 * 1024  # bytes of all schemas of a request
DEEPEST = 100  # levels of nesting in a schema
QUICK = 16 * 1024  # most bytes of a schema that is read in this process, which takes about 10 ms
SMALL = 4_000_000  # values in a schema, references followed, times bytes of the value: about 50 ms at worst
PATIENCE = 10.0  # most seconds for a process, which include its start on a busy machine
PROCESSES = 2  # most processes at the same time

# Keywords whose cost is at most proportional to the sizes of schema and value. `$ref` is handled apart.
_PLAIN = frozenset(
    (  # noqa: SIM905  (a list of words reads worse than the words)
        "$schema $defs definitions title description default examples deprecated readOnly writeOnly strict "
        "type enum const properties required additionalProperties minProperties maxProperties "
        "items prefixItems minItems maxItems anyOf oneOf allOf not if then else minLength maxLength "
        "minimum maximum exclusiveMinimum exclusiveMaximum"
    ).split()
)
_FORMATS = frozenset(("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"))
_STRINGS, _BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL), re.compile(rb"[][{}]")
_SCHEMAS_BY_NAME = ("properties", "$defs", "definitions")
_SCHEMAS_IN_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMA = ("additionalProperties", "items", "not", "if", "then", "else")


class Refused(Struct, frozen=True):
    """A schema that cannot be used.

    index: index of the schema among the schemas that were checked
    why: the reason, as a predicate such as "has 300,000 bytes, …"
    """

    index: int
    why: str


async def refused(schemas: Sequence[bytes]) -> Refused | None:
    """A schema among `schemas` that is invalid, too large or too costly; `None` if all can be used."""
    rest: list[int] = []
    for index, schema in enumerate(schemas):
        if (why := _too_much(schema)) is not None:
            return Refused(index, why)
        if len(schema) > QUICK or _size(schema) is None:
            rest.append(index)
            continue
        await asyncio.sleep(0)  # many schemas together take long, so other tasks get a turn in between
        try:
            _validator(schema)
        except ValueError as problem:
            return Refused(index, _no_schema(str(problem)))
    if sum(map(len, schemas)) > LARGEST_TOGETHER:
        return Refused(len(schemas) - 1, f"makes the schemas longer than {LARGEST_TOGETHER:,} bytes together")
    if not rest:
        return None
    said = await _in_a_process({"schemas": [msgspec.Raw(schemas[index]) for index in rest]})
    if said is None:
        # One of the schemas is too costly. Only trying each of them alone would tell which, so the last is named.
        return Refused(rest[-1], f"cannot be read within {schema_process.SECONDS} s")
    if "refused" in said:
        index, why = said["refused"]
        return Refused(rest[index], _no_schema(why))
    return None


async def misfit(schema: bytes, text: str) -> str | None:
    """Why a JSON text does not fit a schema, as a predicate for the model that wrote it; `None` if it fits."""
    data = text.encode("utf-8", "surrogatepass")
    if _is_quick(schema, data):
        return _quick(schema, data)
    said = await _in_a_process({"schemas": [msgspec.Raw(schema)], "value": msgspec.Raw(data)})
    if said is None:
        return f"cannot be checked against the schema within {schema_process.SECONDS} s; write a simpler one"
    return _told(said.get("fault"))


def quick_misfit(schema: bytes, text: str) -> str | None:
    """The result of `misfit` without another process. If the check could take long, the text counts as fitting."""
    data = text.encode("utf-8", "surrogatepass")
    return _quick(schema, data) if _is_quick(schema, data) else None


def _is_quick(schema: bytes, data: bytes) -> bool:
    size = _size(schema) if len(schema) <= QUICK else None
    return size is not None and size * len(data) <= SMALL


def _quick(schema: bytes, data: bytes) -> str | None:
    try:
        return _told(schema_process.fault(_validator(schema), msgspec.json.decode(data)))
    except (ValueError, RecursionError):  # jsonschema-rs reads 255 levels, msgspec the levels of Python's stack
        return "nests too deep"


def _told(fault: Sequence[str] | None) -> str | None:
    if fault is None:
        return None
    path, why = fault
    return f"must match the schema{f' at {path}' if path else ''}: {why}"


def _no_schema(why: str) -> str:
    line = why.partition("\n")[0]
    return f"is no JSON Schema that can be checked: {line}"


def _too_much(schema: bytes) -> str | None:
    """Why a schema is refused before it is interpreted: it is too long, too deep or no JSON; `None` if it is not."""
    if len(schema) > LARGEST:
        return f"has {len(schema):,} bytes, but at most {LARGEST:,} are taken"
    if (depth := _depth(schema)) > DEEPEST:
        return f"nests {depth:,} levels deep, but at most {DEEPEST} are taken"
    try:
        msgspec.json.decode(schema)
    except UNREADABLE as problem:
        return f"is no JSON: {problem}"
    return None


def _depth(data: bytes) -> int:
    """The number of levels of a JSON text; 0 if it has too few brackets to have more than `DEEPEST`."""
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return 0
    depth = deepest = 0
    for letter in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        depth += 1 if letter in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


# Cached, because the same tools come with each step of an agent, and a validator depends on its schema alone.
@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    return schema_process.validator(msgspec.json.decode(schema))


@lru_cache(maxsize=256)
def _size(schema: bytes) -> int | None:
    """The number of values in a schema, with every reference replaced by its target.

    Returns `None` if the number is above `SMALL`, or if the cost of a keyword or reference is not bounded.
    """
    try:
        root = msgspec.json.decode(schema)
        size = _Sizes(root).of(root)
    except (_NotPlainError, *UNREADABLE):
        return None
    return size if size <= SMALL else None


class _NotPlainError(Exception):
    """Raised for a schema with a keyword or a reference whose cost is not known in advance."""


class _Sizes:
    """Counts the values of the schemas in one document. The target of a reference is counted once and remembered.

    root: the whole document
    """

    def __init__(self, root: Any) -> None:
        self.root = root
        self.known: dict[str, int | None] = {}  # by reference; `None` while the schema is being measured

    def of(self, schema: Any) -> int:
        if not isinstance(schema, dict):
            return 1
        size = 1
        for word, value in schema.items():
            if word == "$ref":
                size += self.of_reference(value)
            elif word in _SCHEMAS_BY_NAME and isinstance(value, dict):
                size += sum(map(self.of, value.values()))
            elif word in _SCHEMAS_IN_LIST and isinstance(value, list):
                size += sum(map(self.of, value))
            elif word in _SCHEMA:
                size += self.of(value)
            elif word in _PLAIN or (word == "format" and isinstance(value, str) and value in _FORMATS):
                size += _values_in(value)
            else:
                raise _NotPlainError
        return size

    def of_reference(self, name: Any) -> int:
        if (
            not isinstance(name, str)
            or not name.startswith(("#/$defs/", "#/definitions/"))
            or "~" in name
            or "%" in name
        ):
            raise _NotPlainError
        if name not in self.known:
            self.known[name] = None
            target: Any = self.root
            for step in name.split("/")[1:]:
                target = target.get(step) if isinstance(target, dict) else None
            if not isinstance(target, dict):
                raise _NotPlainError
            self.known[name] = self.of(target)
        if (size := self.known[name]) is None:  # the target refers to itself
            raise _NotPlainError
        return size


def _values_in(value: Any) -> int:
    match value:
        case dict():
            return 1 + sum(map(_values_in, value.values()))
        case list():
            return 1 + sum(map(_values_in, value))
        case _:
            return 1


async def _in_a_process(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The output of `schema_process` for the input `asked`; `None` if the process was ended or has failed."""
    async with _places(asyncio.get_running_loop()):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(Path(schema_process.__file__)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                said, _ = await process.communicate(msgspec.json.encode(asked))
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    try:
        return msgspec.json.decode(said, type=dict[str, Any]) if process.returncode == 0 else None
    except UNREADABLE:
        return None


# One semaphore for each event loop, which all runs of the loop share.
@lru_cache(maxsize=1)
def _places(loop: asyncio.AbstractEventLoop) -> asyncio.Semaphore:
    return asyncio.Semaphore(PROCESSES)
