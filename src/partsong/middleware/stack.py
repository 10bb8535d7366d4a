"""One model in its middleware, and the order of the wrappers.

`Limit` counts each try, and `Breaker` refuses before anything waits at the limit, so both stand inside `Retry`. `Price`
stands inside `Retry`, too: two tries that are priced as one call come out too dear. `Cache` stands around all that
costs.
"""

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


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What the wrappers of a model need.

    identity: the model's id, "provider:model"
    settings: how its provider is to be asked
    gate, health: shared by all models of the provider
    speed: how fast the model has been
    pricing: what a usage costs, `None` if that is unknown
    window: tokens that the model reads, `None` if that is unknown
    listed: whether the window is from a list that may be wrong
    documents: whether the model takes PDFs as they are
    store: where calls are kept and found again, `None` for nowhere
    flights: calls under way, shared by all models
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


def wrapped(model: Model, wrapping: Wrapping) -> Model:
    """The model in its middleware."""
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
    if wrapping.store is not None:
        model = Cache(model, wrapping.identity, wrapping.store, wrapping.flights, settings.base_url)
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
