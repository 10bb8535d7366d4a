"""The process in which a schema is tried that could cost any amount of time or memory.

It is run as a script, and imports nothing of partsong, so that it starts within a tenth of a second. It reads one JSON
object: `schemas`, and with one schema a `value` that must fit it. It writes another: `refused` with the index of a
schema and the reason, or `fault` with the path and the reason why the value does not fit, or neither.
"""

import json
import os
import sys
from typing import Any, NoReturn

SECONDS = 1  # of the processor
MEMORY = 256 * 1024 * 1024  # bytes of address space
PATTERN = 1024 * 1024  # bytes of one compiled pattern
LONGEST_FAULT = 500  # characters: the message of jsonschema-rs repeats the whole value


def confine() -> None:
    """Let the system end this process when it has used up its time or its memory."""
    if hasattr(os, "nice"):
        os.nice(10)  # whoever asked goes on meanwhile, and comes first
    try:
        import resource
    except ImportError:  # Windows: the caller ends the process by the clock
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def refuse(address: str) -> NoReturn:
    """Refuse to fetch a schema that another refers to."""
    raise ValueError(f"{address} is not fetched")


def validator(schema: Any) -> Any:
    """The validator of a schema, whose patterns match in linear time. Raises `ValueError`."""
    import jsonschema_rs

    options = jsonschema_rs.RegexOptions(size_limit=PATTERN, dfa_size_limit=PATTERN)
    return jsonschema_rs.validator_for(schema, retriever=refuse, pattern_options=options)


def fault(made: Any, value: Any) -> tuple[str, str] | None:
    """The path and the first reason why a value does not fit; `None` if it does."""
    import jsonschema_rs

    try:
        made.validate(value)
    except jsonschema_rs.ValidationError as wrong:
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in wrong.instance_path)
        text = wrong.message
        return path, text if len(text) <= LONGEST_FAULT else f"{text[:LONGEST_FAULT]}…"
    return None


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What is wrong with the schemas or the value."""
    made = None
    for index, schema in enumerate(asked["schemas"]):
        try:
            made = validator(schema)
        except ValueError as problem:
            return {"refused": [index, str(problem).partition("\n")[0]]}
    return {} if made is None or "value" not in asked else {"fault": fault(made, asked["value"])}


if __name__ == "__main__":
    confine()
    json.dump(answer(json.load(sys.stdin.buffer)), sys.stdout)
