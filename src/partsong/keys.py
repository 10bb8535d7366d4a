"""The keys with which callers of the server authenticate: made here, stored as digests, each with limits of its own.

A secret has 256 random bits, so a plain SHA-256 digest protects it as well as a slow password hash would. The secret
is shown once, when the key is made. Keys are in a file, or in the database that several hosts share. The file
is read again whenever it has changed, so that every process of the server notices added and removed keys.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from partsong.errors import ConfigurationError, InputError
from partsong.files import PRIVATE, write_file

PREFIX = "ps-"
SECRET_BYTES = 32
SECRET_LENGTH = len(PREFIX) + -(-SECRET_BYTES * 4 // 3)  # in base64 without padding
LONGEST = 1e13  # seconds that runs of a key may be kept: more are no time that Python can express
LOCKED = 10  # most seconds to wait while another process changes the keys


class Key(Struct, frozen=True, omit_defaults=True):
    """A key without its secret. `None` means no limit.

    name: name of the key, 1 to 64 printable characters
    digest: SHA-256 of the secret, in hexadecimal
    created: when the key was made
    dollars_per_day: most dollars for all runs of the key in a day (UTC)
    recipes: names of the recipes that the key may ask for; all recipes if empty (default)
    requests_per_minute: most requests in a minute
    at_once: most requests at the same time
    metrics: whether the key may read the server's metrics and nothing else (default: no)
    id: identifies the key in the store, see `owner`
    keep_for: seconds after which the server deletes runs of the key; `None` (default) keeps the runs
    tools: whether the key may use recipes whose agents look things up with tools (default: yes)
    """

    name: str
    digest: str
    created: datetime
    dollars_per_day: Decimal | None = None
    recipes: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    at_once: int | None = None
    metrics: bool = False
    id: str = ""
    keep_for: float | None = None
    tools: bool = True

    def __post_init__(self) -> None:
        """Raise `ValueError` for a limit that would limit nothing, so that a damaged file is noticed as a whole."""
        if self.dollars_per_day is not None and not (self.dollars_per_day.is_finite() and self.dollars_per_day >= 0):
            raise ValueError(f"dollars_per_day is {self.dollars_per_day}, but must be 0 or more")
        for name in ("requests_per_minute", "at_once"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ValueError(f"{name} is {number}, but must be at least 1")
        if self.keep_for is not None and not 0 <= self.keep_for <= LONGEST:
            raise ValueError(f"keep_for is {self.keep_for}, but must be from 0 to {LONGEST:g} seconds")

    @property
    def owner(self) -> str:
        """The text under which the store keeps the runs, votes and spending of the key: its id, or its name without id.

        A key that is deleted and made again gets another id, so a new holder of a name does not see the runs of the old
        holder. Keys that earlier versions made have no id.
        """
        return self.id or self.name


class KnownKeys(Protocol):
    """The keys that a server knows. Methods raise `ConfigurationError` if the keys cannot be read.

    told: the error that the log of the server has already; "" since the keys were last read
    mended: what must happen after an error, as the log says it
    """

    told: str
    mended: str

    def any(self) -> bool:
        """Whether there is a key. If there is, callers of the server must show one."""

    def all(self) -> tuple[Key, ...]:
        """All keys, in the order in which they were made."""

    def find(self, secret: str) -> Key | None:
        """The key with this secret; `None` if there is none."""


class Keys:
    """The keys in the file `path`. A missing file holds no keys; an unreadable file is an error, never "no keys".

    told: the error that the log of the server has already; "" since the file was last read
    """

    mended = "file is mended"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()
        self.told = ""

    def any(self) -> bool:
        """Whether there is a key. If there is, callers of the server must show one.

        Raises `ConfigurationError` if the file cannot be read.
        """
        return bool(self.all())

    def all(self) -> tuple[Key, ...]:
        """All keys, in the order in which they were made. Raises `ConfigurationError` if the file cannot be read."""
        try:
            state = self.path.stat()
        except FileNotFoundError:
            self._seen, self._keys, self.told = None, (), ""
            return ()
        except OSError as problem:
            raise ConfigurationError(f"{self.path}: the keys cannot be read: {problem.strerror}") from None
        seen = (state.st_mtime_ns, state.st_size, state.st_ino)
        if seen != self._seen:
            try:
                self._keys = msgspec.json.decode(self.path.read_bytes(), type=tuple[Key, ...])
            except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
                raise ConfigurationError(f"{self.path}: the keys cannot be read: {problem}") from None
            self._seen, self.told = seen, ""
        return self._keys

    def find(self, secret: str) -> Key | None:
        """The key with this secret; `None` if there is none. Raises `ConfigurationError` if the file cannot be read.

        The secret is compared with all keys, each in constant time, so that response times give no secret away.
        """
        return find_key(self.all(), secret)

    def add(
        self,
        name: str,
        *,
        dollars_per_day: Decimal | int | None = None,
        recipes: tuple[str, ...] = (),
        requests_per_minute: int | None = None,
        at_once: int | None = None,
        metrics: bool = False,
        keep_for: float | None = None,
        tools: bool = True,
    ) -> str:
        """Make a key and return its secret, which is stored nowhere. See `Key` for the parameters.

        Raises `InputError` if the name is taken or malformed, if a limit is out of range, or if `metrics` is combined
        with a limit. Raises `ConfigurationError` if the file cannot be read or written.
        """
        made, secret = make_key(
            name,
            dollars_per_day=dollars_per_day,
            recipes=recipes,
            requests_per_minute=requests_per_minute,
            at_once=at_once,
            metrics=metrics,
            keep_for=keep_for,
            tools=tools,
        )
        with self._alone():
            keys = self.all()
            if any(key.name == name for key in keys):
                raise taken(name)
            self._write((*keys, made))
        return secret

    def remove(self, name: str) -> None:
        """Delete the key with this name.

        Raises `InputError` if there is no such key, and `ConfigurationError` if the file cannot be read or written.
        """
        with self._alone():
            keys = self.all()
            left = tuple(key for key in keys if key.name != name)
            if len(left) == len(keys):
                raise unknown(name, keys)
            self._write(left)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the file until the block is left.

        Without the lock, two processes that read and then write could lose a key. The lock file is never deleted, since
        a third process could then lock another file of the same name. Raises `ConfigurationError` if another process
        holds the lock for too long.
        """
        # Imported here, since a server that only reads keys needs no lock.
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(f"{self.path}.lock", timeout=LOCKED, mode=PRIVATE, thread_local=False)
            lock.acquire()
        except Timeout:
            raise ConfigurationError(
                f"{self.path}: another process has been changing the keys for {LOCKED} s"
            ) from None
        except OSError as problem:
            raise ConfigurationError(f"{self.path}: the keys cannot be written: {problem.strerror}") from None
        self._seen = None  # the file is read again, even if its modification time is the same
        try:
            yield
        finally:
            lock.release()

    def _write(self, keys: tuple[Key, ...]) -> None:
        try:
            write_file(self.path, msgspec.json.format(msgspec.json.encode(keys), indent=2), permissions=PRIVATE)
        except OSError as problem:
            raise ConfigurationError(f"{self.path}: the keys cannot be written: {problem.strerror}") from None


