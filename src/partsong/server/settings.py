"""Passes the settings of a server from `partsong serve` to the server's processes.

The settings go through an environment variable, since granian starts the processes without any other channel.
"""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from partsong.configuration import Configuration, Serving, StoreMode, find_configuration, read_configuration

VARIABLE = "PARTSONG_SERVER"


class _Told(Struct, frozen=True):
    config: str | None
    store: StoreMode | None
    serving: Serving


def tell_workers(configuration: Configuration, mode: StoreMode | None, serving: Serving) -> None:
    """Write the settings to the environment, from which the server's processes will read them.

    mode: what the store keeps; `None` for `configuration.mode`
    serving: the settings that replace `configuration.server`
    """
    path = None if configuration.path is None else str(configuration.path.absolute())
    os.environ[VARIABLE] = msgspec.json.encode(_Told(path, mode, serving)).decode()


def server_settings() -> tuple[Configuration, StoreMode | None]:
    """The configuration of this process, and what its store keeps; `None` for what the configuration says.

    If `tell_workers` has set nothing, the configuration is found as on the command line.
    """
    if not (told := os.environ.get(VARIABLE)):
        return find_configuration(), None
    settings = msgspec.json.decode(told, type=_Told)
    configuration = Configuration() if settings.config is None else read_configuration(Path(settings.config))
    return msgspec.structs.replace(configuration, server=settings.serving), settings.store
