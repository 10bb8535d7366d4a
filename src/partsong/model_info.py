"""Facts about a model that the engine plans with: its context window, price, tokenizer and recent speed.

A model that knows such facts has an attribute `info` of type `ModelInfo`. The attribute is optional, and a model that
a user has written may have it too.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal

from partsong.model import Message, Model, Usage


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts about a model. `None` (the default of most fields) means that a fact is not known.

    window: context window in tokens, prompt and answer together
    max_tokens: most output tokens of an answer if the request sets no limit
    dollars: function from a usage to its price in dollars, or to `None` if the price is unknown
    count: function from messages to their tokens, counted by the model's own tokenizer
    seconds: function from a number of output tokens (`None`: a typical answer) to the seconds that the answer takes at
        the model's recent speed; it returns `None` before the first answer
    listed: whether the window comes from a list that may be wrong (default: no). Prompts are shortened to such a
        window, but no prompt is refused because of it
    documents: whether the model is sent PDFs unchanged (default: no); other models are sent the text of a PDF
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
    """The model's attribute `info`; `NO_INFO`, without any facts, if the model has none."""
    info = getattr(model, "info", NO_INFO)
    return info if isinstance(info, ModelInfo) else NO_INFO
