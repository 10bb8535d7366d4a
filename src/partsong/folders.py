"""The paths of this user's files: configuration, recipes, weights, the store, and the keys of the server.

The package platformdirs gives the usual folders of each operating system. On Linux it follows `XDG_CONFIG_HOME`,
`XDG_CACHE_HOME` and `XDG_STATE_HOME`.
"""

import os
from pathlib import Path
from typing import Literal, assert_never


def user_folder(kind: Literal["config", "cache", "state"]) -> Path:
    """The folder of this user's configuration ("config"), downloads ("cache"), or store and keys ("state").

    The environment variable `PARTSONG_CACHE` replaces the folder of downloads, and `PARTSONG_STATE` that of the store.
    The folder need not exist.
    """
    # Imported here, since `partsong --help` asks for no folder.
    from platformdirs import PlatformDirs

    folders = PlatformDirs("partsong", appauthor=False)
    match kind:
        case "config":
            return folders.user_config_path
        case "cache":
            return Path(os.environ.get("PARTSONG_CACHE") or folders.user_cache_path)
        case "state":
            return Path(os.environ.get("PARTSONG_STATE") or folders.user_state_path)
        case _:
            assert_never(kind)


def recipes_folder() -> Path:
    """The folder of this user's own recipes, to which the web page saves recipes."""
    return user_folder("config") / "recipes"


def weights_folder() -> Path:
    """The folder of the downloaded weights of local models."""
    return user_folder("cache") / "models"


def store_path() -> Path:
    """The file of the store, which keeps this user's runs and calls."""
    return user_folder("state") / "journal.db"


def keys_path() -> Path:
    """The file with the keys that callers of this user's server must show."""
    return user_folder("state") / "keys.json"
