"""What a run came to, in words: calls, tokens, dollars, seconds, losses."""

from decimal import Decimal

from partsong.cli.printable import single_line
from partsong.events import Loss, RunFailed, RunFinished


def summary(event: RunFinished | RunFailed, calls: int, seconds: float) -> str:
    """The line that stands below an answer."""
    usage = event.usage
    # The calls that were open when a run failed have cost something, too, but nobody has counted it.
    least = "at least " if isinstance(event, RunFailed) else ""
    tokens = f"{least}{'~' if usage.estimated else ''}{usage.input_tokens + usage.output_tokens:,} tokens"
    price = "price unknown" if usage.dollars is None else dollars(usage.dollars)
    losses = [f"lost {name(loss)}: {loss.cause}" for loss in event.losses]
    return " · ".join([f"{calls} call{'s' * (calls != 1)}", tokens, price, f"{seconds:,.1f} s", *losses])


def name(loss: Loss) -> str:
    """Which seat was lost: its address and its model."""
    return f"({loss.layer}, {loss.seat}) {short_id(loss.model)}"


def short_id(model: str) -> str:
    """A model's id as people read it: without the script of a scripted one, which would fill the line."""
    return single_line(model.partition("?")[0])


def dollars(amount: Decimal | None) -> str:
    """An amount of money; `?` where the price is not known."""
    if amount is None:
        return "?"
    if 0 < amount < Decimal("0.0001"):
        return "<$0.0001"
    return "$0" if not amount else f"${amount:,.4f}" if amount < 1 else f"${amount:,.2f}"
