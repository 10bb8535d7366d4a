"""The check of a model's window: a request that is too long is refused before it costs anything.

If a provider refuses a request and tells its window, that number is used from then on.
"""

from dataclasses import dataclass, replace

from partsong.errors import ModelError
from partsong.model import Answer, Model, Request, Send
from partsong.model_info import ModelInfo
from partsong.wire.tokens import likely_tokens


@dataclass(slots=True, eq=False)
class Window:
    """The outermost wrapper: a model that reads `info.window` tokens, where that is known."""

    model: Model
    name: str
    info: ModelInfo

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
        info = self.info
        if info.window is None or info.listed or likely_tokens(request.messages) <= info.window:
            return
        about, tokens = "about ", likely_tokens(request.messages)
        if info.count is not None:
            about, tokens = "", await info.count(request.messages)
        if tokens > info.window:
            raise ModelError(
                f"the request has {about}{tokens:,} tokens, but {self.name} reads {info.window:,}", "window"
            )

    def learn(self, window: int) -> None:
        """Take in the window that a provider has told. A configured window may be lower on purpose, and then stays."""
        if self.info.window is None or self.info.listed or window < self.info.window:
            self.info = replace(self.info, window=window, listed=False)
