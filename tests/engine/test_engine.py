"""The engine: layers see their predecessors in seat order, losses are told, a run ends as the grammar says."""

import asyncio
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import partsong
from partsong import (
    Agent,
    Aggregator,
    Answer,
    Conversation,
    Image,
    Layer,
    Message,
    Model,
    ModelError,
    QuestionError,
    Recipe,
    RecipeError,
    Request,
    RunError,
    Sampling,
    Send,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    asking,
)
from partsong.bounds import DEFAULTS
from partsong.engine import perform
from partsong.engine.emitter import Emitter
from partsong.engine.performance import derived_seed
from partsong.events import (
    AggregationDelta,
    AnyEvent,
    LayerFinished,
    LayerStarted,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.middleware.window import Window
from partsong.model_info import ModelInfo
from partsong.providers.scripted import Scripted
from tests import grammar
from tests.clock import jumping


class Recorder:
    """A model that keeps what it was asked and answers with its name and the number of the call."""

    def __init__(self, name: str, pause: float = 0.0) -> None:
        self.name, self.pause, self.requests = name, pause, list[Request]()

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.requests.append(request)
        text = f"{self.name}#{len(self.requests)}"
        await asyncio.sleep(self.pause)
        if send is not None:
            await send(TextDelta(text))
        return Answer((Text(text),), usage=Usage(10, 2, dollars=Decimal("0.001")), model=self.name)


def mixture(*layers: str, aggregator: str = "t:z", **settings: object) -> Recipe:
    """A recipe from words: `mixture("a b", "a b")` has two layers of two agents."""
    made = tuple(Layer(tuple(Agent(f"t:{name}") for name in layer.split())) for layer in layers)
    return Recipe("test", made, Aggregator(aggregator), **settings)  # type: ignore[arg-type]


def scripted(*ids: str) -> dict[str, Model]:
    return {name: Scripted(name.removeprefix("scripted:")) for name in ids}


async def heard(
    recipe: Recipe, models: dict[str, Model], question: str | Conversation = "Why?", watch: bool = True
) -> list[AnyEvent]:
    events: list[AnyEvent] = []

    async def emit(event: AnyEvent) -> None:
        events.append(event)

    conversation = asking(question) if isinstance(question, str) else question
    await perform(recipe, conversation, models, emit, watch=watch)
    grammar.check(events)
    return events


async def test_every_layer_sees_all_of_the_one_before_in_seat_order() -> None:
    # The slowest sits in front: order must come from the seat, not from who finished first.
    models = {"t:a": Recorder("a", 0.02), "t:b": Recorder("b", 0.01), "t:c": Recorder("c"), "t:z": Recorder("z")}
    await heard(mixture("a b c", "a b c"), dict(models))
    question = Message("user", (Text("Why?"),))
    for name in "abc":
        first, second = models[f"t:{name}"].requests
        assert first.messages == (question,)
        assert second.messages[0] == question
        told = second.messages[1].text
        assert told.index("a#1") < told.index("b#1") < told.index("c#1")
    (final,) = models["t:z"].requests
    told = final.messages[-1].text
    assert told.index("a#2") < told.index("b#2") < told.index("c#2")
    assert "a#1" not in told


async def test_the_whole_conversation_and_the_system_prompt_reach_everybody() -> None:
    conversation = Conversation(
        (
            Message("system", (Text("Be brief."),)),
            Message("user", (Text("First?"),)),
            Message("assistant", (Text("One."),)),
            Message("user", (Text("Second?"),)),
        )
    )
    models = {"t:a": Recorder("a"), "t:z": Recorder("z")}
    await heard(mixture("a"), dict(models), conversation)
    assert models["t:a"].requests[0].messages == conversation.messages
    assert models["t:z"].requests[0].messages[:4] == conversation.messages


async def test_samples_are_seats_with_numbers_and_seeds_of_their_own() -> None:
    recipe = Recipe("self", (Layer((Agent("t:a", samples=3, seed=7, temperature=0.7),)),), Aggregator("t:a"))
    model = Recorder("a")
    events = await heard(recipe, {"t:a": model})
    assert LayerStarted(0, ("t:a", "t:a", "t:a")) in events
    assert [request.sample for request in model.requests[:3]] == [0, 1, 2]
    assert [request.sampling.seed for request in model.requests[:3]] == [7, 8, 9]
    assert model.requests[0].sampling.temperature == 0.7


@jumping  # in time that stands still, both runs' calls begin at the same moment
async def test_a_recipes_seed_reaches_every_seat_and_gives_the_same_transcript() -> None:
    ids = ["scripted:a", "scripted:b?tokens=7", "scripted:c"]
    recipe = Recipe("s", (Layer(tuple(Agent(name) for name in ids[:2])),) * 2, Aggregator(ids[2]), seed=5)
    first = await partsong.run(recipe, "Why?", scripted(*ids))
    second = await partsong.run(recipe, "Why?", scripted(*ids))
    assert first == second
    other = await partsong.run(partsong.recipe.replace(recipe, seed=6), "Why?", scripted(*ids))
    assert other.text != first.text
    assert derived_seed(5, 0, 0) != derived_seed(5, 0, 1) != derived_seed(5, 1, 0)
    assert 0 <= derived_seed(5, 0, 0) < 2**31


async def test_a_layer_that_partly_fails_goes_on_and_tells_its_losses() -> None:
    ids = ["scripted:a", "scripted:b?fail=billing", "scripted:c?fail=server&after=3&output=1000000"]
    recipe = Recipe("t", (Layer(tuple(Agent(name) for name in ids)),), Aggregator("t:z"))
    aggregator = Recorder("z")
    events = await heard(recipe, {**scripted(*ids), "t:z": aggregator})
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.seat, loss.cause) for loss in end.losses] == [(1, "billing"), (2, "server")]
    told = aggregator.requests[0].messages[-1].text
    assert "a:" in told
    assert "fail" not in told
    assert told.count("<proposal-") == 2  # once in the instruction, once around the one proposal that there is
    # The three words that the failing model said before it failed have cost a dollar each.
    assert end.usage.dollars == Decimal("3.001")


