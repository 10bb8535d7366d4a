"""Votes and agreement: who wins, when a layer may end, and what a run then says, costs and loses."""

import asyncio
import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import partsong
from partsong import (
    Agent,
    Aggregator,
    Answer,
    Conversation,
    Layer,
    Message,
    Model,
    QuestionError,
    Recipe,
    Request,
    RunError,
    Sampling,
    Send,
    Text,
    TextDelta,
    Tool,
    Usage,
    asking,
)
from partsong.engine import perform
from partsong.engine.stated import Stated, stated
from partsong.engine.voting import elected, groups_of, outcome
from partsong.events import (
    AggregationDelta,
    AggregationStarted,
    AnyEvent,
    CallFinished,
    ProposalFailed,
    ProposalSpared,
    ProposalStarted,
    RunFailed,
    RunFinished,
    VotesCounted,
    from_json,
    to_json,
)
from partsong.model import ANY_OBJECT
from tests import grammar
from tests.clock import jumping

VOTE = Aggregator("t:z", method="vote")
FAIL = Aggregator(method="vote", otherwise="fail")
TOOLS = (Tool("look", "It looks.", b'{"type":"object"}'),)


def says(text: str, after: float = 0.0, finish: Any = "stop", fail: bool = False) -> Model:
    """A model that says a text after so many seconds."""

    async def model(request: Request, send: Send | None) -> Answer:
        await asyncio.sleep(after)
        if fail:
            raise partsong.ModelError("it failed", "server")
        if send is not None:
            await send(TextDelta(text))
        return Answer((Text(text),), finish, Usage(10, 5, dollars=Decimal("0.001")))

    return model


async def heard(recipe: Recipe, models: dict[str, Model], conversation: Conversation | None = None) -> list[AnyEvent]:
    """The events of a run, which follow the grammar and can be written and read again."""
    events: list[AnyEvent] = []

    async def hear(event: AnyEvent) -> None:
        events.append(event)

    await perform(recipe, asking("Why?") if conversation is None else conversation, models, hear)
    grammar.check(events)
    assert [from_json(to_json(event)) for event in events[1:]] == events[1:]
    return events


def of(texts: str, aggregator: Aggregator = VOTE, **fields: Any) -> tuple[Recipe, dict[str, Model]]:
    """A recipe whose only layer has a seat for each word, and its models. "5@2" says 5 after 2 seconds, "!" fails.

    "?" states nothing, and "5~" is cut off.
    """
    models: dict[str, Model] = {"t:z": says("From the aggregator.")}
    for index, word in enumerate(texts.split()):
        text, _, after = word.partition("@")
        said = "It is hard to tell what is right here, so I would rather not." if text == "?" else text.rstrip("~")
        finish = "length" if text.endswith("~") else "stop"
        models[f"t:{index}"] = says(said, float(after or 0), finish, fail=text == "!")
    agents = tuple(Agent(name) for name in models if name != "t:z")
    rules = {name: fields.pop(name) for name in ("quorum", "grace", "deadline", "agree", "at_once") if name in fields}
    return Recipe("r", (Layer(agents, **rules),), aggregator, **fields), models


def end_of(events: list[AnyEvent]) -> RunFinished:
    assert isinstance(events[-1], RunFinished), events[-1]
    return events[-1]


def count_of(events: list[AnyEvent]) -> VotesCounted:
    (count,) = (event for event in events if isinstance(event, VotesCounted))
    return count


# ---- the pure count


SAID = {word: stated(word) for word in ("5", "6", "7", "5 km", "5 miles", "yes")}


def statements(words: list[str | None]) -> dict[int, Stated]:
    return {seat: said for seat, word in enumerate(words) if word is not None and (said := SAID[word]) is not None}


@pytest.mark.parametrize(
    ("words", "majority", "winner"),
    [
        ("5 5 6", 0.5, (0, 1)),
        ("5 5 6 6", 0.5, None),  # more than half, not half
        ("5 5 6 7", 0.5, None),
        ("5 5 6 7", 0.49, (0, 1)),
        ("5 5 6 7", 0, (0, 1)),
        ("6 5 5 6", 0, (0, 3)),  # of equal groups the one with the earliest seat
        ("5 - -", 0.5, None),  # lost and abstaining seats count
        ("5 - -", 0.3, (0,)),
        ("5 - -", 0, (0,)),
        ("- - -", 0, None),
        ("5 5 - - -", 0.4, None),  # 2 of 5 are not more than 0.4
        ("5,km 5 6", 0.5, (0, 1)),
        ("5,km 5 5,miles", 0.5, None),  # a number without a unit is not counted with two units
        ("5,km 5,km 5,miles 5", 0.49, (0, 1)),
    ],
)
def test_a_majority_is_more_than_its_share_of_all_seats(words: str, majority: float, winner: tuple[int, ...]) -> None:
    cast = [None if word == "-" else word.replace(",", " ") for word in words.split()]
    won = elected(groups_of(statements(cast)), len(cast), majority)
    assert (None if won is None else won.seats) == winner


