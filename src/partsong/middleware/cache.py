"""A cache of calls: every finished call is stored, and a call whose answer is stored is not made again.

A stored answer is used if the request's terms (`Terms.cache`) allow this. By default, it is used at a temperature of 0,
at which the model would give the same answer again. Equal calls at the same time are made once: later callers wait for
the first, also on other hosts that share the store. If the first call fails or is cancelled, the next caller makes the
call. If the store fails, calls are made.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from partsong.call import Call, call_key
from partsong.errors import StoreError
from partsong.heavy import done, is_heavy
from partsong.model import (
    NOTHING_USED,
    Answer,
    Delta,
    Model,
    Reasoning,
    ReasoningDelta,
    Request,
    Send,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)

SOON, LATER = 0.1, 1.0  # seconds between two looks for the answer of another host: the first, and the longest


class Calls(Protocol):
    """A store of calls. Both methods raise `StoreError` if the store fails."""

    async def find_call(self, key: bytes) -> Answer | None:
        """Return the stored answer of the call with this key (see `call_key`); `None` if there is none."""

    async def keep_call(self, call: Call) -> None:
        """Store a call. Returns once the stored call would survive a crash of this process."""


class Claims(Protocol):
    """The calls that processes on several hosts are about to make."""

    async def claim(self, key: bytes) -> bool:
        """Claim to make the call with this key. Return `False` if another process makes it.

        Raises `StoreError` if the store fails.
        """

    def release(self, key: bytes) -> None:
        """Give a claim back, if this process has it."""


@dataclass(slots=True, eq=False)
class Flight:
    """A call under way, for which equal calls wait.

    landed: set when the call has ended
    answer: the call's answer; `None` before the end, after a failure, and if the answer may not be reused
    """

    landed: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Answer | None = None


Flights = dict[bytes, Flight]  # calls under way, by the key of the call; shared by all models


@dataclass(frozen=True, slots=True)
class Cache:
    """A model whose calls are stored. Failed calls, and answers without content or with caveats, are not stored.

    model: the model that makes the calls
    name: the model's id, "provider:model", a part of the key of each call
    store: where calls are stored and searched
    flights: calls under way, shared by all models
    address: address of the provider's server, a part of the key, because another server has another model of the same
        name; "" by default
    claims: the calls that processes on several hosts are about to make; `None` (default) if this process is alone
    """

    model: Model
    name: str
    store: Calls
    flights: Flights
    address: str = ""
    claims: Claims | None = None

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        key = await done(is_heavy(request), call_key, f"{self.name} {self.address}".rstrip(), request)
        if not may_be_stored(request):
            return await self.make(key, request, send)
        while (flight := self.flights.get(key)) is not None:
            await flight.landed.wait()
            if flight.answer is not None:
                return await hit(flight.answer, send)
        flight = self.flights[key] = Flight()
        try:
            # The store is searched after the flight is registered, so that an equal call cannot begin in between.
            if (found := await self.find_or_claim(key)) is not None:
                flight.answer = found
            else:
                return await self.make(key, request, send, flight)
        finally:
            if self.claims is not None:
                self.claims.release(key)
            del self.flights[key]
            flight.landed.set()
        return await hit(found, send)

    async def find(self, key: bytes) -> Answer | None:
        """Return the stored answer; `None` if there is none or the store fails."""
        try:
            return await self.store.find_call(key)
        except StoreError:
            return None

    async def find_or_claim(self, key: bytes) -> Answer | None:
        """Return the stored answer, for which this waits while another host makes the call.

        `None` says that the call is to be made here.
        """
        if self.claims is None:
            return await self.find(key)
        pause = SOON
        while (found := await self.find(key)) is None:
            try:
                if await self.claims.claim(key):
                    return await self.find(key)  # another host may have stored it just before
            except StoreError:
                return None
            await asyncio.sleep(pause)
            pause = min(LATER, 2 * pause)
        return found

    async def make(self, key: bytes, request: Request, send: Send | None, flight: Flight | None = None) -> Answer:
        """Make the call, store it, and return its answer.

        key: key of the call in the store
        flight: receives the answer for callers that wait; `None` (default) if nobody may wait
        """
        clock = time.perf_counter
        first: float | None = None
        listening = 0.0

        async def send_and_time(delta: Delta) -> None:
            nonlocal first, listening
            now = clock()
            if first is None:
                first = now - began
            if send is not None:
                await send(delta)
                listening += clock() - now

        started, began = time.time(), clock()
        answer = await self.model(request, send and send_and_time)
        seconds = clock() - began - listening
        if has_content(answer):
            if flight is not None:
                flight.answer = answer
            with suppress(StoreError):
                record = request.terms.record
                await self.store.keep_call(Call(key, self.name, request, answer, started, seconds, first, record))
        return answer


def may_be_stored(request: Request) -> bool:
    """Return whether the terms or the temperature of a request allow a stored answer."""
    allowed = request.terms.cache
    return request.sampling.temperature == 0 if allowed is None else allowed


def has_content(answer: Answer) -> bool:
    """Return whether an answer may be stored: it has text or a tool call, and no caveats."""
    if answer.caveats:
        return False
    return bool(answer.text.strip()) or any(isinstance(part, ToolCall) for part in answer.parts)


async def hit(answer: Answer, send: Send | None) -> Answer:
    """Return a stored answer as the answer of a call that used nothing.

    send: receives the answer as deltas; `None` for no listener

    The original usage moves to the answer's field `stored`.
    """
    if send is not None:
        for delta in deltas(answer):
            await send(delta)
    return replace(answer, usage=NOTHING_USED, stored=answer.stored or answer.usage)


def deltas(answer: Answer) -> list[Delta]:
    """Return the deltas of an answer, one for each part that is not empty."""
    said: list[Delta] = []
    calls = 0
    for part in answer.parts:
        match part:
            case Text(text=text) if text:
                said.append(TextDelta(text))
            case Reasoning(text=text) if text:
                said.append(ReasoningDelta(text))
            case ToolCall(id=identity, name=name, arguments=arguments):
                said.append(ToolCallDelta(calls, identity, name, arguments))
                calls += 1
    return said
