"""Refuse what a model cannot read, before it costs anything; and show what is known of it.

What a provider says of the window when it refuses a request is remembered from then on: it has the last word.
"""

from dataclasses import dataclass, replace

from partsong.errors import ModelError
from partsong.facts import Facts
from partsong.model import Answer, Model, Request, Send
from partsong.wire.tokens import likely_tokens


@dataclass(slots=True, eq=False)
class Window:
    """The outermost wrapper: a model that reads `facts.window` tokens, where that is known."""

    model: Model
    name: str
    facts: Facts

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        await self.check(request)
        try:
            return await self.model(request, send)
        except ModelError as error:
            if error.window is not None:
                self.learn(error.window)
            raise

    async def check(self, request: Request) -> None:
        """Raise `ModelError` for a request that is certainly too long."""
        facts = self.facts
        if facts.window is None or facts.listed or likely_tokens(request.messages) <= facts.window:
            return
        about, tokens = "about ", likely_tokens(request.messages)
        if facts.count is not None:
            about, tokens = "", await facts.count(request.messages)
        if tokens > facts.window:
            raise ModelError(
                f"the request has {about}{tokens:,} tokens, but {self.name} reads {facts.window:,}", "window"
            )

    def learn(self, window: int) -> None:
        """A provider has told its window. One that was known for sure may have been set lower on purpose."""
        if self.facts.window is None or self.facts.listed or window < self.facts.window:
            self.facts = replace(self.facts, window=window, listed=False)
