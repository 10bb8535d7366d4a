"""The keys of providers that `partsong keys set` keeps, in a file that only this user can read.

A key is kept under the name of its environment variable, which goes first. So a shared configuration names variables,
and never holds a key.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from partsong.errors import ConfigurationError
from partsong.files import PRIVATE, write_file
from partsong.folders import user_folder

LONGEST = 4096  # characters of a key


def keys_file() -> Path:
    """The file with the keys of providers. It need not exist."""
    return user_folder("config") / "provider-keys.json"


def key_in(variable: str, session: Mapping[str, str] | None = None) -> str:
    """The key in this environment variable, or else the key of the session, or else the kept key; "" if there is none.

    session: keys by environment variable that this process knows until it ends; none by default

    Raises `ConfigurationError` if the file with the keys cannot be read.
    """
    return os.environ.get(variable, "").strip() or (session or {}).get(variable, "") or kept().get(variable, "")


def kept() -> dict[str, str]:
    """The keys that are kept, by the name of the environment variable. Raises `ConfigurationError`."""
    path = keys_file()
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise ConfigurationError(f"{path}: the keys of providers cannot be read: {_why(problem)}") from None


def check(key: str) -> None:
    """Raise `ConfigurationError` if no provider can have such a key."""
    if not key or len(key) > LONGEST or not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError(f"this is no key: a key has from 1 to {LONGEST:,} letters, digits and signs")


def keep(variable: str, key: str) -> None:
    """Keep a key. Raises `ConfigurationError` if no provider can have such a key, or if it cannot be written."""
    check(key)
    _write({**kept(), variable: key})


def forget(variable: str) -> bool:
    """Forget a key. Returns whether there was one."""
    found = kept()
    if found.pop(variable, None) is None:
        return False
    _write(found)
    return True


def _write(found: dict[str, str]) -> None:
    path = keys_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n", permissions=PRIVATE)
    except OSError as problem:
        raise ConfigurationError(f"{path}: cannot be written: {_why(problem)}") from None


def _why(problem: Exception) -> str:
    """What is wrong, without a word of the file."""
    return (problem.strerror or "unknown") if isinstance(problem, OSError) else "it is not what partsong has written"
