"""Prompts that fit: what is cut, what is not, and what is said of it."""

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong import Conversation, Message, ModelError, Request, Sampling, Text, Tool, asking
from partsong.engine.fitting import DRAFT, Fitted, Write, fit, fit_in_steps, learnt, room_for
from partsong.engine.shortening import NOTHING_LEFT, REACH, shorten, without_middle
from partsong.events import Cut
from partsong.model_info import ModelInfo
from partsong.prompts import compose, instruction_for
from partsong.recipe import Layout
from partsong.wire.tokens import estimate, estimate_tokens, likely_tokens

QUESTION = asking("Why is the sky blue?")
PROSE = "The light of the sun is scattered by the air, and the blue of it the most.\n"


def writer(
    conversation: Conversation = QUESTION,
    *,
    max_tokens: int | None = None,
    layout: Layout = "tail",
    tools: tuple[Tool, ...] = (),
) -> Write:
    instruction = instruction_for(layout)

    def write(texts: tuple[str, ...], indexes: tuple[int, ...]) -> Request:
        assert len(texts) == len(indexes)
        messages = compose(conversation, texts, layout, instruction)
        return Request(messages, tools=tools, sampling=Sampling(max_tokens=max_tokens))

    return write


def counting(tokens: Callable[[str], int]) -> tuple[Callable[[tuple[Message, ...]], Awaitable[int]], list[int]]:
    """A tokenizer of a model's own, and what it has counted."""
    counted: list[int] = []

    async def count(messages: tuple[Message, ...]) -> int:
        await asyncio.sleep(0)
        counted.append(sum(tokens(message.text) + 5 for message in messages))
        return counted[-1]

    return count, counted


async def test_what_fits_is_left_alone_and_nothing_is_counted() -> None:
    count, counted = counting(len)
    proposals = (PROSE, "x" * 100, "")
    for info in (ModelInfo(count=count), ModelInfo(8192, count=count), ModelInfo(8192)):
        fitted = await fit(info, "a", writer(), proposals, "fail")
        assert fitted.texts == proposals
        assert fitted.indexes == (0, 1, 2)
        assert fitted.cuts == ()
        assert fitted.before == fitted.after
        assert fitted.request == writer()(proposals, (0, 1, 2))
    assert counted == []


async def test_without_proposals_there_is_nothing_to_fit() -> None:
    long = asking("word " * 4000)
    fitted = await fit(ModelInfo(100), "a", writer(long), (), "fail")
    assert fitted.request.messages == long.messages


async def test_the_longest_are_cut_in_the_middle_to_one_length() -> None:
    proposals = (PROSE * 100, PROSE * 2, "first " + PROSE * 60 + " last", "short")
    fitted = await fit(ModelInfo(3000), "a", writer(max_tokens=500), proposals, "truncate")
    assert fitted.texts[1] == proposals[1]
    assert fitted.texts[3] == "short"
    assert [cut.proposal for cut in fitted.cuts] == [0, 2]
    assert fitted.texts[2].startswith("first The light")
    assert fitted.texts[2].endswith(" last")
    assert "characters left out …]" in fitted.texts[2]
    first, second = (estimate(fitted.texts[place]) for place in (0, 2))
    assert abs(first - second) < 2 * REACH
    assert fitted.before == estimate_tokens(writer()(proposals, (0, 1, 2, 3))) > 2500
    assert 2300 < fitted.after == estimate_tokens(fitted.request) <= 2500
    assert fitted.cuts[0] == Cut(0, estimate(proposals[0]), first)


async def test_under_the_policy_to_fail_a_prompt_that_is_too_long_fails() -> None:
    with pytest.raises(
        ModelError,
        match=r"the prompt has about \d,\d{3} tokens and does not fit: lab:a reads 2,000, of which 500 are kept",
    ) as caught:
        await fit(ModelInfo(2000), "lab:a", writer(), (PROSE * 100,), "fail")
    assert caught.value.cause == "window"


async def test_when_proposals_of_nothing_do_not_fit_it_fails_before_any_call() -> None:
    long = asking("word " * 2000)
    for policy in ("truncate", "window"):
        with pytest.raises(ModelError, match="even with nothing of the proposals left") as caught:
            await fit(ModelInfo(3000), "a", writer(long), (PROSE, PROSE), policy)
        assert caught.value.cause == "window"


