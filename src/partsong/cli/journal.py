"""What the commands read from the store: the runs, or one of them with its events. Nothing is made by reading.

Where there is no store yet, no file is made for it, and every command says how runs get there.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from partsong.configuration import find_configuration
from partsong.errors import InputError
from partsong.events import AnyEvent
from partsong.folders import store_path
from partsong.store import Store, StoredRun, open_store

EMPTY = 'no run is stored yet: each question is, when it is asked (partsong ask "Why is the sky blue?")'
OFF = 'no run is stored, since the configuration says so (store = "off")'


@asynccontextmanager
async def reading() -> AsyncIterator[Store | None]:
    """The store, open; `None` where there is none yet."""
    path = store_path()
    if not path.is_file():
        yield None
        return
    async with open_store(path, "full") as store:
        yield store


async def stored_run(name: str) -> tuple[StoredRun, list[tuple[float, AnyEvent]]]:
    """The run with this id, or the only one whose id begins so, or the `last`; and its events, each with its seconds.

    One that was stored without its words has no events. Raises `InputError` where there is no such run.
    """
    async with reading() as store:
        if store is None:
            raise InputError(how_it_is_empty())
        run = await store.find_run(name.strip())
        return run, await store.events(run.id) if run.mode == "full" else []


def how_it_is_empty() -> str:
    """Why no run is stored."""
    return OFF if find_configuration().store == "off" else EMPTY


def when(started: datetime, now: datetime) -> str:
    """A moment as people say it, in the time zone of `now`, as short as it is clear."""
    moment = started.astimezone(now.tzinfo)
    days = (now.date() - moment.date()) // timedelta(days=1)
    if days in (0, 1):
        return f"{'yesterday' if days else 'today'} {moment:%H:%M}"
    return f"{moment:%b} {moment.day} {moment:%H:%M}" if moment.year == now.year else f"{moment:%Y-%m-%d %H:%M}"


def status(run: StoredRun) -> str:
    """How the run ended, in words; one that is open goes on now, or its process died."""
    return f"failed: {run.cause}" if run.status == "failed" else run.status
