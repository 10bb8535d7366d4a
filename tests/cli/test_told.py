"""What people are told of a run that did not get all that its recipe has: on a terminal, and in a pipe."""

import io
from decimal import Decimal

import pytest
from msgspec.structs import replace

from partsong.cli.losses import told
from partsong.cli.output import Output
from partsong.cli.plain import Plain
from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
    AggregationStep,
    AnyEvent,
    Failure,
    LayerFinished,
    Loss,
    PromptFitted,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import ReasoningDelta, TextDelta, Usage, asking
from partsong.recipe import Agent, Aggregator, Layer, Recipe, single
from tests.watched import Watched, answer, called, recipe, started

RATE = Failure("rate", "too many requests")
LOST = Loss(0, 3, "test:d?fail=timeout", "timeout", "it took\nlong")
CUT_OFF = Loss(0, 2, "test:c", "cut_off", "the grace was over", "cut_off")
REPLACED = Loss(0, 1, "test:b", "rate", "too many", "replaced", "test:e")
TRUNCATED = Loss(0, 4, "test:f", "truncated", "it stopped at its limit of tokens", "truncated")
SHORTENED = Loss(1, 0, "test:last", "window", "9 of 12 tokens", "shortened")
DROPPED = Loss(0, 5, "test:g", "budget", "$0.02 would not have been enough", "dropped")


def finished(*losses: Loss, planned: int = 0, answered: int = 0, text: str = "Yes.") -> RunFinished:
    return RunFinished(answer(text), Usage(5, 10), losses, "test:last", planned, answered)


# ---- in words


def test_every_kind_of_loss_is_told_in_words() -> None:
    event = finished(DROPPED, TRUNCATED, REPLACED, LOST, CUT_OFF, SHORTENED, planned=6, answered=3)
    assert told(event) == [
        "3 of 6 answered",
        "lost (0, 3) test:d: timeout",
        "cut off (0, 2) test:c",
        "(0, 1) test:b replaced by test:e: rate",
        "(0, 4) test:f truncated",
        "(1, 0) test:last read a shortened prompt",
        "1 seat dropped for the budget",
    ]
    assert told(event, messages=True) == [
        "3 of 6 answered",
        "lost (0, 3) test:d: timeout: it took long",
        "cut off (0, 2) test:c: the grace was over",
        "(0, 1) test:b replaced by test:e: rate: too many",
        "(0, 4) test:f truncated",
        "(1, 0) test:last read a shortened prompt",
        "1 seat dropped for the budget: (0, 5) test:g ($0.02 would not have been enough)",
    ]


def test_a_run_that_got_everything_has_nothing_to_tell() -> None:
    assert told(finished(planned=6, answered=6)) == []


def test_many_losses_of_a_kind_are_told_as_a_number_where_there_is_little_room() -> None:
    many = [replace(LOST, seat=seat, cause="rate" if seat % 2 else "server") for seat in range(1000)]
    cut = [replace(CUT_OFF, seat=seat) for seat in range(7)]
    gone = [replace(DROPPED, seat=seat) for seat in range(8)]
    event = finished(*many, *cut, *gone, planned=1015, answered=0)
    assert told(event) == [
        "0 of 1,015 answered",
        "lost 1,000 seats: server, rate",
        "cut off 7 seats",
        "8 seats dropped for the budget",
    ]
    words = told(event, messages=True)
    assert len(words) == 1 + 1000 + 7 + 1
    assert words[-1].endswith("(0, 5) test:g and 2 more ($0.02 would not have been enough)")


# ---- on a terminal


