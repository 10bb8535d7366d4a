"""A model that gives answers from the pool before it makes new calls.

A recipe of the race asks its first layer exactly what the pool was asked. So these answers are taken from the pool, and
only what is new is paid. This does not depend on the store, which a user may have switched off.
"""

from collections import deque
from collections.abc import Sequence

from partsong.middleware.cache import hit
from partsong.model import Answer, Message, Model, Request, Send
from partsong.model_info import ModelInfo, info_of


class Replayed:
    """A model for one run, whose first answers to one prompt are known.

    model: makes all other calls
    messages: the prompt whose answers are known
    answers: the known answers, each of which is given once
    """

    def __init__(self, model: Model, messages: tuple[Message, ...], answers: Sequence[Answer]) -> None:
        self.model, self.messages = model, messages
        self.answers = deque(answers)
        self.info: ModelInfo = info_of(model)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        if self.answers and request.messages == self.messages:
            return await hit(self.answers.popleft(), send)
        return await self.model(request, send)
