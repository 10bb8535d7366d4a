"""JSON Schemas of callers: what is refused, and where a value is checked against the others.

A schema is a program that a caller writes. One of 47 characters (`anyOf` of itself twice) kept a server busy for 30 s
with an answer 18 levels deep, and took 1.4 GB. So there are two places. A schema whose worst case is known to be small
is tried at once. It has no recursion and no pattern, and its size times that of the value is bounded. Every other
schema is tried in a process of its own, which the system ends after a second (`schema_process`).
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
QUICK = 16 * 1024  # bytes of a schema that is read at once: about 10 ms
SMALL = 4_000_000  # values in a schema, references followed, times bytes of the value: about 50 ms at worst
PATIENCE = 10.0  # seconds of the clock for a process, with its start on a busy machine
PROCESSES = 2  # at the same time

# Keywords whose cost grows with the size of schema and value and no faster. `$ref` is followed apart.
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
    """A schema that cannot be used. `index` is its index among those that were given."""

    index: int
    why: str


async def refused(schemas: Sequence[bytes]) -> Refused | None:
    """The first schema that cannot be used to check anything; `None` if there is none."""
    rest: list[int] = []
    for index, schema in enumerate(schemas):
        if (why := _too_much(schema)) is not None:
            return Refused(index, why)
        if len(schema) > QUICK or _size(schema) is None:
            rest.append(index)
            continue
        await asyncio.sleep(0)  # many schemas together take long, so others get their turn in between
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
        # One of them is too costly. Which one, only trying them alone could tell; the last is as good a name as any.
        return Refused(rest[-1], f"cannot be read within {schema_process.SECONDS} s")
    if "refused" in said:
        index, why = said["refused"]
        return Refused(rest[index], _no_schema(why))
    return None


async def misfit(schema: bytes, text: str) -> str | None:
    """Why the text, which is JSON, does not fit the schema, in words for the model that wrote it."""
    data = text.encode("utf-8", "surrogatepass")
    if _is_quick(schema, data):
        return _quick(schema, data)
    said = await _in_a_process({"schemas": [msgspec.Raw(schema)], "value": msgspec.Raw(data)})
    if said is None:
        return f"cannot be checked against the schema within {schema_process.SECONDS} s; write a simpler one"
    return _told(said.get("fault"))


def quick_misfit(schema: bytes, text: str) -> str | None:
    """The same at once and without a process. Where that could take long, the text counts as fitting."""
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
    """Why a schema is refused before anything of it is read."""
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
    """How deep the JSON nests; 0 if it has so few brackets that it cannot nest too deep."""
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return 0
    depth = deepest = 0
    for letter in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        depth += 1 if letter in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


# The same tools come with each step of an agent, and a validator is a pure function of its schema.
@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    return schema_process.validator(msgspec.json.decode(schema))


@lru_cache(maxsize=256)
def _size(schema: bytes) -> int | None:
    """How many values the schema has, each reference counted as what it refers to; `None` if no bound is known."""
    try:
        root = msgspec.json.decode(schema)
        size = _Sizes(root).of(root)
    except (_NotPlainError, *UNREADABLE):
        return None
    return size if size <= SMALL else None


class _NotPlainError(Exception):
    """The schema has a keyword, or a reference, whose cost is not known in advance."""


class _Sizes:
    """Sizes of schemas in one document. A schema that is referred to is measured once."""

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
        if (size := self.known[name]) is None:  # it refers to itself
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
    """The answer of the process; `None` if it was ended or has died."""
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


# A semaphore belongs to its loop, and all runs of a loop share the processes.
@lru_cache(maxsize=1)
def _places(loop: asyncio.AbstractEventLoop) -> asyncio.Semaphore:
    return asyncio.Semaphore(PROCESSES)