def make_key(
    name: str,
    *,
    dollars_per_day: Decimal | int | None = None,
    recipes: tuple[str, ...] = (),
    requests_per_minute: int | None = None,
    at_once: int | None = None,
    metrics: bool = False,
    keep_for: float | None = None,
    tools: bool = True,
) -> tuple[Key, str]:
    """Make a key, and return it with its secret. See `Key` for the parameters.

    Raises `InputError` if the name is malformed, if a limit is out of range, or if `metrics` is combined with a limit.
    """
    if not name or not name.isprintable() or len(name) > 64:
        raise InputError(f"the name of a key is 1 to 64 printable characters, not {name!r}")
    dollars = None if dollars_per_day is None else Decimal(dollars_per_day)
    if dollars is not None and not (dollars.is_finite() and dollars >= 0):
        raise InputError(f"dollars a day are {dollars}, but must be 0 or more")
    for what, number in (("requests a minute", requests_per_minute), ("requests at once", at_once)):
        if number is not None and number < 1:
            raise InputError(f"{what} are {number}, but must be at least 1")
    if metrics and (dollars is not None or recipes or requests_per_minute is not None or at_once is not None):
        raise InputError("a key for metrics asks nothing, so it has no limits: leave those away, or --metrics")
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    now = datetime.now(UTC)
    owner = f"{name}#{secrets.token_hex(8)}"
    limits = dollars, recipes, requests_per_minute, at_once, metrics
    return Key(name, _digest(secret), now, *limits, owner, keep_for, tools), secret


def has_form(secret: str) -> bool:
    """Whether the text has the form of a key's secret."""
    return secret.startswith(PREFIX) and len(secret) == SECRET_LENGTH


def find_key(keys: Iterable[Key], secret: str) -> Key | None:
    """The key with this secret; `None` if there is none. See `Keys.find`."""
    digest = _digest(secret).encode()
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest.encode(), digest):
            found = key
    return found


def write_key(key: Key) -> bytes:
    """The key as JSON, for a database that several hosts share."""
    return msgspec.json.encode(key)


def read_keys(written: Iterable[bytes], where: str) -> tuple[Key, ...]:
    """The keys that `write_key` wrote. `where` names the database in errors. Raises `ConfigurationError`."""
    try:
        return tuple(msgspec.json.decode(each, type=Key) for each in written)
    except msgspec.DecodeError as problem:
        raise ConfigurationError(f"{where}: the keys cannot be read: {problem}") from None


def taken(name: str) -> InputError:
    """The error of a name that another key has."""
    return InputError(f'there is a key "{name}" already; remove it first (partsong keys remove {name})')


def unknown(name: str, keys: Iterable[Key]) -> InputError:
    """The error of a name that no key has."""
    known = ", ".join(key.name for key in keys) or "none"
    return InputError(f'there is no key "{name}"; known: {known}')


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
