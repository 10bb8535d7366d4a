"""The bounds on whatever a caller or an upstream chooses the size of: the table `[bounds]` of `partsong.toml`.

Every bound has a default that fits ordinary use on one machine, and can be set. `docs/bounds.md` lists all of them.
"""

from msgspec import Struct


class Bounds(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The table `[bounds]`: sizes, counts and times that a request, a recipe or an answer may reach.

    body_megabytes: most MiB of the body of one request (default 32); a larger body is refused with status 413
    answer_megabytes: most MiB of a model's answer that is not streamed, and of one event of a stream (default 16)
    stream_megabytes: most MiB of a model's answer that is streamed, with the JSON around its words (default 64)
    answer_characters: most characters that are kept of a model's answer (default 2,000,000); see `wire.room`
    silence_seconds: most seconds without a byte of a model's answer (default 600)
    progress_seconds: most seconds in which a model's answer brings nothing but signs of life (default 1200)
    call_seconds: most seconds of one call to a model, without the time that a listener takes (default 3600)
    """

    body_megabytes: int = 32
    answer_megabytes: int = 16
    stream_megabytes: int = 64
    answer_characters: int = 2_000_000
    silence_seconds: float = 600.0
    progress_seconds: float = 1200.0
    call_seconds: float = 3600.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 < (number := getattr(self, name)) < float("inf"):
                raise ValueError(f"{name} is {number}, but must be a number above 0")
