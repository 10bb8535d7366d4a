"""What the seats of a run have looked up, as text: who used which tool, and the numbered list of sources."""

from collections import Counter
from collections.abc import Iterable, Sequence

from partsong.cli.printable import single_line
from partsong.events import ToolUsed
from partsong.sources import sources_of

MOST = 20  # sources that are printed
LONGEST = 200  # characters of an address


def used(uses: Iterable[ToolUsed]) -> str:
    """Return who was asked by a seat as a phrase, such as "used web search ×2, notes read"; empty for no tool calls."""
    counts: Counter[str] = Counter()
    failed = 0
    for use in uses:
        counts[single_line(f"{use.server} {use.tool}".strip())] += 1
        failed += bool(use.error)
    if not counts:
        return ""
    some = ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in counts.items())
    return f"used {some}{f'; {failed} failed' if failed else ''}"


def sources(uses: Sequence[ToolUsed], layers: int) -> list[str]:
    """Return a line for each source of a run, with its number and the seats that read it.

    layers: number of layers of the recipe
    """
    known = sources_of(uses, layers)
    lines = [
        f"[{number}] {single_line(source.address)[:LONGEST]}  {', '.join(map(str, source.seats))}"
        for number, source in enumerate(known[:MOST], 1)
    ]
    return [*lines, f"and {len(known) - MOST:,} more sources"] if len(known) > MOST else lines
