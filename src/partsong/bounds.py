"""The bounds on whatever a caller or an upstream chooses the size of: the table `[bounds]` of `partsong.toml`.

Every bound has a default that fits ordinary use on one machine, and can be set. `docs/bounds.md` lists all of them.
"""

from msgspec import Struct


class Bounds(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The table `[bounds]`: sizes, counts and times that a request, a recipe or an answer may reach.

    body_megabytes: most MiB of the body of one request (default 32); a larger body is refused with status 413
    answer_megabytes: most MiB of a model's answer that is not streamed, and of one event of a stream (default 16)
    stream_megabytes: most MiB of a model's answer that is streamed, with the JSON around its words (default 64)
    sending_megabytes: most MiB of large requests to models that one process sends at the same time (default 64); a
        request with more than 100,000 characters waits for room
    answer_characters: most characters that are kept of a model's answer (default 2,000,000); see `wire.room`
    layer_characters: most characters of the answers of one layer, in equal shares for its seats (default 16,777,216)
    silence_seconds: most seconds without a byte of a model's answer (default 600)
    progress_seconds: most seconds in which a model's answer brings nothing but signs of life (default 1200)
    call_seconds: most seconds of one call to a model, without the time that a listener takes (default 3600)
    bodies_megabytes: most MiB of all bodies that one process reads or answers at the same time (default 64)
    key_bodies_megabytes: most MiB of these bodies that may be of one key (default 32)
    body_seconds: most seconds until the whole body of a request has arrived (default 60)
    body_values: most names and values in the JSON of a body (default 50,000)
    body_nesting: deepest nesting of the JSON of a body (default 128)
    path_characters: most bytes of the path and the query of a request (default 8192)
    recipe_characters: most characters of a recipe that a caller writes, as TOML or as JSON (default 65,536)
    recipe_nesting: deepest nesting of such a recipe, and most parts of a dotted key (default 16)
    recipe_layers: most layers of such a recipe (default 32)
    recipe_seats: most seats of such a recipe in all its layers (default 256)
    request_calls: most calls to models that one request can lead to, with all its answers, fallbacks, steps and retries
        (default 4000)
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
    id_bytes: most bytes of an id in a request (default 2048); a longer id is refused with status 400
    """

    body_megabytes: int = 32
    answer_megabytes: int = 16
    stream_megabytes: int = 64
    sending_megabytes: int = 64
    answer_characters: int = 2_000_000
    layer_characters: int = 16_777_216
    silence_seconds: float = 600.0
    progress_seconds: float = 1200.0
    call_seconds: float = 3600.0
    bodies_megabytes: int = 64
    key_bodies_megabytes: int = 32
    body_seconds: float = 60.0
    body_values: int = 50_000
    body_nesting: int = 128
    path_characters: int = 8192
    recipe_characters: int = 65_536
    recipe_nesting: int = 16
    recipe_layers: int = 32
    recipe_seats: int = 256
    request_calls: int = 4000
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
    id_bytes: int = 2048

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 < (number := getattr(self, name)) < float("inf"):
                raise ValueError(f"{name} is {number}, but must be a number above 0")


DEFAULTS = Bounds()  # for whoever has no configuration
