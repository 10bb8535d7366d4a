"""Who voted for what, as text for people."""

from partsong.cli.printable import single_line
from partsong.events import VotesCounted

FEW = 5  # groups that are named; the others are only counted
SHOWN = 60  # characters of an answer that are shown


def counted(event: VotesCounted) -> list[str]:
    """Return a line for each of the largest groups, and one with the result."""
    lines = []
    for group in event.groups[:FEW]:
        answer = single_line(group.answer)
        answer = answer if len(answer) <= SHOWN else f"{answer[:SHOWN]}…"
        lines.append(f'{len(group.seats):,} for "{answer}": {_seats(event.layer, group.seats)}')
    if len(event.groups) > FEW:
        lines.append(f"{len(event.groups) - FEW:,} more answers")
    if event.abstained:
        lines.append(f"{len(event.abstained):,} stated nothing: {_seats(event.layer, event.abstained)}")
    what = "must agree" if event.rule == "agree" else "must state the same"
    end = f"elected: seat ({event.layer}, {event.seat})" if event.seat is not None else "none is elected"
    return [*lines, f"{event.needed:,} {what}: {end}"]


def _seats(layer: int, seats: tuple[int, ...]) -> str:
    more = f" and {len(seats) - 2 * FEW:,} more" if len(seats) > 2 * FEW else ""
    return ", ".join(f"({layer}, {seat})" for seat in seats[: 2 * FEW]) + more