async def test_a_layer_that_fails_whole_ends_the_run_and_names_each_cause() -> None:
    ids = ["scripted:a?fail=auth", "scripted:b?fail=rate"]
    recipe = Recipe("t", (Layer(tuple(Agent(name) for name in ids)),), Aggregator("t:z"))
    aggregator = Recorder("z")
    events = await heard(recipe, {**scripted(*ids), "t:z": aggregator})
    end = events[-1]
    assert isinstance(end, RunFailed)
    assert end.error.cause == "no_proposals"
    assert "scripted:a?fail=auth" in end.error.message
    assert "scripted:b?fail=rate" in end.error.message
    assert not aggregator.requests
    with pytest.raises(RunError, match="every seat of layer 0 was lost") as caught:
        await partsong.run(recipe, "Why?", {**scripted(*ids), "t:z": aggregator})
    assert len(caught.value.transcript.losses) == 2


async def test_an_aggregator_that_fails_fails_the_run_and_its_words_are_kept() -> None:
    models = scripted("scripted:a", "scripted:z?fail=server&after=2&text=one two three")
    recipe = Recipe("t", (Layer((Agent("scripted:a"),)),), Aggregator(list(models)[1]))
    with pytest.raises(RunError) as caught:
        await partsong.run(recipe, "Why?", models)
    assert caught.value.transcript.text == "one two"
    assert caught.value.transcript.answer is None
    assert caught.value.transcript.usage.output_tokens == 22


async def test_an_answer_without_a_word_is_a_loss() -> None:
    models = {**scripted("scripted:a?text= &tokens=1"), "t:b": Recorder("b"), "t:z": Recorder("z")}
    recipe = Recipe("t", (Layer((Agent("scripted:a?text= &tokens=1"), Agent("t:b"))),), Aggregator("t:z"))
    end = (await heard(recipe, models))[-1]
    assert isinstance(end, RunFinished)
    assert [loss.cause for loss in end.losses] == ["empty"]


async def test_unwatched_proposers_get_no_listener_and_the_aggregator_still_streams() -> None:
    seen: dict[str, bool] = {}

    def model(name: str) -> Model:
        async def answer(request: Request, send: Send | None) -> Answer:
            seen[name] = send is not None
            return await Scripted(name)(request, send)

        return answer

    models = {"t:a": model("a"), "t:z": model("z")}
    events = await heard(mixture("a"), models, watch=False)
    assert seen == {"a": False, "z": True}
    assert not any(isinstance(event, ProposalDelta) for event in events)
    assert sum(isinstance(event, AggregationDelta) for event in events) == 20


async def test_a_single_model_is_a_recipe_without_layers() -> None:
    transcript = await partsong.run(partsong.single("scripted:a"), "Why?", scripted("scripted:a"))
    assert transcript.layers == []
    assert transcript.text.startswith("a:")


