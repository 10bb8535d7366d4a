"""Where this user's files are: configuration, recipes, weights, the store, and the keys of the server.

platformdirs knows the folders of each system, and follows `XDG_CONFIG_HOME`, `XDG_CACHE_HOME` and `XDG_STATE_HOME`.
"""

import os
from pathlib import Path
from typing import Literal, assert_never


def user_folder(kind: Literal["config", "cache", "state"]) -> Path:
    """The folder of this user's configuration, downloads or store.

    `PARTSONG_CACHE` names another folder for the downloads, and `PARTSONG_STATE` one for the store.
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
    """The folder of this user's own recipes, which the page saves."""
    return user_folder("config") / "recipes"


def weights_folder() -> Path:
    """The folder of the files of local models."""
    return user_folder("cache") / "models"


def store_path() -> Path:
    """The file in which this user's runs and calls are kept."""
    return user_folder("state") / "journal.db"


def keys_path() -> Path:
    """The file in which the keys of this user's server are kept."""
    return user_folder("state") / "keys.json"
