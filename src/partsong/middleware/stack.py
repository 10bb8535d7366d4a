"""Wraps a model in its middleware. The order of the wrappers is decided here:

- `Breaker` and `Limit` are inside `Retry`, because each attempt counts. A call that `Breaker` refuses never waits.
- `Price` is inside `Retry`, because some prices depend on the prompt's length: two attempts must be priced apart.
- `Cache` is outside of these, because a stored answer costs nothing.
- `Window` is outermost, because the engine reads the model's info there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from partsong.configuration import Provider, is_hosted
from partsong.middleware.breaker import Breaker, Health
from partsong.middleware.cache import Cache, Flights
from partsong.middleware.limit import Gate, Limit
from partsong.middleware.price import Price, Pricing
from partsong.middleware.retry import Retry
from partsong.middleware.throughput import Speed, Throughput
from partsong.middleware.timeouts import Timeouts
from partsong.middleware.window import Window
from partsong.model import Model
from partsong.model_info import ModelInfo, info_of

if TYPE_CHECKING:
    from partsong.store import Store


Inside = Callable[[str, str, Model], Model]


@dataclass(frozen=True, slots=True)
class Wrapping:
    """The values that the wrappers of one model need.

    identity: the model's id, "provider:model"
    settings: the provider's section of the configuration
    gate: the provider's limits, shared by all its models
    health: the provider's recent failures, shared by all its models
    speed: the model's measured speed
    pricing: computes dollars from a usage; `None` for unknown prices
    window: context window in tokens; `None` if unknown
    listed: whether the window is from the table in genai-prices, which may be wrong
    documents: whether the model reads PDFs as files; otherwise it is sent their text
    store: where calls are stored and searched; `None` for no store
    flights: calls under way, shared by all models
    inside: makes the model that the cache asks, from the model's id, the provider's address and the model; `None`
        (default) for the model itself
    """

    identity: str
    settings: Provider
    gate: Gate
    health: Health
    speed: Speed
    pricing: Pricing | None
    window: int | None
    listed: bool
    documents: bool
    store: "Store | None"
    flights: Flights
    inside: Inside | None = None


def wrapped(model: Model, wrapping: Wrapping) -> Model:
    """Return the model in its middleware. Breaker, limits, retries and timeouts are for hosted models alone."""
    settings, own = wrapping.settings, info_of(model)
    hosted = is_hosted(settings.api)
    if hosted and (settings.first_token is not None or settings.silence is not None):
        model = Timeouts(model, settings.first_token, settings.silence)
    model = Throughput(model, wrapping.speed)
    if hosted:
        _, _, name = wrapping.identity.partition(":")
        model = Breaker(Limit(model, name, wrapping.gate), wrapping.health)
    if wrapping.pricing is not None:
        model = Price(model, wrapping.pricing)
    if hosted:
        model = Retry(model)
    if wrapping.inside is not None:
        model = wrapping.inside(wrapping.identity, settings.base_url, model)
    if wrapping.store is not None:
        claims = wrapping.store if wrapping.store.shared and wrapping.store.mode == "full" else None
        model = Cache(model, wrapping.identity, wrapping.store, wrapping.flights, settings.base_url, claims)
    info = ModelInfo(
        wrapping.window,
        own.max_tokens,
        wrapping.pricing,
        own.count,
        wrapping.speed.seconds,
        wrapping.listed,
        documents=own.documents or (wrapping.documents and hosted),
    )
    return Window(model, wrapping.identity, info)
