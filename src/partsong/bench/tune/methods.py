"""Works out recipes from a pool of answers: one answer, a vote, an early stop, and a cascade. No model is called.

Each method is a plan of seats, with the rules of `partsong.engine.voting`: the largest group of equal statements wins,
ties go to the group with the earliest seat, and who states nothing abstains. Results are means over random orders of
the stored answers, with the same orders for all methods.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from partsong.bench.tune.pool import ABSTAINS, Labels, Member, Numbers, Orders, counts


class Stage(Struct, frozen=True):
    """A layer: some answers of each of its members, in this order.

    parts: members by name, each with its number of seats
    agree: number of equal statements that end the run, with one seat open at a time; 0 if all seats are asked at once
    """

    parts: tuple[tuple[str, int], ...]
    agree: int = 0

    @property
    def seats(self) -> int:
        return sum(count for _, count in self.parts)


class Method(Struct, frozen=True):
    """A recipe that can be worked out from a pool.

    name: name of the recipe
    stages: its layers; the last one ends with a vote, unless it has one seat only

    A run goes on to the next layer if the statements of a layer do not agree. The next layer does not read them.
    """

    name: str
    stages: tuple[Stage, ...]

    @property
    def single(self) -> bool:
        """Whether one model answers once."""
        return len(self.stages) == 1 and self.stages[0].seats == 1


class Measured(Struct, frozen=True):
    """How a recipe has done on each prompt: arrays of the shape (prompts,), with NaN for prompts without a run.

    name: name of the recipe
    values: mean grade, from 0 to 1
    noise: variance of the grade of a single run
    prices: mean cost, in the unit of the search
    seconds: mean duration; NaN where it is unknown
    calls: mean number of calls
    single: whether one model answers once
    """

    name: str
    values: Numbers
    noise: Numbers
    prices: Numbers
    seconds: Numbers
    calls: Numbers
    single: bool = False

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.values))

    @property
    def price(self) -> float:
        return float(np.nanmean(self.prices))

    @property
    def duration(self) -> float:
        """Mean seconds; NaN if no duration is known."""
        return float(np.nanmean(self.seconds)) if not np.isnan(self.seconds).all() else float("nan")

    @property
    def complete(self) -> bool:
        """Whether the recipe has run on each prompt."""
        return not bool(np.isnan(self.values).any())


class _Outcome(Struct):
    """The outcome of a stage in each order of each prompt: arrays of the shape (prompts, orders)."""

    values: Numbers
    prices: Numbers
    seconds: Numbers
    calls: Numbers
    agreed: NDArray[np.bool_]


def measure(method: Method, members: Sequence[Member], orders: Orders) -> Measured:
    """Return how a method does on the pool, averaged over the orders."""
    by_name = {member.name: member for member in members}
    *earlier, last = method.stages
    whole = _stage(last, by_name, orders, last=True)
    for stage in reversed(earlier):
        first = _stage(stage, by_name, orders, last=False)
        on = ~first.agreed
        whole = _Outcome(
            np.where(on, whole.values, first.values),
            first.prices + np.where(on, whole.prices, 0.0),
            first.seconds + np.where(on, whole.seconds, 0.0),
            first.calls + np.where(on, whole.calls, 0.0),
            first.agreed | whole.agreed,
        )
    values = whole.values.mean(axis=1)
    return Measured(
        method.name,
        values,
        _noise(method, whole, by_name),
        whole.prices.mean(axis=1),
        whole.seconds.mean(axis=1),
        whole.calls.mean(axis=1),
        method.single,
    )


def _noise(method: Method, whole: _Outcome, by_name: dict[str, Member]) -> Numbers:
    """Return the variance of a single run. Orders of few answers are much alike, so the pool's answers bound it below.

    For grades of 0 and 1, the variance follows from the mean.
    """
    values = whole.values.mean(axis=1)
    if set(np.unique(whole.values)) <= {0.0, 1.0}:
        return np.asarray(values * (1 - values))
    name, _ = method.stages[-1].parts[0]
    return np.asarray(np.maximum(whole.values.var(axis=1), by_name[name].values.var(axis=1)))


def _stage(stage: Stage, by_name: dict[str, Member], orders: Orders, *, last: bool) -> _Outcome:
    labels, values, prices, seconds = _seats(stage, by_name, orders)
    count = labels.shape[-1]
    if count == 1:
        agreed = np.zeros(labels.shape[:2], dtype=bool)
        return _Outcome(values[..., 0], prices[..., 0], seconds[..., 0], np.ones(labels.shape[:2]), agreed)
    after = counts(labels)
    if not stage.agree:
        return _Outcome(
            _won(after[..., -1, :], values),
            prices.sum(axis=-1),
            seconds.max(axis=-1),
            np.full(labels.shape[:2], float(count)),
            np.zeros(labels.shape[:2], dtype=bool),
        )
    agreeing = after.max(axis=-1) >= stage.agree  # (prompts, orders, steps)
    agreed = agreeing.any(axis=-1)
    ended = agreeing | _decided(labels, after) if last else agreeing
    step = np.where(ended.any(axis=-1), ended.argmax(axis=-1), count - 1)
    there = np.take_along_axis(after, step[..., None, None], axis=-2)[..., 0, :]
    asked = np.arange(count) <= step[..., None]
    return _Outcome(
        _won(there, values),
        np.where(asked, prices, 0.0).sum(axis=-1),
        np.where(asked, seconds, 0.0).sum(axis=-1),
        step + 1.0,
        agreed,
    )


def _seats(stage: Stage, by_name: dict[str, Member], orders: Orders) -> tuple[Labels, Numbers, Numbers, Numbers]:
    """Return labels, values, prices and seconds of the seats in each order: shape (prompts, orders, seats)."""
    columns = [(by_name[name], orders.of(by_name[name], count)) for name, count in stage.parts]

    def gathered(of: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(member, of)[:, order] for member, order in columns], axis=-1)

    labels = np.asarray(gathered("labels"), dtype=np.int64)
    values, prices, seconds = (np.asarray(gathered(of), dtype=np.float64) for of in ("values", "prices", "seconds"))
    return labels, values, prices, seconds


def _won(votes: Labels, values: Numbers) -> Numbers:
    """Return the grade of the first seat of the winning group; 0 if no seat states anything, since the run fails then.

    votes: votes for the statement of each seat, shape (…, seats)
    """
    first = votes.argmax(axis=-1)[..., None]
    won = np.take_along_axis(values, first, axis=-1)[..., 0]
    return np.asarray(np.where(votes.max(axis=-1) > 0, won, 0.0))


def _decided(labels: Labels, after: Labels) -> NDArray[np.bool_]:
    """Return for each step whether no open seat can change the winner of a plurality vote.

    labels: shape (…, seats)
    after: votes after each step, shape (…, steps, seats), from `counts`
    """
    count = labels.shape[-1]
    left = count - 1 - np.arange(count)  # open seats after each step
    first = after.argmax(axis=-1)  # the first seat of the leader
    most = after.max(axis=-1)
    leader = np.take_along_axis(labels, first, axis=-1)
    others = np.where(labels[..., None, :] == leader[..., None], 0, after)
    rival = others.max(axis=-1)
    earlier = (rival == 0) | (others.argmax(axis=-1) > first)  # a tie goes to the earliest seat
    beaten = (rival + left < most) | ((rival + left == most) & earlier)
    return np.asarray((most > 0) & beaten & (leader != ABSTAINS))


def methods_of(members: Sequence[Member]) -> list[Method]:
    """Return the methods that are worked out for a pool.

    Members with one answer answer alone. Members with several also vote: of three, five and so on up to all; with an
    early stop; all models together; and as cascades, in which a cheap model is followed by a better and dearer one.
    """
    found = [Method(f"{each.name}", (Stage(((each.name, 1),)),)) for each in members]
    voting = sorted((each for each in members if each.size >= 3), key=lambda each: -each.mean)
    for each in voting:
        sizes = range(3, each.size + 1, 2)
        found += [Method(f"vote of {size} × {each.name}", (Stage(((each.name, size),)),)) for size in sizes]
        for agree in range(2, min(3, each.size // 2) + 1):
            stage = Stage(((each.name, each.size),), agree)
            found.append(Method(f"up to {each.size} × {each.name} until {agree} agree", (stage,)))
    if len(voting) >= 2:
        found += _together(voting)
    for cheap in voting:
        for strong in voting:
            if cheap.prices.mean() < strong.prices.mean() and cheap.mean < strong.mean:
                found.append(_cascade(cheap, strong))
    return found


def _together(voting: Sequence[Member]) -> list[Method]:
    """Return votes of all models together, the best model first, because a tie goes to the earliest seat."""
    found = []
    most = min(each.size for each in voting)
    for size in dict.fromkeys((1, min(2, most), most)):
        if len(voting) * size >= 3:
            parts = tuple((each.name, size) for each in voting)
            found.append(Method(f"vote of all models × {size}", (Stage(parts),)))
    parts = tuple((each.name, most) for each in voting)
    found.append(Method(f"all models × {most} until 2 agree", (Stage(parts, 2),)))
    return found


def _cascade(cheap: Member, strong: Member) -> Method:
    first = Stage(((cheap.name, min(3, cheap.size)),), 2)
    second = Stage(((strong.name, min(3, strong.size)),), 2)
    return Method(f"{cheap.name} until 2 agree, else {strong.name} until 2 agree", (first, second))
