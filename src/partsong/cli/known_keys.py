"""The keys of the server, for the commands: in this user's file, or in the database that several hosts share."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from partsong.assembly import open_journal
from partsong.cli.loop import complete
from partsong.configuration import Configuration
from partsong.folders import keys_path
from partsong.keys import Key, Keys, make_key, read_keys, taken, unknown, write_key
from partsong.store import Store

T = TypeVar("T")


def place_of(configuration: Configuration) -> str:
    """Where the keys are, for people to read."""
    return str(keys_path()) if configuration.database is None else "the database"


def all_keys(configuration: Configuration) -> tuple[Key, ...]:
    """All keys, in the order in which they were made."""
    if configuration.database is None:
        return Keys(keys_path()).all()
    return _in_database(configuration, _keys_of)


def add(configuration: Configuration, name: str, **limits: Any) -> str:
    """Make a key and return its secret. See `Key` for the limits."""
    if configuration.database is None:
        return Keys(keys_path()).add(name, **limits)
    key, secret = make_key(name, **limits)

    async def added(store: Store) -> None:
        if not await store.add_key(name, write_key(key)):
            raise taken(name)

    _in_database(configuration, added)
    return secret


def remove(configuration: Configuration, name: str) -> None:
    """Delete the key with this name."""
    if configuration.database is None:
        Keys(keys_path()).remove(name)
        return

    async def removed(store: Store) -> None:
        if not await store.remove_key(name):
            raise unknown(name, await _keys_of(store))

    _in_database(configuration, removed)


async def _keys_of(store: Store) -> tuple[Key, ...]:
    return read_keys(await store.read_keys(), "the database")


def _in_database(configuration: Configuration, work: Callable[[Store], Awaitable[T]]) -> T:
    async def do() -> T:
        async with open_journal(configuration, "metadata") as store:
            return await work(store)

    return complete(do())