async def test_a_seat_shows_who_answers_now_and_whom_it_replaced() -> None:
    watched = Watched()
    await watched.hear(*started("test:a", "test:b"))
    watched.now += 2
    await watched.hear(ProposalDelta(0, 1, ReasoningDelta("x" * 400)))
    spent = Usage(5, 5, dollars=Decimal("0.01"))
    await watched.hear(called(0, 1, "test:b", spent, RATE), ProposalReplaced(0, 1, "test:e?text=Hi", RATE, spent))
    watched.now += 1
    lines = watched.draw()
    assert lines[3:] == [
        "(0, 1)  test:e     waiting                         3.0   $0.0100",
        "        instead of test:b: rate: too many requests",
    ]
    await watched.hear(ProposalDelta(0, 1, TextDelta("x" * 40)))
    watched.now += 1
    await watched.hear(ProposalDelta(0, 1, TextDelta("x" * 40)))
    assert watched.draw()[3] == "(0, 1)  test:e     writing        ~20    10.0      4.0   $0.0100"
    long, broken = answer("x" * 80, 20, "0.02"), Failure("server", "broken")
    await watched.hear(called(0, 1, "test:e", long.usage), ProposalFinished(0, 1, long, "test:e"))
    await watched.hear(called(0, 0, "test:a", error=RATE), ProposalFailed(0, 0, RATE))
    await watched.hear(LayerFinished(0, 1), AggregationStarted("test:last"))
    await watched.hear(called(1, 0, "test:last", error=broken), AggregationReplaced("test:z", broken))
    await watched.hear(AggregationDelta(TextDelta("Yes.")), called(1, 0, "test:z", answer("Yes.").usage))
    await watched.hear(finished(REPLACED, planned=2, answered=1))
    lines = watched.draw(last=True)
    assert "(0, 1)  test:e     done            20    10.0      4.0   $0.0300" in lines
    place = lines.index("        instead of test:last: server: broken")
    assert lines[place - 1].startswith("(1, 0)  test:z     done")
    # Five models were asked in three seats.
    assert lines[-2].startswith("5 calls · 15 tokens · ")
    assert " ".join(lines[-2:]).endswith(" · 1 of 2 answered · (0, 1) test:b replaced by test:e: rate")


async def test_who_really_answered_stands_above_the_answer() -> None:
    watched = Watched(proposals=True)
    await watched.hear(*started("test:a"), ProposalFinished(0, 0, answer("One")), LayerFinished(0, 1))
    await watched.hear(AggregationStarted("test:last"))
    watched.draw()
    await watched.hear(AggregationReplaced("test:z", RATE), AggregationDelta(TextDelta("Yes.")), finished())
    lines = watched.draw(last=True)
    place = lines.index("Yes.")
    assert lines[place - 3 : place] == ["", "(1, 0) test:z", ""]
    assert "(1, 0) test:last" not in lines


async def test_the_columns_have_room_for_the_name_of_a_fallback() -> None:
    watched = Watched()
    agents = (Agent("test:a", fallback=("test:the-other",)), Agent("test:b"))
    two = Recipe("two", (Layer(agents),), Aggregator("test:c"))
    await watched.hear(RunStarted(two, asking("Why?")), *started("test:a", "test:b")[1:])
    assert watched.draw()[3] == "(0, 1)  test:b          waiting                         0.0"
    await watched.hear(ProposalReplaced(0, 0, "test:the-other", RATE))
    assert watched.draw()[2] == "(0, 0)  test:the-other  waiting                         0.0"


async def test_the_row_of_a_late_seat_says_why_it_was_cut_off() -> None:
    watched = Watched()
    await watched.hear(*started("test:a"), ProposalFailed(0, 0, Failure("cut_off", "the grace of 5 s was over")))
    assert watched.draw()[2:] == [
        "(0, 0)  test:a     cut off                         0.0",
        "        the grace of 5 s was over",
    ]


