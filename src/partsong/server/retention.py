"""Deletes the runs of keys that are kept for some time only, when the server starts and every hour."""

import asyncio
import datetime
import logging
from collections.abc import Callable

from partsong.errors import ConfigurationError, StoreError
from partsong.keys import Key, KnownKeys
from partsong.store import Store

LOG = logging.getLogger("partsong.server")
EVERY = 3600.0  # seconds


async def retain(store: Store, keys: KnownKeys, caller_of: Callable[[Key], str]) -> None:
    """Delete what is too old, again and again until cancelled. `caller_of` is the owner of a key's runs."""
    while True:
        try:
            for key in keys.all():
                if key.keep_for is not None:
                    await store.delete_older(caller_of(key), datetime.timedelta(seconds=key.keep_for))
        except StoreError:
            pass  # the store tells its failures itself
        except ConfigurationError as problem:
            LOG.warning("no run is deleted for its age: %s", problem)
        await asyncio.sleep(EVERY)