@pytest.mark.parametrize(
    ("majority", "seats", "needed"), [(0.29, 100, 30), (0.07, 100, 8), (0.55, 20, 12), (0.1, 30, 4)]
)
def test_a_share_is_exact(majority: float, seats: int, needed: int) -> None:
    """0.29 × 100 is 28.999999999999996 in floating point, and yet 29 votes are no majority."""
    for votes in (needed - 1, needed):
        won = elected(groups_of(statements(["5"] * votes)), seats, majority)
        assert (won is not None) == (votes == needed)


WORDS = st.sampled_from([None, "5", "5", "5", "6", "6", "7", "5 km", "5 miles"])


@settings(max_examples=600, deadline=None)
@given(
    cast=st.lists(WORDS, min_size=1, max_size=6),
    majority=st.sampled_from([0, 0.2, 0.3, 0.5, 0.6, 0.9]),
    order=st.randoms(use_true_random=False),
    after=st.integers(0, 6),
)
def test_a_decided_vote_cannot_be_changed_by_any_open_seat(
    cast: list[str | None], majority: float, order: Any, after: int
) -> None:
    """However the open seats vote, the winner keeps its seats, and a vote that nobody can win is won by nobody."""
    seats = list(range(len(cast)))
    order.shuffle(seats)
    closed, still_open = seats[:after], seats[after:][:3]
    cast = [word if seat in closed else None for seat, word in enumerate(cast)]
    said, total = statements(cast), len(cast)
    early = outcome(said, still_open, total, majority)
    ends = []
    for more in itertools.product([None, "5", "6", "7", "5 km", "5 miles", "yes"], repeat=len(still_open)):
        whole = list(cast)
        for seat, word in zip(still_open, more, strict=True):
            whole[seat] = word
        ends.append(elected(groups_of(statements(whole)), total, majority))
    now = elected(groups_of(said), total, majority)
    if early == "won":
        assert now is not None
        assert all(end is not None and set(end.seats) & set(now.seats) for end in ends)
    elif early == "lost":
        assert ends == [None] * len(ends)
    elif not any(word in ("5 km", "5 miles") for word in cast):
        assert len({None if end is None else end.answer for end in ends}) > 1, "it was decided earlier"
    if not still_open:
        assert early == ("lost" if now is None else "won")


def test_full_votes_need_twice_the_samples_of_early_ones() -> None:
    """Where seats agree as often as in measured pools, few of the seats have to be asked before the vote is decided."""
    asked = total = 0
    for number in range(200):
        words = ["5" if (number * 7 + seat * 3) % 10 < 9 else "6" for seat in range(16)]
        said: dict[int, Stated] = {}
        for seat, word in enumerate(words):
            said |= statements([*[None] * seat, word])
            if outcome(said, range(seat + 1, 16), 16, 0) == "won":
                break
        asked, total = asked + len(said), total + 16
        assert elected(groups_of(said), 16, 0) is not None
    assert asked <= 0.65 * total


# ---- runs


@jumping
async def test_the_elected_proposal_is_the_answer_and_no_aggregator_is_asked() -> None:
    recipe, models = of("5@1 5 6")
    events = await heard(recipe, models)
    end = end_of(events)
    assert (end.answer.text, end.layer, end.seat, end.model) == ("5", 0, 0, "t:0")
    assert (end.planned, end.answered, end.spared, end.losses) == (3, 3, 0, ())
    assert not any(isinstance(event, AggregationStarted) for event in events)
    assert [event.delta for event in events if isinstance(event, AggregationDelta)] == [TextDelta("5")]
    assert len([event for event in events if isinstance(event, CallFinished)]) == 3
    assert end.usage == Usage(30, 15, dollars=Decimal("0.003"))
    count = count_of(events)
    assert [(group.answer, group.seats) for group in count.groups] == [("5", (0, 1)), ("6", (2,))]
    assert (count.rule, count.needed, count.seat, count.abstained) == ("majority", 2, 0, ())


