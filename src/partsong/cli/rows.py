"""The seats of a run as rows of a table: model, state, tokens, speed, seconds and dollars.

A row holds counters that events add to. The text of a cell is worked out only when a frame is drawn. While a model
writes, its tokens are an estimate, marked `~`; at the end they are the provider's count. On a narrow terminal columns
are left out, the least needed column first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.text import Text

from partsong.cli.losses import in_words, short_id
from partsong.cli.printable import single_line
from partsong.cli.summary import dollars
from partsong.errors import Cause
from partsong.events import AggregationStep, CallFinished, Failure, PromptFitted
from partsong.model import NOTHING_USED, Answer, Delta, ReasoningDelta, TextDelta, Usage

LETTERS_A_TOKEN = 4  # of English prose, about
SHORTEST = 0.05  # seconds: over less, a speed would be chance
NARROWEST_MODEL = 14  # columns: a model's name is cut to no less before other columns are left out
STYLES = {
    "waiting": "dim",
    "thinking": "yellow",
    "writing": "cyan",
    "done": "green",
    "stored": "green",
    "cut short": "yellow",
}
LOST, NOTE = "red", "yellow"


@dataclass(slots=True)
class Row:
    """One seat. Times are seconds of one clock, `None` for what has not happened yet.

    If a model was replaced, model, tokens and speed are those of the model that is asked now. Seconds, calls and
    dollars are those of the whole seat, so that the dollars of all rows add up to the dollars of the run.

    asked: when the model was asked that is asked now
    spoke: when that model wrote its first word
    first_letters: letters of its first delta, which were written before the delta was heard
    thought: whether its reasoning was heard
    calls: calls of the seat that have ended and reached a model or the store
    stored: answers that came from the store, among `calls`
    spent: usage of all calls of the seat that have ended
    usage: usage of the answer, or of the failure that ended the seat
    """

    layer: int
    seat: int
    model: str
    fallback: tuple[str, ...] = ()
    started: float | None = None
    asked: float | None = None
    spoke: float | None = None
    ended: float | None = None
    letters: int = 0
    first_letters: int = 0
    thinking: bool = False
    thought: bool = False
    cut_short: bool = False
    from_store: bool = False
    calls: int = 0
    stored: int = 0
    spent: Usage = NOTHING_USED
    usage: Usage | None = None
    cause: Cause | None = None
    message: str = ""
    replaced: list[str] = field(default_factory=list)
    fitted: str = ""
    drafts: int = 0
    drafted: set[int] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"({self.layer}, {self.seat})"

    def start(self, now: float) -> None:
        self.started = self.asked = now

    def count(self, delta: Delta, clock: Callable[[], float]) -> None:
        """Add a delta of the model that is asked now."""
        if isinstance(delta, TextDelta | ReasoningDelta):
            self.letters += len(delta.text)
            self.thinking = isinstance(delta, ReasoningDelta)
            self.thought = self.thought or self.thinking
            if self.spoke is None:
                self.spoke, self.first_letters = clock(), self.letters

    def add_call(self, call: CallFinished) -> None:
        """Add a call of this seat that has ended."""
        self.calls += call.reached
        self.stored += call.stored
        self.spent += call.usage or NOTHING_USED

    def replace(self, model: str, error: Failure, now: float) -> None:
        """Another model is asked in this seat from the beginning, so the words that were heard are void."""
        self.replaced.append(f"instead of {self.model}: {in_words(error.cause)}: {single_line(error.message)}")
        self.model, self.asked, self.spoke = short_id(model), now, None
        self.letters = self.first_letters = 0
        self.thinking = self.thought = False

    def fit(self, event: PromptFitted) -> None:
        """The prompt of this seat was too long for its model and was shortened."""
        self.fitted = f"read {event.after:,} of {event.before:,} tokens: shortened to fit"

    def step(self, event: AggregationStep) -> None:
        """The proposals are too long for one prompt, and the aggregator has made a draft of some of them."""
        self.drafts += 1
        self.drafted |= set(event.proposals)

    def finish(self, answer: Answer, now: float) -> None:
        self.ended, self.usage, self.cut_short = now, answer.usage, answer.finish_reason == "length"
        self.from_store = answer.stored is not None
        if answer.stored is not None:
            self.letters = LETTERS_A_TOKEN * answer.stored.output_tokens

    def fail(self, error: Failure, usage: Usage | None, now: float) -> None:
        self.ended, self.usage, self.cause, self.message = now, usage, error.cause, single_line(error.message)

    def give_way(self, error: Failure, now: float) -> None:
        """No aggregator answered, and the words that were heard are those of a proposal."""
        self.letters = self.first_letters = 0
        self.fail(error, None, now)

    @property
    def notes(self) -> list[tuple[str, str]]:
        """The lines below the row, each with its style."""
        notes = [(text, NOTE) for text in self.replaced]
        if self.fitted:
            notes.append((self.fitted, NOTE))
        if self.drafts:
            drafts = f"{self.drafts} draft{'s' * (self.drafts != 1)}"
            notes.append((f"too long to read at once: {drafts} over {len(self.drafted)} proposals", NOTE))
        if self.cause and self.message:
            why = "" if self.state == "cut off" else f"{in_words(self.cause)}: "
            notes.append((f"{why}{self.message}", LOST))
        return notes

    @property
    def state(self) -> str:
        if self.cause:
            return in_words(self.cause) if self.cause in ("cut_off", "cancelled") else "lost"
        if self.ended is not None:
            return "cut short" if self.cut_short else "stored" if self.from_store else "done"
        if self.spoke is None:
            return "waiting"
        return "thinking" if self.thinking else "writing"

    def seconds(self, now: float) -> float:
        return 0.0 if self.started is None else (now if self.ended is None else self.ended) - self.started

    def tokens(self) -> tuple[int, bool]:
        """Output tokens so far, and whether they are an estimate."""
        if self.usage is not None and not self.from_store:
            return self.usage.output_tokens, self.usage.estimated
        return -(-self.letters // LETTERS_A_TOKEN), not self.from_store

    def speed(self, now: float) -> float | None:
        """Tokens a second from the first word on; over the whole time if all words came together."""
        if self.asked is None or self.from_store:
            return None
        tokens: float = self.tokens()[0]
        end, since = now if self.ended is None else self.ended, self.asked
        if self.spoke is not None and self.letters > self.first_letters:
            if self.usage is not None and not self.thought:
                tokens -= self.usage.reasoning_tokens  # written before the first word that was heard
            since = self.spoke
            tokens *= 1 - self.first_letters / self.letters
        return tokens / (end - since) if tokens and end - since >= SHORTEST else None

    def cell(self, column: str, now: float) -> str:
        match column:
            case "seat":
                return self.address
            case "state":
                return self.state
            case "tokens":
                tokens, estimated = self.tokens()
                return f"{'~' if estimated else ''}{tokens:,}" if tokens else ""
            case "tok/s":
                speed = self.speed(now)
                return "" if speed is None else f"{speed:,.1f}" if speed < 1000 else f"{speed:,.0f}"
            case "seconds":
                return "" if self.started is None else f"{self.seconds(now):,.1f}"
            case _:
                return "" if self.spent == NOTHING_USED and self.usage is None else dollars(self.spent.dollars)


_ORDER = ("seat", "model", "state", "tokens", "tok/s", "seconds", "dollars")
# The width of each column that may be left out, the least needed column first.
_WIDTHS = {"dollars": 8, "tok/s": 6, "seconds": 7, "tokens": 7, "state": 9}
_LEFT = ("seat", "model", "state")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that fit, each with its width."""

    widths: dict[str, int]
    gap: str

    @property
    def indent(self) -> int:
        """The column of the terminal at which the second column begins."""
        return self.widths["seat"] + len(self.gap)

    def heading(self) -> Text:
        names = self.gap.join(_fit(name, width, name) for name, width in self.widths.items())
        return Text(names.rstrip(), "dim", no_wrap=True, overflow="crop")

    def row(self, row: Row, now: float) -> Text:
        cells = []
        for name, width in self.widths.items():
            if name == "model":
                cells.append((_fit(name, width, shortened(row.model, width)), ""))
            elif name == "state":
                cells.append((_fit(name, width, row.state), STYLES.get(row.state, LOST)))
            else:
                cells.append((_fit(name, width, row.cell(name, now)), "" if row.ended is not None else "dim"))
        line = Text(self.gap, no_wrap=True, overflow="crop").join(Text(text, style) for text, style in cells)
        line.rstrip()
        return line


def fitting(rows: Sequence[Row], width: int) -> Columns:
    """The columns for these rows on a terminal of `width` columns."""
    # A fallback may take the row over. Its name must fit below the same heading.
    longest = max([5, *(cell_len(name) for row in rows for name in (row.model, *row.fallback))])
    widths = {"seat": max([4, *(len(row.address) for row in rows)]), **_WIDTHS}
    gap = "  " if width >= 60 else " "
    for name in _WIDTHS:
        left = width - sum(widths.values()) - len(gap) * len(widths)
        if left >= min(longest, NARROWEST_MODEL) or name == "state":
            break
        del widths[name]
    widths["model"] = max(1, min(left, longest))
    return Columns({name: widths[name] for name in _ORDER if name in widths}, gap)


def _fit(column: str, width: int, text: str) -> str:
    blank = " " * max(0, width - cell_len(text))
    return text + blank if column in _LEFT else blank + text


def shortened(model: str, width: int) -> str:
    """A model's id in `width` columns. The end tells similar models apart, so the beginning is cut."""
    if cell_len(model) <= width:
        return model
    while model and cell_len(model) > width - 1:
        model = model[1:]
    return f"…{model}"
