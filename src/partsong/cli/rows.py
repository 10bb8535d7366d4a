"""The seats of a run as rows of a table: model, state, tokens, speed, seconds and dollars.

A row holds counters, to which the events of the run add. The text of a cell is made only when a frame is drawn. While a
model writes, its number of tokens is an estimate, marked `~`. After the end, it is the provider's number. On a narrow
terminal columns are left out, the least needed column first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.text import Text

from partsong.analysis import Analysis
from partsong.cli.findings import counts
from partsong.cli.losses import in_words, short_id
from partsong.cli.printable import single_line
from partsong.cli.read import used
from partsong.cli.summary import dollars
from partsong.errors import Cause
from partsong.events import AggregationStep, CallFinished, Failure, PromptFitted, ToolUsed
from partsong.model import NOTHING_USED, Answer, Delta, ReasoningDelta, TextDelta, Usage

LETTERS_A_TOKEN = 4  # in English prose, on average
SHORTEST = 0.05  # seconds; over a shorter time, no speed is shown, because it would be chance
NARROWEST_MODEL = 14  # terminal columns; a model's name is not cut below this before other columns are left out
STYLES = {
    "waiting": "dim",
    "thinking": "yellow",
    "writing": "cyan",
    "done": "green",
    "stored": "green",
    "cut short": "yellow",
    "spared": "dim",
}
LOST, NOTE = "red", "yellow"


@dataclass(slots=True)
class Row:
    """One seat of a run. Times are seconds of one clock; `None` for events that have not happened yet.

    The current model is the seat's model, or the fallback that replaced it. Model, tokens and speed are those of the
    current model. Seconds, calls and dollars are those of the whole seat, so that the dollars of all rows add up to the
    dollars of the run.

    layer, seat: indices of the layer and of the seat
    model: short id of the current model
    fallback: short ids of the models that may replace the model
    started: time at which the seat started
    asked: time at which the current model was called
    spoke: time of the current model's first delta
    ended: time at which the seat ended
    letters: number of letters that the current model has written, reasoning included
    first_letters: number of letters in the current model's first delta, which were written before the delta was heard
    thinking: whether the last delta was reasoning
    thought: whether any delta of the current model was reasoning
    cut_short: whether the answer ended at the limit of tokens
    from_store: whether the answer came from the store
    calls: number of finished calls of the seat that reached a model or the store
    stored: number of answers from the store, among `calls`
    spent: usage of all finished calls of the seat
    usage: usage of the answer, or of the failure that ended the seat
    spared: whether the seat was not needed
    cause, message: cause and message of the failure that ended the seat
    replaced: a note for each replaced model
    fitted: note about a shortened prompt; empty for none
    saw: note about a part of the proposals that the seat reads; empty if it reads all of them
    drafts: number of drafts that the aggregator made, because the proposals were too long for one prompt
    drafted: indices of the proposals in these drafts
    compared: what the analyst has found; empty for every other seat
    uses: the tool calls of the seat
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
    spared: bool = False
    cause: Cause | None = None
    message: str = ""
    replaced: list[str] = field(default_factory=list)
    fitted: str = ""
    saw: str = ""
    drafts: int = 0
    drafted: set[int] = field(default_factory=set)
    compared: str = ""
    uses: list[ToolUsed] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The indices of layer and seat as text, such as "(0, 2)"."""
        return f"({self.layer}, {self.seat})"

    def start(self, now: float) -> None:
        self.started = self.asked = now

    def see(self, seen: int, there: int) -> None:
        """Note how many of the proposals that are there the seat reads."""
        self.saw = f"saw {seen:,} of {there:,} proposals"

    def count(self, delta: Delta, clock: Callable[[], float]) -> None:
        """Count a delta of the current model. `clock` returns the time in seconds."""
        if isinstance(delta, TextDelta | ReasoningDelta):
            self.letters += len(delta.text)
            self.thinking = isinstance(delta, ReasoningDelta)
            self.thought = self.thought or self.thinking
            if self.spoke is None:
                self.spoke, self.first_letters = clock(), self.letters

    def add(self, event: CallFinished | ToolUsed) -> None:
        """Count a finished call or tool call of this seat."""
        if isinstance(event, ToolUsed):
            self.add_use(event)
            return
        self.calls += event.reached
        self.stored += event.stored
        self.spent += event.usage or NOTHING_USED

    def add_use(self, use: ToolUsed) -> None:
        """Count a tool call of this seat. What its model wrote before is no part of its answer."""
        self.uses.append(use)
        self.spent += Usage(dollars=use.dollars)
        self.letters = self.first_letters = 0
        self.spoke = None

    def replace(self, model: str, error: Failure, now: float) -> None:
        """Make `model` the current model, after `error`. The new model starts its answer anew, so counts are reset."""
        self.replaced.append(f"instead of {self.model}: {in_words(error.cause)}: {single_line(error.message)}")
        self.model, self.asked, self.spoke = short_id(model), now, None
        self.letters = self.first_letters = 0
        self.thinking = self.thought = False

    def fit(self, event: PromptFitted) -> None:
        """Note that the prompt of this seat was shortened, because it was too long for the model."""
        self.fitted = f"read {event.after:,} of {event.before:,} tokens: shortened to fit"

    def step(self, event: AggregationStep) -> None:
        """Count a draft that the aggregator made of some proposals, because all were too long for one prompt."""
        self.drafts += 1
        self.drafted |= set(event.proposals)

    def finish(self, answer: Answer, now: float) -> None:
        """End the row with the seat's answer."""
        self.ended, self.usage, self.cut_short = now, answer.usage, answer.finish_reason == "length"
        self.from_store = answer.stored is not None
        if answer.stored is not None:
            self.letters = LETTERS_A_TOKEN * answer.stored.output_tokens

    def compare(self, analysis: Analysis, now: float) -> None:
        """End the analyst's row with what it has found."""
        self.ended, self.usage = now, self.spent
        self.compared = counts(analysis)

    def fail(self, error: Failure, usage: Usage | None, now: float) -> None:
        """End the row with the seat's failure. `usage` is that of the failed call; `None` if unknown."""
        self.ended, self.usage, self.cause, self.message = now, usage, error.cause, single_line(error.message)

    def spare(self, usage: Usage | None, now: float) -> None:
        """End the row of a seat that is not needed. `usage` is that of the call that was given up, if there was one."""
        self.ended, self.usage, self.spared = now, usage, True

    def give_way(self, error: Failure, now: float) -> None:
        """End the aggregator's row with its failure. The answer of the run is a proposal, so letters are reset."""
        self.letters = self.first_letters = 0
        self.fail(error, None, now)

    @property
    def notes(self) -> list[tuple[str, str]]:
        """Lines to show below the row, each with its rich style."""
        notes = [(text, NOTE) for text in self.replaced]
        if self.saw:
            notes.append((self.saw, "dim"))
        if self.uses:
            notes.append((used(self.uses), "dim"))
        if self.fitted:
            notes.append((self.fitted, NOTE))
        if self.drafts:
            drafts = f"{self.drafts} draft{'s' * (self.drafts != 1)}"
            notes.append((f"too long to read at once: {drafts} over {len(self.drafted)} proposals", NOTE))
        if self.compared:
            notes.append((self.compared, "dim"))
        if self.cause and self.message:
            why = "" if self.state == "cut off" else f"{in_words(self.cause)}: "
            notes.append((f"{why}{self.message}", LOST))
        return notes

    @property
    def state(self) -> str:
        """The state of the seat as text: a key of `STYLES`, "lost", or the cause if the seat was stopped."""
        if self.cause:
            return in_words(self.cause) if self.cause in ("cut_off", "cancelled") else "lost"
        if self.spared:
            return "spared"
        if self.ended is not None:
            return "cut short" if self.cut_short else "stored" if self.from_store else "done"
        if self.spoke is None:
            return "waiting"
        return "thinking" if self.thinking else "writing"

    def seconds(self, now: float) -> float:
        """Return the duration of the seat in seconds, until `now` or its end."""
        return 0.0 if self.started is None else (now if self.ended is None else self.ended) - self.started

    def tokens(self) -> tuple[int, bool]:
        """Return the number of output tokens so far, and whether the number is an estimate."""
        if self.usage is not None and not self.from_store:
            return self.usage.output_tokens, self.usage.estimated
        return -(-self.letters // LETTERS_A_TOKEN), not self.from_store

    def speed(self, now: float) -> float | None:
        """Return the output tokens a second, measured from the first delta to `now` or to the end.

        If all text came in one delta, the time since the call is measured. Returns `None` for an answer from the store,
        without tokens, or if less than `SHORTEST` seconds were measured.
        """
        if self.asked is None or self.from_store:
            return None
        tokens: float = self.tokens()[0]
        end, since = now if self.ended is None else self.ended, self.asked
        if self.spoke is not None and self.letters > self.first_letters:
            if self.usage is not None and not self.thought:
                tokens -= self.usage.reasoning_tokens  # these were written before the first delta
            since = self.spoke
            tokens *= 1 - self.first_letters / self.letters
        return tokens / (end - since) if tokens and end - since >= SHORTEST else None

    def cell(self, column: str, now: float) -> str:
        """Return the text of one cell; empty if nothing is known. `column` is one of `_ORDER`, except "model"."""
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
# The width of each column that may be left out, the least needed column first. "state" is never left out.
_WIDTHS = {"dollars": 8, "tok/s": 6, "seconds": 7, "tokens": 7, "state": 9}
_LEFT = ("seat", "model", "state")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of the table that fit into the terminal.

    widths: width of each column by its name, from left to right
    gap: spaces between two columns
    """

    widths: dict[str, int]
    gap: str

    @property
    def indent(self) -> int:
        """Number of terminal columns before the second column of the table."""
        return self.widths["seat"] + len(self.gap)

    def heading(self) -> Text:
        """Return the line with the names of the columns."""
        names = self.gap.join(_fit(name, width, name) for name, width in self.widths.items())
        return Text(names.rstrip(), "dim", no_wrap=True, overflow="crop")

    def row(self, row: Row, now: float) -> Text:
        """Return the line of a row at the time `now`."""
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
    """Return the columns of the table that fit these rows into a terminal of `width` columns."""
    # A fallback may replace the model of a row, so the column is wide enough for the names of fallbacks too.
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
    """Pad the text to `width` terminal columns, aligned as the column of the table is."""
    blank = " " * max(0, width - cell_len(text))
    return text + blank if column in _LEFT else blank + text


def shortened(model: str, width: int) -> str:
    """Return a model's id, cut to at most `width` terminal columns.

    The beginning is cut, because similar models differ at the end.
    """
    if cell_len(model) <= width:
        return model
    while model and cell_len(model) > width - 1:
        model = model[1:]
    return f"…{model}"
