"""`partsong batch --on ray`: hands out the parts of a batch to a Ray cluster, and notes which of them are over."""

import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from partsong.batch.answers import Answers
from partsong.batch.cluster import connected, nodes, performed
from partsong.batch.manifest import MOST_PARTS, Manifest, open_parts, read_manifest, write_manifest
from partsong.batch.work import End
from partsong.cli.progress import Progress, say
from partsong.cli.summary import dollars
from partsong.configuration import Configuration
from partsong.errors import InputError
from partsong.files import kind_of

PARTS_OF_CPU = 4  # parts for each CPU, so that no CPU waits long for the last part of another
SHOWN = 5  # reasons for a stop that are told


async def over_cluster(
    out: Path,
    batch: str,
    total: int,
    configuration: Configuration,
    work: Callable[[int, int], End],
    file_of: Callable[[int, int], Path],
) -> int:
    """Answer all questions on the cluster; return the exit code, which is 1 if a question failed.

    out: file of answers, from which the files of the parts have their names
    batch: digest of questions and recipe
    total: number of questions
    work: answers a part, from its index and the number of parts
    file_of: the file of answers of a part
    """
    if kind_of(out) == "stream":
        raise InputError(f"{out}: is a device or a pipe, but each part of a batch needs a file")
    began = time.monotonic()
    earlier = read_manifest(out, batch)
    with connected() as ray:
        found = nodes(ray)
        cpus = sum(node.cpus for node in found)
        check_store(configuration, len({node.machine for node in found}))
        manifest = earlier or Manifest(batch, max(1, min(total, PARTS_OF_CPU * cpus, MOST_PARTS)))
        write_manifest(out, manifest)
        left = open_parts(manifest, lambda index: file_of(index, manifest.parts))
        for part in manifest.over.difference(left):  # a start before may have been killed between the two
            Answers(file_of(part, manifest.parts)).remove()
        ends: list[End] = []

        def words() -> str:
            return f"{manifest.parts - len(left) + len(ends):,} of {manifest.parts:,} parts over · {priced(ends)}"

        with Progress(words):
            at_once = 2 * max(1, cpus)  # a CPU finds its next part waiting, and a cluster that grows sees the need
            async for part, end in performed(ray, left, manifest.parts, at_once, work):
                ends.append(end)
                if not end.stopped and not end.failed:
                    manifest = Manifest(batch, manifest.parts, manifest.over | {part})
                    write_manifest(out, manifest)
                    Answers(file_of(part, manifest.parts)).remove()
    return tell(ends, manifest, len(left), time.monotonic() - began)


def check_store(configuration: Configuration, machines: int) -> None:
    """Raise `InputError` for a cluster of several machines whose store is a file of one of them."""
    if machines > 1 and configuration.database is None and configuration.mode != "off":
        raise InputError(
            f'the cluster has {machines} machines, but the store is a file of one; set store = "postgresql://..." so '
            'that they share what was paid for, or store = "off"'
        )


def tell(ends: list[End], manifest: Manifest, begun: int, seconds: float) -> int:
    """Say how the batch has ended, and return the exit code.

    begun: number of parts that this start has found open
    """
    answered, failed = sum(end.answered for end in ends), sum(end.failed for end in ends)
    stopped = dict.fromkeys(end.stopped for end in ends if end.stopped)
    before = manifest.parts - begun
    earlier = f"{before:,} of {manifest.parts:,} parts were over before; " if before else ""
    lost = f", {failed:,} failed" if failed else ""
    say(f"{earlier}{answered:,} answered{lost} in {len(ends):,} parts · {priced(ends)}, in {seconds:,.0f} s")
    for why in list(stopped)[:SHOWN]:
        say(f"stopped, since {why}")
    if failed or stopped:
        first = min((end.first for end in ends if end.first), default=0)
        where = f" (the first on line {first})" if first else ""
        say(f"{len(manifest.over):,} of {manifest.parts:,} parts are over{where}; start it again to go on")
        return 1
    return 0


def priced(ends: list[End]) -> str:
    """The price of the parts that have ended in this start, for people to read."""
    if any(end.dollars is None for end in ends):
        return "price unknown"
    return dollars(sum((Decimal(end.dollars or 0) for end in ends), Decimal(0)))
