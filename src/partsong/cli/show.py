"""`partsong show`: one stored run as a page with its seats, timeline, proposals, answer and cost.

`Terminal`, the listener that draws a run for `ask`, draws the rows here too. It hears the stored events, and its clock
returns the stored times. Texts are drawn as Markdown on a terminal. In a pipe they are printed as the models wrote
them.
"""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from partsong.cli.findings import findings
from partsong.cli.journal import status, stored_run, when
from partsong.cli.json_output import print_json
from partsong.cli.loop import complete
from partsong.cli.losses import LAST_RESORT, short_id
from partsong.cli.options import RunName
from partsong.cli.printable import printable, single_line
from partsong.cli.read import sources
from partsong.cli.summary import dollars, summary
from partsong.cli.votes import counted
from partsong.errors import InputError
from partsong.events import AnyEvent, RunFailed, RunFinished
from partsong.model import Conversation
from partsong.prompts import documents_of
from partsong.recipe import ANALYST_SEAT
from partsong.store import StoredRun
from partsong.store.runs import AGAIN
from partsong.transcript import Transcript

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from partsong.cli.rows import Row

WIDTH = 100  # columns of the output if it is no terminal
LONGEST_BAR = 60  # columns
WAITING, WRITING, UNHEARD, LOST = "░", "█", "━", "×"


def show(
    run: RunName,
    /,
    *,
    brief: Annotated[bool, Parameter(help="Leave out the proposals and the answer.")] = False,
    answer: Annotated[bool, Parameter(help="Print the answer alone, as the model wrote it.")] = False,
    prompts: Annotated[
        bool, Parameter(help="Print what each seat was sent: the messages, their tokens and the settings.")
    ] = False,
    json: Annotated[
        bool, Parameter(help="Print JSON: the run, or with --prompts a list of what the seats were sent.")
    ] = False,
) -> int:
    """Show a stored run: its seats, its timeline, the proposals, the answer and what they cost."""
    if sum((brief, answer, prompts or json)) > 1:
        raise InputError("--brief, --answer and --prompts exclude each other, and only --prompts goes with --json")
    if prompts:
        from partsong.cli.sent import print_prompts

        return complete(print_prompts(run, json=json))
    return complete(print_answer(run) if answer else print_run(run, brief=brief, json=json))


async def print_answer(name: str) -> int:
    """Print the answer of a stored run; return the exit code. Raises `InputError` if there is none."""
    run, events = await stored_run(name)
    last = events[-1][1] if events else None
    if not isinstance(last, RunFinished):
        raise InputError(f"the run {run.id} has no answer that is stored ({status(run)})")
    print(printable(last.answer.text, sys.stdout.encoding))
    return 0


async def print_run(name: str, *, brief: bool, json: bool) -> int:
    """Print a stored run; return the exit code.

    name: the run's id, the first letters of the id, or "last"
    brief: whether proposals and answer are left out
    json: whether the run is printed as one JSON object

    Raises `InputError` if there is no such run.
    """
    run, events = await stored_run(name)
    if json:
        from partsong.store.document import as_json, plain

        print_json(as_json(plain(run), events))
        return 0
    from rich.console import Console

    drawn = sys.stdout.isatty()
    console = Console(highlight=False, markup=False, emoji=False, width=None if drawn else WIDTH, no_color=not drawn)
    for piece in await page(run, events, console, brief=brief, drawn=drawn):
        if drawn:
            console.print(piece)
        else:  # lines are as long as the models wrote them, because nothing wraps lines in a pipe
            print(printable(str(piece), sys.stdout.encoding))
    return 0


async def page(
    run: StoredRun, events: Sequence[tuple[float, AnyEvent]], console: "Console", *, brief: bool, drawn: bool
) -> "list[RenderableType]":
    """Return the pieces of the page, to be printed one below the other.

    events: events of the run, each with its seconds since the start; empty for a run that was stored without words
    brief: whether proposals and answer are left out
    drawn: whether the page is for a terminal, where texts are drawn as Markdown
    """
    from rich.text import Text

    from partsong.cli.region import Region
    from partsong.cli.terminal import Terminal

    now = 0.0
    terminal = Terminal(Region(console), quiet=True, clock=lambda: now)
    transcript = Transcript()
    for seconds, event in events:
        now = seconds
        await terminal.hear(event)
        transcript.hear(event)
    rows = [row for row in terminal.all_rows if row.started is not None]
    question = "" if transcript.conversation is None else asked(transcript.conversation)
    pieces: list[RenderableType] = list(head(run, question or run.question))
    if not events:
        pieces += [Text(), Text('It was stored without its words (store = "metadata"): this is all there is of it.')]
        pieces += [Text(), Text(came_to(run), "dim")]
        return pieces
    if rows:
        pieces += [Text(), terminal.columns.heading()]
        for row in rows:
            indent = " " * terminal.columns.indent
            pieces += [terminal.columns.row(row, now), *(Text(indent + text, style) for text, style in row.notes)]
        pieces += [Text(), *timeline(rows, now, console.width)]
    if not brief:
        for title, text in texts(rows, transcript, run.model):
            pieces += [
                Text(),
                Text(title, "bold"),
                *(terminal.markdown(text) if drawn else [Text(f"\n{text.strip()}")]),
            ]
    for count in transcript.votes:
        pieces += [Text(), *(Text(line, "dim") for line in counted(count))]
    if read := sources(transcript.uses, len(transcript.layers)):
        pieces += [Text(), *(Text(line, "dim") for line in read)]
    end = events[-1][1]
    if isinstance(end, RunFinished | RunFailed):
        if isinstance(end, RunFailed):
            pieces += [Text(), Text(f"no answer: {single_line(end.error.message)}", "red")]
        pieces += [Text(), Text(summary(end, run.calls + run.stored, run.stored, now), "dim")]
    else:
        pieces += [Text(), Text(f"{came_to(run)} · it goes on, or its process was ended", "dim")]
    return pieces


