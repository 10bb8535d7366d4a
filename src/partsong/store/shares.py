"""The share of each model in a run: calls, tokens, dollars and losses, added up from the run's calls.

A model of the recipe that was never asked is included with zeros, so that a search finds a run by any of its models.
"""

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from partsong.events import AnyEvent, CallFinished, RunFailed, RunFinished, RunStarted
from partsong.model import NOTHING_USED


class Share(Struct, frozen=True):
    """The calls, tokens, dollars and losses of one model in a run.

    calls: calls that reached the model; answers from the store are not counted
    tokens: input and output tokens of the model's calls
    dollars: price of the model's calls; `None` if the price of one is unknown
    losses: losses of the model's seats
    """

    model: str
    calls: int = 0
    tokens: int = 0
    dollars: Decimal | None = Decimal(0)
    losses: int = 0


class Shares:
    """Adds up the shares of a run's models while the run goes on."""

    def __init__(self) -> None:
        self._shares: dict[str, Share] = {}

    def all(self) -> tuple[Share, ...]:
        """The share of every model of the recipe, and of every fallback that was asked."""
        return tuple(self._shares.values())

    def hear(self, event: AnyEvent) -> None:
        """Add one event of the run. Deltas may be left out."""
        match event:
            case CallFinished():
                self._add(event)
            case RunStarted(recipe=recipe):
                models = [agent.model for layer in recipe.layers for agent in layer.seats]
                self._shares = {model: Share(model) for model in (*models, *recipe.aggregator.models[:1])}
            case RunFinished(losses=losses) | RunFailed(losses=losses):
                for loss in losses:
                    share = self._of(loss.model)
                    self._shares[loss.model] = replace(share, losses=share.losses + 1)

    def _of(self, model: str) -> Share:
        return self._shares.get(model, Share(model))

    def _add(self, call: CallFinished) -> None:
        share, usage = self._of(call.model), call.usage or NOTHING_USED
        self._shares[call.model] = replace(
            share,
            calls=share.calls + is_counted(call),
            tokens=share.tokens + usage.input_tokens + usage.output_tokens,
            dollars=sum_of_dollars(share.dollars, usage.dollars),
        )


def is_counted(call: CallFinished) -> bool:
    """Whether the call reached a model, so that it counts as a call. An answer from the store does not."""
    return call.reached and not call.stored


def sum_of_dollars(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """The sum of two prices; `None`, which means unknown, if one of them is `None`."""
    return None if one is None or other is None else one + other
