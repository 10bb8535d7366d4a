"""What the seats of a layer see, and comments: which proposals stand in which prompt, and what the events say of it."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import partsong
from partsong import (
    Agent,
    Aggregator,
    Answer,
    Conversation,
    Layer,
    ModelError,
    Recipe,
    Request,
    Send,
    Text,
    Usage,
    asking,
)
from partsong.engine import perform
from partsong.engine.performance import Proposal
from partsong.engine.table import Table
from partsong.errors import RunError
from partsong.events import AnyEvent, LayerFinished, ProposalStarted, RunFinished, from_json, to_builtins, to_json
from partsong.model import Model, Tool
from partsong.model_info import ModelInfo
from partsong.prompts import fence_word
from partsong.recipe import Sees
from partsong.transcript import Transcript
from tests import grammar

QUESTION = asking("Why is the sky blue?")


class Saying:
    """A model that answers with a text of its own for each seat, or fails; it notes the requests."""

    def __init__(self, says: str, info: ModelInfo | None = None, fails: frozenset[int] = frozenset()) -> None:
        self.says, self.info, self.fails = says, info or ModelInfo(), fails
        self.heard: dict[int, Request] = {}

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.heard[request.sample] = request
        if request.sample in self.fails:
            raise ModelError("it failed", "server")
        return Answer((Text(self.says.replace("#", str(request.sample))),), usage=Usage(1, 1))

    def prompt(self, seat: int | None = None) -> str:
        """The prompt of a seat, or of the only one that was asked last."""
        request = self.heard[max(self.heard)] if seat is None else self.heard[seat]
        return "\n".join(message.text for message in request.messages)


def proposers(count: int, **fields: Any) -> Layer:
    return Layer((Agent("t:a", count),), **fields)


def mixture(*layers: Layer, **fields: Any) -> Recipe:
    aggregator = fields.pop("aggregator", Aggregator("t:z", method=fields.pop("method", "synthesize")))
    return Recipe("r", layers, aggregator, **fields)


class Told:
    """A run that was heard to its end."""

    def __init__(self, models: Mapping[str, Saying]) -> None:
        self.models, self.events, self.transcript = models, list[AnyEvent](), Transcript()

    async def hear(self, event: AnyEvent) -> None:
        self.events.append(event)
        self.transcript.hear(event)

    @property
    def saw(self) -> dict[tuple[int, int], tuple[tuple[int, int], ...] | None]:
        return {(e.layer, e.seat): e.saw for e in self.events if isinstance(e, ProposalStarted)}


async def told(made: Recipe, asked: Conversation = QUESTION, **models: Saying) -> Told:
    """Perform the recipe. Each model `t:x` says "x" and its seat, so that prompts show who was read."""
    known = {name: models.get(name[2:], Saying(f"{name[2:]}-#.")) for name in made.models}
    heard, wanted = Told(known), dict[str, Model](known)
    await perform(made, asked, wanted, heard.hear)
    grammar.check(heard.events)
    return heard


def read(prompt: str, names: str = "a", seats: int = 40) -> list[tuple[str, int]]:
    """The answers that stand in a prompt, in their order."""
    found = [
        (re.search(rf"^(\d+\. )?{name}-{seat}\.", prompt, re.M), name, seat) for name in names for seat in range(seats)
    ]
    return [(name, seat) for _, name, seat in sorted((hit.start(), name, seat) for hit, name, seat in found if hit)]


@settings(max_examples=60, deadline=None)
@given(
    sees=st.one_of(st.sampled_from(["all", "none", "split"]), st.integers(1, 12)),
    before=st.integers(1, 9),
    seats=st.integers(1, 6),
    lost=st.frozensets(st.integers(0, 8), max_size=6),
    layout=st.sampled_from(["tail", "paper"]),
    seed=st.sampled_from([None, 0, 7]),
)
async def test_each_seat_reads_what_its_event_says(
    sees: Sees, before: int, seats: int, lost: frozenset[int], layout: Any, seed: int | None
) -> None:
    made = mixture(proposers(before), Layer((Agent("t:b", seats),), sees=sees), layout=layout, seed=seed)
    there = [seat for seat in range(before) if seat not in lost]
    if not there:
        return
    run = await told(made, a=Saying("a-#.", fails=lost))
    views = [read(run.models["t:b"].prompt(seat)) for seat in range(seats)]
    for seat, view in enumerate(views):
        saw = run.saw[1, seat]
        assert [(0, number) for _, number in view] == ([(0, each) for each in there] if saw is None else list(saw))
        assert (saw is None) == (len(view) == len(there))
        assert view == sorted(view)
        assert run.transcript.layers[1][seat].saw == saw
    match sees:
        case "all":
            assert all(len(view) == len(there) for view in views)
        case "none":
            assert not any(views)
            assert all(run.models["t:b"].heard[seat].messages == QUESTION.messages for seat in range(seats))
        case "split":
            assert sorted(number for view in views for _, number in view) == there
            assert max(map(len, views)) - min(map(len, views)) <= 1
        case int():
            assert {len(view) for view in views} == {min(sees, len(there))}
    # The aggregator reads the last layer, whatever that layer saw.
    assert read(run.models["t:z"].prompt(), "ab") == [("b", seat) for seat in range(seats)]
    assert all(event.saw is None for event in run.events if isinstance(event, ProposalStarted) and event.layer == 0)


def seen(
    sees: Sees, before: list[int], seats: int = 200, seed: int | None = None, layer: int = 1
) -> list[tuple[int, ...]]:
    answer = Answer((Text("a"),))
    table = Table(tuple(Proposal(seat, "t:a", answer) for seat in before))
    reading = Layer((Agent("t:b", seats),), sees=sees)
    return [tuple(before[each] for each in table.seen(reading, layer, seat, seed)) for seat in range(seats)]


def test_a_draw_is_the_same_in_every_run_and_another_for_each_seat_layer_and_seed() -> None:
    draws = seen(2, list(range(6)))
    assert draws == seen(2, list(range(6)))
    assert len(set(draws)) == 15  # all pairs come up
    assert draws != seen(2, list(range(6)), seed=1) != seen(2, list(range(6)), seed=2)
    assert draws != seen(2, list(range(6)), layer=2)
    counts = Counter(seat for draw in draws for seat in draw)
    assert all(40 <= counts[seat] <= 95 for seat in range(6)), counts  # 67 on average


def test_a_lost_proposal_changes_only_the_draws_that_it_would_have_been_in() -> None:
    whole, fewer = seen(3, list(range(7))), seen(3, [0, 1, 2, 4, 5, 6])
    assert any(3 in draw for draw in whole)
    for before, after in zip(whole, fewer, strict=True):
        assert after == before if 3 not in before else {*before} - {3} < {*after}


def test_more_than_there_are_is_all_and_fewer_proposals_than_seats_are_dealt_once() -> None:
    assert seen(9, [0, 2, 5], 3) == [(0, 2, 5)] * 3
    assert seen("split", [0, 2, 5], 5) == [(0,), (2,), (5,), (), ()]
    assert seen("split", [0, 1, 2, 3, 4], 2) == [(0, 2, 4), (1, 3)]


async def test_in_the_tail_every_reader_finds_a_proposal_under_its_number() -> None:
    run = await told(mixture(proposers(5), Layer((Agent("t:b", 2),), sees="split")))
    prompt = run.models["t:b"].prompt(1)
    word = fence_word(("a-1.", "a-3."))
    assert f"<proposal-{word} number=2>\na-1.\n</proposal-{word}>\n\n<proposal-{word} number=4>\na-3.\n" in prompt


async def test_in_the_papers_layout_the_numbers_of_each_view_begin_anew() -> None:
    run = await told(mixture(proposers(5), Layer((Agent("t:b", 2),), sees="split"), layout="paper"))
    assert run.models["t:b"].prompt(1).endswith("\n1. a-1.\n2. a-3.\nWhy is the sky blue?")


async def test_each_seat_is_shortened_for_its_own_view() -> None:
    long = Saying("a-#. " + "word " * 4000)
    run = await told(
        mixture(proposers(4), Layer((Agent("t:b", 2),), sees="split")), a=long, b=Saying("b-#.", ModelInfo(6000))
    )
    cuts = {(event.layer, event.seat): [cut.proposal for cut in event.cuts] for event in run.transcript.fitted}
    assert cuts == {(1, 0): [0, 2], (1, 1): [1, 3]}
    assert all(run.models["t:b"].prompt(seat).count("characters left out") == 2 for seat in (0, 1))


async def test_comments_stay_with_the_proposals_and_are_marked_as_comments() -> None:
    run = await told(mixture(proposers(2), Layer((Agent("t:c", 2),), comments=True)))
    commenter, prompt = run.models["t:c"].prompt(), run.models["t:z"].prompt()
    assert "Do not answer the user. Write comments on these proposals" in commenter
    assert read(commenter, "ac") == [("a", 0), ("a", 1)]
    assert read(prompt, "ac") == [("a", 0), ("a", 1), ("c", 0), ("c", 1)]
    word = fence_word(("a-0.", "a-1.", "c-0.", "c-1."))
    assert f"<proposal-{word} comment=2>\nc-1.\n</proposal-{word}>" in prompt
    assert prompt.index(f"<proposal-{word} number=2>") < prompt.index("commented on them") < prompt.index("comment=1>")
    assert "{fence}" not in prompt
    end = run.events[-1]
    assert isinstance(end, RunFinished)
    assert (end.planned, end.answered, end.losses) == (4, 4, ())


async def test_a_layer_after_comments_reads_both_and_replaces_both() -> None:
    critique = Layer((Agent("t:c"),), comments=True)
    run = await told(mixture(proposers(2), critique, critique, Layer((Agent("t:b", 2),))))
    assert read(run.models["t:c"].prompt(), "ac") == [("a", 0), ("a", 1), ("c", 0)]  # the second one reads the first
    assert run.models["t:b"].prompt().count("\nc-0.") == 2
    assert read(run.models["t:z"].prompt(), "abc") == [("b", 0), ("b", 1)]


async def test_a_seat_with_a_part_reads_the_comments_on_this_part() -> None:
    made = mixture(
        proposers(4),
        Layer((Agent("t:c", 4),), sees="split", comments=True),
        Layer((Agent("t:d"),), comments=True),
        Layer((Agent("t:b", 2),), sees="split"),
    )
    run = await told(made)
    assert [read(run.models["t:b"].prompt(seat), "acd") for seat in (0, 1)] == [
        [("a", 0), ("a", 2), ("c", 0), ("c", 2), ("d", 0)],
        [("a", 1), ("a", 3), ("c", 1), ("c", 3), ("d", 0)],
    ]
    assert run.saw[3, 1] == ((0, 1), (0, 3), (1, 1), (1, 3), (2, 0))
    assert run.saw[2, 0] is None
    assert "number=4>" in run.models["t:b"].prompt(1)
    assert "comment=5>" in run.models["t:b"].prompt(1)


async def test_a_seat_that_sees_nothing_sees_no_comments() -> None:
    critique = Layer((Agent("t:c"),), comments=True)
    run = await told(mixture(proposers(2), critique, Layer((Agent("t:b"),), sees="none")))
    assert run.models["t:b"].heard[0].messages == QUESTION.messages
    assert run.saw[2, 0] == ()


async def test_each_commenter_has_something_to_comment_on() -> None:
    run = await told(mixture(proposers(2), Layer((Agent("t:c", 5),), sees="split", comments=True)))
    assert [run.saw[1, seat] for seat in range(5)] == [((0, seat % 2),) for seat in range(5)]


@pytest.mark.parametrize("named", ["1", "2", "3", "4"])
async def test_only_proposals_are_selected(named: str) -> None:
    made = mixture(proposers(2), Layer((Agent("t:c", 2),), comments=True), method="select")
    run = await told(made, z=Saying(named))
    if named in "12":
        assert run.transcript.text == f"a-{int(named) - 1}."
        assert (run.transcript.layer, run.transcript.seat) == (0, int(named) - 1)
    else:
        assert run.transcript.error is not None
        assert run.transcript.error.cause == "invalid"
    assert read(run.models["t:z"].prompt(), "ac") == [("a", 0), ("a", 1), ("c", 0), ("c", 1)]


async def test_a_comment_is_no_last_resort() -> None:
    made = mixture(proposers(1), Layer((Agent("t:c", 5),), comments=True), last_resort="best_proposal")
    run = await told(made, a=Saying("Nothing alike."), c=Saying("The same."), z=Saying("", fails=frozenset({0})))
    assert run.transcript.last_resort
    assert (run.transcript.text, run.transcript.layer, run.transcript.seat) == ("Nothing alike.", 0, 0)


async def test_a_run_goes_on_without_comments_and_tells_the_losses() -> None:
    made = mixture(proposers(2), Layer((Agent("t:c", 2),), comments=True))
    run = await told(made, c=Saying("", fails=frozenset({0, 1})))
    assert run.transcript.text == "z-0."
    assert [(loss.layer, loss.seat, loss.kind) for loss in run.transcript.losses] == [
        (1, 0, "failed"),
        (1, 1, "failed"),
    ]
    assert LayerFinished(1, 0) in run.events
    without = await told(mixture(proposers(2)))
    assert run.models["t:z"].heard[0].messages == without.models["t:z"].heard[0].messages
    strict = await told(replace(made, strict=True), c=Saying("", fails=frozenset({1})))
    assert strict.transcript.error is not None


async def test_a_lost_layer_of_proposals_still_ends_the_run() -> None:
    run = await told(mixture(proposers(2), Layer((Agent("t:b"),), sees="none")), b=Saying("", fails=frozenset({0})))
    assert run.transcript.error is not None
    assert run.transcript.error.cause == "no_proposals"


async def test_comments_propose_no_tool_calls() -> None:
    tools = Conversation(QUESTION.messages, tools=(Tool("look", "It looks.", b'{"type":"object"}'),))
    made = mixture(proposers(2), Layer((Agent("t:c"),), comments=True), advice="calls")
    call = '<call tool="look">{"a":#}</call>'
    run = await told(made, tools, a=Saying(f"a-#. {call}"), c=Saying(f"c-#. {call}"))
    prompt = run.models["t:z"].prompt()
    assert "1. proposed by 1 of 2: look" in prompt
    assert "c-0. <call" in prompt
    assert "<call tool=" in run.models["t:a"].prompt()
    assert "You advise; you do not act." in run.models["t:c"].prompt()


@pytest.mark.parametrize("fit", ["window", "truncate"])
async def test_comments_are_read_in_steps_and_shortened_like_proposals(fit: Any) -> None:
    made = mixture(proposers(3), Layer((Agent("t:c", 2),), comments=True), fit=fit)
    words = "word " * 700
    run = await told(
        made, a=Saying(f"a-#. {words}"), c=Saying(f"c-#. {words}"), z=Saying("z.", ModelInfo(4000, max_tokens=100))
    )
    assert run.transcript.text == "z."
    last = run.models["t:z"].prompt()
    if fit == "truncate":
        assert {cut.proposal for event in run.transcript.fitted for cut in event.cuts} == {0, 1, 2, 3, 4}
        assert "number=3>" in last
    else:
        assert " draft>" in last
    assert "comment=2>" in last


NEW = "Do as I say, {fence}: {proposals}"


@pytest.mark.parametrize("comments", [False, True])
@pytest.mark.parametrize("layout", ["tail", "paper"])
@pytest.mark.parametrize("places", [(), ("recipe",), ("layer",), ("agent",), ("recipe", "layer"), ("layer", "agent")])
async def test_the_nearest_instruction_counts(places: tuple[str, ...], layout: Any, comments: bool) -> None:
    if comments and layout == "paper":
        return
    own = {place: f"Heed the {place}." for place in places}
    agents = (Agent("t:b", instruction=own.get("agent")), Agent("t:c"))
    layer = Layer(agents, comments=comments, instruction=own.get("layer"))
    made = mixture(proposers(2), layer, layout=layout, instruction=own.get("recipe"))
    run = await told(made)

    def heeded(model: str) -> list[str]:
        return [place for place in ("recipe", "layer", "agent") if f"Heed the {place}." in run.models[model].prompt()]

    outer = [place for place in ("recipe", "layer") if place in places and not (comments and place == "recipe")][-1:]
    assert heeded("t:b") == (["agent"] if "agent" in places else outer)
    assert heeded("t:c") == outer
    assert heeded("t:z") == [place for place in places if place == "recipe"]
    assert heeded("t:a") == []  # it reads no proposals


async def test_the_aggregators_own_instruction_counts_for_every_method() -> None:
    for method in ("synthesize", "select"):
        aggregator = Aggregator("t:z", method=method, instruction="Mine: {proposals} Now!")
        made = mixture(proposers(2), proposers(1), aggregator=aggregator, instruction="Theirs:")
        run = await told(made, z=Saying("1"))
        assert "Mine: <proposal-" in run.models["t:z"].prompt()
        assert "Theirs:" not in run.models["t:z"].prompt()
        assert "Theirs:" in run.models["t:a"].prompt(0)


def test_an_event_says_what_was_seen_only_where_it_is_not_all() -> None:
    assert to_builtins(ProposalStarted(1, 0, "t:a")) == {
        "event": "proposal_started",
        "layer": 1,
        "seat": 0,
        "model": "t:a",
    }
    assert from_json(to_json(ProposalStarted(1, 0, "t:a", ((0, 2),)))) == ProposalStarted(1, 0, "t:a", ((0, 2),))
    assert from_json(to_json(ProposalStarted(1, 0, "t:a", ()))) == ProposalStarted(1, 0, "t:a", ())


@pytest.mark.parametrize(
    ("layers", "fields", "message"),
    [
        ([{"sees": 2}], {}, r"layers\[0\].sees is given, but the first layer"),
        ([{"sees": "none"}], {}, r"layers\[0\].sees is given"),
        ([{"comments": True}], {}, r"layers\[0\].comments is true, but the first layer"),
        ([{}, {"comments": True}], {"layout": "paper"}, r'layers\[1\].comments is true, but the layout "paper"'),
        ([{}, {"comments": True, "sees": "none"}], {}, 'sees is "none", but a layer that comments'),
        ([{}, {"sees": 0}], {}, "sees is 0, but"),
        ([{}, {"sees": -1}], {}, "sees is -1, but"),
        ([{}, {"sees": 1001}], {}, "from 1 to 1000"),
        ([{}, {"instruction": " "}], {}, "instruction is empty"),
    ],
)
def test_what_cannot_be_seen_is_refused_by_name(layers: list[Any], fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixture(*(proposers(2, **words) for words in layers), **fields)


async def test_the_same_question_finds_the_calls_of_partial_views_in_the_store(tmp_path: Any) -> None:
    from partsong.store import open_store

    agent = Agent("scripted:a", 4, temperature=0)
    made = Recipe(
        "r",
        (Layer((agent,)), Layer((agent,), sees=2), Layer((Agent("scripted:b", 2, temperature=0),), comments=True)),
        Aggregator("scripted:z", temperature=0),
    )
    async with open_store(tmp_path / "s.db") as store, partsong.assemble(made.models, store=store) as models:
        first = await partsong.run(made, QUESTION, models)
        again = await partsong.run(made, QUESTION, models)
    assert not any(call.stored for call in first.calls[:4])
    assert all(call.stored for call in again.calls)
    assert [seat.saw for seat in first.layers[1]] == [seat.saw for seat in again.layers[1]]


async def test_a_run_that_loses_every_proposal_raises() -> None:
    made = Recipe("r", (Layer((Agent("scripted:a?fail=server"),)),), Aggregator("scripted:z"))
    async with partsong.assemble(made.models) as models:
        with pytest.raises(RunError):
            await partsong.run(made, QUESTION, models)


@pytest.mark.parametrize("said", ["42", "#"])
async def test_a_vote_is_taken_before_comments_are_written(said: str) -> None:
    critique = Layer((Agent("t:c", 2),), comments=True)
    made = mixture(proposers(3), critique, aggregator=Aggregator("t:z", method="vote"))
    run = await told(made, a=Saying(said))
    if said == "42":
        assert (run.transcript.text, run.transcript.layer, run.transcript.spared) == ("42", 0, 2)
        assert not run.models["t:c"].heard
        assert not run.models["t:z"].heard
    else:
        assert run.transcript.text == "z-0."
        assert read(run.models["t:z"].prompt(), "c") == [("c", 0), ("c", 1)]
    assert [count.layer for count in run.transcript.votes] == [0]


async def test_a_vote_counts_the_seats_that_propose_and_no_comment() -> None:
    critique = Layer((Agent("t:c", 5),), comments=True)
    made = mixture(proposers(2), critique, aggregator=Aggregator("t:z", method="vote", otherwise="select"))
    run = await told(made, a=Saying("#"), c=Saying("7"), z=Saying("2"))
    assert (run.transcript.text, run.transcript.layer, run.transcript.seat) == ("1", 0, 1)
    with pytest.raises(ValueError, match="agree is 2, but the layer writes comments"):
        Layer((Agent("t:c", 2),), comments=True, agree=2)
    with pytest.raises(ValueError, match="one seat, and a vote needs two"):
        mixture(proposers(1), critique, aggregator=Aggregator("t:z", method="vote"))


async def test_seats_that_begin_later_see_what_they_would_have_seen() -> None:
    layers = proposers(6), Layer((Agent("t:b", 4),), sees=2)
    whole = await told(mixture(*layers))
    at_once = await told(mixture(layers[0], replace(layers[1], at_once=1)))
    assert at_once.saw == whole.saw
