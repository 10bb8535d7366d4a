"""Checks callers' JSON Schemas, and values against them, within bounds of time and memory.

A schema is a program that a caller writes. A schema of 47 characters (`anyOf` of itself twice) once kept a server busy
for 30 s with an answer 18 levels deep, and took 1.4 GB. So a schema is tried in this process only if its worst case is
known to be small: it has no recursion and no pattern, and its size times the size of the value is bounded. Every other
schema is tried in a process of its own, which the operating system ends after a second (`schema_process`). All values
of one answer share one process, so that an answer with many tool calls takes no more time than another.
"""

import asyncio
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from partsong.bounds import Bounds
from partsong.engine import schema_process
from partsong.wire.json import UNREADABLE

KIB = 1024
SMALL = 2_000_000  # values in a schema, references followed, times bytes of the value: about 25 ms at worst
COMPILED = 256 * KIB  # bytes of schemas whose validators are kept: a validator takes up to 85 bytes for each
PATIENCE = 10.0  # seconds of waiting for each second of a process's own time, which include its start on a busy machine

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


async def refused(schemas: Sequence[bytes], bounds: Bounds) -> Refused | None:
    """A schema among `schemas` that is invalid, too large or too costly; `None` if all can be used."""
    if sum(map(len, schemas)) > (most := bounds.schemas_kilobytes * KIB):
        return Refused(len(schemas) - 1, f"makes the schemas longer than {most:,} bytes together")
    rest: list[int] = []
    for index, schema in enumerate(schemas):
        await asyncio.sleep(0)  # many schemas together take long, so other tasks get a turn in between
        if (why := _too_much(schema, bounds)) is not None:
            return Refused(index, why)
        if len(schema) > bounds.schema_quick_kilobytes * KIB or _size(schema) is None:
            rest.append(index)
            continue
        try:
            _validators().of(schema)
        except ValueError as problem:
            return Refused(index, _no_schema(str(problem)))
    if not rest:
        return None
    said = await _in_a_process({"schemas": [msgspec.Raw(schemas[index]) for index in rest], "checks": []}, bounds)
    if not said:
        # One of the schemas is too costly. Only trying each of them alone would tell which, so the last is named.
        return Refused(rest[-1], f"cannot be read within {bounds.schema_seconds} s")
    if "refused" in said[0]:
        index, why = said[0]["refused"]
        return Refused(rest[index], _no_schema(why))
    return None


async def misfits(checks: Sequence[tuple[bytes, str]], bounds: Bounds) -> list[str | None]:
    """For each pair of a schema and a JSON text, why the text does not fit; `None` if it fits.

    Each reason is a predicate for the model that wrote the text. All checks that could take long share one process, and
    so its time.
    """
    found: list[str | None] = []
    slow: list[tuple[int, bytes, bytes]] = []
    for index, (schema, text) in enumerate(checks):
        if index:
            await asyncio.sleep(0)
        data = text.encode("utf-8", "surrogatepass")
        if _is_quick(schema, data, bounds):
            found.append(_quick(schema, data))
        else:
            found.append(None)
            slow.append((index, schema, data))
    if not slow:
        return found
    schemas = {schema: number for number, schema in enumerate(dict.fromkeys(schema for _, schema, _ in slow))}
    asked = {
        "schemas": [msgspec.Raw(schema) for schema in schemas],
        "checks": [(schemas[schema], msgspec.Raw(data)) for _, schema, data in slow],
    }
    said = await _in_a_process(asked, bounds)
    for number, (index, _, _) in enumerate(slow):
        if number + 1 < len(said):  # the first line is about the schemas
            found[index] = _told(said[number + 1]["fault"])
        else:
            why = f"cannot be checked against the schema within {bounds.schema_seconds} s; write a simpler one"
            found[index] = why
    return found


