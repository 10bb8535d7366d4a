"""The summary of a run as text: calls, tokens, dollars, seconds, losses."""

from decimal import Decimal

from partsong.cli.losses import told
from partsong.events import RunFailed, RunFinished


def summary(event: RunFinished | RunFailed, calls: int, stored: int, seconds: float) -> str:
    """Return the line of text that is shown below an answer.

    event: end of the run
    calls: number of calls, with those that the store answered
    stored: number of calls that the store answered
    seconds: duration of the run
    """
    usage = event.usage
    asked = f"{calls:,} call{'s' * (calls != 1)}{f', {stored:,} stored' if stored else ''}"
    tokens = f"{'~' if usage.estimated else ''}{usage.input_tokens + usage.output_tokens:,} tokens"
    price = "price unknown" if usage.dollars is None else dollars(usage.dollars)
    return " · ".join([asked, tokens, price, f"{seconds:,.1f} s", *told(event)])


def dollars(amount: Decimal | None) -> str:
    """Return an amount in dollars as text, such as "$0.0012"; "?" if the amount is unknown."""
    if amount is None:
        return "?"
    if 0 < amount < Decimal("0.0001"):
        return "<$0.0001"
    return "$0" if not amount else f"${amount:,.4f}" if amount < 1 else f"${amount:,.2f}"