async def test_seats_that_the_money_forbids_are_told_before_the_layers_begin() -> None:
    watched = Watched()
    await watched.hear(RunStarted(recipe("test:a"), asking("Why?"), (DROPPED, replace(DROPPED, seat=6))))
    assert watched.draw() == [
        "duet  Two voices",
        "dropped for the budget: (0, 5) test:g, (0, 6) test:g ($0.02 would not have been",
        "enough)",
        "seat    model      state       tokens   tok/s  seconds   dollars",
    ]
    alone = Watched()
    await alone.hear(RunStarted(single("test:last"), asking("Why?"), (DROPPED,)), AggregationStarted("test:last"))
    assert alone.draw()[0].startswith("dropped for the budget: (0, 5) test:g")


async def test_what_was_stored_costs_nothing_and_is_marked() -> None:
    watched = Watched()
    stored = replace(answer("one", 0, "0"), stored=Usage(100, 30, dollars=Decimal("0.5")))
    await watched.hear(*started("test:a", "test:b"))
    watched.now += 1
    two = answer("two", 10, "0.01")
    await watched.hear(called(0, 0, "test:a", stored.usage, stored=True), ProposalFinished(0, 0, stored))
    await watched.hear(called(0, 1, "test:b", two.usage), ProposalFinished(0, 1, two))
    assert watched.draw()[2] == "(0, 0)  test:a     stored          30              1.0        $0"
    await watched.hear(LayerFinished(0, 2), AggregationStarted("test:last"), called(1, 0, "test:last", two.usage))
    await watched.hear(finished(planned=2, answered=2))
    assert watched.draw(last=True)[-1].startswith("3 calls, 1 stored · 15 tokens · ")


async def test_a_proposal_that_is_cut_short_is_marked() -> None:
    watched = Watched()
    await watched.hear(*started("test:a"))
    await watched.hear(ProposalFinished(0, 0, replace(answer("one and"), finish_reason="length")))
    assert "cut short" in watched.draw()[2]


async def test_a_prompt_that_was_fitted_says_so_below_its_row() -> None:
    watched = Watched()
    await watched.hear(*started("test:a"), PromptFitted(0, 0, "test:a", 18_000, 12_000))
    assert watched.draw()[3] == "        read 12,000 of 18,000 tokens: shortened to fit"
    await watched.hear(called(0, 0, "test:a", answer("one").usage), ProposalFinished(0, 0, answer("one")))
    await watched.hear(LayerFinished(0, 1), AggregationStarted("test:last"))
    step = AggregationStep((0, 1), 4000, answer("so far", 10, "0.25"))
    drafted = called(1, 0, "test:last", step.answer.usage)
    await watched.hear(drafted, step, drafted, replace(step, proposals=(2,)))
    assert watched.draw()[-1] == "        too long to read at once: 2 drafts over 3 proposals"
    last = answer("Yes.", 10, "0.5")
    await watched.hear(called(1, 0, "test:last", last.usage), RunFinished(last, Usage(dollars=Decimal(1))))
    lines = watched.draw(last=True)
    assert lines[-3].endswith("$1.00")  # the drafts were paid for, too
    assert lines[-1].startswith("4 calls")


async def test_a_last_resort_is_never_shown_as_the_aggregators_answer() -> None:
    watched = Watched()
    await watched.hear(*started("test:a"), called(0, 0, "test:a", answer("I think so.").usage))
    await watched.hear(ProposalFinished(0, 0, answer("I think so.")), LayerFinished(0, 1))
    await watched.hear(AggregationStarted("test:last"))
    await watched.hear(called(1, 0, "test:last", error=Failure("server", "broken")))
    await watched.hear(AggregationDelta(TextDelta("I think so.")))
    lost = Loss(1, 0, "test:last", "server", "broken")
    await watched.hear(RunFinished(answer("I think so."), Usage(5, 10), (lost,), "test:a", 1, 1, last_resort=True))
    assert watched.draw(last=True)[4:] == [
        "I think so.",
        "",
        "no aggregator answered: this is the proposal most like the others, of test:a",
        "",
        "(1, 0)  test:last  lost                            0.0",
        "        server: broken",
        "2 calls · 15 tokens · price unknown · 0.0 s · lost (1, 0) test:last: server",
    ]


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_was_said_before_a_failure_stays(streamed: bool) -> None:
    watched = Watched()
    await watched.hear(*started("test:a"), ProposalFinished(0, 0, answer("one")), LayerFinished(0, 1))
    await watched.hear(AggregationStarted("test:last"))
    if streamed:
        await watched.hear(AggregationDelta(TextDelta("It is")))
    await watched.hear(RunFailed(Failure("network", "the connection broke"), Usage(), text="It is"))
    lines = watched.draw(last=True)
    assert lines[4:6] == ["It is", ""]
    assert lines[6].startswith("(1, 0)  test:last  lost")


