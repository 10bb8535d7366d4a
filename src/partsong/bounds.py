"""The bounds on whatever a caller or an upstream chooses the size of: the table `[bounds]` of `partsong.toml`.

Every bound has a default that fits ordinary use on one machine, and can be set. `docs/bounds.md` lists all of them.
"""

from msgspec import Struct


class Bounds(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The table `[bounds]`: sizes, counts and times that a request, a recipe or an answer may reach.

    body_megabytes: most MiB of the body of one request (default 32); a larger body is refused with status 413
    id_bytes: most bytes of an id in a request (default 2048); a longer id is refused with status 400
    """

    body_megabytes: int = 32
    id_bytes: int = 2048

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 < (number := getattr(self, name)) < float("inf"):
                raise ValueError(f"{name} is {number}, but must be a number above 0")
