"""Keep every finished call, and do not make one again whose answer is there: it costs nothing, and says so.

A stored answer will do where the request's terms say so; where they say nothing, only at a temperature of 0, where the
model would say the same again. The same call at the same moment is made once: whoever comes second waits for the first,
and takes over if that fails or leaves. A store that fails is as good as none.
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
    """Where calls are kept. Both may raise `StoreError`."""

    async def find_call(self, key: bytes) -> Answer | None: ...

    async def keep_call(self, call: Call) -> None:
        """Returns once the call would survive this process."""


@dataclass(slots=True, eq=False)
class Flight:
    """A call under way that others wait for. When it has `landed`, `answer` is there, or it has failed."""

    landed: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Answer | None = None


Flights = dict[bytes, Flight]  # by key; shared by all models whose calls are to be made once


@dataclass(frozen=True, slots=True)
class Cache:
    """The model `name` with its calls in a store. A call that fails is not kept, nor one that brought no answer.

    `address` is where the model is asked: under the same name, another server is another model.
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
        """Make the call, and keep it before anyone hears that it is finished."""
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
    """Whether a stored answer will do."""
    allowed = request.terms.cache
    return request.sampling.temperature == 0 if allowed is None else allowed


def has_content(answer: Answer) -> bool:
    """Whether there is anything to keep: an answer without a word is a failure, and may not become a lasting one."""
    return bool(answer.text.strip()) or any(isinstance(part, ToolCall) for part in answer.parts)


async def hit(answer: Answer, send: Send | None) -> Answer:
    """A stored answer given again: it is said to whoever listens, has used nothing, and is marked."""
    if send is not None:
        for delta in deltas(answer):
            await send(delta)
    return replace(answer, usage=NOTHING_USED, stored=answer.stored or answer.usage)


def deltas(answer: Answer) -> list[Delta]:
    """What a model would have sent on its way to this answer, each part at once."""
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