async def test_tools_are_the_aggregators_and_proposers_advise_in_words() -> None:
    conversation = Conversation(
        (
            Message("user", (Text("What is the time?"),)),
            Message("assistant", (ToolCall("1", "clock", '{"zone":"UTC"}'),)),
            Message("tool", (ToolResult("1", (Text("x" * 9000 + "noon"),)),)),
            Message("user", (Text("And in Rome?"),)),
            Message("assistant", (ToolCall("2", "clock", '{"zone":"Europe/Rome"}'),)),
            Message("tool", (ToolResult("2", (Text("one"),)),)),
        ),
        tools=(Tool("clock"),),
        tool_choice="auto",
        sampling=Sampling(max_tokens=5),
    )
    models = {"t:a": Recorder("a"), "t:z": Recorder("z")}
    await heard(mixture("a"), dict(models), conversation)
    advice, act = models["t:a"].requests[0], models["t:z"].requests[0]
    assert advice.tools == ()
    assert advice.sampling.max_tokens is None
    # Up to what the user said last: what has been done about it since is the aggregator's.
    assert [message.role for message in advice.messages] == ["system", "user", "assistant", "user", "user"]
    assert "- clock" in advice.messages[0].text
    assert advice.messages[-1].text == "And in Rome?"
    assert 'clock with {"zone":"UTC"}' in advice.messages[2].text
    assert "noon" in advice.messages[3].text
    assert "5,004 of 9,004 characters left out" in advice.messages[3].text
    assert act.tools == conversation.tools
    assert act.tool_choice == "auto"
    assert act.sampling.max_tokens == 5
    assert act.messages[:6] == conversation.messages


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        (asking(""), "empty"),
        (asking(" \n\t"), "empty"),
        (Conversation(()), "must end with a message of the user"),
        (Conversation((Message("user", (Text("?"),)), Message("assistant", (Text("!"),)))), "must end with"),
        (asking("x" * (DEFAULTS.question_characters + 1)), "characters"),
        (asking("word " * 1000), "reads 100"),
        (asking("What is this?", images=(Image(b"", "image/png"),)), "an image has neither"),
        (asking("What is this?", images=(Image(b"\x89PNG"),)), "an image has neither"),
    ],
)
async def test_a_question_that_cannot_be_sent_is_refused_before_anything_is_said(
    conversation: Conversation, reason: str
) -> None:
    proposer = Recorder("a")
    with pytest.raises(QuestionError, match=reason):
        await heard(
            mixture("a"), {"t:a": proposer, "t:z": Window(Recorder("z"), "t:z", ModelInfo(window=100))}, conversation
        )
    assert not proposer.requests


async def test_a_recipe_without_its_models_is_refused() -> None:
    with pytest.raises(RecipeError, match="no model for t:a, t:z"):
        await heard(mixture("a"), {})


async def test_a_proposer_whose_window_is_too_small_is_a_loss() -> None:
    small = Recorder("a")
    models: dict[str, Model] = {
        "t:a": Window(small, "t:a", ModelInfo(window=10)),
        "t:b": Recorder("b"),
        "t:z": Recorder("z"),
    }
    end = (await heard(mixture("a b"), models, "word " * 100))[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.seat, loss.cause) for loss in end.losses] == [(0, "window")]
    assert not small.requests


@jumping
async def test_the_quorum_waits_for_the_grace_and_then_cuts_off() -> None:
    ids = ["scripted:a", "scripted:b?first=0.02", "scripted:c?first=30"]
    layer = Layer(tuple(Agent(name) for name in ids), quorum=1, grace=0.1)
    recipe = Recipe("t", (layer,), Aggregator("scripted:a"))
    events = await heard(recipe, scripted(*ids))
    assert LayerFinished(0, 2) in events
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.seat, loss.cause) for loss in end.losses] == [(2, "cut_off")]


@jumping
async def test_a_layers_deadline_ends_the_layer() -> None:
    ids = ["scripted:a", "scripted:c?first=30"]
    layer = Layer(tuple(Agent(name) for name in ids), deadline=0.05)
    events = await heard(Recipe("t", (layer,), Aggregator("scripted:a")), scripted(*ids))
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.seat, loss.cause) for loss in end.losses] == [(1, "timeout")]
    assert "0.05 s" in end.losses[0].message


