"""The live view: what stands on the screen after each frame, and what is left of it in the scrollback."""

import io
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from partsong.cli.markdown import GrowingMarkdown
from partsong.cli.printable import printable, single_line
from partsong.cli.region import Region
from partsong.cli.rows import Row, fitting, shortened
from partsong.cli.summary import dollars
from partsong.cli.terminal import Terminal
from partsong.events import (
    AggregationDelta,
    AggregationStarted,
    Failure,
    LayerFinished,
    Loss,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import ReasoningDelta, TextDelta, Usage, asking
from partsong.recipe import single
from tests.watched import Watched, answer, called, started

PAGE = """\
# A title

A paragraph with **bold**, `code`, List<String> and <div>, see <https://example.org/x> or [this](https://example.org/y).
It goes on
here.

1. one
2. two

   with more to it
3. three
   - nested

- bullet
- another
  one

***

> quoted
> words

| a | b |
|---|--:|
| 1 | 2 |

```python
def f(x):

    return x
```

1. first
1. second
1. third

The [end][e].

[e]: https://example.org/e
"""
PIECES = [
    "- a",
    "1. one",
    "2) two",
    "  nested",
    "    deep",
    "   - sub",
    "words",
    "***",
    "---",
    "===",
    "# h",
    "```",
    "~~~",
]
PIECES += ["> q", ">", "| a | b |", "|---|---|", "<div>", "", "\ttab", "+ x", "`c`", "**b", "b**"]
SEQUENCE = re.compile(r"\x1b(\[[?\d;]*[A-Za-z])?")


def printed(pieces: Iterable[object]) -> str:
    console = Console(file=io.StringIO(), width=72)
    for piece in pieces:
        console.print(piece)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def at_once(text: str) -> str:
    whole = GrowingMarkdown()
    whole.add(text)
    return printed(whole.finish())


def piece_by_piece(text: str, cuts: Iterable[int]) -> str:
    growing, taken, here = GrowingMarkdown(), [], 0
    for cut in (*cuts, len(text)):
        growing.add(text[here:cut])
        here = max(here, cut)
        taken += growing.take()
        growing.rest()
    return printed([*taken, *growing.finish()])


async def test_a_row_for_each_seat_while_a_layer_works() -> None:
    watched = Watched()
    await watched.hear(*started("test:a", "test:b", "test:c"))
    watched.now += 1
    await watched.hear(ProposalDelta(0, 1, TextDelta("x" * 40)), ProposalDelta(0, 2, ReasoningDelta("hm")))
    watched.now += 2
    done = answer("done", 30, "0.0125")
    await watched.hear(ProposalDelta(0, 1, TextDelta("x" * 80)), called(0, 0, "test:a", done.usage))
    await watched.hear(ProposalFinished(0, 0, done))
    assert watched.draw() == [
        "duet  Two voices",
        "seat    model      state       tokens   tok/s  seconds   dollars",
        "(0, 0)  test:a     done            30    10.0      3.0   $0.0125",
        "(0, 1)  test:b     writing        ~30    10.0      3.0",
        "(0, 2)  test:c     thinking        ~1     0.3      3.0",
    ]


async def test_rows_are_drawn_over_until_the_layer_is_finished() -> None:
    watched = Watched()
    await watched.hear(*started("test:a", "test:b"))
    for _ in range(5):
        watched.now += 1
        before = watched.draw()
    assert len(before) == 4
    failure = Failure("rate", "too many requests\nnow")
    await watched.hear(
        called(0, 0, "test:a", answer("one").usage),
        ProposalFinished(0, 0, answer("one")),
        called(0, 1, "test:b", error=failure),
        ProposalFailed(0, 1, failure),
        LayerFinished(0, 1),
        AggregationStarted("test:last"),
    )
    assert watched.draw() == [
        *before[:2],
        "(0, 0)  test:a     done            10     2.0      5.0         ?",
        "(0, 1)  test:b     lost                            5.0",
        "        rate: too many requests now",
        "",
        "(1, 0)  test:last  waiting                         0.0",
    ]


async def test_the_answer_and_what_it_came_to() -> None:
    watched = Watched()
    usage = Usage(1200, 34, dollars=None)
    await watched.hear(*started("test:a", "test:b"))
    failure = Failure("rate", "too many")
    await watched.hear(called(0, 0, "test:a", answer("one").usage), ProposalFinished(0, 0, answer("one")))
    await watched.hear(called(0, 1, "test:b", error=failure), ProposalFailed(0, 1, failure))
    await watched.hear(LayerFinished(0, 1), AggregationStarted("test:last"))
    await watched.hear(AggregationDelta(TextDelta("It **is**.\n\nReal")), AggregationDelta(TextDelta("ly.")))
    assert watched.draw()[-5:-1] == ["It is.", "", "Really.", ""]
    watched.now += 2
    losses = (Loss(0, 1, "test:b", "rate", "too many"),)
    last = answer("It **is**.\n\nReally.")
    await watched.hear(called(1, 0, "test:last", last.usage), RunFinished(last, usage, losses))
    assert watched.draw(last=True)[-7:] == [
        "",
        "It is.",
        "",
        "Really.",
        "",
        "(1, 0)  test:last  done            10     0.8      2.0         ?",
        "3 calls · 1,234 tokens · price unknown · 2.0 s · lost (0, 1) test:b: rate",
    ]


async def test_an_answer_that_was_not_streamed_is_shown() -> None:
    watched = Watched()
    await watched.hear(RunStarted(single("test:a"), asking("Why?")), AggregationStarted("test:a"))
    await watched.hear(RunFinished(answer("All at once."), Usage(dollars=None)))
    assert watched.draw(last=True)[0] == "All at once."


async def test_quiet_is_the_answer_alone() -> None:
    watched = Watched(quiet=True)
    await watched.hear(*started("test:a"))
    assert watched.draw() == []
    await watched.hear(ProposalFinished(0, 0, answer("one")), LayerFinished(0, 1), AggregationStarted("test:last"))
    await watched.hear(AggregationDelta(TextDelta("Yes.")))
    assert watched.draw() == ["Yes."]
    await watched.hear(RunFinished(answer("Yes."), Usage()))
    assert watched.draw(last=True) == ["Yes."]


async def test_proposals_stand_before_the_answer_each_under_its_seat() -> None:
    watched = Watched(proposals=True)
    await watched.hear(*started("test:a", "test:b"))
    await watched.hear(ProposalFinished(0, 1, answer("# Second")), ProposalFinished(0, 0, answer("*First*")))
    await watched.hear(LayerFinished(0, 2), AggregationStarted("test:last"), AggregationDelta(TextDelta("Answer.\n\n")))
    await watched.hear(RunFinished(answer("Answer."), Usage()))
    lines = [line.strip() for line in watched.draw(last=True)]
    assert lines[4:16] == [
        "",
        "(0, 0) test:a",
        "",
        "First",
        "",
        "(0, 1) test:b",
        "",
        "Second",
        "",
        "(1, 0) test:last",
        "",
        "Answer.",
    ]


async def test_a_cancelled_run_says_who_was_cut_off() -> None:
    watched = Watched()
    await watched.hear(*started("test:a", "test:b"), called(0, 0, "test:a", answer("one").usage))
    await watched.hear(ProposalFinished(0, 0, answer("one")))
    watched.draw()
    await watched.hear(called(0, 1, "test:b", error=Failure("cancelled", "the run was cancelled")))
    await watched.hear(RunFailed(Failure("cancelled", "the run was cancelled"), Usage(5, 10)))
    lines = watched.draw(last=True)
    assert "done" in lines[2]
    assert "cancelled" in lines[3]
    assert lines[-1].startswith("2 calls · 15 tokens")


async def test_a_long_answer_is_printed_once_whatever_the_screen_holds() -> None:
    text = PAGE + "".join(f"\nParagraph {number}.\n" for number in range(60))
    text += "\n```\n" + "".join(f"line {number}\n" for number in range(60)) + "```\n\n"
    text += "".join(f"{number}. item {number}\n" for number in range(1, 60))
    watched = Watched(columns=72, rows=10)
    await watched.hear(RunStarted(single("test:a"), asking("Why?")), AggregationStarted("test:a"))
    for start in range(0, len(text), 7):
        await watched.hear(AggregationDelta(TextDelta(text[start : start + 7])))
        assert len(watched.draw()) <= 400
    await watched.hear(called(0, 0, "test:a", answer(text).usage), RunFinished(answer(text), Usage()))
    lines = watched.draw(last=True)
    assert lines[-1].startswith("1 call · ")
    assert "\n".join(line.lstrip() for line in lines[:-2]) == "\n".join(
        line.lstrip() for line in at_once(text).splitlines()
    )


async def test_a_delta_draws_nothing() -> None:
    watched = Watched()
    await watched.hear(*started("test:a"))
    watched.draw()
    for _ in range(1000):
        await watched.hear(ProposalDelta(0, 0, TextDelta("word ")))
    assert watched.file.getvalue() == ""


@pytest.mark.parametrize("columns", [20, 40, 59, 60, 72, 80, 200])
async def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    models = ("test:a", "together:org/a-model-with-a-very-long-name-70b-instruct")
    watched = Watched(columns, 24)
    await watched.hear(*started(*models))
    for _ in range(3):
        lines = watched.draw()
    assert len(lines) == 4  # had a line been broken in two, the next frame would have left its first half standing
    assert all(line.endswith("waiting") or columns > 40 for line in lines[2:])
    assert "(0, 1)" in lines[3]
    assert "instruct" in lines[3] or columns < 40


async def test_more_seats_than_lines() -> None:
    watched = Watched(rows=10)
    await watched.hear(*started(*(f"test:{number}" for number in range(100))))
    await watched.hear(*(ProposalFinished(0, seat, answer("yes")) for seat in range(50)))
    for _ in range(3):
        lines = watched.draw()
    assert lines[2].startswith("(0, 50)")
    assert lines[-1] == "… 100 seats: 50 done, 0 lost, 50 at work"
    assert len(lines) == 11


async def test_a_terminal_that_got_narrower_is_drawn_over_all_the_same() -> None:
    watched = Watched(80)
    await watched.hear(*started("test:a", "test:b"))
    watched.draw()
    watched.region.console.width = 40  # the terminal breaks each of the two live lines in two
    watched.region.draw((), watched.terminal.frame()[1])
    assert "\x1b[4A" in watched.file.getvalue()


async def test_a_dumb_terminal_gets_no_escape_sequence() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=24, _environ={"TERM": "dumb"})
    region = Region(console)
    terminal = Terminal(region)
    for event in started("test:a"):
        await terminal.hear(event)
    region.draw(*terminal.frame())
    await terminal.hear(ProposalFinished(0, 0, answer("one")))
    await terminal.hear(LayerFinished(0, 1))
    await terminal.hear(AggregationStarted("test:last"))
    await terminal.hear(AggregationDelta(TextDelta("**Yes**.\n\n- a\n- b")))
    region.draw(*terminal.frame())
    await terminal.hear(RunFinished(answer(""), Usage()))
    region.draw(terminal.frame()[0])
    assert "\x1b" not in file.getvalue()
    assert file.getvalue().count("(0, 0)") == 1
    assert "Yes.\n\n • a\n • b\n" in file.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
