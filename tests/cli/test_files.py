"""`partsong ask --file`, as a process of its own."""

import json
from pathlib import Path

import pytest

from tests import pdfs
from tests.cli.test_cli import partsong

MODEL = ("--model", "scripted:z?text=So+it+is")


def test_files_are_asked_about_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(pdfs.pdf("Revenue was 41 million.", pictures=1))
    (tmp_path / "notes.md").write_text("# Notes\n", encoding="utf-8")
    (tmp_path / "partsong.toml").write_text("[documents]\npages = 1\n", encoding="utf-8")
    files = ("--file", "report.pdf", "-f", "notes.md")
    done = partsong("ask", *MODEL, *files, "What was the revenue?", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "So it is\n")
    assert "(0, 0) scripted:z read a shortened prompt: without 1 picture of report.pdf" in done.stderr
    done = partsong("ask", "--json", *MODEL, *files, "What was the revenue?", folder=tmp_path)
    first, second, text = json.loads(done.stdout.splitlines()[0])["conversation"]["messages"][0]["parts"]
    assert (first["name"], first["pages"], second["name"]) == ("report.pdf", 1, "notes.md")
    assert "Revenue was 41 million." in first["text"]
    assert text == {"type": "text", "text": "What was the revenue?"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing.pdf", "missing.pdf: cannot be read: No such file"),
        ("secret.pdf", "secret.pdf: is encrypted"),
        ("picture.png", "picture.png: is neither a PDF nor text in UTF-8"),
        ("large.txt", "large.txt: has more than 1 MiB; see `megabytes` in [documents] of partsong.toml"),
        ("long.pdf", "long.pdf: it was not read within 0.001 seconds"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_asked(tmp_path: Path, name: str, told: str) -> None:
    seconds = "0.001" if name == "long.pdf" else "20"
    limits = f"[documents]\nmegabytes = 1\nseconds = {seconds}\n"
    (tmp_path / "partsong.toml").write_text(limits, encoding="utf-8")
    (tmp_path / "secret.pdf").write_bytes(pdfs.encrypted())
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "large.txt").write_bytes(b"x" * (1024 * 1024 + 1))
    (tmp_path / "long.pdf").write_bytes(pdfs.pdf("x"))
    done = partsong("ask", *MODEL, "--file", name, "What?", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pages = 0", "pages is 0, but must be at least 1"),
        ("seconds = 0", "seconds is 0.0, but must be a number of seconds above 0"),
        ("memory = 1", "memory is 1, but must be at least 128 MiB"),
        ("page = 1", "there is no such field"),
    ],
)
def test_limits_that_are_none_are_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "partsong.toml").write_text(f"[documents]\n{text}\n", encoding="utf-8")
    done = partsong("ask", *MODEL, "What?", folder=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
