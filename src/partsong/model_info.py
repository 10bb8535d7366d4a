"""What is known of a model beside how to call it: how much it reads, what it costs, how fast it has been.

A model that knows something shows it as its attribute `info`; the engine plans with it, and does without where there
is none. A model of a user's own may show them, too.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal

from partsong.model import Message, Model, Usage


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """`None` is not known.

    window: tokens that it reads, the answer included
    max_tokens: new tokens of an answer at most, where a request sets no limit of its own
    dollars: what a usage costs; `None` for an unknown price
    count: the tokens of messages, by the model's own tokenizer
    seconds: how long an answer of so many new tokens takes, at its recent speed; `None` before it was ever asked
    listed: the window is from a list of models that may be wrong: prompts are fitted to it, but none is refused for it
    documents: whether it takes PDFs as they are; others read the text of a PDF
    """

    window: int | None = None
    max_tokens: int | None = None
    dollars: Callable[[Usage], Decimal | None] | None = None
    count: Callable[[tuple[Message, ...]], Awaitable[int]] | None = None
    seconds: Callable[[int | None], float | None] | None = None
    listed: bool = False
    documents: bool = False


NO_INFO = ModelInfo()


def info_of(model: Model) -> ModelInfo:
    """What the model shows of itself."""
    info = getattr(model, "info", NO_INFO)
    return info if isinstance(info, ModelInfo) else NO_INFO
