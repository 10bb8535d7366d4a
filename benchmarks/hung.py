"""One proposer of three hangs: how long until the answer begins, with a quorum and without one.

    python benchmarks/hung.py [RUNS AT ONCE]

Models are real HTTP servers on loopback, in a thread of their own: two proposers answer after 0.6 and 1 s, one accepts
the call and never says anything, and the aggregator begins after 0.3 s. With `quorum = 2` and `grace`, the answer must
begin no later than the quorum's slowest proposer, plus the grace, plus the aggregator's own first token; without a
quorum the run's deadline decides. Prints a row for each, the slowest of the runs: seconds until the first token, the
bound, and their ratio.

Measured in the same way, comparable projects without such a rule waited for 185 to 300 s, or had not answered after
300 s, when they were given up (the figures are those of issue 3 of this project, "Guards").
"""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import partsong
from partsong.configuration import Provider
from partsong.events import AggregationDelta, AnyEvent, RunFinished

PROPOSERS = {"fast": 0.6, "slow": 1.0, "hung": None}  # seconds until each answers
AGGREGATOR = 0.3
GRACES = (0.0, 0.5, 2.0)
DEADLINE = 10.0  # seconds, of which proposers share the first 60 %


async def main(at_once: int) -> None:
    print(f"{'':16}{'first token':>12}{'bound':>9}{'ratio':>8}")
    with serving() as port:
        mock = Provider("openai", f"http://127.0.0.1:{port}/v1", concurrency=10_000)
        names = [*(f"mock:{name}" for name in PROPOSERS), "mock:aggregator"]
        async with partsong.assemble(names, partsong.Configuration(providers={"mock": mock})) as models:
            await asyncio.gather(*(first_token(recipe(quorum=2, grace=0), models) for _ in range(at_once)))  # warm
            for grace in GRACES:
                bound = max(seconds for seconds in PROPOSERS.values() if seconds) + grace + AGGREGATOR
                await row(f"grace {grace:g} s", recipe(quorum=2, grace=grace), models, bound, at_once)
            await row("without quorum", recipe(), models, DEADLINE * 0.6 + AGGREGATOR, at_once)


async def row(
    title: str, wanted: partsong.Recipe, models: Mapping[str, partsong.Model], bound: float, at_once: int
) -> None:
    measured = max(await asyncio.gather(*(first_token(wanted, models) for _ in range(at_once))))
    print(f"{title:16}{measured:>10.3f} s{bound:>7.1f} s{measured / bound:>8.3f}")


def recipe(quorum: int | None = None, grace: float | None = None) -> partsong.Recipe:
    agents = tuple(partsong.Agent(f"mock:{name}") for name in PROPOSERS)
    layer = partsong.Layer(agents, quorum=quorum, grace=grace)
    return partsong.Recipe("hung", (layer,), partsong.Aggregator("mock:aggregator"), deadline=DEADLINE)


async def first_token(wanted: partsong.Recipe, models: Mapping[str, partsong.Model]) -> float:
    """Seconds until the answer begins. The run goes on to its end, and must have one."""
    clock = asyncio.get_running_loop().time
    started, first = clock(), 0.0
    last: AnyEvent | None = None

    async def emit(event: AnyEvent) -> None:
        nonlocal first, last
        last = event
        if not first and isinstance(event, AggregationDelta):
            first = clock() - started

    await partsong.perform(wanted, partsong.asking("Why?"), models, emit, watch=False)
    if not isinstance(last, RunFinished):
        raise SystemExit(f"the run did not finish: {last}")
    return first


@contextmanager
def serving() -> Iterator[int]:
    """The port of a server of these models, which runs in a thread until the block is left."""
    ready = threading.Event()
    found: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
        stop = asyncio.Event()
        found.append((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    ready.wait()
    port, loop, stop = found[0]
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection, each in the time of the model that it names."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            asked = json.loads(await reader.readexactly(int(length.split(b":")[1])))
            seconds = PROPOSERS.get(asked["model"], AGGREGATOR)
            await asyncio.sleep(3600 if seconds is None else seconds)
            writer.write(said(bool(asked.get("stream"))))
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        pass  # the client has left, or the benchmark is over
    finally:
        writer.close()


def said(streamed: bool) -> bytes:
    """A whole response."""
    if streamed:
        chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "An answer."}}]}
        end = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        body = "".join(f"data: {json.dumps(part)}\n\n" for part in (chunk, end)) + "data: [DONE]\n\n"
        kind = "text/event-stream"
    else:
        message = {"role": "assistant", "content": "A proposal."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body, kind = json.dumps({"id": "c", "model": "m", "choices": [choice]}), "application/json"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