@jumping
async def test_a_seat_that_is_cut_while_the_listener_is_slow_has_begun() -> None:
    events: list[AnyEvent] = []

    async def slow_listener(event: AnyEvent) -> None:
        await asyncio.sleep(0.03)
        events.append(event)

    models = scripted("scripted:a", "scripted:z")
    layer = Layer((Agent("scripted:a", samples=4),), deadline=0.02)
    await perform(
        Recipe("t", (layer,), Aggregator("scripted:z?tokens=1")),
        asking("Why?"),
        {**models, **scripted("scripted:z?tokens=1")},
        slow_listener,
    )
    grammar.check(events)


@jumping
async def test_a_runs_deadline_leaves_the_aggregator_its_share() -> None:
    ids = ["scripted:a", "scripted:hung?first=30", "scripted:z?first=0.1"]
    layers = (Layer((Agent(ids[0]), Agent(ids[1]))),) * 2
    events = await heard(Recipe("t", layers, Aggregator(ids[2]), deadline=0.5), scripted(*ids))
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.layer, loss.seat, loss.cause) for loss in end.losses] == [(0, 1, "timeout"), (1, 1, "timeout")]


@jumping
async def test_a_runs_deadline_ends_a_hung_aggregator() -> None:
    ids = ["scripted:a", "scripted:hung?first=30"]
    recipe = Recipe("t", (Layer((Agent(ids[0]),)),), Aggregator(ids[1]), deadline=0.1)
    end = (await heard(recipe, scripted(*ids)))[-1]
    assert isinstance(end, RunFailed)
    assert end.error.cause == "timeout"


async def test_a_model_that_will_not_be_cancelled_does_not_hold_up_the_answer() -> None:
    released = asyncio.Event()

    async def stubborn(request: Request, send: Send | None) -> Answer:
        while not released.is_set():
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                await asyncio.wait([asyncio.ensure_future(released.wait())])
        return Answer((Text("too late"),))

    layer = Layer((Agent("scripted:a"), Agent("t:s")), quorum=1)
    events = await heard(Recipe("t", (layer,), Aggregator("scripted:a")), {**scripted("scripted:a"), "t:s": stubborn})
    released.set()
    assert isinstance(events[-1], RunFinished)
    await asyncio.sleep(0.01)


@jumping
async def test_cancelling_says_so_closes_every_call_and_passes_on() -> None:
    open_calls = 0

    async def slow(request: Request, send: Send | None) -> Answer:
        nonlocal open_calls
        open_calls += 1
        try:
            await asyncio.sleep(30)
        finally:
            open_calls -= 1
        raise AssertionError

    events: list[AnyEvent] = []

    async def emit(event: AnyEvent) -> None:
        events.append(event)

    task = asyncio.create_task(
        perform(mixture("a b"), asking("Why?"), dict.fromkeys(("t:a", "t:b", "t:z"), slow), emit)
    )
    await asyncio.sleep(0.01)
    assert open_calls == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_calls == 0
    grammar.check(events)
    end = events[-1]
    assert isinstance(end, RunFailed)
    assert end.error.cause == "cancelled"


async def test_leaving_a_stream_closes_every_call() -> None:
    models = scripted("scripted:a?tokens=100000", "scripted:b?first=30", "scripted:z")
    recipe = Recipe(
        "t", (Layer((Agent("scripted:a?tokens=100000"), Agent("scripted:b?first=30"))),), Aggregator("scripted:z")
    )
    before = asyncio.all_tasks()
    async with partsong.stream(recipe, "Why?", models) as events:
        async for event in events:
            if isinstance(event, ProposalDelta):
                break
    assert asyncio.all_tasks() == before


@jumping
async def test_a_stream_says_what_perform_says() -> None:
    models = scripted("scripted:a", "scripted:b")
    recipe = Recipe("t", (Layer((Agent("scripted:a"),)),), Aggregator("scripted:b"))
    async with partsong.stream(recipe, "Why?", models) as events:
        streamed = [event async for event in events]
    assert streamed == await heard(recipe, models)


async def test_a_fault_that_nobody_expected_is_not_swallowed() -> None:
    async def broken(request: Request, send: Send | None) -> Answer:
        raise ZeroDivisionError("by a user's own model")

    with pytest.raises(ZeroDivisionError):
        await heard(mixture("a b"), {"t:a": broken, "t:b": Recorder("b", 5), "t:z": Recorder("z")})

    async def streamed() -> None:
        async with partsong.stream(mixture("a"), "Why?", {"t:a": broken, "t:z": Recorder("z")}) as events:
            async for _ in events:
                pass

    with pytest.raises(ZeroDivisionError):
        await streamed()


