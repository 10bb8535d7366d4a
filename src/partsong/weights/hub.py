"""Fetches a file from the Hugging Face hub with one GET request, which resumes an earlier download.

The hub sends the version of the file (ETag) and, for large files, its SHA-256 (X-Linked-Etag). So a resumed download
never joins two versions, and a wrong file is refused before its first byte is fetched.
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
SILENCE = 20.0  # seconds without a byte after which a download counts as failed, and is resumed
TRIES = 3  # failures in a row without a new byte after which the hub is given up


class Reach(Struct, frozen=True):
    """How the hub is reached.

    hub: address of the hub
    token: access token; `None` for none
    patience: seconds in which the hub must begin its answer
    """

    hub: str
    token: str | None
    patience: float


async def fetch(
    entry: Entry, source: Source, part: Part, reach: Reach, moved: Callable[[int | None], None]
) -> str | None:
    """Fetch the file of an entry into `part`, and resume if a part of it has arrived earlier.

    moved: called whenever bytes have arrived, with the size of the whole file in bytes (`None` if unknown)

    Returns the SHA-256 that the hub sends; `None` if it sends none. Raises `SourceError` if the hub cannot be reached,
    does not have the file, or has another file.
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
    """One attempt to fetch the rest of a file. `key` names repository, revision and file in the notes of the part."""

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
        """Return the size of the whole file in bytes, from a response's headers; `None` if they do not give it.

        at: index of the byte from which the file was requested

        Raises `SourceError` if the response does not have the requested bytes, or the size is wrong.
        """
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
        """Discard what has arrived, because the response has the file from its first byte."""
        etag = response.headers.get("ETag", "")
        # A weak ETag does not promise that the bytes are the same.
        await self.part.begin(Notes(self.key, etag="" if etag.startswith("W/") else etag))

    def linked(self, response: aiohttp.ClientResponse) -> str | None:
        """Return the SHA-256 that the hub's response states for the file; `None` if the response states none.

        Raises `SourceError` if the catalogue's entry of this file has another SHA-256.
        """
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
