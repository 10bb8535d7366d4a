"""The seats of a run as rows of a table: who, how far, how fast, how dear.

A row is counters that events add to; what is shown is worked out only when a frame is drawn. While a model speaks its
tokens are an estimate, marked `~`; when it has finished they are the provider's own count. Where a terminal is narrow,
columns are left out, the least needed first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.text import Text

from partsong.cli.losses import in_words, short_id
from partsong.cli.printable import single_line
from partsong.cli.summary import dollars
from partsong.errors import Cause
from partsong.events import AggregationStep, Failure, PromptFitted
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
    """One seat. Times are seconds of one clock, `None` where it has not come to that yet.

    Where a model was replaced, `model`, its tokens and its speed are those of the one that is asked now; seconds and
    dollars are the whole seat's, so that the dollars of all rows are the run's.
    """

    layer: int
    seat: int
    model: str
    fallback: tuple[str, ...] = ()
    started: float | None = None
    asked: float | None = None  # the model that is asked now
    spoke: float | None = None
    ended: float | None = None
    letters: int = 0
    first_letters: int = 0  # what the first word came with: it was written before we heard of it
    thinking: bool = False
    thought: bool = False  # aloud
    cut_short: bool = False
    stored: bool = False
    calls: int = 0
    spent: Usage = NOTHING_USED  # before the call that goes on now, or was the last
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
        self.calls = 1

    def count(self, delta: Delta, clock: Callable[[], float]) -> None:
        """Take in some more of what the model writes."""
        if isinstance(delta, TextDelta | ReasoningDelta):
            self.letters += len(delta.text)
            self.thinking = isinstance(delta, ReasoningDelta)
            self.thought = self.thought or self.thinking
            if self.spoke is None:
                self.spoke, self.first_letters = clock(), self.letters

    def replace(self, model: str, error: Failure, usage: Usage | None, now: float) -> None:
        """Another model is asked in this seat, from the beginning: what was heard so far is void."""
        self.replaced.append(f"instead of {self.model}: {in_words(error.cause)}: {single_line(error.message)}")
        self.model, self.asked, self.spoke = short_id(model), now, None
        self.letters = self.first_letters = 0
        self.thinking = self.thought = False
        self.spent += usage or NOTHING_USED
        self.calls += 1

    def fit(self, event: PromptFitted) -> None:
        """What this seat reads was too long for its model."""
        self.fitted = f"read {event.after:,} of {event.before:,} tokens: shortened to fit"

    def step(self, event: AggregationStep) -> None:
        """What this seat reads is too long to be read at once: it has made a draft out of some of it."""
        self.drafts += 1
        self.drafted |= set(event.proposals)
        self.spent += event.answer.usage
        self.calls += 1

    def finish(self, answer: Answer, now: float) -> None:
        self.ended, self.usage, self.cut_short = now, answer.usage, answer.finish_reason == "length"
        self.stored = answer.stored is not None
        if answer.stored is not None:
            self.letters = LETTERS_A_TOKEN * answer.stored.output_tokens

    def fail(self, error: Failure, usage: Usage | None, now: float) -> None:
        self.ended, self.usage, self.cause, self.message = now, usage, error.cause, single_line(error.message)

    def give_way(self, error: Failure, now: float) -> None:
        """No model answered in this seat, and what was heard as its words is a proposal's."""
        self.letters = self.first_letters = 0
        self.fail(error, None, now)

    @property
    def notes(self) -> list[tuple[str, str]]:
        """What stands below the row, each with its style."""
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
            return "cut short" if self.cut_short else "stored" if self.stored else "done"
        if self.spoke is None:
            return "waiting"
        return "thinking" if self.thinking else "writing"

    def seconds(self, now: float) -> float:
        return 0.0 if self.started is None else (now if self.ended is None else self.ended) - self.started

    def tokens(self) -> tuple[int, bool]:
        """Tokens so far, and whether they are an estimate."""
        if self.usage is not None and not self.stored:
            return self.usage.output_tokens, self.usage.estimated
        return -(-self.letters // LETTERS_A_TOKEN), not self.stored

    def speed(self, now: float) -> float | None:
        """Tokens a second, from the first word on; over the whole time, where all the words came at once."""
        if self.asked is None or self.stored:
            return None
        tokens: float = self.tokens()[0]
        end, since = now if self.ended is None else self.ended, self.asked
        if self.spoke is not None and self.letters > self.first_letters:
            if self.usage is not None and not self.thought:
                tokens -= self.usage.reasoning_tokens  # written before the first word that we heard
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
                spent = self.spent if self.usage is None else self.spent + self.usage
                return "" if spent == NOTHING_USED and self.usage is None else dollars(spent.dollars)


_ORDER = ("seat", "model", "state", "tokens", "tok/s", "seconds", "dollars")
# The columns that may be left out, the least needed first, and how wide they are.
_WIDTHS = {"dollars": 8, "tok/s": 6, "seconds": 7, "tokens": 7, "state": 9}
_LEFT = ("seat", "model", "state")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns fit, and how wide each is."""

    widths: dict[str, int]
    gap: str

    @property
    def indent(self) -> int:
        """Where the second column begins."""
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
    """The columns for these rows on a terminal that is `width` wide."""
    # A fallback may take the row over: then its name fits, too, and stands below the same heading.
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
    """A model's id in `width` columns. Its end tells it from its kin, so the beginning is what goes."""
    if cell_len(model) <= width:
        return model
    while model and cell_len(model) > width - 1:
        model = model[1:]
    return f"…{model}"
