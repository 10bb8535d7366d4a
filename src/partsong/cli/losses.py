"""The losses of a run as text, for the line below an answer and for standard error."""

from collections.abc import Sequence
from itertools import groupby

from partsong.cli.printable import single_line
from partsong.errors import Cause
from partsong.events import Loss, LossKind, RunFailed, RunFinished

# The most severe kind comes first. If more than FEW seats have one kind of loss, only their number is shown.
KINDS: tuple[LossKind, ...] = ("failed", "cut_off", "replaced", "truncated", "shortened", "dropped")
FEW = 6
LAST_RESORT = "no aggregator answered: this is the proposal most like the others"


def told(event: RunFinished | RunFailed, *, messages: bool = False) -> list[str]:
    """Return the losses of a run as phrases, by kind. If a seat has no answer, the first phrase counts the answers.

    event: end of the run
    messages: whether error messages are included, and each loss has a phrase of its own; false by default
    """
    some = [f"{event.answered:,} of {event.planned:,} answered"] if event.answered < event.planned else []
    if event.spared:
        some = [f"{some[0]}, {event.spared:,} spared"]
    for kind, group in groupby(sorted(event.losses, key=lambda loss: KINDS.index(loss.kind)), lambda loss: loss.kind):
        losses = list(group)
        if kind == "dropped":
            some.append(dropped(losses, messages=messages))
        elif kind == "shortened":
            some += shortened(losses, messages=messages)
        elif len(losses) > FEW and not messages:
            some.append(many(kind, losses))
        else:
            some += [one(loss, messages=messages) for loss in losses]
    return some


def shortened(losses: Sequence[Loss], *, messages: bool = False) -> list[str]:
    """Return the losses of kind "shortened" (a seat read a shortened prompt) as phrases.

    messages: whether each loss that a model's window caused has a phrase of its own; false by default

    Losses with another cause have one phrase for each message, with the number of seats.
    """
    fitted = [loss for loss in losses if loss.cause == "window"]
    some = [many("shortened", fitted)] if len(fitted) > FEW and not messages else [one(loss) for loss in fitted]
    others: dict[str, list[Loss]] = {}
    for loss in losses:
        if loss.cause != "window":
            others.setdefault(single_line(loss.message), []).append(loss)
    for message, seats in others.items():
        who = name(seats[0]) if len(seats) == 1 else f"{len(seats):,} seats"
        some.append(f"{who} read a shortened prompt: {message}")
    return some


def one(loss: Loss, *, messages: bool = False) -> str:
    """Return one loss as a phrase, with its error message if `messages` is true."""
    words = f": {single_line(loss.message)}" if messages and loss.message else ""
    why = f": {in_words(loss.cause)}{words}"
    match loss.kind:
        case "failed":
            return f"lost {name(loss)}{why}"
        case "cut_off":
            return f"cut off {name(loss)}{words}"
        case "replaced":
            return f"{name(loss)} replaced by {short_id(loss.replaced_by)}{why}"
        case "truncated":
            return f"{name(loss)} truncated"
        case "shortened":
            return f"{name(loss)} read a shortened prompt"
        case "dropped":
            return f"{name(loss)} dropped"


def many(kind: LossKind, losses: Sequence[Loss]) -> str:
    """Return several losses of one kind as one phrase with their number and causes, without naming the seats."""
    seats = f"{len(losses):,} seats"
    causes = ", ".join(dict.fromkeys(in_words(loss.cause) for loss in losses))
    match kind:
        case "failed":
            return f"lost {seats}: {causes}"
        case "cut_off":
            return f"cut off {seats}"
        case "replaced":
            return f"{seats} replaced: {causes}"
        case "shortened":
            return f"{seats} read a shortened prompt"
        case _:
            return f"{seats} {kind}"


def dropped(losses: Sequence[Loss], *, messages: bool = False) -> str:
    """Return the number of seats that were dropped for the budget; with `messages`, also their names and the reason."""
    seats = f"{len(losses):,} seat{'s' * (len(losses) != 1)} dropped for the budget"
    return f"{seats}: {names(losses)}" if messages else seats


def names(losses: Sequence[Loss]) -> str:
    """Return the names of the first `FEW` seats, and the error message if all losses have the same message."""
    more = f" and {len(losses) - FEW:,} more" if len(losses) > FEW else ""
    messages = {single_line(loss.message) for loss in losses}
    why = f" ({messages.pop()})" if len(messages) == 1 and messages != {""} else ""
    return ", ".join(name(loss) for loss in losses[:FEW]) + more + why


def name(loss: Loss) -> str:
    """Return the seat of a loss as text: layer, index of the seat, and model."""
    return f"({loss.layer}, {loss.seat}) {short_id(loss.model)}"


def in_words(cause: Cause) -> str:
    """Return the cause of an error with spaces instead of underscores, for a sentence."""
    return cause.replace("_", " ")


def short_id(model: str) -> str:
    """Return a model's id on one line, without the part after `?`, which is the script of a scripted model."""
    return single_line(model.partition("?")[0])
