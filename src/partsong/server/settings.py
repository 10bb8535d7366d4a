"""The settings of a server, on their way from `partsong serve` to the server's processes.

They pass through an environment variable, since granian starts the processes and hands them nothing else.
"""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from partsong.configuration import Configuration, Serving, StoreMode, find_configuration, read_configuration

VARIABLE = "PARTSONG_SERVER"
STORE_PATIENCE = 0.8  # seconds that the store may take for a write until requests go on without it


class _Told(Struct, frozen=True):
    config: str | None
    store: StoreMode | None
    serving: Serving


def tell_workers(configuration: Configuration, mode: StoreMode | None, serving: Serving) -> None:
    """Give the processes of a server that is about to start their settings."""
    path = None if configuration.path is None else str(configuration.path.absolute())
    os.environ[VARIABLE] = msgspec.json.encode(_Told(path, mode, serving)).decode()


def server_settings() -> tuple[Configuration, StoreMode | None]:
    """The configuration of a server's process, and what its store keeps, `None` for what the configuration says.

    A process that was given no settings finds its configuration as the command line does.
    """
    if not (told := os.environ.get(VARIABLE)):
        return find_configuration(), None
    settings = msgspec.json.decode(told, type=_Told)
    configuration = Configuration() if settings.config is None else read_configuration(Path(settings.config))
    return msgspec.structs.replace(configuration, server=settings.serving), settings.store
