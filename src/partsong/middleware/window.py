"""Refuse what a model cannot read, before it costs anything; and show what is known of it."""

from dataclasses import dataclass

from partsong.errors import ModelError
from partsong.facts import Facts
from partsong.model import Answer, Model, Request, Send
from partsong.wire.tokens import likely_tokens


@dataclass(frozen=True, slots=True)
class Window:
    """The outermost wrapper: a model that reads `facts.window` tokens, where that is known."""

    model: Model
    name: str
    facts: Facts

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        window = self.facts.window
        if window is not None and (tokens := likely_tokens(request.messages)) > window:
            raise ModelError(f"the request has about {tokens:,} tokens, but {self.name} reads {window:,}", "window")
        return await self.model(request, send)
