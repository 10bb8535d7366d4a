"""Writes the files that users name or look for. No other module writes such files.

The new content is written to a temporary file in the same folder, which is then renamed. So a reader finds the old or
the new content and never a part. Renaming over a device, a pipe or a link would replace it by a regular file: as root,
`--out /dev/null` once deleted the system's /dev/null. So links are followed, and a path that is no regular file is
written to as a stream or refused.
"""

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from partsong.errors import InputError

PUBLIC, PRIVATE = 0o666, 0o600  # permissions of a new file: all that the umask allows, or only the owner's


def kind_of(path: Path) -> Literal["new", "regular", "stream"]:
    """What the path is after all links are followed: no file yet ("new"), a regular file, or a stream.

    Pipes and character devices are streams. So are standard output and standard error, even if the shell redirects them
    to a file. Raises `InputError` for a folder, a disk, a socket, or a path that cannot be followed.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return "new"
    except (OSError, ValueError) as problem:
        raise InputError(f"{path}: cannot be written: {getattr(problem, 'strerror', None) or problem}") from None
    if _standard_output(found) is not None or stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode):
        return "stream"
    if stat.S_ISREG(found.st_mode):
        return "regular"
    names = {stat.S_IFDIR: "a folder", stat.S_IFBLK: "a disk", stat.S_IFSOCK: "a socket"}
    kind = names.get(stat.S_IFMT(found.st_mode), "no file")
    raise InputError(f"{path}: is {kind}, but must be the name of a file")


def target_of(path: Path) -> Path:
    """The path with all links followed, for a new or a regular file. Raises `InputError` for any other kind."""
    if kind_of(path) == "stream":
        raise InputError(f"{path}: is a device or a pipe, but must be the name of a file")
    return Path(os.path.realpath(path))


def write_file(
    path: Path, data: bytes | Iterable[bytes], *, permissions: int = PUBLIC, may_stream: bool = False
) -> None:
    """Write a file atomically.

    data: the content, whole or in pieces
    permissions: permissions of a new file (default `PUBLIC`); an existing file keeps its own unless this is `PRIVATE`
    may_stream: whether a device or a pipe is allowed, which is then written to directly (default: no)

    Raises `InputError` if the path cannot be written to as a file, and `OSError` with the path for other failures, such
    as a full disk.
    """
    pieces = (data,) if isinstance(data, bytes) else data
    try:
        if may_stream and kind_of(path) == "stream":
            _write_stream(path, pieces)
        else:
            _replace(target_of(path), pieces, permissions)
    except OSError as problem:
        raise named(problem, path) from problem


def open_to_append(path: Path) -> int:
    """Open a regular file for reading and for appending, make it if there is none, and return its descriptor.

    Raises `InputError` if the path is no regular file, and `OSError` with the path if the file cannot be opened.
    """
    target = target_of(path)
    try:
        return os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND, PUBLIC)
    except OSError as problem:
        raise named(problem, path) from problem


def append(descriptor: int, path: Path, line: bytes) -> None:
    """Append a line, with its newline, to an open file. Raises `OSError` with the path, as for a full disk."""
    try:
        _write(descriptor, line)
    except OSError as problem:
        raise named(problem, path) from problem


def named(problem: OSError, path: Path) -> OSError:
    """The error with `path`, which the user knows. The original error has no path, or that of a temporary file."""
    return OSError(problem.errno, problem.strerror or str(problem), str(path))


def _replace(target: Path, pieces: Iterable[bytes], permissions: int) -> None:
    # The name of the temporary file is random and must be new, so that no file of the user is overwritten.
    beside = target.with_name(f".partsong-{secrets.token_hex(8)}.whole")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions)
    try:
        try:
            _keep_owner(descriptor, target, permissions)
            for piece in pieces:
                _write(descriptor, piece)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _keep_owner(descriptor: int, target: Path, permissions: int) -> None:
    """Give the new file the owner and the permissions of the file that it replaces, where the system allows it."""
    if not hasattr(os, "fchown"):  # Windows
        return
    with suppress(OSError):
        before = target.stat()
        os.fchown(descriptor, before.st_uid, before.st_gid)
        if permissions != PRIVATE:
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def _write_stream(path: Path, pieces: Iterable[bytes]) -> None:
    # Standard output is written at its current position. A redirected file that is opened again would be overwritten.
    standard = _standard_output(os.stat(path))
    descriptor = os.open(path, os.O_WRONLY) if standard is None else os.dup(standard)
    try:
        for piece in pieces:
            _write(descriptor, piece)
    finally:
        os.close(descriptor)


def _standard_output(found: os.stat_result) -> int | None:
    """The descriptor of standard output or standard error if it is the file `found`; `None` if neither is."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(found, os.fstat(descriptor)):
                return descriptor
    return None


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