@jumping
async def test_the_answer_is_the_proposal_of_the_group_that_is_most_like_its_others() -> None:
    models: dict[str, Model] = {
        "t:0": says("5"),
        "t:1": says("We add two and three, and so the answer is 5"),
        "t:2": says("We add two and three, and then the answer is 5"),
        "t:3": says("We add two and three, and so the answer is 6"),
        "t:4": says("We add two and three, and so the answer is 6"),
    }
    recipe = Recipe("r", (Layer(tuple(Agent(name) for name in models)),), FAIL)
    end = end_of(await heard(recipe, models))
    assert end.seat == 1


@pytest.mark.parametrize("strict", [False, True])
@jumping
async def test_open_seats_are_spared_once_the_vote_is_decided(strict: bool) -> None:
    recipe, models = of("5@1 5@2 5@3 6@50 6@60", strict=strict)
    events = await heard(recipe, models)
    end = end_of(events)
    assert (end.answer.text, end.answered, end.spared, end.losses) == ("5", 3, 2, ())
    spared = [event for event in events if isinstance(event, ProposalSpared)]
    assert [(event.layer, event.seat) for event in spared] == [(0, 3), (0, 4)]
    calls = [event for event in events if isinstance(event, CallFinished)]
    assert sorted(call.seat for call in calls) == [0, 1, 2, 3, 4], "a call that is given up is counted"
    assert all(call.seconds == 3 and call.usage is not None for call in calls if call.error is not None)
    assert [event.usage for event in spared] == [call.usage for call in calls if call.error is not None]


@jumping
async def test_a_vote_waits_while_an_open_seat_can_change_the_result() -> None:
    recipe, models = of("5@1 5@2 6@3 6@4 6@5")
    end = end_of(await heard(recipe, models))
    assert (end.answer.text, end.spared) == ("6", 0)
    recipe, models = of("6@9 5@1 5@2 6@3", Aggregator("t:z", method="vote", majority=0))
    end = end_of(await heard(recipe, models))
    assert (end.answer.text, end.seat, end.spared) == ("6", 0, 0), "a tie goes to the earliest seat, which came last"
    recipe, models = of("5@1 6@2 5@3 6@9", Aggregator("t:z", method="vote", majority=0))
    end = end_of(await heard(recipe, models))
    assert (end.answer.text, end.spared) == ("5", 1), "a tie could not be lost any more"


@pytest.mark.parametrize("words", ["5 5 6 6", "5 5 ? ?", "5 5 ! !", "5 5 6~ 5~", "? ? ?", "1/2 0.5 ?"])
@pytest.mark.parametrize("otherwise", ["synthesize", "select", "fail"])
@jumping
async def test_without_a_majority_the_recipe_says_what_is_done(words: str, otherwise: Any) -> None:
    recipe, models = of(words, Aggregator("t:z", method="vote", otherwise=otherwise))
    models["t:z"] = says("1" if otherwise == "select" else "Both.")
    if otherwise == "fail":
        with pytest.raises(RunError, match=r"the vote has no majority: of . seats . must state the same") as caught:
            await partsong.run(recipe, "Why?", models)
        assert caught.value.transcript.error is not None
        assert caught.value.transcript.error.cause == "no_majority"
        assert caught.value.transcript.votes[0].seat is None
        assert not any(call.model == "t:z" for call in caught.value.transcript.calls)
        await heard(recipe, models)
        return
    events = await heard(recipe, models)
    end = end_of(events)
    assert end.answer.text == ("Both." if otherwise == "synthesize" else words.split()[0].replace("?", end.answer.text))
    assert (end.layer, end.seat) == ((0, 0) if otherwise == "select" else (None, None))
    assert count_of(events).seat is None
    assert [event.seat for event in events if isinstance(event, CallFinished) and event.model == "t:z"] == [0]


@jumping
async def test_a_vote_that_fails_ends_as_soon_as_nobody_can_win() -> None:
    recipe, models = of("5@1 6@2 7@3 8@4 5@50", FAIL)
    events = await heard(recipe, models)
    assert isinstance(events[-1], RunFailed)
    assert (events[-1].error.cause, events[-1].spared) == ("no_majority", 1)
    recipe, models = of("!@1 !@2 5@50", FAIL)
    events = await heard(recipe, models)
    assert isinstance(events[-1], RunFailed)
    assert events[-1].error.cause == "no_majority"
    # An aggregator that writes is given every proposal.
    recipe, models = of("5@1 6@2 7@3 8@4 5@50")
    assert end_of(await heard(recipe, models)).answered == 5


