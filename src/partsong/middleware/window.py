"""Refuse what a model cannot read, before it costs anything."""

from dataclasses import dataclass

from partsong.errors import ModelError
from partsong.model import Answer, Model, Request, Send
from partsong.wire.tokens import likely_tokens


@dataclass(frozen=True, slots=True)
class Window:
    """A model that can read `window` tokens. The engine looks at `window` before a run begins."""

    model: Model
    name: str
    window: int

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        tokens = likely_tokens(request.messages)
        if tokens > self.window:
            raise ModelError(
                f"the request has about {tokens:,} tokens, but {self.name} reads {self.window:,}", "window"
            )
        return await self.model(request, send)
