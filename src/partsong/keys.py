"""The keys that callers of the server show: made here, stored as digests, each with limits of its own.

A secret is 256 random bits, so that a plain digest of it is as good as a slow one. It is shown once, when it is made.
The file is read again whenever it has changed, so that every process heeds a key that is added or taken away.
"""

import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
from msgspec import Struct

from partsong.errors import ConfigurationError, InputError
from partsong.files import PRIVATE, write_file
from partsong.folders import keys_path

PREFIX = "ps-"


class Key(Struct, frozen=True, omit_defaults=True):
    """A key, without its secret: `digest` is the SHA-256 of that.

    `dollars_per_day` is what its runs may cost in a day (UTC), `recipes` the names that it may ask for (all, if empty),
    `requests_per_minute` how many requests it may make, `at_once` how many at the same time. With `metrics` it may read
    the server's metrics and nothing else. Its runs are deleted after `keep_for` seconds; `None` keeps them.
    """

    name: str
    digest: str
    created: datetime
    dollars_per_day: Decimal | None = None
    recipes: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    at_once: int | None = None
    metrics: bool = False
    keep_for: float | None = None


class Keys:
    """The keys in one file. A file that cannot be read is an error, never the same as no keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def any(self) -> bool:
        """Whether there are keys, so that callers must show one."""
        return bool(self.all())

    def all(self) -> tuple[Key, ...]:
        """All keys, in the order in which they were made. Raises `ConfigurationError`."""
        try:
            state = self.path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, ()
            return ()
        except OSError as problem:
            raise ConfigurationError(f"{self.path}: the keys cannot be read: {problem.strerror}") from None
        seen = (state.st_mtime_ns, state.st_size, state.st_ino)
        if seen != self._seen:
            try:
                self._keys = msgspec.json.decode(self.path.read_bytes(), type=tuple[Key, ...])
            except (OSError, msgspec.DecodeError, UnicodeDecodeError) as problem:
                raise ConfigurationError(f"{self.path}: the keys cannot be read: {problem}") from None
            self._seen = seen
        return self._keys

    def find(self, secret: str) -> Key | None:
        """The key with this secret. All are compared, each in constant time, so that time tells nothing."""
        digest = _digest(secret).encode()
        found = None
        for key in self.all():
            if hmac.compare_digest(key.digest.encode(), digest):
                found = key
        return found

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
    ) -> str:
        """Make a key; return its secret, which is kept nowhere. Raises `InputError`."""
        keys = self.all()
        if not name or not name.isprintable() or len(name) > 64:
            raise InputError(f"the name of a key is 1 to 64 printable characters, not {name!r}")
        if any(key.name == name for key in keys):
            raise InputError(f'there is a key "{name}" already; remove it first (partsong keys remove {name})')
        dollars = None if dollars_per_day is None else Decimal(dollars_per_day)
        if dollars is not None and not (dollars.is_finite() and dollars >= 0):
            raise InputError(f"dollars a day are {dollars}, but must be 0 or more")
        for what, number in (("requests a minute", requests_per_minute), ("requests at once", at_once)):
            if number is not None and number < 1:
                raise InputError(f"{what} are {number}, but must be at least 1")
        if metrics and (dollars is not None or recipes or requests_per_minute is not None or at_once is not None):
            raise InputError("a key for metrics asks nothing, so it has no limits: leave those away, or --metrics")
        secret = PREFIX + secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        limits = (dollars, recipes, requests_per_minute, at_once, metrics, keep_for)
        self._write((*keys, Key(name, _digest(secret), now, *limits)))
        return secret

    def remove(self, name: str) -> None:
        """Take a key away. Raises `InputError`."""
        keys = self.all()
        left = tuple(key for key in keys if key.name != name)
        if len(left) == len(keys):
            known = ", ".join(key.name for key in keys) or "none"
            raise InputError(f'there is no key "{name}"; known: {known}')
        self._write(left)

    def _write(self, keys: tuple[Key, ...]) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(self.path, msgspec.json.format(msgspec.json.encode(keys), indent=2), permissions=PRIVATE)
        except OSError as problem:
            raise ConfigurationError(f"{self.path}: the keys cannot be written: {problem.strerror}") from None


def keys_of_server() -> Keys:
    """The keys that callers of this user's server show."""
    return Keys(keys_path())


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
