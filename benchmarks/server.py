"""What serving a mixture costs: 200-token streamed answers of a 3+1 recipe, by `partsong serve` as its clients see it.

    python benchmarks/server.py PORT [SUFFIX, e.g. -t300-d20-n200] [AT ONCE, e.g. 1,50,500] [RUNS, at least]

PORT is that of the upstream, or 0 (see upstream.py). SUFFIX is put behind the name of each model.

Two things are measured beside the server, in the same run, as the least that any server needs:

* a Starlette application on the same granian that passes one streamed call through;
* a script that makes the same three plain calls and the streamed one with aiohttp and msgspec.

The ratio printed is the server's CPU over the CPU of both together. The time that the server adds to the first word is
the difference to the script. CPU is read from /proc, for all processes of a server. Memory per stream is what a first
wave of AT ONCE runs adds at its height. The load comes from this process, on the same machine: without delays in SUFFIX
the times are those of a queue.
"""

import asyncio
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from upstream import upstream

PROPOSERS, LAST = "abc", "z"
RECIPE = """
name = "three"
[[layers]]
agents = [{agents}]
[aggregator]
model = "mock:{last}"
"""
CONFIGURATION = """
[providers.mock]
api = "openai"
base_url = "http://127.0.0.1:{port}/v1"
concurrency = 10000
[server]
recipes = ["{recipe}"]
at_once = 10000
"""
QUESTION = [{"role": "user", "content": "What are three fun things to do?"}]
LEAST = 100  # runs of a measurement
WAVES = 3  # and at least so many times what is at once
START_WITHIN = 30.0  # seconds

Run = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Measured:
    """What a measurement came to.

    cpu: CPU seconds a run
    rate: runs a second
    median, slow: seconds to the first word, the median and the 99th percentile
    most: most memory that the server had, in bytes
    a_stream: memory that each stream adds, in bytes
    """

    cpu: float
    rate: float
    median: float
    slow: float
    most: int
    a_stream: float


class Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class Choice(msgspec.Struct, frozen=True):
    delta: Delta = Delta()
    message: Delta = Delta()


class Piece(msgspec.Struct, frozen=True):
    choices: list[Choice] = []


PIECE = msgspec.json.Decoder(Piece)


def pass_through() -> Starlette:
    """An application that passes one streamed call on to the URL in the environment variable UPSTREAM."""
    return Starlette(routes=[Route("/v1/chat/completions", _pass_on, methods=["POST"])], lifespan=_with_session)


@asynccontextmanager
async def _with_session(app: Starlette) -> AsyncIterator[dict[str, aiohttp.ClientSession]]:
    async with open_session() as session:
        yield {"session": session}


async def _pass_on(request: Request) -> StreamingResponse:
    asked = await request.body()
    headers = {"content-type": "application/json"}
    response = await request.state.session.post(os.environ["UPSTREAM"], data=asked, headers=headers)
    return StreamingResponse(_pieces(response), response.status, media_type="text/event-stream")


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with response:
        async for data in response.content.iter_any():
            yield data


def write_configuration(folder: Path, port: int, suffix: str = "") -> Path:
    """Write a recipe of three proposers and an aggregator, and a configuration that serves it; return the latter."""
    recipe, configuration = folder / "three.toml", folder / "partsong.toml"
    agents = ", ".join(f'"mock:{agent}{suffix}"' for agent in PROPOSERS)
    recipe.write_text(RECIPE.format(agents=agents, last=f"{LAST}{suffix}"))
    configuration.write_text(CONFIGURATION.format(port=port, recipe=recipe))
    return configuration


def open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(300))


def family(process: int) -> Iterator[int]:
    """The process, its children, theirs, and so on."""
    yield process
    with suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield from family(int(child))


def used(process: int) -> tuple[float, int]:
    """CPU seconds and resident bytes of a process and all its descendants."""
    seconds, size = 0.0, 0
    for each in family(process):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        size += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return seconds, size