async def test_listeners_hear_one_event_at_a_time_in_the_order_of_each_seat() -> None:
    speaking, most, order = 0, 0, list[AnyEvent]()

    async def slow_listener(event: AnyEvent) -> None:
        nonlocal speaking, most
        speaking += 1
        most = max(most, speaking)
        await asyncio.sleep(0)
        order.append(event)
        speaking -= 1

    models = scripted("scripted:a", "scripted:b", "scripted:c", "scripted:z")
    recipe = Recipe("t", (Layer(tuple(Agent(name) for name in list(models)[:3])),), Aggregator("scripted:z"))
    await perform(recipe, asking("Why?"), models, slow_listener)
    assert most == 1
    grammar.check(order)
    for seat in range(3):
        said = "".join(e.delta.text for e in order if isinstance(e, ProposalDelta) and e.seat == seat)  # type: ignore[union-attr]
        (finished,) = (e for e in order if isinstance(e, ProposalFinished) and e.seat == seat)
        assert finished.answer.text == said


async def test_a_speaker_that_leaves_while_it_waits_does_not_block_the_others() -> None:
    gate, spoken = asyncio.Event(), list[str]()

    async def listener(event: AnyEvent) -> None:
        if isinstance(event, ProposalDelta):
            await gate.wait()
            spoken.append(str(event.seat))

    say = Emitter(listener).say
    tasks = [asyncio.ensure_future(say(ProposalDelta(0, seat, TextDelta("x")))) for seat in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[3].cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait(tasks)
    assert spoken == ["0", "2"]


async def test_two_hundred_runs_at_once_do_not_mix() -> None:
    echo = {"scripted:a?echo=1": Scripted("a?echo=1"), "scripted:b?echo=1": Scripted("b?echo=1")}
    recipe = Recipe("t", (Layer((Agent("scripted:a?echo=1"),)),), Aggregator("scripted:b?echo=1"))
    runs = [partsong.run(recipe, f"canary-{number}.", echo, watch=True) for number in range(200)]
    for number, transcript in enumerate(await asyncio.gather(*runs)):
        assert transcript.proposals(0)[0].text == f"canary-{number}."
        assert transcript.text.count("canary-") == 1
        assert f"canary-{number}." in transcript.text


FATES = st.sampled_from(["", "rate", "auth", "server", "timeout"])


@settings(max_examples=150, deadline=None)
@given(
    layers=st.lists(st.lists(st.tuples(FATES, st.integers(0, 3)), min_size=1, max_size=4), min_size=0, max_size=3),
    aggregator=FATES,
    quorum=st.booleans(),
    watch=st.booleans(),
)
def test_whatever_fails_the_run_ends_by_the_grammar_and_counts_everything(
    layers: list[list[tuple[str, int]]], aggregator: str, quorum: bool, watch: bool
) -> None:
    price = "&input=1&output=3"
    made = tuple(
        Layer(
            tuple(
                Agent(f"scripted:s{seat}?fail={fate}&after={after}{price}") for seat, (fate, after) in enumerate(layer)
            ),
            quorum=1 if quorum else None,
            grace=5.0 if quorum else None,
        )
        for layer in layers
    )
    recipe = Recipe("t", made, Aggregator(f"scripted:z?fail={aggregator}{price}"))
    spent: list[Usage] = []

    def counted(name: str) -> Model:
        async def call(request: Request, send: Send | None) -> Answer:
            try:
                answer = await Scripted(name.removeprefix("scripted:"))(request, send)
            except ModelError as error:
                spent.append(error.usage or Usage(dollars=Decimal(0)))
                raise
            spent.append(answer.usage)
            return answer

        return call

    events = asyncio.run(heard(recipe, {name: counted(name) for name in recipe.models}, watch=watch))
    end = events[-1]
    assert isinstance(events[0], RunStarted)
    assert isinstance(end, RunFinished | RunFailed)
    dead = any(all(fate for fate, _ in layer) for layer in layers)
    assert isinstance(end, RunFailed) == (dead or bool(aggregator))
    assert end.usage.dollars == sum((usage.dollars or 0 for usage in spent), Decimal(0))
    failures = [event for event in events if isinstance(event, ProposalFailed)]
    assert [(loss.layer, loss.seat, loss.cause) for loss in end.losses] == [
        (event.layer, event.seat, event.error.cause) for event in failures
    ]
