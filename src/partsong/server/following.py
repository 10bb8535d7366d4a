"""How a stored run that still goes on is followed: how often the store is read, and how a piece is sent."""

import asyncio

from partsong.server.response import SendBytes

PAUSE = 0.25  # seconds between two reads from the store; the recorder writes as often
SHARE = 20  # the pause before the next read is at least this many times the duration of a read


def pause_after(seconds: float) -> float:
    """Return the pause in seconds before the next read, after a read that took `seconds`.

    Each read takes all events of the run, so long runs are read less often.
    """
    return max(PAUSE, SHARE * seconds)


async def send_piece(send: SendBytes, data: bytes, slowest: float) -> None:
    """Send a piece of a response's body. Raises `TimeoutError` if the client takes longer than `slowest` seconds."""
    async with asyncio.timeout(slowest):
        await send({"type": "http.response.body", "body": data, "more_body": True})