async def test_seats_that_were_at_work_when_a_run_failed_did_not_fail() -> None:
    watched = Watched()
    await watched.hear(*started("test:a", "test:b"), ProposalFailed(0, 0, RATE))
    await watched.hear(RunFailed(Failure("rate", "strict: (0, 0) test:a failed: too many"), Usage(), planned=2))
    lines = watched.draw(last=True)
    assert "lost" in lines[2]
    assert "cancelled" in lines[4]
    assert lines[-1].endswith(" · 0 of 2 answered")


# ---- in a pipe


class Piped:
    """An answer in a pipe: what was written, and what was said beside it."""

    def __init__(self, *, proposals: bool = False, quiet: bool = False) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.plain = Plain(Output(self.out), None if quiet else Output(self.err), proposals=proposals)

    async def hear(self, *events: AnyEvent) -> None:
        for event in events:
            await self.plain.hear(event)


async def test_who_really_answered_stands_above_a_text() -> None:
    piped = Piped(proposals=True)
    await piped.hear(*started("test:a", "test:b"), ProposalReplaced(0, 1, "test:e", RATE))
    await piped.hear(ProposalFinished(0, 1, answer("Two"), "test:e"), ProposalFinished(0, 0, answer("One"), "test:a"))
    await piped.hear(LayerFinished(0, 2), AggregationStarted("test:last"), AggregationReplaced("test:z", RATE))
    await piped.hear(AggregationDelta(TextDelta("Ye")), AggregationDelta(TextDelta("s.")), finished(REPLACED))
    assert piped.out.getvalue() == ("## (0, 0) test:a\n\nOne\n\n## (0, 1) test:e\n\nTwo\n\n## (1, 0) test:z\n\nYes.\n")
    assert piped.err.getvalue() == "partsong: (0, 1) test:b replaced by test:e: rate: too many\n"


async def test_a_last_resort_is_marked_beside_the_answer() -> None:
    resort = RunFinished(answer("One"), Usage(), (replace(LOST, layer=1, seat=0),), "test:a", 1, 1, last_resort=True)
    piped = Piped(proposals=True)
    await piped.hear(*started("test:a"), ProposalFinished(0, 0, answer("One"), "test:a"), LayerFinished(0, 1))
    await piped.hear(AggregationStarted("test:last"), resort)
    assert piped.out.getvalue().endswith("## (1, 0) test:a\n\nOne\n")
    assert piped.err.getvalue() == (
        "partsong: no aggregator answered: this is the proposal most like the others, of test:a\n"
        "partsong: lost (1, 0) test:d: timeout: it took long\n"
    )
    quiet = Piped(quiet=True)
    await quiet.hear(*started("test:a"), ProposalFinished(0, 0, answer("One"), "test:a"), LayerFinished(0, 1))
    await quiet.hear(AggregationStarted("test:last"), resort)
    assert (quiet.out.getvalue(), quiet.err.getvalue()) == ("One\n", "")


async def test_what_was_said_before_a_failure_is_written() -> None:
    piped = Piped()
    await piped.hear(*started("test:a"), RunFailed(Failure("network", "broken"), Usage(), text="It is"))
    assert piped.out.getvalue() == "It is\n"
