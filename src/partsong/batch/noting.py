"""Models that answer from what is stored, and note the calls that are missing instead of making them.

`Noting` and `Recalling` stand behind the cache of a model, so they hear only of calls that the store does not have.
`Counting` and `Limited` stand in front of everything. A run whose open calls have all been noted can go no further: see
`Notes.stuck`.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from msgspec.structs import replace

from partsong.batch.calls import Calls, Made, Wanted
from partsong.call import call_key
from partsong.errors import ModelError
from partsong.model import NOTHING_USED, Answer, Model, Request, Send
from partsong.model_info import ModelInfo, info_of
from partsong.money.budget import limit_of


@dataclass(slots=True)
class Notes:
    """The runs under way, by the id that is the `record` of their requests, and the calls that they lack.

    open: calls that a run waits for
    noted: those of them that are missing
    """

    calls: Calls
    open: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)

    def stuck(self, run: str) -> bool:
        """Whether every open call of a run is missing."""
        return 0 < self.open[run] == self.noted[run]

    def forget(self, run: str) -> None:
        del self.open[run], self.noted[run]


@dataclass(frozen=True, slots=True)
class Noting:
    """A model that makes no call. Each missing call is noted, and is then waited for without end.

    identity: id of the model, a part of the key of each call
    address: address of the provider's server, the other part
    info: facts about the model whose calls are noted
    """

    identity: str
    address: str
    notes: Notes
    info: ModelInfo

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        key = key_of(self.identity, self.address, request)
        if (made := self.notes.calls.find(key)) is not None:
            return ended(made)
        self.notes.calls.want(Wanted(key, self.identity, request))
        run = request.terms.record
        self.notes.noted[run] += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.notes.noted[run] -= 1
        raise AssertionError("nothing but a cancellation ends the wait")


@dataclass(frozen=True, slots=True)
class Recalling:
    """A model that makes no call, and fails where a call is missing. Its fields are those of `Noting`."""

    identity: str
    address: str
    notes: Notes
    info: ModelInfo

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        if (made := self.notes.calls.find(key_of(self.identity, self.address, request))) is not None:
            return ended(made)
        raise ModelError("the call is not stored any more; start the batch again", "invalid", again=False)


@dataclass(frozen=True, slots=True)
class Counting:
    """A model whose open calls are counted."""

    model: Model
    notes: Notes

    @property
    def info(self) -> ModelInfo:
        return info_of(self.model)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        run = request.terms.record
        self.notes.open[run] += 1
        try:
            return await self.model(request, send)
        finally:
            self.notes.open[run] -= 1


@dataclass(frozen=True, slots=True)
class Limited:
    """A model whose answers all have a limit of tokens, since only such calls have a worst case. See `money.budget`."""

    model: Model

    @property
    def info(self) -> ModelInfo:
        return info_of(self.model)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        sampling = replace(request.sampling, max_tokens=limit_of(info_of(self.model), request.sampling))
        return await self.model(replace(request, sampling=sampling), send)


def key_of(identity: str, address: str, request: Request) -> bytes:
    """The key of a call, as the cache of the model with this id makes it."""
    return call_key(f"{identity} {address}".rstrip(), request)


def ended(made: Made) -> Answer:
    """The answer of a call that the batch has made. Raises `ModelError` as the call did."""
    if made.error is not None:
        raise ModelError(made.error.message, made.error.cause, usage=made.usage, again=False)
    assert made.answer is not None, "a call ends with an answer or a failure"
    return replace(made.answer, usage=NOTHING_USED, stored=made.answer.stored or made.answer.usage)
