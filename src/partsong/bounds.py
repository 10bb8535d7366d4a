"""The bounds on whatever a caller or an upstream chooses the size of: the table `[bounds]` of `partsong.toml`.

Every bound has a default that fits ordinary use on one machine, and can be set. `docs/bounds.md` lists all of them.
"""

from msgspec import Struct


class Bounds(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The table `[bounds]`: sizes, counts and times that a request, a recipe or an answer may reach.

    body_megabytes: most MiB of the body of one request (default 32); a larger body is refused with status 413
    tools: most tools of a request (default 1000); more are refused with status 400, as everything below is
    question_characters: most characters of text in a conversation with its documents (default 8,388,608)
    schema_kilobytes: most KiB of one JSON schema (default 256)
    schemas_kilobytes: most KiB of all JSON schemas of a request (default 1024)
    schema_nesting: most levels of a JSON schema (default 100)
    schema_quick_kilobytes: most KiB of a schema that the server tries itself; a process tries a longer one (default 8)
    schema_seconds: most seconds of processor time for the checks of one answer, or of all schemas of a request that
        could take long (default 1)
    schema_megabytes: most MiB of memory of the process that makes these checks (default 256)
    schema_processes: most such processes at the same time (default 2)
    proposed_calls: most proposed tool calls that are read in one proposal (default 100); more stay in its text
    referenced_responses: most earlier responses whose items one input refers to (default 500)
    referenced_items: most items of earlier responses that one input refers to (default 2000)
    store_seconds: most seconds that a request waits for the store, in all its writes together (default 0.8); then it
        goes on without the store, or is refused if a limit depends on the store
    """

    body_megabytes: int = 32
    tools: int = 1000
    question_characters: int = 8_388_608
    schema_kilobytes: int = 256
    schemas_kilobytes: int = 1024
    schema_nesting: int = 100
    schema_quick_kilobytes: int = 8
    schema_seconds: int = 1
    schema_megabytes: int = 256
    schema_processes: int = 2
    proposed_calls: int = 100
    referenced_responses: int = 500
    referenced_items: int = 2000
    store_seconds: float = 0.8

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 < (number := getattr(self, name)) < float("inf"):
                raise ValueError(f"{name} is {number}, but must be a number above 0")


DEFAULTS = Bounds()  # for whoever has no configuration
