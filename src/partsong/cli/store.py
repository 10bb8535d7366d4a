"""`partsong store copy`: moves the store of one machine to the PostgreSQL database that several hosts share."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from partsong.addresses import shown
from partsong.cli.loop import complete
from partsong.cli.options import Config
from partsong.cli.progress import Progress, say
from partsong.configuration import find_configuration
from partsong.errors import InputError
from partsong.folders import keys_path, store_path
from partsong.keys import Key, Keys, read_keys, write_key
from partsong.store import open_store
from partsong.store.copying import Copied, copy_store


def copy(
    *,
    source: Annotated[
        Path | None, Parameter(name="--from", metavar="FILE", help="File to copy. Default: this user's store.")
    ] = None,
    target: Annotated[
        str | None,
        Parameter(name="--to", metavar="ADDRESS", help="Address of the database. Default: store in partsong.toml."),
    ] = None,
    without_keys: Annotated[bool, Parameter(help="Leave the keys of the server out.")] = False,
    config: Config = None,
) -> int:
    """Copy a store into a PostgreSQL database. After a stop, the same command goes on. The file is left as it is."""
    address = target or find_configuration(config).database
    if address is None:
        raise InputError(
            'store copy needs the address of a database: write store = "postgresql://…" in partsong.toml, or use --to'
        )
    return complete(copied(source or store_path(), address, with_keys=not without_keys))


async def copied(source: Path, address: str, *, with_keys: bool) -> int:
    """Copy the store and say what was copied. The exit code is 1 if a key could not be copied."""
    copied = Copied()

    def progress() -> str:
        return f"{copied.runs:,} of {copied.all_runs:,} runs, {copied.calls:,} of {copied.all_calls:,} calls"

    with Progress(progress):
        await copy_store(source, address, copied)
    parts = [
        f"{copied.new_runs:,} of {copied.runs:,} runs",
        f"{copied.new_calls:,} of {copied.calls:,} calls",
        counted(copied.votes, "vote"),
    ]
    refused: list[str] = []
    if with_keys and keys_path().is_file():
        added, refused = await _copy_keys(address)
        parts.append(counted(added, "key"))
    print(f"copied {', '.join(parts)} to {shown(address)}; the rest was there already")
    for name in refused:
        say(f"the key {name!r} was not copied: the database has another key of this name; remove one, and copy again")
    return 1 if refused else 0


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


async def _copy_keys(address: str) -> tuple[int, list[str]]:
    """Copy the keys of this user's server; how many were new, and the names that another key has."""
    added, refused = 0, []
    async with open_store(address, "metadata") as store:
        there: dict[str, Key] = {key.name: key for key in read_keys(await store.read_keys(), "the database")}
        for key in Keys(keys_path()).all():
            if (other := there.get(key.name)) is not None:
                if other.digest != key.digest:
                    refused.append(key.name)
            elif await store.add_key(key.name, write_key(key)):
                added += 1
            else:
                refused.append(key.name)
    return added, refused
