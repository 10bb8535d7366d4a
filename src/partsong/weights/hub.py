"""A file from the Hugging Face hub: one GET that goes on where the last one ended.

The hub says which version of the file it sends (ETag) and, for large files, its SHA-256 (X-Linked-Etag); so a resumed
download never joins two versions, and a file that is not the one wanted is refused before a byte of it is fetched.
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
TRIES = 3  # in a row that bring nothing new


class Reach(Struct, frozen=True):
    """Where the hub is, with what token, and how many seconds it gets to begin its answer."""

    hub: str
    token: str | None
    patience: float


async def fetch(
    entry: Entry, source: Source, part: Part, reach: Reach, moved: Callable[[int | None], None]
) -> str | None:
    """Bring the file into `part`; `moved` hears the total size whenever something arrived.

    Returns the hub's own SHA-256 of it, if it gives one. Raises `SourceError` if the file cannot be had here.
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
    """One try to get the rest of the file."""

    def __init__(self, entry: Entry, key: str, part: Part, moved: Callable[[int | None], None]) -> None:
        self.entry, self.key, self.part, self.moved = entry, key, part, moved

    async def get(self, session: aiohttp.ClientSession, url: str, reach: Reach) -> str | None:
        part = self.part
        headers = {"Accept-Encoding": "identity"}
        if reach.token:  # aiohttp drops it where the hub sends us on to another host
            headers["Authorization"] = f"Bearer {reach.token}"
        notes = part.notes(self.key)
        at = part.arrived() if notes is not None and notes.etag else 0
        if notes is not None and at and at == self.entry.bytes:  # only its name was missing
            await part.begin(notes, at)
            return None
        if notes is not None and at:
            headers |= {"Range": f"bytes={at}-", "If-Range": notes.etag}
        async with asyncio.timeout(reach.patience):
            response = await session.get(url, headers=headers)
        async with response:
            if response.status == 416 and at:  # what has arrived is no part of what is there
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
        """The file's size, as the hub says it. Raises `SourceError` if it sends something else than was asked for."""
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
        # A weak mark does not say that the bytes are the same.
        await self.part.begin(Notes(self.key, etag="" if etag.startswith("W/") else etag))

    def linked(self, response: aiohttp.ClientResponse) -> str | None:
        """The file's SHA-256 as the hub gives it. Raises `SourceError` if it is not the one wanted."""
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
