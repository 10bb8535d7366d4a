"""Reads the store for the commands `history`, `show` and `replay`.

Reading creates no file. If there is no store yet, each command says how to store a run.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from partsong.configuration import find_configuration
from partsong.errors import InputError
from partsong.folders import store_path
from partsong.store import Store, StoredRun, Timed, open_store

EMPTY = 'no run is stored yet: each question is, when it is asked (partsong ask "Why is the sky blue?")'
OFF = 'no run is stored, since the configuration says so (store = "off")'


@asynccontextmanager
async def reading() -> AsyncIterator[Store | None]:
    """Open the store until the block is left; yields `None` if it is a file that does not exist yet."""
    place = find_configuration().database or store_path()
    if isinstance(place, Path) and not place.is_file():
        yield None
        return
    async with open_store(place, "full") as store:
        yield store


async def stored_run(name: str) -> tuple[StoredRun, list[Timed]]:
    """Return a stored run, and its events with their seconds since the start of the run.

    name: the run's id, the first letters of the id, or "last" for the newest run

    A run that was stored without words has no events. Raises `InputError` if there is no such run.
    """
    async with reading() as store:
        if store is None:
            raise InputError(how_it_is_empty())
        run = await store.find_run(name.strip())
        return run, await store.events(run.id) if run.mode == "full" else []


def how_it_is_empty() -> str:
    """Return a sentence that says why no run is stored: the configuration forbids it, or no question was asked."""
    return OFF if find_configuration().store == "off" else EMPTY


def when(started: datetime, now: datetime) -> str:
    """Return a time as text in the time zone of `now`, such as "today 14:05", "May 3 14:05" or "2025-05-03 14:05"."""
    moment = started.astimezone(now.tzinfo)
    days = (now.date() - moment.date()) // timedelta(days=1)
    if days in (0, 1):
        return f"{'yesterday' if days else 'today'} {moment:%H:%M}"
    return f"{moment:%b} {moment.day} {moment:%H:%M}" if moment.year == now.year else f"{moment:%Y-%m-%d %H:%M}"


def status(run: StoredRun) -> str:
    """Return the status of a run as text, with the cause if it failed.

    A run with the status "open" is still running, or its process died.
    """
    return f"failed: {run.cause}" if run.status == "failed" else run.status