def asked(conversation: Conversation) -> str:
    """Return the text of the last message of a conversation, below a line for each document of the message."""
    last = conversation.messages[-1]
    return "\n".join([*(f"[document {document.name}]" for document in documents_of((last,))), last.text])


def head(run: StoredRun, question: str) -> "Iterator[Text]":
    """Yield the head of the page: recipe, start, status and id of the run, and the question."""
    from rich.text import Text

    about = f"  {when(run.started, datetime.now().astimezone())} · {status(run)} · run {run.id}"
    yield Text.assemble((single_line(run.recipe.partition("?")[0]), "bold"), (about, "dim"))
    if earlier := run.labels.get(AGAIN):
        yield Text(f"again from run {single_line(earlier)}", "dim")
    if question:
        yield Text(printable(question.strip()))


def came_to(run: StoredRun) -> str:
    """Return calls, tokens, price, seconds and losses of a stored run as a line of text. No events are needed."""
    calls = f"{run.calls:,} call{'s' * (run.calls != 1)}{f', {run.stored:,} stored' if run.stored else ''}"
    losses = [f"{run.losses:,} lost or changed"] if run.losses else []
    price = "price unknown" if run.dollars is None else dollars(run.dollars)
    return " · ".join([calls, f"{run.tokens:,} tokens", price, f"{run.seconds:,.1f} s", *losses])


def texts(rows: "Sequence[Row]", transcript: Transcript, model: str) -> Iterator[tuple[str, str]]:
    """Yield a title and a text for each proposal, for the analysis and for the answer. Empty texts are left out.

    model: id of the model whose proposal is the answer, if no aggregator answered
    """
    for row in rows:
        beyond = row.layer == len(transcript.layers)
        aggregates = beyond and row.seat != ANALYST_SEAT
        if aggregates and transcript.votes and transcript.votes[-1].seat is not None:
            continue  # the elected proposal stands above, in its own seat
        if aggregates:
            text = transcript.text
        elif beyond:
            text = analysis_text(transcript)
        else:
            text = transcript.layers[row.layer][row.seat].text
        title = (
            f"{LAST_RESORT}, of {short_id(model)}" if aggregates and transcript.last_resort else single_line(row.model)
        )
        if text.strip():
            yield f"## {row.address} {title}", printable(text)
    if transcript.last_resort and not transcript.aggregator:  # it was taken, and no aggregator has a row
        yield f"## {LAST_RESORT}, of {short_id(model)}", printable(transcript.text)


def analysis_text(transcript: Transcript) -> str:
    """Return the analysis as lines of text that name each proposal by its address; empty if there is none."""
    if transcript.analysis is None or transcript.recipe is None:
        return ""
    return findings(transcript.analysis, transcript.recipe.last_proposers or 0)


def timeline(rows: "Sequence[Row]", end: float, width: int) -> "Iterator[Text]":
    """Yield a line with a bar for each seat, and a legend.

    end: duration of the run in seconds, which the longest bar stands for
    width: columns of the output
    """
    from rich.text import Text

    address = max(len(row.address) for row in rows)
    room = max(8, min(LONGEST_BAR, width - address - 3))
    used = ""
    for row in rows:
        cells = bar(row, end, room)
        used += cells
        style = "red" if row.cause else "green" if row.ended is not None else "dim"
        yield Text.assemble(f"{row.address:<{address}}  ", (cells, style), no_wrap=True, overflow="crop")
    meanings = {WAITING: "nothing said yet", WRITING: "writing", UNHEARD: "asked for all at once", LOST: "lost"}
    legend = "  ".join(f"{sign} {meaning}" for sign, meaning in meanings.items() if sign in used)
    yield Text(f"{'':<{address}}  0 to {end:,.1f} s: {legend}", "dim", no_wrap=True, overflow="ellipsis")


def bar(row: "Row", end: float, room: int) -> str:
    """Return the bar of a seat: cells from the seat's start to its end, after spaces for the time before.

    end: duration of the run in seconds
    room: columns that stand for the whole run

    The sign of the cells changes at the seat's first word. The last cell shows if the seat was lost.
    """

    def cell(seconds: float) -> int:
        return round(room * seconds / end) if end > 0 else 0

    begun, ended = row.started or 0.0, end if row.ended is None else row.ended
    first = min(cell(begun), room - 1)
    last = max(cell(ended), first + 1)
    if row.spoke is None:
        cells = (WAITING if row.cause or row.ended is None else UNHEARD) * (last - first)
    else:
        spoke = min(max(cell(row.spoke), first), last - 1)
        cells = WAITING * (spoke - first) + WRITING * (last - spoke)
    return " " * first + (cells[:-1] + LOST if row.cause else cells)