async def test_where_the_high_estimate_leaves_nothing_worth_reading_the_likely_number_counts() -> None:
    """A long conversation in a window that it may well fit is asked, and not refused for an estimate that errs high."""
    long = asking("word " * 1500)
    write = writer(long)
    proposals = (PROSE * 10, PROSE * 10)
    assert estimate_tokens(write((), ())) > 2900 > likely_tokens(write(proposals, (0, 1)).messages)
    for policy in ("fail", "truncate"):
        fitted = await fit(ModelInfo(3900), "a", write, proposals, policy)
        assert fitted.texts == proposals
        assert fitted.cuts == ()
        assert fitted.before == fitted.after == likely_tokens(fitted.request.messages)
    fitted = await fit(ModelInfo(3400), "a", write, (PROSE * 20, PROSE * 20), "truncate")
    assert len(fitted.cuts) == 2
    assert 2300 < fitted.after == likely_tokens(fitted.request.messages) <= 2550


async def test_a_window_that_is_merely_listed_is_no_reason_to_fail() -> None:
    long = asking("word " * 2000)
    proposals = (PROSE, PROSE)
    for policy in ("fail", "truncate"):
        fitted = await fit(ModelInfo(3000, listed=True), "a", writer(long), proposals, policy)
        assert fitted.texts == proposals
        assert fitted.cuts == ()
    fitted = await fit(ModelInfo(2000, listed=True), "a", writer(), (PROSE * 100,), "truncate")
    assert fitted.cuts


