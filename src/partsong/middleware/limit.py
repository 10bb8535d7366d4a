"""No more calls at once than a provider takes. Who waited longest goes first, whichever run it belongs to."""

import asyncio
from dataclasses import dataclass

from partsong.model import Answer, Model, Request, Send


@dataclass(frozen=True, slots=True)
class Limit:
    """A model behind a gate that all models of its provider share."""

    model: Model
    gate: asyncio.Semaphore

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        async with self.gate:
            return await self.model(request, send)
