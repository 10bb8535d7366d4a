"""A connection to a server of the Model Context Protocol over streamable HTTP, with bounds on what it sends.

The client of the SDK reads a response of any length into memory. This one ends a response that has too many bytes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from mcp.client.streamable_http import streamable_http_client

from partsong.tools.messages import Streams

LARGEST_RESPONSE = 8 * 1024 * 1024  # bytes of one response of a server, and of one event in it
SILENCE = 600.0  # seconds without a byte after which a response is given up; the deadline of a call ends it sooner
CONNECTING = 10.0  # seconds


class _TooLargeError(httpx2.TransportError):
    """The response has more bytes than are read."""


class _Bounded(httpx2.AsyncByteStream):
    """The bytes of a response, which end with an error after the largest number of them."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for chunk in self._stream:
            length += len(chunk)
            if length > LARGEST_RESPONSE:
                raise _TooLargeError(f"the response has more than {LARGEST_RESPONSE // 1024 // 1024} MiB")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    # A stream of the server's own messages (GET) may go on for days.
    if response.request.method == "POST" and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream)


@asynccontextmanager
async def connect(url: str, key: str | None) -> AsyncIterator[Streams]:
    """Yield the streams of a server's messages.

    key: sent as a bearer token; `None` for none
    """
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    timeout = httpx2.Timeout(CONNECTING, read=SILENCE)
    # Compressed bytes could become any number of bytes.
    headers["Accept-Encoding"] = "identity"
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks={"response": [_bound]}) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=LARGEST_RESPONSE) as streams,
    ):
        yield streams
