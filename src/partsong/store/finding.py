"""Finding one run by its id or by the beginning of its id, as people type it."""

from collections.abc import Sequence

from partsong.errors import InputError
from partsong.store.backend import Backend
from partsong.store.runs import StoredRun

SUGGESTED = 5  # ids in an error message
COMPARED = 200  # newest runs among which a similar id is looked for


async def find_run(backend: Backend, prefix: str) -> StoredRun:
    """The only run whose id begins with `prefix`, or the newest run for "last".

    Raises `InputError`, which suggests similar ids, if there is no such run or more than one.
    """
    if prefix == "last":
        if newest := await backend.latest_runs(1):
            return newest[0]
        raise InputError("no run is in the store yet")
    if found := await backend.find_run(prefix):
        return found
    begins = await backend.run_ids(prefix) if prefix else []
    if len(begins) == 1 and (found := await backend.find_run(begins[0])):
        return found
    if len(begins) > 1:
        raise InputError(f'{len(begins)} runs begin with "{prefix}": {_listed(begins)}; give more of the id')
    near = await backend.run_ids("", COMPARED)
    if not near:
        raise InputError(f'there is no run "{prefix}"; no run is in the store yet')
    near.sort(key=lambda identity: -_common(identity, prefix))
    raise InputError(f'there is no run "{prefix}"; near it: {_listed(near)} ("last" is the newest)')


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SUGGESTED]) + (", …" if len(ids) > SUGGESTED else "")


def _common(identity: str, prefix: str) -> int:
    """The length of the common beginning of the id and the prefix, in characters."""
    pairs = zip(identity, prefix, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), len(prefix))
