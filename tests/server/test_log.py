"""The server's log is written by a thread: a pipe that nobody reads stops that thread, and no request."""

import io
import json
import logging
import os
from threading import Thread
from typing import Literal

import pytest

from partsong.server.log import Log
from partsong.wire.reply import Problem

PROBLEM = Problem(429, "rate_limit", "x" * 1000)


def read_all(number: int) -> bytes:
    pieces = []
    while piece := os.read(number, 1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def test_a_pipe_that_nobody_reads_holds_nobody_up() -> None:
    reading, writing = os.pipe()  # it takes in some 64 KiB
    with open(writing, "w", encoding="utf-8") as out:
        log = Log("json", out, waiting=300)
        for _ in range(1000):
            log.refused("chat", PROBLEM)
        read: list[bytes] = []
        thread = Thread(target=lambda: read.append(read_all(reading)))
        thread.start()  # somebody reads after all
        log.close()
    thread.join()
    os.close(reading)
    lines = [json.loads(line) for line in read[0].splitlines()]  # each is whole
    said = [line["message"] for line in lines if "dropped" in line["message"]]
    dropped = sum(int(message.split()[0]) for message in said)
    assert dropped > 0
    assert len(lines) - len(said) + dropped == 1000


def test_the_end_does_not_wait_for_who_never_reads() -> None:
    reading, writing = os.pipe()
    out = open(writing, "w", encoding="utf-8")  # noqa: SIM115  # the thread still has it
    log = Log("text", out)
    for _ in range(1000):
        log.refused("chat", PROBLEM)
    log.close()
    os.close(reading)  # so that the thread ends: a pipe that is broken breaks nothing
    out.close()


def test_what_a_logger_says_is_a_line_as_well() -> None:
    out = io.StringIO()
    log, logger = Log("json", out), logging.Logger("ours")
    with log.taking(logger):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("run %s: a fault", "r1")
    logger.addHandler(logging.NullHandler())
    logger.warning("not this")
    log.close()
    (line,) = map(json.loads, out.getvalue().splitlines())
    assert (line["level"], line["message"]) == ("error", "run r1: a fault")
    assert line["trace"].endswith("ValueError: two\nlines")


def test_lines_come_in_their_order_and_all_of_them() -> None:
    out = io.StringIO()
    log = Log("text", out)
    for number in range(100):
        log.message("info", f"n{number}")
    log.close()
    assert [line.rpartition("=")[2] for line in out.getvalue().splitlines()] == [f"n{n}" for n in range(100)]


HOSTILE = "\x1b]0;owned\x07\x7f\x9b31m\u202egnp\u2066\u2028\ud800 é"


@pytest.mark.parametrize("kind", ["json", "text"])
def test_no_line_has_a_control_character_or_one_of_direction(kind: Literal["json", "text"]) -> None:
    out = io.StringIO()
    log = Log(kind, out)
    log.refused("chat", Problem(404, "not_found", HOSTILE))
    log.message("info", HOSTILE, HOSTILE)
    log.refused("chat", Problem(404, "not_found", "x" * 1_000_000))
    log.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert all(line.isascii() and line.isprintable() for line in lines)
    if kind == "json":
        assert json.loads(lines[0])["message"] == json.loads(lines[1])["trace"] == HOSTILE
    assert len(lines[2]) < 2500
    assert "(1,000,000 characters)" in lines[2].encode().decode("unicode_escape")