@jumping
async def test_text_counts_whole_texts() -> None:
    story = "I think, and think again, that it is a long story.\n"
    for same, answer in (("text", story), ("final", "From the aggregator.")):
        recipe, models = of("5 6 7 8", Aggregator("t:z", method="vote", majority=0.4), same=same)
        models["t:0"], models["t:3"] = says(story), says(f" {story}")
        assert end_of(await heard(recipe, models)).answer.text == answer


@jumping
async def test_beside_tools_no_vote_is_taken() -> None:
    recipe, models = of("5 5 5", agree=2)
    asked = Conversation((Message("user", (Text("Why?"),)),), tools=TOOLS)
    events = await heard(recipe, models, asked)
    assert end_of(events).answer.text == "From the aggregator."
    assert not any(isinstance(event, VotesCounted) for event in events)
    for otherwise in ("select", "fail"):
        changed = Recipe("r", recipe.layers, Aggregator("t:z", method="vote", otherwise=otherwise))
        with pytest.raises(QuestionError, match=f'r: its aggregator takes a vote and then does "{otherwise}".*tools'):
            await heard(changed, models, asked)


@pytest.mark.parametrize("schema", [ANY_OBJECT, b'{"type":"object"}'])
@jumping
async def test_with_a_schema_vote_and_agreement_are_refused_by_name(schema: bytes) -> None:
    asked = Conversation((Message("user", (Text("Why?"),)),), response_format=schema)
    recipe, models = of("5 5 5")
    with pytest.raises(
        QuestionError, match="r: its aggregator takes a vote among the proposals, so it cannot write what"
    ):
        await heard(recipe, models, asked)
    recipe, models = of("5 5 5", Aggregator("t:z"), agree=2)
    with pytest.raises(
        QuestionError, match=r"r: its layer 0 may end the run by agreement \(agree\), so it cannot write"
    ):
        await heard(recipe, models, asked)


@jumping
async def test_a_callers_limits_hold_for_what_an_aggregator_writes() -> None:
    asked = Conversation((Message("user", (Text("Why?"),)),), sampling=Sampling(max_tokens=3, stop=("5",)))
    seen: list[Sampling] = []

    async def writer(request: Request, send: Send | None) -> Answer:
        seen.append(request.sampling)
        return Answer((Text("Both."),))

    recipe, models = of("5 6")
    assert end_of(await heard(recipe, models | {"t:z": writer}, asked)).answer.text == "Both."
    assert (seen[0].max_tokens, seen[0].stop) == (3, ("5",))
    recipe, models = of("5 5")
    models["t:0"] = models["t:1"] = says("It takes many words to say 5, and yet the answer is 5")
    assert end_of(await heard(recipe, models, asked)).answer.text.endswith("5"), "a proposal is said as it stands"


# ---- agreement


@pytest.mark.parametrize("strict", [False, True])
@jumping
async def test_a_run_ends_with_an_agreement(strict: bool) -> None:
    recipe, models = of("5@1 6@2 5@3 7@40 8@50", Aggregator("t:z"), agree=2, strict=strict)
    events = await heard(recipe, models)
    end = end_of(events)
    assert (end.answer.text, end.layer, end.seat, end.losses, end.spared) == ("5", 0, 0, (), 2)
    assert (count_of(events).rule, count_of(events).needed) == ("agree", 2)
    assert not any(isinstance(event, AggregationStarted) for event in events)


@jumping
async def test_without_an_agreement_the_aggregator_is_asked() -> None:
    recipe, models = of("5 6 7", Aggregator("t:z"), agree=2)
    events = await heard(recipe, models)
    assert end_of(events).answer.text == "From the aggregator."
    assert count_of(events).seat is None


@jumping
async def test_a_cheap_layer_that_agrees_is_a_cascade() -> None:
    first, models = of("5@1 5@2 6@30", agree=2)
    strong: dict[str, Model] = {f"t:s{seat}": says("6", 5 + seat) for seat in range(3)}
    layers = (*first.layers, Layer(tuple(Agent(name) for name in strong)))
    recipe = Recipe("r", layers, FAIL)
    events = await heard(recipe, models | strong)
    end = end_of(events)
    assert (end.answer.text, end.layer, end.seat, end.spared, end.answered, end.planned) == ("5", 0, 0, 4, 2, 6)
    models["t:1"] = says("7", 2)
    events = await heard(recipe, models | strong)
    end = end_of(events)
    assert (end.answer.text, end.layer, end.seat, end.spared) == ("6", 1, 0, 1)
    assert [(event.layer, event.rule, event.seat) for event in events if isinstance(event, VotesCounted)] == [
        (0, "agree", None),
        (1, "majority", 0),
    ]


