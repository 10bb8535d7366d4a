"""Who reads or sends too slowly is cut off, over a real socket, by the server that `partsong serve` runs."""

import asyncio
import json
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from partsong.server.response import EventStream, SlowReaderError
from partsong.store import open_store
from tests.server.test_serve import ready, served
from tests.upstream import Reply, Server

# The server as `partsong serve` starts it, with less patience.
PROGRAM = """
import os, sys
from msgspec.structs import replace
from partsong.configuration import find_configuration
from partsong.server.settings import tell_workers
from partsong.cli.serve import free_port, run

configuration = find_configuration()
serving = replace(configuration.server, port=0)
serving = replace(serving, port=free_port(serving))
tell_workers(configuration, None, serving)
os.environ["PYTHONPATH"] = os.getcwd() + os.pathsep + os.environ.get("PYTHONPATH", "")
sys.path.insert(0, os.getcwd())
run(serving, f"http://{serving.host}:{serving.port}", "impatient:app", headers_within=500)
"""
IMPATIENT = """
from partsong.server.settings import server_settings
from partsong.server.application import make_app

app = make_app(server_settings, slowest=0.5)
"""
WORDS = b'data: {"choices": [{"index": 0, "delta": {"content": "%b"}}]}\n\n' % (b"so it is " * 4000)
PIECES = 600  # 21 MB in all: more than what the sockets in between take in
QUESTION = {"model": "up:z", "stream": True, "messages": [{"role": "user", "content": "Is it so?"}]}


def head(length: int) -> bytes:
    lines = ("POST /v1/chat/completions HTTP/1.1", "host: 127.0.0.1", "content-type: application/json")
    return "\r\n".join((*lines, f"content-length: {length}", "", "")).encode()


def connected(url: str, room: int | None = None) -> socket.socket:
    made = socket.socket()
    if room is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    made.settimeout(30)
    made.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    return made


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    pieces = []
    try:
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


@pytest.fixture
def impatient(tmp_path: Path) -> Path:
    (tmp_path / "impatient.py").write_text(IMPATIENT, encoding="utf-8")
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


async def test_who_does_not_read_is_cut_off_and_its_calls_are_closed(impatient: Path) -> None:
    endless = Reply((WORDS,) * PIECES, content_type="text/event-stream", end="silence")
    async with Server(endless) as upstream, aiohttp.ClientSession() as session:
        told = f'[providers.up]\napi = "openai"\nbase_url = "{upstream.url}/v1"\nfree = true\n'
        told += '[models."up:z"]\nwindow = 100000\n'  # so that requests may name the model
        told += "[bounds]\nanswer_characters = 100000000\n"  # or the answer would end before the sockets are full
        (impatient / "partsong.toml").write_text(told, encoding="utf-8")
        with served(impatient, program=("program.py",)) as (_, url):
            await ready(session, url)
            body = json.dumps(QUESTION).encode()
            with closing(connected(url, room=4096)) as reader:
                reader.sendall(head(len(body)) + body)
                async with asyncio.timeout(30):
                    while not upstream.exchanges:
                        await asyncio.sleep(0.01)
                    await upstream.exchanges[0].left.wait()  # though its last word was not said
                came = await asyncio.to_thread(all_of, reader)  # what was on its way, and then the end
            assert came.startswith(b"HTTP/1.1 200 OK")
            assert b"[DONE]" not in came
            assert len(came) < PIECES * len(WORDS)
            async with asyncio.timeout(10), session.get(f"{url}/readyz") as response:  # and others are served
                assert response.status == 200
    async with open_store(impatient / "state" / "journal.db") as store:
        (run,) = await store.runs()
        assert (run.status, run.cause) == ("failed", "cancelled")


async def test_who_does_not_send_is_cut_off(impatient: Path) -> None:
    with served(impatient, program=("program.py",)) as (_, url):
        async with aiohttp.ClientSession() as session:
            await ready(session, url)
        with closing(connected(url)) as half_a_body, closing(connected(url)) as half_a_head:
            half_a_body.sendall(head(1000) + b'{"model": "three"')
            half_a_head.sendall(head(1000)[:40])
            late = await asyncio.to_thread(all_of, half_a_body)
            assert late.startswith(b"HTTP/1.1 408 ")
            assert b"the body was not there after 0.5 seconds" in late
            assert b" 200 " not in await asyncio.to_thread(all_of, half_a_head)  # and it is hung up on


class Plain:
    """A stream that says what it is given."""

    def begin(self) -> bytes:
        return b"begin"

    def wait(self) -> bytes:
        return b": waiting\n\n"


async def test_after_a_slow_reader_nothing_more_is_tried() -> None:
    tried: list[Any] = []

    async def send(message: Any) -> None:
        tried.append(message["type"])
        if len(tried) == 3:
            await asyncio.Event().wait()

    stream = EventStream(send, Plain(), [], slowest=0.01)  # type: ignore[arg-type]
    try:
        with pytest.raises(SlowReaderError, match=r"has not read for 0\.01 seconds"):
            await stream.put(b"word")
        for last in (stream.put, stream.close):
            with pytest.raises(SlowReaderError):
                await last(b"more")
    finally:
        stream.stop()
    assert len(tried) == 3
