"""A script that tries JSON Schemas in a process of its own, because they may take any amount of time or memory.

The script imports nothing of partsong, so that it starts within a tenth of a second. It reads one JSON object from
standard input, and writes a JSON object on each line of standard output. Its arguments are the most seconds of
processor time and the most MiB of memory.

    input    {"schemas": [SCHEMA…], "checks": [[INDEX, VALUE]…]}: each value is checked against the schema at INDEX
    output   {"refused": [INDEX, REASON]} for the first unusable schema, and nothing else; if there is none, {} and then
             {"fault": FAULT} for each check, as soon as it is made
             FAULT is null if the value fits, else [PATH, REASON]
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

MIB = 1024 * 1024
PATTERN = MIB  # bytes of one compiled pattern
LONGEST_FAULT = 500  # characters: the message of jsonschema-rs repeats the whole value


def confine(seconds: int, megabytes: int) -> None:
    """Set the limits of processor time and memory at which the operating system ends this process."""
    if hasattr(os, "nice"):
        os.nice(10)  # the process that asked goes on with other work, which is more urgent
    try:
        import resource
    except ImportError:  # Windows: the caller ends the process by the clock
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (megabytes * MIB, megabytes * MIB))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def refuse(address: str) -> NoReturn:
    """Raise `ValueError` in place of fetching the schema at an address to which another schema refers."""
    raise ValueError(f"{address} is not fetched")


def validator(schema: Any) -> Any:
    """The validator of a schema. Its patterns match in linear time.

    Raises `ValueError` if the schema is not valid or refers to another address.
    """
    import jsonschema_rs

    options = jsonschema_rs.RegexOptions(size_limit=PATTERN, dfa_size_limit=PATTERN)
    return jsonschema_rs.validator_for(schema, retriever=refuse, pattern_options=options)


def fault(made: Any, value: Any) -> tuple[str, str] | None:
    """The path of the first part of a value that does not fit, and the reason; `None` if the value fits.

    made: the validator of the schema
    """
    import jsonschema_rs

    try:
        made.validate(value)
    except jsonschema_rs.ValidationError as wrong:
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in wrong.instance_path)
        text = wrong.message
        return path, text if len(text) <= LONGEST_FAULT else f"{text[:LONGEST_FAULT]}…"
    return None


def answers(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines for an input. The module's docstring explains both."""
    validators: list[Any] = []
    for index, schema in enumerate(asked["schemas"]):
        try:
            validators.append(validator(schema))
        except ValueError as problem:
            yield {"refused": [index, str(problem).partition("\n")[0]]}
            return
    yield {}
    for index, value in asked["checks"]:
        yield {"fault": fault(validators[index], value)}


if __name__ == "__main__":
    confine(*map(int, sys.argv[1:]))
    for line in answers(json.load(sys.stdin.buffer)):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()  # what is known by now counts, even if the system ends this process