async def test_an_encoding_without_unicode(encoding: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    region = Region(Console(file=file, force_terminal=True, width=80, height=24))
    terminal = Terminal(region)
    for event in started("test:" + "m" * 90):
        await terminal.hear(event)
    region.draw(*terminal.frame())
    await terminal.hear(ProposalFinished(0, 0, answer("one")))
    await terminal.hear(LayerFinished(0, 1))
    await terminal.hear(AggregationStarted("test:last"))
    await terminal.hear(AggregationDelta(TextDelta("- “so” … 日本\n\n> q\n")))
    await terminal.hear(RunFinished(answer(""), Usage()))
    region.draw(terminal.frame()[0])
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    text = SEQUENCE.sub("", file.buffer.getvalue().decode(encoding))
    assert '* "so" . ??' in text
    assert "| q" in text


@given(st.text())
def test_no_text_steers_the_terminal(text: str) -> None:
    shown = printable(text)
    assert not [letter for letter in shown if unicodedata.category(letter) == "Cc" and letter not in "\n\t"]
    assert "\n" not in single_line(text)


HOSTILE = (
    "\x1b]0;title\x07 \x1b[31mred \x9b2J \x1b[?1049h\x1bc \rover \x08\x08 \u202eback `\x1b[5m` [x](https://a\x1b[7m)"
)


async def test_a_hostile_model_sends_no_escape_sequence_of_its_own() -> None:
    watched = Watched(proposals=True)
    *begun, _ = started("test:a", "test:b")
    await watched.hear(*begun, ProposalStarted(0, 1, f"test:{HOSTILE}"))
    await watched.hear(ProposalDelta(0, 0, TextDelta(HOSTILE)), ProposalFinished(0, 0, answer(HOSTILE)))
    await watched.hear(ProposalFailed(0, 1, Failure("server", HOSTILE)), LayerFinished(0, 1))
    await watched.hear(AggregationStarted("test:last"), AggregationDelta(TextDelta(HOSTILE)))
    watched.region.draw(*watched.terminal.frame())
    await watched.hear(RunFinished(answer(HOSTILE), Usage(), (Loss(0, 1, f"test:{HOSTILE}", "server", HOSTILE),)))
    watched.region.draw(watched.terminal.frame()[0])
    written = watched.file.getvalue()
    assert "31mred" in written  # harmless letters are left of it
    found = {sequence[0] for sequence in SEQUENCE.finditer(written)}
    assert found <= {"\x1b[K", "\x1b[J", "\x1b[?7l", "\x1b[?7h"} | {
        sequence for sequence in found if re.fullmatch(r"\x1b\[(\d+A|[\d;]*m)", sequence)
    }
    assert not any("31" in sequence and sequence != "\x1b[31m" for sequence in found)
    assert not set(written) & {"\x07", "\x08", "\x9b", "\u202e"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, len(PAGE)), max_size=40).map(sorted))
