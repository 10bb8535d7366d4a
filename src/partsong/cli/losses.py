"""What a run did not get, in words: for the line below an answer, and for standard error."""

from collections.abc import Sequence
from itertools import groupby

from partsong.cli.printable import single_line
from partsong.errors import Cause
from partsong.events import Loss, LossKind, RunFailed, RunFinished

# In the order in which they weigh; what happened to more seats than this is told as a number.
KINDS: tuple[LossKind, ...] = ("failed", "cut_off", "replaced", "truncated", "shortened", "dropped")
FEW = 6
LAST_RESORT = "no aggregator answered: this is the proposal most like the others"


def told(event: RunFinished | RunFailed, *, messages: bool = False) -> list[str]:
    """How many seats answered, if not all did, and what became of the others; with `messages`, in whose words."""
    some = [f"{event.answered:,} of {event.planned:,} answered"] if event.answered < event.planned else []
    for kind, group in groupby(sorted(event.losses, key=lambda loss: KINDS.index(loss.kind)), lambda loss: loss.kind):
        losses = list(group)
        if kind == "dropped":
            some.append(dropped(losses, messages=messages))
        elif len(losses) > FEW and not messages:
            some.append(many(kind, losses))
        else:
            some += [one(loss, messages=messages) for loss in losses]
    return some


def one(loss: Loss, *, messages: bool = False) -> str:
    """One loss."""
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
    """So many losses of a kind that nobody would read them one by one."""
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
    """The seats that the money forbids; with `messages`, which, and why."""
    seats = f"{len(losses):,} seat{'s' * (len(losses) != 1)} dropped for the budget"
    return f"{seats}: {names(losses)}" if messages else seats


def names(losses: Sequence[Loss]) -> str:
    """Which seats, and what was said of them, where it was the same of all."""
    more = f" and {len(losses) - FEW:,} more" if len(losses) > FEW else ""
    messages = {single_line(loss.message) for loss in losses}
    why = f" ({messages.pop()})" if len(messages) == 1 and messages != {""} else ""
    return ", ".join(name(loss) for loss in losses[:FEW]) + more + why


def name(loss: Loss) -> str:
    """Which seat: its address and its model."""
    return f"({loss.layer}, {loss.seat}) {short_id(loss.model)}"


def in_words(cause: Cause) -> str:
    """A cause as it stands in a sentence."""
    return cause.replace("_", " ")


def short_id(model: str) -> str:
    """A model's id as people read it: without the script of a scripted one, which would fill the line."""
    return single_line(model.partition("?")[0])