async def test_a_models_own_tokenizer_decides_where_the_estimate_says_that_it_may_not_fit() -> None:
    count, counted = counting(lambda text: len(text) // 8)
    proposals = (PROSE * 60, PROSE * 60)
    fitted = await fit(ModelInfo(3000, count=count), "a", writer(), proposals, "fail")
    assert fitted.texts == proposals
    assert len(counted) == 1
    assert estimate_tokens(fitted.request) > 3000
    # One that counts more than the estimate is heeded, too.
    for tokens in (len, lambda text: 3 * len(text), lambda text: len(text) // 7, lambda text: text.count("e")):
        count, counted = counting(tokens)
        info = ModelInfo(9000, count=count)
        fitted = await fit(info, "a", writer(max_tokens=200), (PROSE * 900, "x", PROSE * 800), "truncate")
        assert fitted.after == counted[-1] <= 8800 or fitted.after in counted
        assert fitted.after > 8000
        assert len(counted) <= 9
        assert fitted.texts[1] == "x"


async def test_tools_take_their_part_of_the_window() -> None:
    tools = (Tool("look_up", "Looks something up.", b'{"type": "object"}' * 200),)
    proposals = (PROSE * 90,)
    for count in (None, counting(lambda text: len(text) // 4)[0]):
        info = ModelInfo(4800, count=count)
        assert not (await fit(info, "a", writer(), proposals, "truncate")).cuts
        assert (await fit(info, "a", writer(tools=tools), proposals, "truncate")).cuts


def test_the_room_for_the_answer() -> None:
    def room(info: ModelInfo, max_tokens: int | None = None) -> int:
        return room_for(info, Request(QUESTION.messages, sampling=Sampling(max_tokens=max_tokens)))

    assert room(ModelInfo(8192)) == 1024
    assert room(ModelInfo(2000)) == 500
    assert room(ModelInfo(8192), 3000) == 3000
    assert room(ModelInfo(8192, 2048)) == 2048
    assert room(ModelInfo(4096, 2048)) == 1024
    assert room(ModelInfo(200_000, 4096)) == 4096
    # A limit as large as the window would leave nothing to ask with.
    assert room(ModelInfo(4096), 4096) == 1024


def test_a_window_is_learnt_when_it_is_another_than_before() -> None:
    assert learnt(ModelInfo(), ModelInfo(8192))
    assert learnt(ModelInfo(16384), ModelInfo(8192))
    assert learnt(ModelInfo(4096, listed=True), ModelInfo(8192))
    assert not learnt(ModelInfo(8192), ModelInfo(8192))
    assert not learnt(ModelInfo(), ModelInfo())


LETTERS = st.sampled_from(
    ["a", "b", " ", "\n", "é", "e\u0301", "漢", "字", "👩\u200d👧", "👍🏽", "\ud83d\ude00", "ह\u093f"]
)
TEXTS = st.builds(
    lambda piece, times, end: piece * times + end,
    st.lists(LETTERS, min_size=1, max_size=30).map("".join),
    st.integers(0, 120),
    st.lists(LETTERS, max_size=10).map("".join),
)


@settings(max_examples=150, deadline=None)
@given(
    proposals=st.lists(TEXTS, min_size=1, max_size=6).map(tuple),
    window=st.integers(600, 6000),
    max_tokens=st.one_of(st.none(), st.integers(1, 500)),
    layout=st.sampled_from(["tail", "paper"]),
    scale=st.sampled_from([None, 3, 7]),
)
async def test_whatever_is_proposed_it_fits_and_no_more_is_cut_than_must_be(
    proposals: tuple[str, ...], window: int, max_tokens: int | None, layout: Layout, scale: int | None
) -> None:
    write = writer(max_tokens=max_tokens, layout=layout)
    everything = write(proposals, tuple(range(len(proposals))))
    count = None if scale is None else counting(lambda text: len(text) // scale)[0]
    info = ModelInfo(window, count=count)
    limit = window - room_for(info, everything)

    async def tokens(request: Request) -> int:
        return likely_tokens(request.messages) if count is None else await count(request.messages)

    async def fits(request: Request) -> bool:
        return estimate_tokens(request) <= limit or await tokens(request) <= limit

    least = write(tuple(min(text, NOTHING_LEFT, key=estimate) for text in proposals), tuple(range(len(proposals))))
    if not await fits(least):
        with pytest.raises(ModelError):
            await fit(info, "a", write, proposals, "truncate")
        return
    fitted = await fit(info, "a", write, proposals, "truncate")
    # What is asked is never more than there is room for, and is what it is said to be.
    assert fitted.after <= limit
    assert await fits(fitted.request)
    assert fitted.request == write(fitted.texts, fitted.indexes)
    assert fitted.indexes == tuple(range(len(proposals)))
    # Nothing is cut that need not be.
    if estimate_tokens(everything) <= limit or (count is not None and await tokens(everything) <= limit):
        assert fitted.cuts == ()
    changed = [place for place, text in enumerate(fitted.texts) if text != proposals[place]]
    assert [cut.proposal for cut in fitted.cuts] == changed
    longest = max(max(estimate(text), len(text.encode("utf-8", "surrogatepass")) // 4) for text in fitted.texts)
    for place, (text, now) in enumerate(zip(proposals, fitted.texts, strict=True)):
        if place in changed:
            _check_cut(text, now)
        elif changed:
            assert estimate(text) <= longest  # a longer one would have been cut
    # The cuts add up to what is saved, but for rounding and how the letters of the fence happen to be.
    assert all(cut.before > cut.after >= 0 for cut in fitted.cuts)
    if scale is None:
        saved = sum(cut.before - cut.after for cut in fitted.cuts)
        assert abs(saved - (fitted.before - fitted.after)) <= 20 * len(proposals)


def _check_cut(text: str, now: str) -> None:
    if now == NOTHING_LEFT:
        return
    head, mark, tail = now.partition("\n[… ")
    assert mark
    said, _, tail = tail.partition(" characters left out …]\n")
    left, of = (int(number.replace(",", "")) for number in said.split(" of "))
    assert of == len(text)
    assert left == len(text) - len(head) - len(tail)
    assert text.startswith(head)
    assert text.endswith(tail)
    for place in (len(head), len(text) - len(tail)):
        if 0 < place < len(text):
            before, after = text[place - 1], text[place]
            assert not unicodedata.category(after).startswith("M")
            assert "\u200d" not in (before, after)
            assert not "\udc00" <= after <= "\udfff"
            assert not "\U0001f3fb" <= after <= "\U0001f3ff"


@given(text=TEXTS, tokens=st.integers(0, 400))
def test_a_shortened_text_is_as_short_as_asked(text: str, tokens: int) -> None:
    short = shorten(text, tokens)
    if estimate(text) <= tokens:
        assert short == text
    elif estimate(text) > estimate(NOTHING_LEFT):
        assert estimate(short) <= max(tokens, estimate(NOTHING_LEFT))
        _check_cut(text, short)
    else:
        assert short == text


def test_a_text_is_cut_where_a_line_or_a_word_ends() -> None:
    lines = "".join(f"Line number {number}.\n" for number in range(100))
    head, _, tail = without_middle(lines, 600).partition("\n[… ")
    assert head.endswith(".\n")
    assert tail.partition("…]\n")[2].startswith("Line number")
    words = "word " * 400
    head, _, tail = without_middle(words, 600).partition("\n[… ")
    assert head.endswith("word ")
    assert tail.partition("…]\n")[2].startswith("word ")
    assert (
        without_middle("汉字" * 500, 600) == f"{'汉字' * 150}\n[… 400 of 1,000 characters left out …]\n{'汉字' * 150}"
    )


class Drafting:
    """Answers each step with a draft, and keeps what it was asked."""

    def __init__(self, text: str = "") -> None:
        self.steps: list[Fitted] = []
        self.text = text

    async def __call__(self, step: Fitted) -> str:
        self.steps.append(step)
        return self.text or f"draft {len(self.steps)} of {step.indexes}"


async def test_a_window_slides_over_the_proposals_in_seat_order() -> None:
    draft = Drafting()
    proposals = tuple(f"proposal {number}: {PROSE * 10}" for number in range(7))
    info = ModelInfo(2000)
    write = writer(max_tokens=300)
    last = await fit_in_steps(info, "a", write, write, proposals, draft)
    assert len(draft.steps) >= 2
    assert draft.steps[0].indexes[:2] == (0, 1)
    seen = [index for step in (*draft.steps, last) for index in step.indexes if index != DRAFT]
    assert seen == list(range(7))
    for number, step in enumerate((*draft.steps, last)):
        assert step.cuts == ()
        assert step.after <= 1700
        assert step.request == write(step.texts, step.indexes)
        if number:
            assert step.indexes[0] == DRAFT
            assert step.texts[0] == f"draft {number} of {draft.steps[number - 1].indexes}"
        assert all(
            text == proposals[index] for text, index in zip(step.texts, step.indexes, strict=True) if index != DRAFT
        )
    # As many as fit: one more would have been too many.
    first = len(draft.steps[0].indexes)
    assert estimate_tokens(write(proposals[: first + 1], tuple(range(first + 1)))) > 1700


async def test_what_fits_at_once_needs_no_draft() -> None:
    draft = Drafting()
    for info in (ModelInfo(), ModelInfo(8192)):
        last = await fit_in_steps(info, "a", writer(), writer(), (PROSE, PROSE), draft)
        assert last.indexes == (0, 1)
        assert last.texts == (PROSE, PROSE)
    assert draft.steps == []


async def test_a_proposal_that_does_not_fit_beside_the_draft_is_shortened_and_the_draft_is_not() -> None:
    draft = Drafting("The draft: " + PROSE * 8)
    proposals = tuple(f"proposal {number}: {PROSE * 100}" for number in range(4))
    last = await fit_in_steps(ModelInfo(2000), "a", writer(), writer(), proposals, draft)
    assert [step.indexes for step in (*draft.steps, last)] == [(0, 1), (DRAFT, 2), (DRAFT, 3)]
    assert [cut.proposal for cut in draft.steps[0].cuts] == [0, 1]
    for step, index in ((draft.steps[1], 2), (last, 3)):
        assert [cut.proposal for cut in step.cuts] == [index]
        assert step.texts[0] == draft.text
        assert step.after <= 1500


async def test_a_draft_that_leaves_nothing_to_the_proposals_is_shortened_too() -> None:
    draft = Drafting(PROSE * 200)
    proposals = tuple(PROSE * 100 for _ in range(3))
    last = await fit_in_steps(ModelInfo(2000), "a", writer(), writer(), proposals, draft)
    assert [cut.proposal for cut in last.cuts] == [DRAFT, 2]
    assert last.after <= 1500


async def test_drafts_are_written_as_drafts_and_only_the_answer_has_the_tools() -> None:
    tools = (Tool("look_up", "Looks something up.", b'{"type": "object"}' * 20),)
    draft = Drafting()
    proposals = (PROSE * 20, PROSE * 20)
    last = await fit_in_steps(ModelInfo(3000), "a", writer(tools=tools), writer(), proposals, draft)
    assert [step.request.tools for step in draft.steps] == [()]
    assert last.request.tools == tools
    assert last.indexes == (DRAFT,)


@settings(max_examples=60, deadline=None)
@given(proposals=st.lists(TEXTS, min_size=1, max_size=8).map(tuple), window=st.integers(900, 3000))
async def test_every_proposal_is_read_once_in_its_order(proposals: tuple[str, ...], window: int) -> None:
    draft = Drafting()
    write = writer(max_tokens=200)
    last = await fit_in_steps(ModelInfo(window), "a", write, write, proposals, draft)
    seen = [index for step in (*draft.steps, last) for index in step.indexes if index != DRAFT]
    assert seen == list(range(len(proposals)))
    assert all(step.after <= window - 200 for step in (*draft.steps, last))
    assert all(likely_tokens(step.request.messages) <= window - 200 for step in (*draft.steps, last))


async def test_what_a_draft_raises_ends_the_steps() -> None:
    async def draft(step: Fitted) -> str:
        raise ModelError("down", "server")

    with pytest.raises(ModelError, match="down"):
        await fit_in_steps(ModelInfo(2000), "a", writer(), writer(), (PROSE * 100,) * 3, draft)


def test_a_message_of_the_conversation_is_never_touched() -> None:
    system = Message("system", (Text("Be brief. " * 50),))
    conversation = Conversation((system, *QUESTION.messages))
    fitted = asyncio.run(fit(ModelInfo(1500), "a", writer(conversation), (PROSE * 50,) * 3, "truncate"))
    assert fitted.cuts
    assert fitted.request.messages[:2] == conversation.messages
    instruction = instruction_for("tail").partition("{proposals}")[2].partition("{fence}")[0]
    assert instruction in fitted.request.messages[2].text