@jumping
async def test_seats_begin_in_order_and_so_many_at_once() -> None:
    recipe, models = of("6@1 5@4 5@4 5@4 5@4 5@4", at_once=2)
    events = await heard(recipe, models)
    assert end_of(events).spared == 1
    begun = [event.seat for event in events if isinstance(event, ProposalStarted)]
    assert begun == list(range(len(begun)))
    open_now = most = 0
    for event in events:
        open_now += isinstance(event, ProposalStarted) - (type(event).__name__ == "ProposalFinished")
        most = max(most, open_now)
    assert most == 2


@jumping
async def test_agreement_saves_the_seats_that_have_not_begun() -> None:
    recipe, models = of("5@1 5@1 5@1 5@1", Aggregator("t:z"), agree=2, at_once=1)
    events = await heard(recipe, models)
    assert [event.seat for event in events if isinstance(event, ProposalStarted)] == [0, 1]
    spared = [event for event in events if isinstance(event, ProposalSpared)]
    assert [(event.seat, event.usage) for event in spared] == [(2, None), (3, None)]
    assert len([event for event in events if isinstance(event, CallFinished)]) == 2


@jumping
async def test_once_a_quorum_is_met_no_seat_begins_and_those_are_spared() -> None:
    recipe, models = of("5@1 6@2 7@9 8@1 9@1", Aggregator("t:z"), quorum=2, grace=3, at_once=2)
    events = await heard(recipe, models)
    end = end_of(events)
    assert [event.seat for event in events if isinstance(event, ProposalStarted)] == [0, 1, 2]
    assert [event.seat for event in events if isinstance(event, ProposalSpared)] == [3, 4]
    assert [(loss.seat, loss.kind) for loss in end.losses] == [(2, "cut_off")]
    assert (end.spared, end.answered, end.planned) == (2, 2, 5)


@jumping
async def test_an_agreement_goes_before_a_quorum() -> None:
    recipe, models = of("5@1 5@1 7@9", Aggregator("t:z"), quorum=2, agree=2)
    end = end_of(await heard(recipe, models))
    assert (end.answer.text, end.losses, end.spared) == ("5", (), 1)
    recipe, models = of("5@1 6@1 5@2 7@9", Aggregator("t:z"), quorum=2, grace=5, agree=2)
    end = end_of(await heard(recipe, models))
    assert (end.answer.text, end.losses, end.spared) == ("5", (), 1), "in the grace, seats may still agree"


@jumping
async def test_at_a_deadline_seats_that_have_not_begun_are_lost() -> None:
    recipe, models = of("5@1 6@9 7@1 8@1", Aggregator("t:z"), deadline=4, at_once=1)
    recipe = Recipe("r", recipe.layers, recipe.aggregator)
    events = await heard(recipe, models)
    end = end_of(events)
    assert [(loss.seat, loss.kind, loss.cause) for loss in end.losses] == [
        (seat, "cut_off", "timeout") for seat in (1, 2, 3)
    ]
    assert [event.seat for event in events if isinstance(event, ProposalFailed)] == [1, 2, 3]
    assert (end.spared, end.answered) == (0, 1)


@pytest.mark.parametrize(
    "rules", [{"agree": 2, "at_once": 1}, {"at_once": 2}, {"at_once": 7}, {"quorum": 2, "at_once": 1}]
)
@jumping
async def test_a_lost_seat_makes_room_for_the_next(rules: dict[str, Any]) -> None:
    recipe, models = of("!@1 5@1 !@2 5@1", Aggregator("t:z"), **rules)
    end = end_of(await heard(recipe, models))
    assert {loss.seat for loss in end.losses} == ({0, 2})
    assert end.answered == 2


@jumping
async def test_a_recipe_that_asks_no_aggregator_gives_its_time_to_the_proposers() -> None:
    recipe, models = of("5@9 5@9 6@9", FAIL, deadline=None)
    recipe = Recipe("r", recipe.layers, FAIL, deadline=10)
    assert end_of(await heard(recipe, models)).answer.text == "5"


@jumping
async def test_a_seat_that_ignores_its_end_is_left_behind_and_says_nothing() -> None:
    async def stubborn(request: Request, send: Send | None) -> Answer:
        for _ in range(20):
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                continue
        return Answer((Text("6"),))

    recipe, models = of("5@1 5@2 6@50", FAIL)
    end = end_of(await heard(recipe, models | {"t:2": stubborn}))
    assert (end.answer.text, end.spared) == ("5", 1)
    await asyncio.sleep(200)
