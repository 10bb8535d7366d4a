"""The upstream of the benchmarks: an OpenAI-compatible server on loopback whose models do what their names say.

    python benchmarks/upstream.py [PORT, 0 for any free one]

A model is called `NAME-t300-d20-n200`, with any of these behind the name, in any order:

    -tMS      milliseconds until the first token
    -dMS      milliseconds between tokens
    -nN       number of tokens
    -fPERCENT the share of calls that fail, with status 400, 500 or 503
    -hang     never answers
    -echo     answers with every `canary-…` of its prompt, in pieces of four letters

`GET /stats` returns the number of calls, and of those whose client left before the end, as JSON.

Each benchmark takes a PORT. With 0, `upstream` below starts this server in a process of its own. Any other number is
the port of a server that is running already. For hundreds of fast streams at once that should be a server which needs
less of the machine than Python does.
"""

import asyncio
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CANARY = re.compile(r"canary-[0-9a-f]{16}")
FAILURES = (400, 500, 503)
PIECE = 4  # letters of an echo that stand in one token


@contextmanager
def upstream(port: int) -> Iterator[int]:
    """The port of an upstream. With `port` 0, one is started, and stopped when the block is left."""
    if port:
        yield port
        return
    process = subprocess.Popen([sys.executable, str(Path(__file__)), "0"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)


@dataclass(frozen=True)
class Behaviour:
    """What the name of a model says.

    first, pause: seconds until the first token, and between tokens
    tokens: the number of tokens
    failing: the share of calls that fail, from 0 to 1
    """

    first: float = 0.0
    pause: float = 0.0
    tokens: int = 10
    failing: float = 0.0
    hangs: bool = False
    echoes: bool = False

    @classmethod
    def of(cls, model: str) -> "Behaviour":
        numbers = {letter: int(digits) for letter, digits in re.findall(r"-([tdnf])(\d+)(?=-|$)", model)}
        words = model.split("-")
        return cls(
            numbers.get("t", 0) / 1000,
            numbers.get("d", 0) / 1000,
            numbers.get("n", 10),
            numbers.get("f", 0) / 100,
            "hang" in words,
            "echo" in words,
        )

    def pieces(self, messages: object) -> list[str]:
        """The tokens of the answer."""
        if not self.echoes:
            return ["word "] * self.tokens
        text = " ".join(sorted(set(CANARY.findall(json.dumps(messages)))))
        return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


class ClientLeft(Exception):
    """The client closed the connection before the answer was complete."""


@dataclass
class Upstream:
    """The server, with what it counts. Failures are drawn from a fixed seed."""

    calls: int = 0
    closed_early: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after another."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                if head.startswith(b"GET"):
                    counted = {"calls": self.calls, "closed_early": self.closed_early}
                    writer.write(_response(200, _json(counted)))
                else:
                    self.calls += 1
                    try:
                        await self.answer(json.loads(body), reader, writer)
                    except ConnectionError:
                        raise ClientLeft from None
        except ClientLeft:
            self.closed_early += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client needs the connection no longer
        finally:
            writer.close()

    async def answer(self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one call. Raises `ClientLeft`."""
        behaviour = Behaviour.of(asked["model"])
        pieces = behaviour.pieces(asked["messages"])
        if behaviour.hangs:
            await reader.read(1)  # nothing comes but the end of the connection
            raise ClientLeft
        if self.chance.random() < behaviour.failing:
            writer.write(_response(self.chance.choice(FAILURES), b'{"error": {"message": "no"}}'))
            return
        await _wait(behaviour.first, reader)
        usage = {"prompt_tokens": 9, "completion_tokens": len(pieces), "total_tokens": 9 + len(pieces)}
        if not asked.get("stream"):
            await _wait(behaviour.pause * (len(pieces) - 1), reader)
            message = {"role": "assistant", "content": "".join(pieces)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {"id": "c", "model": asked["model"], "choices": [choice], "usage": usage}
            writer.write(_response(200, _json(whole)))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for index, piece in enumerate(pieces):
            if index:
                await _wait(behaviour.pause, reader)
            writer.write(_event({"id": "c", "choices": [{"index": 0, "delta": {"content": piece}}]}))
            await writer.drain()
        end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
        writer.write(_event(end) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def _wait(seconds: float, reader: asyncio.StreamReader) -> None:
    """Sleep. Raises `ClientLeft` if the connection is closed by then."""
    if seconds > 0:
        await asyncio.sleep(seconds)
    if reader.at_eof():
        raise ClientLeft


def _json(data: object) -> bytes:
    """The data as compact JSON, as providers send it."""
    return json.dumps(data, separators=(",", ":")).encode()


def _response(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _event(data: object) -> bytes:
    return _chunk(b"data: " + _json(data) + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def main(port: int) -> None:
    server = await asyncio.start_server(Upstream().connection, "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
