"""A cache of calls: every finished call is stored, and a call whose answer is stored is not made again.

A stored answer is used if the request's terms allow that. If the terms do not say, it is used at a temperature of 0,
where the model would say the same again. Equal calls at the same time are made once: later callers wait for the first,
and the next one takes over if it fails or is cancelled. If the store fails, the call is made.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from partsong.call import Call, call_key
from partsong.errors import StoreError
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


class Calls(Protocol):
    """The store of calls. Both methods may raise `StoreError`."""

    async def find_call(self, key: bytes) -> Answer | None: ...

    async def keep_call(self, call: Call) -> None:
        """Returns once the call would survive this process."""


@dataclass(slots=True, eq=False)
class Flight:
    """A call under way that others wait for. After `landed`, `answer` is the answer, or `None` after a failure."""

    landed: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Answer | None = None


Flights = dict[bytes, Flight]  # by key; shared by all models whose calls are to be made once


@dataclass(frozen=True, slots=True)
class Cache:
    """The model `name` with its calls in a store. Failed calls and answers without content are not stored.

    `address` is the address of the server: under the same name, another server has another model.
    """

    model: Model
    name: str
    store: Calls
    flights: Flights
    address: str = ""

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        key = call_key(f"{self.name} {self.address}".rstrip(), request)
        if not may_be_stored(request):
            return await self.make(key, request, send)
        while (flight := self.flights.get(key)) is not None:
            await flight.landed.wait()
            if flight.answer is not None:
                return await hit(flight.answer, send)
        flight = self.flights[key] = Flight()
        try:
            # Looked up within the flight: nobody can come between the look and the call.
            if (found := await self.find(key)) is not None:
                flight.answer = found
            else:
                return await self.make(key, request, send, flight)
        finally:
            del self.flights[key]
            flight.landed.set()
        return await hit(found, send)

    async def find(self, key: bytes) -> Answer | None:
        try:
            return await self.store.find_call(key)
        except StoreError:
            return None

    async def make(self, key: bytes, request: Request, send: Send | None, flight: Flight | None = None) -> Answer:
        """Make the call, and store it before its answer is returned."""
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
    """Whether a stored answer may be used."""
    allowed = request.terms.cache
    return request.sampling.temperature == 0 if allowed is None else allowed


def has_content(answer: Answer) -> bool:
    """Whether the answer is worth keeping: one without a word, or with caveats, may not become a lasting one."""
    if answer.caveats:
        return False
    return bool(answer.text.strip()) or any(isinstance(part, ToolCall) for part in answer.parts)


async def hit(answer: Answer, send: Send | None) -> Answer:
    """A stored answer as the answer of a call that used nothing. A listener hears it as deltas."""
    if send is not None:
        for delta in deltas(answer):
            await send(delta)
    return replace(answer, usage=NOTHING_USED, stored=answer.stored or answer.usage)


def deltas(answer: Answer) -> list[Delta]:
    """The deltas of an answer, one for each part."""
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