def used_here() -> float:
    """CPU seconds of this process."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


async def stream(session: aiohttp.ClientSession, url: str, model: str) -> float:
    """Ask for a streamed answer, and return the seconds until its first word.

    The answer is read to its end but not parsed, so that the client takes little of the machine.
    """
    started, first, last = time.perf_counter(), 0.0, b""
    body = {"model": model, "stream": True, "messages": QUESTION}
    async with session.post(f"{url}/chat/completions", json=body) as response:
        async for data in response.content.iter_any():
            if not first and b'"content":"' in data.replace(b'"content":""', b""):
                first = time.perf_counter() - started
            last = (last + data)[-200:]
    if response.status != 200 or b"[DONE]" not in last or not first:
        raise RuntimeError(f"no answer from {url}: {response.status}, {last!r}")
    return first


async def bare(session: aiohttp.ClientSession, url: str, suffix: str) -> float:
    """Make the four calls as a plain script would; return the seconds until the first word of the last one."""

    async def plain(model: str) -> str:
        async with session.post(f"{url}/chat/completions", json={"model": model, "messages": QUESTION}) as response:
            return PIECE.decode(await response.read()).choices[0].message.content or ""

    started, first = time.perf_counter(), 0.0
    texts = await asyncio.gather(*(plain(f"{name}{suffix}") for name in PROPOSERS))
    body = {"model": f"{LAST}{suffix}", "stream": True, "messages": [{"role": "user", "content": "\n".join(texts)}]}
    said: list[str] = []
    async with session.post(f"{url}/chat/completions", json=body) as response:
        async for line in response.content:
            if line.startswith(b"data: {") and (choices := PIECE.decode(line[6:]).choices):
                if (text := choices[0].delta.content) and not first:
                    first = time.perf_counter() - started
                said.append(text or "")
    if not first:
        raise RuntimeError(f"no answer from {url}: {response.status}")
    return first


async def wave(run: Run, at_once: int, runs: int, watch: Callable[[], None] | None = None) -> list[float]:
    """Do `runs` runs, `at_once` of them at the same time; return the seconds to each first word, sorted."""
    left, firsts = iter(range(runs)), list[float]()

    async def work() -> None:
        for _ in left:
            firsts.append(await run())

    async def look() -> None:
        while watch is not None:
            watch()
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    try:
        await asyncio.gather(*(work() for _ in range(min(at_once, runs))))
    finally:
        looking.cancel()
    return sorted(firsts)


async def measure(run: Run, at_once: int, runs: int, process: int | None) -> Measured:
    """Measure `runs` runs, after a first wave that warms up and shows the memory."""
    before, peak = 0 if process is None else used(process)[1], 0

    def watch() -> None:
        nonlocal peak
        if process is not None:
            peak = max(peak, used(process)[1])

    await wave(run, at_once, at_once, watch)

    def cpu() -> float:
        return used_here() if process is None else used(process)[0]

    spent, started = cpu(), time.perf_counter()
    firsts = await wave(run, at_once, runs)
    wall, spent = time.perf_counter() - started, cpu() - spent
    middle, slow = firsts[len(firsts) // 2], firsts[len(firsts) * 99 // 100]
    return Measured(spent / runs, runs / wall, middle, slow, peak, max(0, peak - before) / at_once)


@contextmanager
def running(words: list[str], folder: Path, **variables: str) -> Iterator[int]:
    """Run a module as a server in a process of its own until the block is left; its output goes to a file."""
    with (folder / "written").open("wb") as written:
        command = [sys.executable, "-m", *words]
        process = subprocess.Popen(command, stdout=written, stderr=written, env=os.environ | variables)
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(60)


async def ready(run: Run, folder: Path) -> None:
    """Wait until a server answers. Raises `RuntimeError` after `START_WITHIN` seconds."""
    until = time.monotonic() + START_WITHIN
    while True:
        try:
            await run()
        except aiohttp.ClientError:
            if time.monotonic() > until:
                raise RuntimeError(f"it does not answer:\n{(folder / 'written').read_text()}") from None
            await asyncio.sleep(0.1)
        else:
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def main(port: str, suffix: str = "-n200", levels: str = "1,50,500", least: str = str(LEAST)) -> None:
    print("| at once | what | runs/s | CPU ms a run | first word p50 ms | p99 ms | MB | KiB a stream |")
    print("| --: | --- | --: | --: | --: | --: | --: | --: |")
    with tempfile.TemporaryDirectory() as name, upstream(int(port)) as theirs:
        folder = Path(name)
        (folder / "through").mkdir()
        configuration = write_configuration(folder, theirs, suffix)
        ports = free_port(), free_port()
        serve = ["partsong", "serve", "--port", str(ports[0]), "--config", str(configuration)]
        granian = ["granian", "--interface", "asgi", "--http", "1", "--no-ws", "--log-level", "warning", "--factory"]
        granian += ["--port", str(ports[1]), "--working-dir", str(Path(__file__).parent), "server:pass_through"]
        url = f"http://127.0.0.1:{theirs}/v1"
        with (
            running(serve, folder, PARTSONG_STATE=name) as served,
            running(granian, folder / "through", UPSTREAM=f"{url}/chat/completions") as passed,
        ):
            async with open_session() as session:
                by_server = partial(stream, session, f"http://127.0.0.1:{ports[0]}/v1", "three")
                by_pass_through = partial(stream, session, f"http://127.0.0.1:{ports[1]}/v1", f"{LAST}{suffix}")
                by_script = partial(bare, session, url, suffix)
                await ready(by_server, folder)
                await ready(by_pass_through, folder / "through")
                compared: list[str] = []
                for at_once in map(int, levels.split(",")):
                    runs = max(int(least), WAVES * at_once)
                    through = await measure(by_pass_through, at_once, runs, passed)
                    script = await measure(by_script, at_once, runs, None)
                    server = await measure(by_server, at_once, runs, served)
                    print(row(at_once, "partsong serve", server))
                    print(row(at_once, "pass-through of one call", through))
                    print(row(at_once, "bare script, four calls", script), flush=True)
                    compared.append(compare(at_once, server, through, script))
    print("\n" + "\n".join(compared))


def row(at_once: int, what: str, measured: Measured) -> str:
    times = " | ".join(f"{seconds * 1e3:.1f}" for seconds in (measured.cpu, measured.median, measured.slow))
    memory = f"{measured.most / 1e6:.0f} | {measured.a_stream / 1024:.0f}" if measured.most else " | "
    return f"| {at_once} | {what} | {measured.rate:.1f} | {times} | {memory} |"


def compare(at_once: int, server: Measured, through: Measured, script: Measured) -> str:
    ratio = server.cpu / (through.cpu + script.cpu)
    added = f"p50 {(server.median - script.median) * 1e3:.0f} ms, p99 {(server.slow - script.slow) * 1e3:.0f} ms"
    return f"{at_once} at once: CPU {ratio:.2f} x (bare four calls + pass-through); added to the first word {added}"


def new_loop() -> asyncio.AbstractEventLoop:
    """The loop of uvloop where that is installed, which granian then uses too."""
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(*sys.argv[1:]))
