"""Draws a run on a terminal: a row for each seat while it works, then the answer as Markdown while it is written.

An event only changes counters: a delta adds to the letter count of a row, or to the text that waits to be drawn. Ten
times a second, `frame` turns the counters into lines. Finished lines (the rows of a layer, a block of the answer) are
printed once, so that the scrollback holds the whole run. Only lines that still change are redrawn.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from partsong.cli.findings import findings
from partsong.cli.losses import LAST_RESORT, names, short_id
from partsong.cli.markdown import GrowingMarkdown
from partsong.cli.printable import printable, single_line
from partsong.cli.read import sources
from partsong.cli.region import Region
from partsong.cli.rows import NOTE, Columns, Row, fitting
from partsong.cli.summary import summary
from partsong.cli.votes import counted
from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
    AggregationStep,
    AnalysisFailed,
    AnalysisFinished,
    AnalysisReplaced,
    AnalysisStarted,
    AnyEvent,
    CallFinished,
    Failure,
    LayerFinished,
    LayerStarted,
    Loss,
    PromptFitted,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    ProposalSpared,
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolUsed,
    VotesCounted,
)
from partsong.model import Answer, TextDelta
from partsong.recipe import ANALYST_SEAT, Agent, Recipe


class Terminal:
    """A listener that turns the events of a run into lines to draw.

    region: live part of the terminal, whose size limits the lines
    proposals: whether the proposals are drawn too; false by default
    quiet: whether only the answer is drawn; false by default
    words: whether the answer is drawn; true by default, and false if another listener writes the answer
    loading: names of the local models that are being loaded into memory, while they are; none by default
    clock: returns the time in seconds, for durations and speeds
    """

    def __init__(
        self,
        region: Region,
        *,
        proposals: bool = False,
        quiet: bool = False,
        words: bool = True,
        loading: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.region, self.proposals, self.quiet, self.clock = region, proposals, quiet, clock
        self.words, self.loading = words, loading
        self.begun = clock()
        self.layers = 0
        self.commenting: frozenset[int] = frozenset()  # layers whose seats write comments
        self.there = 0, 0  # layer and number of the proposals that the next readers find
        self.all_rows: list[Row] = []
        self.rows: list[Row] = []  # of the seats of the current layer
        self.answers: dict[int, Answer] = {}  # of the current layer, by seat
        self.said: list[str] = []  # pieces of the answer that are not drawn yet
        self.answer = GrowingMarkdown()
        self.answering = False  # whether the answer is being written
        self.elected = False  # whether a vote or an agreement gave the answer
        self.untitled = False  # whether a title must be drawn before the answer
        self.wrote = False  # whether any text of the answer was streamed
        self.finished: list[RenderableType] = []
        self._columns: tuple[int, Columns] | None = None

    async def hear(self, event: AnyEvent) -> None:
        """Update the counters and the finished lines with one event. Nothing is drawn yet."""
        match event:
            case ProposalDelta(seat=seat, delta=delta):
                self.rows[seat].count(delta, self.clock)
            case AggregationDelta(delta=delta):
                if self.rows:  # after a vote, the answer is a proposal and no aggregator has a row
                    self.rows[0].count(delta, self.clock)
                if isinstance(delta, TextDelta) and self.words:
                    self.said.append(delta.text)
            case RunStarted(recipe=recipe, dropped=dropped):
                self.start(recipe, dropped)
            case LayerStarted(layer=layer):
                self.rows = [row for row in self.all_rows if row.layer == layer]
                self.answers = {}
            case ProposalStarted(seat=seat, saw=saw):
                self.rows[seat].start(self.clock())
                if saw is not None:
                    layer, there = self.there
                    self.rows[seat].see(sum(number == layer for number, _ in saw), there)
            case CallFinished(layer=layer, seat=seat) | ToolUsed(layer=layer, seat=seat):
                self.row(layer, seat).add(event)
            case ProposalReplaced(seat=seat, model=model, error=error):
                self.rows[seat].replace(model, error, self.clock())
            case PromptFitted(layer=layer, seat=seat):
                self.row(layer, seat).fit(event)
            case ProposalFinished(seat=seat, answer=answer):
                self.rows[seat].finish(answer, self.clock())
                self.answers[seat] = answer
            case ProposalFailed(seat=seat, error=error, usage=usage):
                self.rows[seat].fail(error, usage, self.clock())
            case ProposalSpared(seat=seat, usage=usage):
                self.rows[seat].spare(usage, self.clock())
            case LayerFinished(layer=layer, answered=answered):
                if layer not in self.commenting:
                    self.there = layer, answered
                self.leave_layer()
            case AnalysisStarted() | AnalysisFinished() | AnalysisFailed():
                self.hear_analyst(event)
            case VotesCounted():
                self.count(event)
            case AggregationStarted():
                self.start_answer()
            case AnalysisReplaced(model=model, error=error) | AggregationReplaced(model=model, error=error):
                self.rows[0].replace(model, error, self.clock())
            case AggregationStep():
                self.rows[0].step(event)
            case RunFinished():
                self.finish(event)
            case RunFailed():
                self.fail(event)

    def start(self, recipe: Recipe, dropped: tuple[Loss, ...]) -> None:
        """Make a row for each seat of the recipe, and finish the lines above the rows.

        dropped: losses of the seats that the budget does not pay for
        """
        self.begun, self.layers = self.clock(), len(recipe.layers)
        self.commenting = frozenset(index for index, layer in enumerate(recipe.layers) if layer.comments)
        places: list[tuple[int, int, Agent]] = [
            (layer, seat, agent) for layer, each in enumerate(recipe.layers) for seat, agent in enumerate(each.seats)
        ]
        if recipe.analyst is not None:
            places.append((self.layers, ANALYST_SEAT, recipe.analyst))
        places.append((self.layers, 0, recipe.aggregator))
        self.all_rows = [
            Row(layer, seat, short_id(agent.model), tuple(short_id(name) for name in agent.fallback))
            for layer, seat, agent in places
        ]
        if self.layers and not self.quiet:
            about = f"  {single_line(recipe.about)}" if recipe.about else ""
            title = Text.assemble((single_line(recipe.name), "bold"), (about, "dim"), no_wrap=True, overflow="ellipsis")
            self.finished.append(title)
        if dropped and not self.quiet:
            self.finished.append(Text(f"dropped for the budget: {names(dropped)}", NOTE))
        if self.layers and not self.quiet:
            self.finished.append(self.columns.heading())

    def leave_layer(self) -> None:
        """Finish the lines of a layer that has ended, and its proposals if proposals are drawn."""
        if not self.quiet:
            self.finished += self.lines(self.rows, self.clock())
        if self.proposals:
            for seat, answer in sorted(self.answers.items()):
                self.finished += [Text(), self.title(self.rows[seat])]
                self.finished += self.markdown(answer.text)
        self.rows = []

    def row(self, layer: int, seat: int) -> Row:
        """Return the row of a seat of the current layer, or of the analyst or the aggregator when it works."""
        return self.rows[0 if layer == self.layers else seat]

    def hear_analyst(self, event: AnalysisStarted | AnalysisFinished | AnalysisFailed) -> None:
        """Show the row of the analyst, or finish its line, and its analysis if proposals are drawn."""
        if isinstance(event, AnalysisStarted):
            self.rows = self.all_rows[-2:-1]
            self.rows[0].start(self.clock())
            return
        if isinstance(event, AnalysisFinished):
            self.rows[0].compare(event.analysis, self.clock())
        else:
            self.rows[0].fail(event.error, event.usage, self.clock())
        if not self.quiet:
            self.finished += self.lines(self.rows, self.clock())
        if self.proposals and isinstance(event, AnalysisFinished):
            self.finished += [Text(), self.title(self.rows[0])]
            self.finished += self.markdown(findings(event.analysis, self.there[0]))
        self.rows = []

    def count(self, event: VotesCounted) -> None:
        """Finish the lines that say who voted for what. With a winner, the answer follows."""
        if not self.quiet:
            self.finished += [Text(line, "dim") for line in counted(event)]
        if event.seat is not None:
            self.answering = self.elected = True
            if self.proposals:
                title = self.title(
                    next(row for row in self.all_rows if (row.layer, row.seat) == (event.layer, event.seat))
                )
                self.finished += [Text(), title, Text()]
            elif self.words and not self.quiet:
                self.finished.append(Text())

    def start_answer(self) -> None:
        """Show the row of the aggregator, which has started."""
        self.rows = self.all_rows[-1:]
        self.rows[0].start(self.clock())
        self.answering = True
        if self.proposals and self.layers:
            self.untitled = True
        elif self.layers and self.words and not self.quiet:
            self.finished.append(Text())

    def finish(self, event: RunFinished) -> None:
        """Finish the lines of a run that ended with an answer."""
        self.hear_words()
        if self.words and not self.wrote:  # nothing was streamed
            self.said.append(event.answer.text)
        if event.last_resort and self.rows:
            self.rows[0].give_way(why(event), self.clock())
        elif self.rows:  # there are none without an aggregator: an answer that was elected, or taken
            self.rows[0].finish(event.answer, self.clock())
        self.leave(event)

    def fail(self, event: RunFailed) -> None:
        """Finish the lines of a run that failed, with the part of the answer that was written."""
        self.hear_words()
        if self.words and not self.wrote:
            self.said.append(event.text)
        # Seats that were still at work did not fail: they were stopped.
        cause = event.error.cause if self.answering else "cancelled"
        for row in self.rows:
            if row.ended is None:
                row.fail(Failure(cause, ""), None, self.clock())
        self.leave(event)

    def leave(self, event: RunFinished | RunFailed) -> None:
        """Finish the answer of a run that has ended, and add the last rows and the summary."""
        self.hear_words()
        rest = self.answer.finish()
        self.finished += rest
        if not self.quiet:
            if self.wrote:
                self.finished.append(Text())
            if isinstance(event, RunFinished) and event.last_resort:
                self.finished += [Text(f"{LAST_RESORT}, of {short_id(event.model)}", f"bold {NOTE}"), Text()]
            elif isinstance(event, RunFinished) and event.seat is not None:
                layer = self.layers - 1 if event.layer is None else event.layer
                how = "elected" if self.elected else "selected"
                self.finished += [Text(f"{how} from layer {layer}, seat {event.seat}", "dim"), Text()]
            if self.layers:
                self.finished += self.lines(self.rows, self.clock())
            elif self.rows:
                self.finished += self.notes(self.rows[0], 0)
            uses = [use for row in self.all_rows for use in row.uses]
            self.finished += [Text(line, "dim") for line in sources(uses, self.layers)]
            calls = sum(row.calls for row in self.all_rows)
            stored = sum(row.stored for row in self.all_rows)
            self.finished.append(Text(summary(event, calls, stored, self.clock() - self.begun), "dim"))
        self.rows, self.answering = [], False

    def frame(self) -> tuple[Sequence[RenderableType], Sequence[RenderableType]]:
        """Return the pieces that were finished since the last frame, and the pieces that still change."""
        self.hear_words()
        finished, self.finished = self.finished, []
        return finished, list(self.changing())

    def changing(self) -> Iterator[RenderableType]:
        """Yield the pieces that still change: the unfinished block of the answer, and the rows of the current layer."""
        if self.answering:
            rest = self.answer.rest(self.region.room)
            yield from rest
            if rest and not self.quiet:
                yield Text()
        if not self.quiet:
            loads = [Text(f"loading {single_line(name)} …", "dim") for name in sorted(self.loading)][
                : self.region.room // 2
            ]
            yield from self.lines(self.rows, self.clock(), self.region.room - len(loads))
            yield from loads

    def hear_words(self) -> None:
        """Add the text since the last frame to the answer, and finish the blocks of the answer that are complete."""
        if self.said:
            if self.untitled:  # the title names the model, which may be replaced until the first words come
                self.finished += [Text(), self.title(self.rows[0]), Text()]
                self.untitled = False
            text, self.said = "".join(self.said), []
            self.wrote = self.wrote or bool(text.strip())
            self.answer.add(printable(text, self.region.console.encoding))
            self.finished += self.answer.take()

    @property
    def columns(self) -> Columns:
        """The columns that fit into the terminal, computed anew when its width has changed."""
        width = self.region.width
        if self._columns is None or self._columns[0] != width:
            self._columns = width, fitting(self.all_rows, width)
        return self._columns[1]

    def lines(self, rows: Sequence[Row], now: float, room: int | None = None) -> list[RenderableType]:
        """Return the rows as lines, with the notes of each row below it.

        now: time in seconds of `clock`
        room: most lines to return; no limit by default

        If the lines do not fit, only the rows of working seats are returned, and a line with the numbers of seats.
        """
        lines: list[RenderableType] = []
        if room is not None and sum(1 + len(row.notes) for row in rows) > room:
            busy = [row for row in rows if row.ended is None]
            shown = (busy or list(rows))[: room - 1]
            lines = [self.columns.row(row, now) for row in shown]
            done = sum(row.ended is not None and not row.cause and not row.spared for row in rows)
            lost, spared = sum(bool(row.cause) for row in rows), sum(row.spared for row in rows)
            spares = f"{spared} spared, " if spared else ""
            more = f"… {len(rows)} seats: {done} done, {lost} lost, {spares}{len(busy)} at work"
            return [*lines, Text(more, "dim", no_wrap=True, overflow="crop")]
        for row in rows:
            lines += [self.columns.row(row, now), *self.notes(row, self.columns.indent)]
        return lines

    def notes(self, row: Row, indent: int) -> list[RenderableType]:
        """Return the notes of a row as lines, indented by `indent` terminal columns."""
        return [Padding(Text(text, style), (0, 0, 0, indent)) for text, style in row.notes]

    def title(self, row: Row) -> Text:
        """Return the title above a proposal or the answer: address and model of the seat."""
        return Text.assemble((row.address, "bold"), f" {row.model}", no_wrap=True, overflow="ellipsis")

    def markdown(self, text: str) -> list[RenderableType]:
        """Return a whole Markdown text as pieces to print, after an empty line."""
        whole = GrowingMarkdown()
        whole.add(printable(text, self.region.console.encoding))
        return [Text(), *whole.finish()]


def why(event: RunFinished) -> Failure:
    """Return the failure of the aggregator for a run whose answer is a proposal instead."""
    for loss in reversed(event.losses):
        if loss.kind == "failed":
            return Failure(loss.cause, loss.message)
    return Failure("server", "")
