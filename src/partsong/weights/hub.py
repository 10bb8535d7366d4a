"""A file from the Hugging Face hub: one GET, resumed where the last one ended.

The hub tells the version of the file (ETag) and, for large files, its SHA-256 (X-Linked-Etag). A resumed download
therefore never joins two versions, and a wrong file is refused before its first byte is fetched.
"""

import asyncio
import re
from collections.abc import Callable
from urllib.parse import quote

import aiohttp
from msgspec import Struct

from partsong.weights.catalogue import Entry, Source
from partsong.weights.part import Notes, Part, SourceError

CHUNK = 1 << 18
SILENCE = 20.0  # seconds without a byte, in the middle of a file
TRIES = 3  # failures in a row without a new byte


class Reach(Struct, frozen=True):
    """How the hub is reached: its address, a token, and how many seconds it gets to begin its answer (`patience`)."""

    hub: str
    token: str | None
    patience: float


async def fetch(
    entry: Entry, source: Source, part: Part, reach: Reach, moved: Callable[[int | None], None]
) -> str | None:
    """Fetch the file into `part`. `moved` hears the total size whenever bytes have arrived.

    Returns the SHA-256 that the hub tells, if it tells one. Raises `SourceError` if the hub does not send the file.
    """
    url = f"{reach.hub.rstrip('/')}/{source.repository}/resolve/{quote(source.revision)}/{quote(source.file)}"
    key = f"{source.repository}@{source.revision}:{source.file}"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=min(3.0, reach.patience), sock_read=SILENCE)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        moving, failures = False, 0
        while True:
            before = part.done
            try:
                return await _Download(entry, key, part, moved).get(session, url, reach)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as fault:
                moving = moving or part.done > before
                failures = 1 if part.done > before else failures + 1
                if not moving or failures >= TRIES:
                    raise SourceError(_reason(fault, reach)) from None
            await asyncio.sleep(reach.patience / 6)


class _Download:
    """One attempt to fetch the rest of the file."""

    def __init__(self, entry: Entry, key: str, part: Part, moved: Callable[[int | None], None]) -> None:
        self.entry, self.key, self.part, self.moved = entry, key, part, moved

    async def get(self, session: aiohttp.ClientSession, url: str, reach: Reach) -> str | None:
        part = self.part
        headers = {"Accept-Encoding": "identity"}
        if reach.token:  # aiohttp drops the token if the hub redirects to another host
            headers["Authorization"] = f"Bearer {reach.token}"
        notes = part.notes(self.key)
        at = part.arrived() if notes is not None and notes.etag else 0
        if notes is not None and at and at == self.entry.bytes:  # whole, but not renamed yet
            await part.begin(notes, at)
            return None
        if notes is not None and at:
            headers |= {"Range": f"bytes={at}-", "If-Range": notes.etag}
        async with asyncio.timeout(reach.patience):
            response = await session.get(url, headers=headers)
        async with response:
            if response.status == 416 and at:  # the hub's file is shorter than the bytes that have arrived
                part.discard()
                return await self.get(session, url, reach)
            linked = self.linked(response)
            total = self.size(response, at)
            if response.status == 200:
                await self.begin_anew(response)
            elif notes is not None and not part.is_open:
                await part.begin(notes, at)
            part.make_room((total or self.entry.bytes or part.done) - part.done)
            self.moved(total)
            async for data in response.content.iter_chunked(CHUNK):
                part.write(data)
                self.moved(total)
        return linked

    def size(self, response: aiohttp.ClientResponse, at: int) -> int | None:
        """The size of the file as the hub tells it. Raises `SourceError` if the hub sends something else."""
        match response.status:
            case 200:
                total = response.content_length
            case 206:
                place = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
                if place is None or int(place[1]) != at:
                    raise SourceError("it sent another part of the file than was asked for")
                total = int(place[2])
            case 401 | 403:
                raise SourceError(f"it answered {response.status}: access has to be asked for, or HF_TOKEN is not set")
            case 404:
                raise SourceError("it has no such file")
            case status:
                raise SourceError(f"it answered {status}")
        if self.entry.bytes is not None and total is not None and total != self.entry.bytes:
            raise SourceError(f"its file has {total:,} bytes, but {self.entry.bytes:,} were expected")
        return total

    async def begin_anew(self, response: aiohttp.ClientResponse) -> None:
        etag = response.headers.get("ETag", "")
        # A weak ETag does not promise that the bytes are the same.
        await self.part.begin(Notes(self.key, etag="" if etag.startswith("W/") else etag))

    def linked(self, response: aiohttp.ClientResponse) -> str | None:
        """The SHA-256 of the file as the hub tells it. Raises `SourceError` if another one is wanted."""
        for answer in (*response.history, response):
            digest = answer.headers.get("X-Linked-Etag", "").strip('"').lower()
            if re.fullmatch(r"[0-9a-f]{64}", digest):
                if self.entry.sha256 not in (None, digest):
                    raise SourceError(f"its file has the SHA-256 {digest}, but {self.entry.sha256} was expected")
                return digest
        return None


def _reason(fault: Exception, reach: Reach) -> str:
    if isinstance(fault, aiohttp.ClientConnectorDNSError):
        return "its name cannot be looked up; is there a network?"
    if isinstance(fault, TimeoutError):
        return f"it did not answer within {reach.patience:g} s, or fell silent"
    return f"it cannot be reached: {str(fault) or type(fault).__name__}"
