"""A hard cap on money: what a call may cost at most is reserved before it is made, and settled when it has ended.

Seats that are asked at once cannot overdraw a purse together, since each has reserved first. Whatever cannot be known,
such as what a call has cost that was cancelled, is taken to have cost all that was reserved: what a purse says was
spent is never less than the bill.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.model import Answer, Model, Request, Sampling, Send, Usage
from partsong.model_info import ModelInfo, info_of
from partsong.wire.tokens import estimate_tokens

Dollars = Mapping[str, Decimal]  # by scope: "" is the whole run, any other one a provider

MAX_TOKENS = 4096  # of an answer that nothing else limits: without a limit there is no worst case
LEAST_TOKENS = 256  # an answer is not cut below this for want of money, but given up
NOTHING: Dollars = {}


def provider_of(name: str) -> str:
    """The provider in an id, which is the scope of its money."""
    return name.partition(":")[0]


def limit_of(info: ModelInfo, sampling: Sampling) -> int:
    """New tokens of an answer at most, under a budget."""
    return sampling.max_tokens or info.max_tokens or MAX_TOKENS


def worst_case(info: ModelInfo, request: Request) -> Decimal | None:
    """What the call costs at most; `None` where the price is unknown."""
    return dearest(info, estimate_tokens(request), limit_of(info, request.sampling))


def dearest(info: ModelInfo, asked: int, said: int) -> Decimal | None:
    """What so many tokens cost, of whatever kind the provider says that they were; `None` for an unknown price."""
    if info.dollars is None:
        return None
    kinds = (
        Usage(asked, said),
        Usage(asked, said, reasoning_tokens=said),
        Usage(asked, said, cached_input_tokens=asked),
        Usage(asked, said, cache_write_tokens=asked),
    )
    prices = [price for kind in kinds if (price := info.dollars(kind)) is not None]
    return max(prices) if len(prices) == len(kinds) else None


@dataclass(slots=True, eq=False)
class Reservation:
    """Dollars that are held for one call to a provider."""

    provider: str
    dollars: Decimal


@dataclass(slots=True)
class Purse:
    """The money of one run. The dollars held and spent never exceed a cap, unless a bill exceeds its worst case.

    caps, spent, held: dollars by scope
    open: the reservations of calls under way
    closed: whether the run is over
    """

    caps: Dollars
    spent: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    held: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    open: set[Reservation] = field(default_factory=set)
    closed: bool = False

    def left(self, provider: str, kept: Dollars = NOTHING) -> Decimal:
        """What a call to the provider may cost, if `kept` is left for later calls."""
        return min(
            (
                self.caps[scope] - self.spent[scope] - self.held[scope] - kept.get(scope, Decimal(0))
                for scope in ("", provider)
                if scope in self.caps
            ),
            default=Decimal("Infinity"),
        )

    def reserve(self, dollars: Decimal, provider: str = "", kept: Dollars = NOTHING) -> Reservation:
        """Hold the dollars. Raises `ModelError` with the cause "budget" where a cap does not allow it."""
        if self.closed:
            raise ModelError("the run is over, and its money given back", "budget")
        if dollars > (left := self.left(provider, kept)):
            raise ModelError(
                f"it may cost {shown(dollars)} dollars, but {shown(max(left, Decimal(0)))} are left", "budget"
            )
        reservation = Reservation(provider, dollars)
        self.open.add(reservation)
        for scope in {"", provider}:
            self.held[scope] += dollars
        return reservation

    def settle(self, reservation: Reservation, dollars: Decimal | None = None) -> None:
        """The call has cost so much; `None`: nobody knows, so all that was reserved. The first settling counts."""
        if reservation not in self.open:
            return
        self.open.remove(reservation)
        for scope in {"", reservation.provider}:
            self.held[scope] -= reservation.dollars
            self.spent[scope] += reservation.dollars if dollars is None else dollars

    def close(self) -> Dollars:
        """What the run has spent, by scope; a call that is still open counts with all that was reserved."""
        self.closed = True
        for reservation in list(self.open):
            self.settle(reservation)
        return dict(self.spent)


class Committed(Protocol):
    """What of a run's hold has begun, where one store counts for many processes. See `committing.Commitment`."""

    def covers(self, dollars: Decimal, provider: str) -> bool: ...

    async def cover(self, dollars: Decimal, provider: str) -> None: ...

    def save(self, dollars: Decimal, provider: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Budget:
    """A model that pays from a purse.

    kept: dollars by scope that its calls must leave in the purse, for the layers after it
    committed: what of the run's hold has begun; `None` if nothing is held

    It belongs around everything else, so that a retry inside is part of the call that was reserved for: it asks that
    nothing be repeated that may have cost something. An answer without a limit gets one, and where less is left than
    the worst case costs, a lower one.
    """

    model: Model
    purse: Purse
    provider: str
    kept: Dollars = field(default_factory=dict)
    committed: Committed | None = None

    @property
    def info(self) -> ModelInfo:
        return info_of(self.model)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        request, dollars = await self.begun(request)
        reservation = self.purse.reserve(dollars, self.provider, self.kept)
        spent: Decimal | None = None
        try:
            answer = await self.model(request, send)
            spent = known(answer.usage)
        except ModelError as error:
            spent = spent_on(error)
            raise
        finally:
            self.purse.settle(reservation, spent)
            if self.committed is not None and spent is not None and spent != dollars:
                self.committed.save(dollars - spent, self.provider)
        return answer

    async def begun(self, request: Request) -> tuple[Request, Decimal]:
        """The request as it may be sent, and what it costs at most, which counts from now on. Raises `ModelError`."""
        sent, dollars = self.affordable(request)
        if self.committed is None:
            return sent, dollars
        while not self.committed.covers(dollars, self.provider):
            if dollars > self.purse.left(self.provider, self.kept):
                break  # the purse will refuse it, so it must not count
            await self.committed.cover(dollars, self.provider)
            sent, dollars = self.affordable(request)  # other seats may have used the purse meanwhile
        return sent, dollars

    def affordable(self, request: Request) -> tuple[Request, Decimal]:
        """The request as it may be sent, and what it costs at most. Raises `ModelError` with the cause "budget"."""
        info = self.info
        asked, limit = estimate_tokens(request), limit_of(info, request.sampling)
        dollars = dearest(info, asked, limit)
        if dollars is None:
            raise ModelError("its price is unknown, so that nobody knows whether the budget allows it", "budget")
        left = self.purse.left(self.provider, self.kept)
        if dollars > left and (lower := _tokens_for(left, info, asked, limit)) is not None:
            limit, dollars = lower
        sampling = replace(request.sampling, max_tokens=limit)
        return replace(request, sampling=sampling, terms=replace(request.terms, once=True)), dollars


def spent_on(error: ModelError) -> Decimal | None:
    """What a failed call has cost; `None` where nobody knows.

    The provider's own count settles it. What was refused before a model saw it has cost nothing: a wrong key, an empty
    account, too many requests, a request that is wrong or too long, a provider that was not asked or not reached, and
    one that says with an HTTP status that it is broken. Everything else may be on the bill: an answer that broke off,
    or was given up, was written all the same, and some providers charge for what their filter stops.
    """
    if error.usage is not None:
        return known(error.usage)
    return Decimal(0) if error.unpaid else None


def known(usage: Usage) -> Decimal | None:
    """The dollars of a usage that the provider counted; `None` for our estimate, which misses hidden reasoning."""
    if usage.estimated and usage.dollars != 0:
        return None
    return usage.dollars


def shown(dollars: Decimal) -> str:
    """Dollars for people, rounded up to a millionth."""
    rounded = dollars.quantize(Decimal("1e-6"), "ROUND_CEILING") if dollars.is_finite() else dollars
    return f"{rounded.normalize():f}" if rounded else "0"


def _tokens_for(left: Decimal, info: ModelInfo, asked: int, limit: int) -> tuple[int, Decimal] | None:
    """The most tokens of an answer that `left` pays for, and what they cost; `None` if these are too few to be of use.

    Output is billed by the token, so that two prices tell all the others.
    """
    whole, none = dearest(info, asked, limit), dearest(info, asked, 0)
    if whole is None or none is None or whole <= none or left <= none:
        return None
    tokens = int((left - none) / (whole - none) * limit)
    dollars = dearest(info, asked, tokens) if tokens >= LEAST_TOKENS else None
    return None if dollars is None or dollars > left else (tokens, dollars)
