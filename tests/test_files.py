"""Files are replaced and nothing else is: devices, pipes, sockets and links stay what they are."""

import json
import os
import pty
import resource
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import Struct

from partsong.batch.answers import Answers
from partsong.bench.lines import Lines
from partsong.errors import ConfigurationError, InputError
from partsong.files import PRIVATE, append, kind_of, open_to_append, write_file
from partsong.keys import Keys


class Line(Struct):
    said: str


def the_file(path: Path) -> tuple[int, int, int]:
    """What stands at the path itself, without following links."""
    found = path.lstat()
    return found.st_dev, found.st_ino, stat.S_IFMT(found.st_mode)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def terminal(path: Path) -> None:
    """A link to a character device that only this test has. A link to /dev/null would risk the real one."""
    _, end = pty.openpty()
    path.symlink_to(os.ttyname(end))


def linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("beyond"))
    path.with_name("between").symlink_to("beyond")
    path.symlink_to("between")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


SPECIAL = [pipe, bound, terminal, linked_pipe, loop, Path.mkdir]


@contextmanager
def reading(path: Path) -> Iterator[list[bytes]]:
    """Everything that is written to a pipe. The list is filled once the block has ended."""
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
    reader.start()
    yield read
    reader.join(10)
    assert not reader.is_alive()


@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_file(path, b"text"),
        lambda path: write_file(path, b"text", permissions=PRIVATE),
        lambda path: Lines(path, Line).add(Line("text")),
        lambda path: open_to_append(path),
        lambda path: Keys(path)._write(()),
    ],
    ids=["file", "private", "lines", "append", "keys"],
)
def test_what_is_no_file_is_refused_and_stays(
    tmp_path: Path, make: Callable[[Path], None], write: Callable[[Path], object]
) -> None:
    path = tmp_path / "out"
    make(path)
    before = the_file(path), sorted(tmp_path.iterdir())
    with pytest.raises((InputError, ConfigurationError), match="out: "):
        write(path)
    assert (the_file(path), sorted(tmp_path.iterdir())) == before


@pytest.mark.parametrize("make", [pipe, linked_pipe])
def test_a_pipe_is_written_to_where_that_is_allowed(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "out"
    make(path)
    before = the_file(path)
    with reading(path) as read:
        write_file(path, [b"one\n", b"two\n"], may_stream=True)
    assert read == [b"one\ntwo\n"]
    assert the_file(path) == before


@pytest.mark.parametrize("there", [True, False])
def test_links_are_followed(tmp_path: Path, there: bool) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "file", tmp_path / "out"
    if there:
        target.write_text("old")
    link.symlink_to("far/file")
    write_file(link, b"new")
    assert link.is_symlink()
    assert (target.read_bytes(), target.is_symlink()) == (b"new", False)
    assert [path.name for path in target.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o664])
def test_permissions_are_kept_and_a_private_file_is_private(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(permissions)
    write_file(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == permissions
    write_file(path, b"secret", permissions=PRIVATE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_long_name_and_files_with_names_like_ours_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    (tmp_path / "out.whole").write_text("mine")
    write_file(path, b"text")
    write_file(tmp_path / "out", b"text")
    assert (path.read_bytes(), (tmp_path / "out.whole").read_text()) == (b"text", "mine")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_disk_without_room_is_told_with_the_file_and_nothing_is_lost(tmp_path: Path) -> None:
    path, other = tmp_path / "out", tmp_path / "lines"
    path.write_text("old")
    descriptor = open_to_append(other)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # a write beyond fails, as on a full disk
    try:
        with pytest.raises(OSError, match="too large") as whole:
            write_file(path, [b"x" * 900, b"x" * 900])
        with pytest.raises(OSError, match="too large") as line:
            append(descriptor, other, b"x" * 1001)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        os.close(descriptor)
    assert (whole.value.filename, line.value.filename) == (str(path), str(other))
    assert path.read_text() == "old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["lines", "out"]


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 7")
        connection.execute("CREATE TABLE theirs (a)")


FOREIGN = [
    "a note\n",
    "a note",
    '{"key"',
    "\n",
    "SQLite format 3\0",
    "SQLite format 3\0" + "\0" * 99,
    of_another_program,
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_only_a_batchs_own_file_beside_is_changed(tmp_path: Path, foreign: str | Callable[[Path], None]) -> None:
    beside = tmp_path / "out.partial"
    if isinstance(foreign, str):
        beside.write_text(foreign)
    else:
        foreign(beside)
    before = beside.read_bytes()
    with pytest.raises(InputError, match=r"out\.partial: is not the file of a batch"):
        Answers(tmp_path / "out").open(b"")
    assert beside.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]


def test_an_empty_file_beside_is_begun(tmp_path: Path) -> None:
    (tmp_path / "out.partial").touch()
    answers = Answers(tmp_path / "out")
    answers.open(b"")
    with pytest.raises(InputError, match="another batch writes these answers"):
        Answers(tmp_path / "out").open(b"")
    answers.close()
    answers.open(b"")
    answers.remove()
    assert list(tmp_path.iterdir()) == []


# ---- the command


def batch(folder: Path, out: str, end: str = "") -> subprocess.CompletedProcess[bytes]:
    (folder / "q.jsonl").write_text('"One?"\n"Two?"\n')
    command = f"{sys.executable} -m partsong batch q.jsonl --out {out} --model 'scripted:a?text=Yes' {end}"
    state = {"PARTSONG_STATE": str(folder / "state")}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**os.environ, **state}, capture_output=True, timeout=60, check=False
    )


def answers(text: bytes) -> list[str]:
    return [json.loads(line)["answer"] for line in text.splitlines()]


def test_a_batch_into_a_pipe_and_back_into_the_same_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out")
    before = the_file(tmp_path / "out")
    for _ in range(2):
        with reading(tmp_path / "out") as read:
            assert batch(tmp_path, "out").returncode == 0
        assert answers(read[0]) == ["Yes", "Yes"]
    assert the_file(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "q.jsonl", "state"}


def test_a_batch_into_standard_output(tmp_path: Path) -> None:
    assert answers(batch(tmp_path, "/dev/stdout").stdout) == ["Yes", "Yes"]
    assert answers(batch(tmp_path, "/dev/stdout", "| cat").stdout) == ["Yes", "Yes"]
    (tmp_path / "log").write_text("before\n")
    assert batch(tmp_path, "/dev/stdout", ">> log").returncode == 0
    before, *lines = (tmp_path / "log").read_bytes().splitlines()
    assert (before, answers(b"\n".join(lines))) == (b"before", ["Yes", "Yes"])


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="a device that is always full")
@pytest.mark.skipif(os.geteuid() == 0, reason="a fault of this very test would take the device away")
def test_a_full_device_is_named(tmp_path: Path) -> None:
    ended = batch(tmp_path, "/dev/full")
    assert (ended.returncode, ended.stderr) == (1, b"partsong: /dev/full: No space left on device\n")


def test_answers_of_questions_stand_apart_from_them(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").touch()
    os.link(tmp_path / "q.jsonl", tmp_path / "same")
    ended = batch(tmp_path, "same")
    assert (ended.returncode, b"is the file of questions" in ended.stderr) == (2, True)


def test_a_key_in_a_linked_file_is_written_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "keys.json").symlink_to("elsewhere.json")
    Keys(tmp_path / "keys.json").add("alice", dollars_per_day=Decimal(5))
    assert (tmp_path / "keys.json").is_symlink()
    assert stat.S_IMODE((tmp_path / "elsewhere.json").stat().st_mode) == 0o600
    assert kind_of(tmp_path / "keys.json") == "regular"
