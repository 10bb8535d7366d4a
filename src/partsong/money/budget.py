"""A hard cap on money: the worst case of a call is reserved before the call, and replaced by its price afterwards.

Seats that are asked at the same time cannot overdraw a purse together, since each reserves first. If the price of a
call cannot be known, as for a cancelled call, the whole reservation counts as spent. So the spending that a purse
reports is never less than the bill.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.heavy import done, is_heavy
from partsong.model import Answer, Model, Request, Sampling, Send, Usage
from partsong.model_info import ModelInfo, info_of
from partsong.wire.tokens import estimate_tokens

Dollars = Mapping[str, Decimal]  # dollars by scope: "" for the whole run, a provider's name for its calls

MAX_TOKENS = 4096  # token limit of an answer without another limit: without a limit there is no worst case
LEAST_TOKENS = 256  # if the money does not pay for an answer of this length, the call is refused
NOTHING: Dollars = {}


def provider_of(name: str) -> str:
    """The provider's name in a model id, which is also the scope of the provider's money."""
    return name.partition(":")[0]


def limit_of(info: ModelInfo, sampling: Sampling) -> int:
    """The most output tokens of an answer under a budget: the limit of the request, of the model, or 4096."""
    return sampling.max_tokens or info.max_tokens or MAX_TOKENS


def worst_case(info: ModelInfo, request: Request) -> Decimal | None:
    """The most dollars that a call with this request can cost; `None` if the model's price is unknown."""
    return dearest(info, estimate_tokens(request), limit_of(info, request.sampling))


def dearest(info: ModelInfo, asked: int, said: int) -> Decimal | None:
    """The highest price of a call in dollars, whichever kinds of tokens the provider bills; `None` if it is unknown.

    asked: input tokens, which may be billed as cached or as written to the cache
    said: output tokens, which may be billed as reasoning
    """
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
    """Dollars that are reserved for one call to a provider."""

    provider: str
    dollars: Decimal


@dataclass(slots=True)
class Purse:
    """The money of one run. Dollars spent and held never exceed a cap, unless a call costs more than its worst case.

    caps: most dollars by scope; a scope without a cap is not limited
    spent: dollars of ended calls, by scope
    held: dollars reserved for open calls, by scope
    open: the reservations of open calls
    closed: whether the run is over, so that nothing can be reserved
    """

    caps: Dollars
    spent: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    held: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    open: set[Reservation] = field(default_factory=set)
    closed: bool = False

    def left(self, provider: str, kept: Dollars = NOTHING) -> Decimal:
        """The most dollars that a call to the provider may cost now; infinite without a cap.

        kept: dollars by scope that must be left for later calls (default: none)
        """
        return min(
            (
                self.caps[scope] - self.spent[scope] - self.held[scope] - kept.get(scope, Decimal(0))
                for scope in ("", provider)
                if scope in self.caps
            ),
            default=Decimal("Infinity"),
        )

    def reserve(self, dollars: Decimal, provider: str = "", kept: Dollars = NOTHING) -> Reservation:
        """Reserve dollars for a call to the provider.

        kept: dollars by scope that must be left for later calls (default: none)

        Raises `ModelError` with the cause "budget" if a cap would be exceeded, or if the run has ended (`close`).
        """
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
        """Replace a reservation by the price of its call. Only the first settlement of a reservation counts.

        dollars: the price; `None` (default) if it is unknown, so that the whole reservation counts as spent
        """
        if reservation not in self.open:
            return
        self.open.remove(reservation)
        for scope in {"", reservation.provider}:
            self.held[scope] -= reservation.dollars
            self.spent[scope] += reservation.dollars if dollars is None else dollars

    def close(self) -> Dollars:
        """Close the purse, and return the dollars that the run has spent, by scope.

        An open call counts with its whole reservation.
        """
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
    """A model whose calls are paid from a purse.

    model: the model that is called, with all other middleware inside
    purse: the money of the run
    provider: name of the model's provider
    kept: dollars by scope that calls must leave for the layers after this one (default: none)
    committed: counts the part of the run's hold that has begun; `None` (default) if nothing is held

    A retry inside spends the same reservation, so calls that may have cost money must not be retried (`Terms.once`). An
    answer without a token limit gets one. If the money does not pay for the limit, the limit is lowered.
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
        asked = await done(is_heavy(request), estimate_tokens, request)
        sent, dollars = self.affordable(request, asked)
        if self.committed is None:
            return sent, dollars
        while not self.committed.covers(dollars, self.provider):
            if dollars > self.purse.left(self.provider, self.kept):
                break  # the purse will refuse it, so it must not count
            await self.committed.cover(dollars, self.provider)
            sent, dollars = self.affordable(request, asked)  # other seats may have used the purse meanwhile
        return sent, dollars

    def affordable(self, request: Request, asked: int) -> tuple[Request, Decimal]:
        """The request with a token limit that the purse can pay for, and the most dollars that it costs then.

        asked: estimated input tokens of the request

        Raises `ModelError` with the cause "budget" if the price of the model is unknown.
        """
        info = self.info
        limit = limit_of(info, request.sampling)
        dollars = dearest(info, asked, limit)
        if dollars is None:
            raise ModelError("its price is unknown, so that nobody knows whether the budget allows it", "budget")
        left = self.purse.left(self.provider, self.kept)
        if dollars > left and (lower := _tokens_for(left, info, asked, limit)) is not None:
            limit, dollars = lower
        sampling = replace(request.sampling, max_tokens=limit)
        return replace(request, sampling=sampling, terms=replace(request.terms, once=True)), dollars


def spent_on(error: ModelError) -> Decimal | None:
    """The price of a failed call in dollars; `None` if it is unknown.

    If the provider reported a usage, its price counts. Otherwise, a request that was refused before a model worked on
    it has cost nothing: a wrong key, an empty account, a rate limit, a wrong or too long request, or an HTTP status of
    a server fault. Neither has a request that was not sent. Every other call may be on the bill, such as an answer that
    broke off or was filtered, so its price is unknown.
    """
    if error.usage is not None:
        return known(error.usage)
    return Decimal(0) if error.unpaid else None


def known(usage: Usage) -> Decimal | None:
    """The dollars of a usage that the provider reported; `None` for an estimate, which misses hidden reasoning."""
    if usage.estimated and usage.dollars != 0:
        return None
    return usage.dollars


def shown(dollars: Decimal) -> str:
    """An amount of dollars as text for people, rounded up to a millionth."""
    rounded = dollars.quantize(Decimal("1e-6"), "ROUND_CEILING") if dollars.is_finite() else dollars
    return f"{rounded.normalize():f}" if rounded else "0"


def _tokens_for(left: Decimal, info: ModelInfo, asked: int, limit: int) -> tuple[int, Decimal] | None:
    """The most output tokens that `left` dollars pay for, and the price of the call with so many.

    asked: input tokens of the call
    limit: most output tokens to try

    Returns `None` if the money pays for less than `LEAST_TOKENS`. The price grows in proportion to the output tokens,
    so two prices give all others.
    """
    whole, none = dearest(info, asked, limit), dearest(info, asked, 0)
    if whole is None or none is None or whole <= none or left <= none:
        return None
    tokens = int((left - none) / (whole - none) * limit)
    dollars = dearest(info, asked, tokens) if tokens >= LEAST_TOKENS else None
    return None if dollars is None or dollars > left else (tokens, dollars)