def test_markdown_that_grows_ends_as_it_would_have_come_at_once(cuts: list[int]) -> None:
    assert piece_by_piece(PAGE, cuts) == at_once(PAGE)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("\n".join), st.randoms(use_true_random=False))
def test_any_markdown_ends_as_it_would_have_come_at_once(text: str, chance: Random) -> None:
    cuts = sorted(chance.randrange(len(text) + 1) for _ in range(10))
    assert piece_by_piece(text, cuts) == at_once(text)


def test_raw_html_is_not_dropped() -> None:
    assert at_once("<b>List<String></b>\n\n<div>\nkept\n</div>") == "<b>List<String></b>\n\n<div> kept </div>"


def test_an_address_is_shown_once_and_a_link_with_its_address() -> None:
    assert at_once("<https://a.org>, [here](https://b.org)") == "https://a.org, here (https://b.org)"


def test_long_names_keep_their_end() -> None:
    assert shortened("together:org/model-70b", 10) == "…model-70b"
    assert shortened("test:日本日本", 5) == "…日本"
    assert shortened("test:a", 6) == "test:a"


def test_columns_go_the_least_needed_first() -> None:
    rows = [Row(0, 0, "provider:a-long-name-of-a-model")]
    assert [list(fitting(rows, width).widths) for width in (80, 60, 50, 40, 30, 1)] == [
        ["seat", "model", "state", "tokens", "tok/s", "seconds", "dollars"],
        ["seat", "model", "state", "tokens", "tok/s", "seconds"],
        ["seat", "model", "state", "tokens", "seconds"],
        ["seat", "model", "state", "tokens"],
        ["seat", "model", "state"],
        ["seat", "model", "state"],
    ]


def test_money() -> None:
    amounts = (None, Decimal(0), Decimal("0.00001"), Decimal("0.01234"), Decimal("1234.5"))
    assert [dollars(amount) for amount in amounts] == ["?", "$0", "<$0.0001", "$0.0123", "$1,234.50"]
