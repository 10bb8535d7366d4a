"""Checks requests against a model's context window: a request that is too long is refused before it costs anything.

If a provider refuses a request and names its window in the refusal, later requests are checked against that number.
"""

from dataclasses import dataclass, replace

from partsong.errors import ModelError
from partsong.heavy import are_heavy, done
from partsong.model import Answer, Model, Request, Send
from partsong.model_info import ModelInfo
from partsong.wire.tokens import likely_tokens


@dataclass(slots=True, eq=False)
class Window:
    """A model whose requests are checked against `info.window`, if that is known. It is the outermost wrapper.

    name: the model's id, for errors
    info: the model's info, which the engine reads; replaced when a refusal names the window
    """

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
        """Raise `ModelError` with the cause "window" if a request has more tokens than the window.

        Tokens are counted by the model's tokenizer if there is one and the estimate exceeds the window. A window from
        the table in genai-prices (`info.listed`) is not checked, because the table may be wrong.
        """
        info = self.info
        if info.window is None or info.listed:
            return
        about, tokens = "about ", await done(are_heavy(request.messages), likely_tokens, request.messages)
        if tokens <= info.window:
            return
        if info.count is not None:
            about, tokens = "", await info.count(request.messages)
        if tokens > info.window:
            raise ModelError(
                f"the request has {about}{tokens:,} tokens, but {self.name} reads {info.window:,}", "window"
            )

    def learn(self, window: int) -> None:
        """Set the window to the number of tokens that a provider's refusal names.

        A lower configured window stays, since it may be lower on purpose. An unknown or listed window is replaced.
        """
        if self.info.window is None or self.info.listed or window < self.info.window:
            self.info = replace(self.info, window=window, listed=False)
