"""Counts the statements of a layer's seats: the groups, the winner, and whether an open seat could still change it.

The functions are pure, so that the bench can count stored answers likewise. `Ballots` is the count of a layer in a run.
"""

from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Literal

from partsong.engine.stated import Stated, stated, whole
from partsong.events import VoteGroup, VotesCounted
from partsong.model import Answer, Conversation
from partsong.recipe import Recipe, Same

Statements = Mapping[int, Stated]  # what each seat has stated; seats that state nothing are left out
Outcome = Literal["won", "lost", "open"]


def statement(answer: Answer, same: Same) -> Stated | None:
    """What a seat votes for with its answer; `None` if it abstains: it states nothing, or was cut off."""
    if answer.finish_reason == "length" or any(caveat.kind == "truncated" for caveat in answer.caveats or ()):
        return None
    match same:
        case "final":
            return stated(answer.text)
        case "text":
            return whole(answer.text)


def groups_of(statements: Statements) -> tuple[VoteGroup, ...]:
    """The seats that state the same, the largest group first; of equal groups, the one with the earliest seat.

    A number without a unit belongs to the same number with a unit, unless different units were stated with it.
    """
    groups = [VoteGroup(statements[seats[0]].shown, seats) for parts in _parts(statements) for seats in _joined(parts)]
    return tuple(sorted(groups, key=_order))


def elected(groups: tuple[VoteGroup, ...], seats: int, majority: float) -> VoteGroup | None:
    """The first group, if more than the share `majority` of all seats belong to it.

    seats: number of seats that were planned, those included that are lost or abstain
    """
    return groups[0] if groups and len(groups[0].seats) > _least(seats, majority) else None


def outcome(statements: Statements, still_open: Collection[int], seats: int, majority: float) -> Outcome:
    """Whether one group has won for certain, whether no group can win, or whether that is still open.

    still_open: the seats that may still state something
    seats, majority: see `elected`
    """
    least, more = _least(seats, majority), len(still_open)
    parts = _parts(statements)
    most = [sum(map(len, units.values())) for units in parts]
    if not still_open:
        return "won" if elected(groups_of(statements), seats, majority) else "lost"
    if max([0, *most]) + more <= least:
        return "lost"
    # An open seat may state a unit that sets a number with a unit apart from the number without one. So only seats that
    # have stated exactly the same count for the leader, and all others count for its rivals.
    exact = sorted((seats for units in parts for seats in units.values()), key=lambda seats: (-len(seats), seats[0]))
    if not exact or len(exact[0]) <= least:
        return "open"
    leader, earliest = exact[0], min(still_open)
    rivals: list[tuple[tuple[int, ...], int]] = [((), earliest)]
    for units in parts:
        rest = sorted(seat for seats in units.values() if seats is not leader for seat in seats)
        rivals.append((tuple(rest), min([earliest, *rest])))
    beaten = all((len(rival) + more, -first) < (len(leader), -leader[0]) for rival, first in rivals)
    return "won" if beaten else "open"


def _least(seats: int, majority: float) -> Fraction:
    """The number of votes that is not yet a majority. 0.29 of 100 is 29, and not a little less."""
    return Fraction(str(majority)) * seats


def _order(group: VoteGroup) -> tuple[int, int]:
    return -len(group.seats), group.seats[0]


Parts = dict[str, tuple[int, ...]]  # the seats that state one value, by its unit


def _parts(statements: Statements) -> list[Parts]:
    """For each value that was stated, the seats that stated it, by the unit, in seat order."""
    values: dict[tuple[str, str], Parts] = {}
    for seat in sorted(statements):
        said = statements[seat]
        units = values.setdefault((said.kind, said.key), {})
        units[said.unit] = (*units.get(said.unit, ()), seat)
    return list(values.values())


def _joined(parts: Parts) -> list[tuple[int, ...]]:
    """The groups of the seats that state one value: one group, or one for each unit if there are several units."""
    if len(parts.keys() - {""}) > 1:
        return list(parts.values())
    return [tuple(sorted(seat for seats in parts.values() for seat in seats))]


class Ballots:
    """The count of one layer while its seats answer, for the layer's `agree` and for a vote on the last proposals.

    layer: index of the layer
    seats: number of seats that are planned
    agree: number of seats that must agree; `None` if agreement does not end the run here
    majority: share of the seats that a vote needs more of; `None` if no vote is taken here
    fails: whether a vote without a majority fails the run, so that nobody needs the other proposals
    statements: what each seat has stated so far
    abstained: the seats that have answered and state nothing
    """

    def __init__(self, recipe: Recipe, index: int) -> None:
        layer, aggregator = recipe.layers[index], recipe.aggregator
        votes = aggregator.method == "vote" and index == recipe.last_proposers
        self.layer, self.seats, self.agree = index, len(layer.seats), layer.agree
        self.majority = aggregator.majority if votes else None
        self.fails = aggregator.otherwise == "fail"
        self.same = recipe.same
        self.statements: dict[int, Stated] = {}
        self.abstained: list[int] = []

    def hear(self, seat: int, answer: Answer) -> None:
        """Count the proposal of a seat."""
        if (said := statement(answer, self.same)) is None:
            self.abstained.append(seat)
        else:
            self.statements[seat] = said

    def is_decided(self, still_open: Collection[int]) -> bool:
        """Whether the layer can end, because no seat in `still_open` can change the result."""
        if self._agreed(groups := groups_of(self.statements)):
            return True
        if self.majority is None:
            return False
        match outcome(self.statements, still_open, self.seats, self.majority):
            case "won":
                return True
            case "lost":
                return self.fails and self.agree is None
            case "open":
                return not still_open and elected(groups, self.seats, self.majority) is not None

    def result(self) -> VotesCounted:
        """The count as an event. Its `seat` is the first seat of the winner; `None` without a winner."""
        groups = groups_of(self.statements)
        abstained = tuple(sorted(self.abstained))
        if self.agree is not None and (self.majority is None or self._agreed(groups)):
            winner = groups[0] if self._agreed(groups) else None
            rule: Literal["majority", "agree"] = "agree"
            needed = self.agree
        else:
            majority = self.majority or 0.0
            winner, rule = elected(groups, self.seats, majority), "majority"
            needed = int(_least(self.seats, majority)) + 1
        return VotesCounted(self.layer, rule, groups, abstained, needed, None if winner is None else winner.seats[0])

    def _agreed(self, groups: tuple[VoteGroup, ...]) -> bool:
        return self.agree is not None and bool(groups) and len(groups[0].seats) >= self.agree


def ballots_of(recipe: Recipe, conversation: Conversation, layer: int) -> Ballots | None:
    """The count of a layer that is about to begin; `None` if nothing is counted there.

    Beside tools nothing is counted: what proposers say is advice, and the aggregator acts.
    """
    votes = recipe.aggregator.method == "vote" and layer == recipe.last_proposers
    if conversation.tools or not (votes or recipe.layers[layer].agree):
        return None
    return Ballots(recipe, layer)
