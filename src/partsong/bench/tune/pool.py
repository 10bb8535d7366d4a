"""The pool: several answers of each model to each prompt, from which many recipes are worked out without a call.

A member is a model with its temperature. Arrays have a row for each prompt and a column for each answer. An answer that
failed, or that states nothing, votes for nobody and has the lowest grade if it failed.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Labels = NDArray[np.int64]
Read = Callable[[str], Hashable | None]  # what an answer states; `None` if it states nothing

ABSTAINS = -1  # the label of an answer that votes for nobody
ORDERS = 64  # random orders of the answers over which a result is averaged


class Drawn(Struct, frozen=True):
    """One answer in the pool.

    text: the answer; empty if it failed
    value: its grade, from 0 to 1; 0 if it failed
    price: its cost, in the unit of the search
    seconds: its duration; NaN if it is unknown
    failed: whether there is no answer
    cut: whether the answer was cut off at its token limit, so that it votes for nobody
    """

    text: str
    value: float
    price: float
    seconds: float = float("nan")
    failed: bool = False
    cut: bool = False


class Member(Struct, frozen=True):
    """All answers of one model at one temperature, as arrays of the shape (prompts, answers).

    name: name of the member
    model: id of the model
    temperature: temperature of the answers; `None` for the provider's own
    labels: what each answer states, as numbers that are equal for equal statements about one prompt; `ABSTAINS` if none
    values: grades from 0 to 1
    prices: costs in the unit of the search
    seconds: durations; NaN where they are unknown
    """

    name: str
    model: str
    temperature: float | None
    labels: Labels
    values: Numbers
    prices: Numbers
    seconds: Numbers

    @property
    def size(self) -> int:
        """Number of answers to each prompt."""
        return int(self.labels.shape[1])

    @property
    def mean(self) -> float:
        """Mean grade of all answers."""
        return float(self.values.mean())


def pooled(
    drawn: Mapping[str, Sequence[Sequence[Drawn]]], settings: Mapping[str, tuple[str, float | None]], read: Read
) -> list[Member]:
    """Return the members of a pool.

    drawn: for each member, the answers to each prompt, in the same order of prompts for all members
    settings: model id and temperature of each member
    read: says what an answer states; labels are compared between members too
    """
    codes: list[dict[Hashable, int]] = []
    members = []
    for name, prompts in drawn.items():
        codes += [{} for _ in range(len(prompts) - len(codes))]
        labels = np.array(
            [[_label(each, read, codes[row]) for each in answers] for row, answers in enumerate(prompts)],
            dtype=np.int64,
        )
        columns = ("value", "price", "seconds")
        arrays = (np.array([[getattr(each, of) for each in answers] for answers in prompts], float) for of in columns)
        members.append(Member(name, *settings[name], labels, *arrays))
    return members


def _label(answer: Drawn, read: Read, codes: dict[Hashable, int]) -> int:
    said = None if answer.failed or answer.cut else read(answer.text)
    return ABSTAINS if said is None else codes.setdefault(said, len(codes))


class Orders:
    """The random orders in which the answers of each member are taken, the same for all recipes.

    With the same orders, two recipes that share a model meet the same answers, so their difference is less noisy.
    """

    def __init__(self, members: Sequence[Member], seed: int, count: int = ORDERS) -> None:
        chance = np.random.default_rng(seed)
        self._orders = {each.name: _permutations(chance, each.size, count) for each in members}

    def of(self, member: Member, count: int) -> NDArray[np.int64]:
        """Return the first `count` columns of a member in each order: shape (orders, count)."""
        return self._orders[member.name][:, :count]


def _permutations(chance: np.random.Generator, size: int, count: int) -> NDArray[np.int64]:
    rows = np.tile(np.arange(size), (count, 1))
    return chance.permuted(rows, axis=1) if size > 1 else rows[:1].repeat(count, axis=0)


def counts(labels: Labels) -> Labels:
    """Return for each seat how many of the seats up to each step state the same.

    labels: shape (…, seats)

    The result has the shape (…, steps, seats): after the step t, the seats 0 to t have answered. Seats that have not
    answered or that abstain have 0.
    """
    seats = labels.shape[-1]
    same = (labels[..., :, None] == labels[..., None, :]) & (labels[..., :, None] != ABSTAINS)
    reached = np.cumsum(same, axis=-2, dtype=np.int64)  # over the seats that have answered
    answered = np.tril(np.ones((seats, seats), dtype=bool))
    return np.asarray(np.where(answered, reached, 0))
