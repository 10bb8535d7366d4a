"""The parts of a batch on a cluster, and which of them are over: a small file beside the files of answers.

Only the process that hands out the parts writes this file. A part is noted after its file of answers was written as a
whole. So a part that is noted is never asked again, and a part that is not noted goes on with what was kept.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from partsong.errors import InputError
from partsong.files import write_file

LARGEST = 4 << 20  # bytes of the file
MOST_PARTS = 10_000  # parts of a batch


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of the parts of a batch.

    batch: digest of the questions and the recipe, in hexadecimal digits
    parts: number of parts
    over: parts whose questions are all answered, by index
    """

    batch: str
    parts: Annotated[int, Meta(ge=1, le=MOST_PARTS)]
    over: frozenset[int] = frozenset()


def path_beside(out: Path) -> Path:
    """The manifest beside a file of answers, such as `answers-parts.json`."""
    return out.with_name(f"{out.stem}-parts.json")


def read_manifest(out: Path, batch: str) -> Manifest | None:
    """Read the manifest of a batch that goes on; `None` if the batch has not begun.

    Raises `InputError` if the file cannot be read, is no manifest, or belongs to another batch.
    """
    path = path_beside(out)
    try:
        with path.open("rb") as file:
            found = msgspec.json.decode(file.read(LARGEST), type=Manifest)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise InputError(
            f"{path}: is not the list of parts of a batch ({problem}); move it, or name another --out"
        ) from None
    if found.batch != batch:
        raise InputError(
            f"{path}: belongs to a batch with other questions or another recipe; move the files of that batch, or name "
            "another --out"
        )
    return found


def write_manifest(out: Path, manifest: Manifest) -> None:
    """Write the manifest atomically."""
    write_file(path_beside(out), msgspec.json.encode(manifest, order="deterministic") + b"\n")


def open_parts(manifest: Manifest, file_of: Callable[[int], Path]) -> list[int]:
    """The parts that are not over. A part whose file of answers is gone is answered again."""
    return [index for index in range(manifest.parts) if index not in manifest.over or not file_of(index).is_file()]