async def misfit(schema: bytes, text: str, bounds: Bounds) -> str | None:
    """Why a JSON text does not fit a schema; `None` if it fits. See `misfits`."""
    return (await misfits([(schema, text)], bounds))[0]


def _is_quick(schema: bytes, data: bytes, bounds: Bounds) -> bool:
    size = _size(schema) if len(schema) <= bounds.schema_quick_kilobytes * KIB else None
    return size is not None and size * len(data) <= SMALL


def _quick(schema: bytes, data: bytes) -> str | None:
    try:
        return _told(schema_process.fault(_validators().of(schema), msgspec.json.decode(data)))
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


def _too_much(schema: bytes, bounds: Bounds) -> str | None:
    """Why a schema is refused before it is interpreted: it is too long, too deep or no JSON; `None` if it is not."""
    if len(schema) > (largest := bounds.schema_kilobytes * KIB):
        return f"has {len(schema):,} bytes, but at most {largest:,} are taken"
    if (depth := _depth(schema, bounds.schema_nesting)) > bounds.schema_nesting:
        return f"nests {depth:,} levels deep, but at most {bounds.schema_nesting} are taken"
    try:
        msgspec.json.decode(schema)
    except UNREADABLE as problem:
        return f"is no JSON: {problem}"
    return None


def _depth(data: bytes, deepest_allowed: int) -> int:
    """The number of levels of a JSON text; 0 if it has too few brackets to have more than are allowed."""
    if data.count(b"[") + data.count(b"{") <= deepest_allowed:
        return 0
    depth = deepest = 0
    for letter in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        depth += 1 if letter in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


class _Validators:
    """Keeps the validators that were used last, since the same tools come with each step of an agent.

    What is kept is bounded by the bytes of the schemas: callers choose how many schemas there are, and how large.
    """

    def __init__(self) -> None:
        self._made: OrderedDict[bytes, Any] = OrderedDict()
        self._bytes = 0

    def of(self, schema: bytes) -> Any:
        """The validator of a schema. Raises `ValueError` for an invalid schema."""
        if (validator := self._made.get(schema)) is not None:
            self._made.move_to_end(schema)
            return validator
        validator = schema_process.validator(msgspec.json.decode(schema))
        self._made[schema] = validator
        self._bytes += len(schema)
        while self._bytes > COMPILED and len(self._made) > 1:
            self._bytes -= len(self._made.popitem(last=False)[0])
        return validator


@lru_cache(maxsize=1)
def _validators() -> _Validators:
    return _Validators()


@lru_cache(maxsize=256)
def _size(schema: bytes) -> int | None:
    """The number of values in a schema, with every reference replaced by its target.

    Returns `None` if the number is above `SMALL`, or if the cost of a keyword or reference is not bounded. The size is
    remembered apart from the schema's validator, since it takes no memory to speak of.
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


async def _in_a_process(asked: Mapping[str, Any], bounds: Bounds) -> list[dict[str, Any]]:
    """What `schema_process` says to the input `asked`, up to the moment at which it ends or is ended."""
    async with _places(asyncio.get_running_loop(), bounds.schema_processes):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(Path(schema_process.__file__)),
            str(bounds.schema_seconds),
            str(bounds.schema_megabytes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        talking = asyncio.create_task(process.communicate(msgspec.json.encode(asked)))
        try:
            await asyncio.wait([talking], timeout=PATIENCE * bounds.schema_seconds)
        finally:
            if process.returncode is None:
                process.kill()
            said, _ = await talking
            await process.wait()
    return _lines(said)


def _lines(said: bytes) -> list[dict[str, Any]]:
    """The whole lines of a process's output, each a JSON object."""
    *lines, _ = said.split(b"\n")
    return [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]


# One semaphore for each event loop, which all runs of the loop share.
@lru_cache(maxsize=1)
def _places(loop: asyncio.AbstractEventLoop, processes: int) -> asyncio.Semaphore:
    return asyncio.Semaphore(processes)
