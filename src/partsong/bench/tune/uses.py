"""Counts how often a held-out part has been used, in all folders of this user.

A test at 5 % holds for one look at the held-out part. Whoever searches again and again on the same prompts finds
something in the end. Each search counts once, from the moment before its first held-out prompt is asked.
"""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from partsong.errors import InputError
from partsong.files import append, open_to_append
from partsong.folders import user_folder


class Use(Struct, frozen=True):
    """One search that has asked a held-out part. `digest`: of the part; `search`: id of the search; `date`: the day."""

    digest: str
    search: str
    date: str


def uses_path() -> Path:
    """Return the file of the uses, beside the store."""
    return user_folder("state") / "held-out.jsonl"


def earlier_uses(digest: str, search: str) -> list[Use]:
    """Return the uses of this part before that of `search`, oldest first; all uses if `search` has not used it yet.

    Lines that cannot be read are left out.
    """
    try:
        lines = uses_path().read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            use = msgspec.json.decode(line, type=Use)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # a torn line, of a process that died
        if use.search == search:
            break
        if use.digest == digest:
            found.append(use)
    return found


def count_use(use: Use) -> None:
    """Append a use, unless this search is counted already. Raises `InputError` if the file cannot be written."""
    path = uses_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.read_bytes() if path.exists() else b""
        line = msgspec.json.encode(use)
        if any(f'"search":"{use.search}"'.encode() in each for each in there.splitlines()):
            return
        file = open_to_append(path)
        try:
            append(file, path, (b"" if not there or there.endswith(b"\n") else b"\n") + line + b"\n")
        finally:
            os.close(file)
    except OSError as problem:
        raise InputError(f"{path}: the use of the held-out part cannot be counted: {problem.strerror}") from None
