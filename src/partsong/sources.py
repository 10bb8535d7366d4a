"""What the seats of a run have read: addresses and files that results of tools name, with the seats that read them.

The numbers of sources follow from the events of a run, so every listener numbers them as the aggregator's prompt does.
"""

from collections.abc import Iterable

from msgspec import Struct

from partsong.events import ToolUsed

MOST_LISTED = 50  # sources that an aggregator is told of
LONGEST_LISTED = 300  # characters of an address in the aggregator's prompt; a source with a longer one is not told
MOST_TOKENS = 4000  # estimated tokens of the list in the aggregator's prompt


class Source(Struct, frozen=True):
    """An address or file that a result of a tool has named.

    address: the address, or `file:` and the path of the file
    seats: layer and seat of each seat that has read it
    """

    address: str
    seats: tuple[tuple[int, int], ...]


def sources_of(uses: Iterable[ToolUsed], layers: int) -> tuple[Source, ...]:
    """The sources of a run, in the order of their numbers from 1.

    uses: the tool calls of the run
    layers: number of layers of the recipe; sources that only the aggregator has read stand last, without being told

    The order is that of the seats, and not of the time, so that equal runs send equal prompts.
    """
    ordered = sorted(
        uses, key=lambda use: ((use.layer, use.seat) == (layers, 0), use.layer, use.seat, use.started, use.arguments)
    )
    seats: dict[str, dict[tuple[int, int], None]] = {}
    for use in ordered:
        for address in use.sources:
            seats.setdefault(address, {})[use.layer, use.seat] = None
    return tuple(Source(address, tuple(read)) for address, read in seats.items())
