"""The one way in which partsong writes a file that a user named or will look for.

A file is written beside its path and renamed over it: a reader finds the whole file or none of it. Renaming over
a device, a pipe or a link would replace that thing by a regular file: run as root, `--out /dev/null` once took the
system's /dev/null away. So links are followed, and whatever is no regular file is written to as a stream or refused.
"""

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from partsong.errors import InputError

PUBLIC, PRIVATE = 0o666, 0o600  # permissions of a new file: everything the umask allows, or its owner alone


def kind_of(path: Path) -> Literal["new", "regular", "stream"]:
    """The kind of thing that the path leads to, through all links.

    A pipe and a character device are streams, and so is a standard output, even where a shell sent it to a file.
    Raises `InputError` for a folder, a disk, a socket, or a path that cannot be followed.
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
    """The path of a regular file, new or there, with all links followed. Raises `InputError` for anything else."""
    if kind_of(path) == "stream":
        raise InputError(f"{path}: is a device or a pipe, but must be the name of a file")
    return Path(os.path.realpath(path))


def write_file(
    path: Path, data: bytes | Iterable[bytes], *, permissions: int = PUBLIC, may_stream: bool = False
) -> None:
    """Write a file in one step.

    permissions: of a new file; a file that is there keeps its own, unless these are `PRIVATE`
    may_stream: whether a device or a pipe is written to; otherwise it is refused

    Raises `InputError` if the path leads to something else, and an `OSError` that names the path if the disk is full.
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
    """The descriptor of a regular file that is read, and written at its end. Raises `InputError` or `OSError`."""
    target = target_of(path)
    try:
        return os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND, PUBLIC)
    except OSError as problem:
        raise named(problem, path) from problem


def append(descriptor: int, path: Path, line: bytes) -> None:
    """Write a line at the end of the file. The `OSError` of a full disk names the path."""
    try:
        _write(descriptor, line)
    except OSError as problem:
        raise named(problem, path) from problem


def named(problem: OSError, path: Path) -> OSError:
    """The same error, with the path that the user knows: a descriptor has none, and a file beside another."""
    return OSError(problem.errno, problem.strerror or str(problem), str(path))


def _replace(target: Path, pieces: Iterable[bytes], permissions: int) -> None:
    # The name is random and must be new, so that no file of the user's is taken for one of ours.
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
    # A standard output is written where it stands. Opened anew, a file would be overwritten from its beginning.
    standard = _standard_output(os.stat(path))
    descriptor = os.open(path, os.O_WRONLY) if standard is None else os.dup(standard)
    try:
        for piece in pieces:
            _write(descriptor, piece)
    finally:
        os.close(descriptor)


def _standard_output(found: os.stat_result) -> int | None:
    """The descriptor of the standard output, or of standard error, that is this very file; `None` if neither is."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(found, os.fstat(descriptor)):
                return descriptor
    return None


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
