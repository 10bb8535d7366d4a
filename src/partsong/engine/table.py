"""What the next readers find: the proposals of one layer, the comments on them, and the part that each seat sees.

The proposals on the table are always those of one layer. A layer that comments leaves them there and adds its comments;
any other layer replaces everything, whatever its seats saw.

What a seat sees depends on the recipe, on the place of the seat, and on which proposals there are, and on nothing of
the run. So an equal run sends equal prompts, and the store finds its calls. A lost proposal changes only the draws that
it would have been in.
"""

import hashlib
from heapq import nsmallest
from typing import assert_never

from partsong.engine.fitting import DRAFT
from partsong.engine.performance import Proposal, truncated_of
from partsong.prompts import Mark
from partsong.recipe import Layer


class Table:
    """The proposals and comments that may be read next.

    all: the proposals in seat order, and after them the comments, layer by layer and in seat order
    proposals: those of `all` that are proposals; only they are selected, or stand in for an answer
    texts: the text of each of `all`
    truncated: indexes in `all` of those that stopped at their token limit
    """

    def __init__(self, items: tuple[Proposal, ...]) -> None:
        self.all = items
        self.proposals = tuple(item for item in items if not item.comment)
        self.texts = tuple(item.answer.text for item in items)
        self.truncated = truncated_of(items)

    @property
    def commented(self) -> bool:
        """Whether there are comments."""
        return len(self.proposals) < len(self.all)

    @property
    def everything(self) -> tuple[int, ...]:
        return tuple(range(len(self.all)))

    def marks(self, indexes: tuple[int, ...]) -> tuple[Mark, ...]:
        """What the opening marks of these texts say. Every reader finds a proposal under the same number.

        indexes: indexes in `all`, or `DRAFT`
        """
        if not self.commented and (DRAFT in indexes or indexes == tuple(range(len(indexes)))):
            return ()  # numbered from 1 by their places
        count = len(self.proposals)
        return tuple(
            Mark() if index == DRAFT else Mark(index + 1) if index < count else Mark(index - count + 1, comment=True)
            for index in indexes
        )

    def truncated_at(self, indexes: tuple[int, ...]) -> frozenset[int]:
        """The places in `indexes` of texts that stopped at their token limit."""
        return frozenset(place for place, index in enumerate(indexes) if index in self.truncated)

    def seen(self, layer: Layer, index: int, seat: int, seed: int | None) -> tuple[int, ...]:
        """The indexes in `all` of what a seat reads, in their order.

        layer, index: the layer that reads, and its index in the recipe
        seat: index of the seat in this layer
        seed: the recipe's seed

        A seat that sees a part of the proposals also sees each comment whose author saw one of these.
        """
        if len(part := self._drawn(layer, index, seat, seed)) == len(self.proposals):
            return self.everything
        seats = {self.proposals[each].seat for each in part}
        comments = range(len(self.proposals), len(self.all))
        return (*part, *(each for each in comments if _is_about(self.all[each], seats)))

    def _drawn(self, layer: Layer, index: int, seat: int, seed: int | None) -> tuple[int, ...]:
        """The indexes of the proposals that a seat reads. See `seen` for the parameters."""
        count = len(self.proposals)
        match layer.sees:
            case "all":
                return tuple(range(count))
            case "none":
                return ()
            case "split":
                seats = sum(agent.samples for agent in layer.agents)
                # Dealt like cards: neighbours, which may be samples of one model, go to different seats.
                dealt = tuple(range(seat, count, seats))
                return dealt or ((seat % count,) if layer.comments else ())  # there is no comment on nothing
            case int():
                place = f"{'' if seed is None else seed}/{index}/{seat}"
                ranks = [_rank(place, proposal.seat) for proposal in self.proposals]
                return tuple(sorted(nsmallest(layer.sees, range(count), key=ranks.__getitem__)))
            case _:
                assert_never(layer.sees)


def _is_about(comment: Proposal, seats: set[int]) -> bool:
    """Whether the author of the comment saw a proposal of one of these seats."""
    return bool(seats) and (comment.about is None or not comment.about.isdisjoint(seats))


def _rank(place: str, seat: int) -> bytes:
    """The rank of an earlier seat's proposal in the draw of a seat: a hash, which is the same in every run."""
    return hashlib.sha256(f"sees/{place}/{seat}".encode()).digest()
