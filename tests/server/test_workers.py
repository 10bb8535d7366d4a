"""Two processes of `partsong serve` on one port and one store: what one of them knows, the other heeds.

One server serves all of these tests; the last one stops it. Which process a connection has reached is read from /proc.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, TypeVar

import pytest

from partsong.keys import Keys
from partsong.store import StoredRun, open_store
from tests.server.test_serve import served
from tests.serving import recipe_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="which process has a connection is read from /proc")

SLOW = "scripted:slow?tokens=100000&each=0.01"
SHORT = "scripted:short?tokens=40&each=0.02"
PAID = "scripted:paid?tokens=100&output=1000"  # a tenth of a dollar
T = TypeVar("T")
WITHIN = 20.0  # seconds in which something must happen that takes a few at most


class Line:
    """A connection that has reached one process, `worker`, and stays with it."""

    def __init__(self, port: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self.connection.connect()
        self.worker = until(lambda: owner(self.connection.sock.getsockname()[1], port))

    def send(self, path: str, body: Any = None, key: str = "") -> HTTPResponse:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        data = None if body is None else json.dumps(body).encode()
        self.connection.request("GET" if body is None else "POST", path, data, headers)
        return self.connection.getresponse()

    def ask(self, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        response = self.send(path, body, key)
        said = response.read()
        return response.status, json.loads(said) if said.startswith(b"{") else said

    def close(self) -> None:
        self.connection.close()


def owner(theirs: int, ours: int) -> int | None:
    """The process that has accepted the connection from that port to this one."""
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        if words[1].endswith(f":{ours:04X}") and words[2].endswith(f":{theirs:04X}"):
            wanted = f"socket:[{words[9]}]"
            break
    else:
        return None
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(link) == wanted for link in (folder / "fd").iterdir()):
                return int(folder.name)
        except OSError:
            continue  # another's process, or one that has just ended
    return None


def until(look: Callable[[], T | None]) -> T:
    give_up = time.monotonic() + WITHIN
    while time.monotonic() < give_up:
        if (found := look()) is not None:
            return found
        time.sleep(0.02)
    raise AssertionError("it never happened")


class Pair:
    """The server: its process, its keys and its store, and a line to each of its two workers."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, folder: Path) -> None:
        self.process, self.port, self.folder = process, port, folder
        self.keys = Keys(folder / "state" / "keys.json")

    def lines(self, stack: ExitStack, *but: int) -> tuple[Line, Line]:
        """A line to each worker, of those that are not named."""
        found: dict[int, Line] = {}

        def look() -> tuple[Line, Line] | None:
            try:
                line = stack.enter_context(closing(Line(self.port)))
            except OSError:
                return None  # a worker that is gone had been about to answer
            if line.worker not in but:
                found.setdefault(line.worker, line)
            return None if len(found) < 2 else (*found.values(),)[:2]  # type: ignore[return-value]

        return until(look)

    async def run(self, answer: Any) -> StoredRun:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(self.folder / "state" / "journal.db"))
            return await store.find_run(answer["partsong"]["run"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    configuration = folder / "partsong.toml"
    configuration.write_text("".join(f'[models."{name}"]\n' for name in (SLOW, SHORT, PAID, "scripted:echo?echo=1")))
    named = ("--config", str(configuration))
    with served(folder, "--recipe", recipe_file(folder), "--workers", "2", *named) as (process, url):
        yield Pair(process, int(url.rpartition(":")[2]), folder)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def lines(pair: Pair, stack: ExitStack) -> tuple[Line, Line]:
    return pair.lines(stack)


@pytest.fixture
def key(pair: Pair, stack: ExitStack) -> Callable[..., str]:
    """Makes a key, which is taken away after the test."""

    def make(name: str, **limits: Any) -> str:
        secret = pair.keys.add(name, **limits)
        stack.callback(pair.keys.remove, name)
        return secret

    return make


def question(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Is it so?"}], **more}


CHAT = "/v1/chat/completions"


def test_requests_at_once_are_those_of_both(lines: tuple[Line, Line], pair: Pair, key: Callable[..., str]) -> None:
    secret = key("busy", at_once=2)
    streams = [line.send(CHAT, question(SLOW, stream=True), secret) for line in lines]
    assert [stream.status for stream in streams] == [200, 200]
    with ExitStack() as stack:
        others = pair.lines(stack)
        for other in others:
            status, answer = other.ask(CHAT, question("three"), secret)
            assert (status, answer["error"]["message"]) == (429, 'the key "busy" may make 2 requests at once')
        for line, stream in zip(lines, streams, strict=True):
            stream.close()
            line.close()
        for other in others:  # both places come free
            until(lambda other=other: other.ask(CHAT, question("three"), secret)[0] == 200 or None)  # type: ignore[misc]


def test_requests_a_minute_are_those_of_both(lines: tuple[Line, Line], key: Callable[..., str]) -> None:
    secret = key("often", requests_per_minute=4)
    said = [line.ask(CHAT, question("three"), secret)[0] for line in lines * 3]
    assert said == [200] * 4 + [429] * 2


def test_the_money_of_a_day_is_that_of_both(lines: tuple[Line, Line], key: Callable[..., str]) -> None:
    secret = key("poor", dollars_per_day="0.2")
    asked = question(PAID, max_tokens=100)
    said = [line.ask(CHAT, asked, secret) for line in lines * 2]
    assert [status for status, _ in said] == [200, 200, 402, 402]
    assert said[2][1]["error"]["code"] == "budget"


def test_keys_that_come_and_go_are_known_to_both(lines: tuple[Line, Line], pair: Pair) -> None:
    def keys(*arguments: str) -> str:
        environment = os.environ | {"PARTSONG_STATE": str(pair.folder / "state")}
        command = [sys.executable, "-m", "partsong", "keys", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def statuses(secret: str) -> list[int]:
        return [line.ask("/v1/models", key=secret)[0] for line in lines]

    assert statuses("") == [200, 200]
    secret = next(word for word in keys("add", "guest").split() if word.startswith("ps-"))
    assert statuses("") == [401, 401]
    assert statuses(secret) == [200, 200]
    pair.keys.add("other")
    keys("remove", "guest")
    assert statuses(secret) == [401, 401]
    pair.keys.remove("other")
    assert statuses("") == [200, 200]


async def test_the_advice_of_a_turn_is_found_by_the_other(lines: tuple[Line, Line], pair: Pair) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    asked = question("three", tools=tools)
    status, first = lines[0].ask(CHAT, asked)
    assert status == 200
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    step = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "It is so."},
    ]
    status, second = lines[1].ask(CHAT, asked | {"messages": asked["messages"] + step})
    assert status == 200
    runs = [await pair.run(answer) for answer in (first, second)]
    assert [(run.calls, run.stored) for run in runs] == [(4, 0), (1, 3)]


def test_what_one_has_answered_the_other_goes_on_from(lines: tuple[Line, Line]) -> None:
    here, there = lines
    status, first = here.ask("/v1/responses", {"model": "three", "input": "Is it so?"})
    assert status == 200
    more = {"model": "scripted:echo?echo=1", "input": "And now?", "previous_response_id": first["id"]}
    status, second = there.ask("/v1/responses", more)
    assert status == 200
    run = second["id"].removeprefix("resp_")
    status, told = here.ask(f"/v1/runs/{run}/events")
    assert status == 200
    started = json.loads(told.split(b"\ndata: ", 1)[1].split(b"\n")[0])
    assert "So it is" in json.dumps(started)  # what the first had answered was asked again with it
    assert b"event: run_finished" in told


def test_the_places_of_a_worker_that_was_killed_come_free(
    lines: tuple[Line, Line], pair: Pair, key: Callable[..., str]
) -> None:
    secret = key("single", at_once=1)
    here, there = lines
    assert here.send(CHAT, question(SLOW, stream=True), secret).status == 200
    os.kill(here.worker, signal.SIGKILL)
    assert there.ask(CHAT, question("three"), secret)[0] == 429  # nobody has said yet that it is gone
    until(lambda: there.ask(CHAT, question("three"), secret)[0] == 200 or None)
    with ExitStack() as stack:
        new = {line.worker for line in pair.lines(stack, here.worker)}
    assert there.worker in new
    assert len(new) == 2  # another has taken its place


async def test_told_to_stop_both_finish_and_write_the_store_out(lines: tuple[Line, Line], pair: Pair) -> None:
    streams = [line.send(CHAT, question(SHORT, stream=True)) for line in lines]
    firsts = [json.loads(stream.readline().removeprefix(b"data: ")) for stream in streams]
    pair.process.send_signal(signal.SIGTERM)
    assert all(stream.read().endswith(b"data: [DONE]\n\n") for stream in streams)
    assert pair.process.wait(60) == 128 + signal.SIGTERM
    for line in lines:
        assert not Path(f"/proc/{line.worker}").exists()
    for first in firsts:
        run = await pair.run({"partsong": {"run": first["id"].removeprefix("chatcmpl-")}})
        assert run.status == "finished"
