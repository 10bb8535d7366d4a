"""The cache over a real store: what was paid for once is not paid for again, and nobody fails by another's failure."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

import partsong
from partsong import (
    Agent,
    Aggregator,
    Answer,
    Conversation,
    Delta,
    Layer,
    Message,
    Model,
    ModelError,
    Reasoning,
    ReasoningDelta,
    Recipe,
    Request,
    Sampling,
    Send,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    asking,
    run,
)
from partsong.errors import StoreError
from partsong.middleware.cache import Cache, Flights
from partsong.model import NOTHING_USED, Caveat, Terms
from partsong.providers.scripted import Scripted
from partsong.store import Call, Store, call_key, open_store
from tests.store.samples import stored_call

USED = Usage(7, 3, dollars=Decimal("0.0012"))
ANSWER = Answer((Reasoning("Hm."), Text("Rayleigh."), ToolCall("1", "look", "{}")), "stop", USED, "a-2026")
COLD = Request(asking("Why?").messages, sampling=Sampling(0.0))
WARM = replace(COLD, sampling=Sampling(0.7))
DELTAS = [ReasoningDelta("Hm."), TextDelta("Rayleigh."), ToolCallDelta(0, "1", "look", "{}")]


class Counted:
    """A model that counts how often it is asked. Each call takes the next outcome, the last one again and again."""

    def __init__(self, *outcomes: Answer | ModelError, gate: asyncio.Event | None = None) -> None:
        self.outcomes, self.gate, self.calls = outcomes or (ANSWER,), gate, 0

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.calls += 1
        outcome = self.outcomes[min(self.calls, len(self.outcomes)) - 1]
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(outcome, ModelError):
            raise outcome
        if send is not None:
            await send(TextDelta("Ray"))
            await send(TextDelta("leigh."))
        return outcome


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "s.db") as store:
        yield store


async def turns() -> None:
    """Let everybody go on who can; the store's threads need a moment."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_a_stored_answer_is_given_again_marked_and_free(store: Store) -> None:
    model, heard = Counted(), list[Delta]()

    async def send(delta: Delta) -> None:
        heard.append(delta)

    cache = Cache(model, "lab:a", store, {})
    assert await cache(COLD, None) == ANSWER
    again = await cache(COLD, send)
    assert again == replace(ANSWER, usage=NOTHING_USED, stored=USED)
    assert heard == DELTAS
    assert await cache(COLD, None) == again  # however often
    assert model.calls == 1
    assert await Cache(model, "lab:b", store, {})(COLD, None) == ANSWER  # another model is another call
    assert model.calls == 2


@pytest.mark.parametrize(
    ("temperature", "allowed", "calls"),
    [(0, None, 1), (0.0, True, 1), (0.7, True, 1), (None, True, 1), (0.7, None, 2), (None, None, 2), (0, False, 2)],
)
async def test_when_a_stored_answer_will_do(
    store: Store, temperature: float | None, allowed: bool | None, calls: int
) -> None:
    request = replace(COLD, sampling=Sampling(temperature), terms=Terms(cache=allowed))
    model = Counted()
    cache = Cache(model, "lab:a", store, {})
    answers = [await cache(request, None) for _ in range(2)]
    assert model.calls == calls
    assert answers[1].usage == (USED if calls == 2 else NOTHING_USED)
    # Kept it is in any case: what is allowed may change.
    assert (await cache(replace(request, terms=Terms(cache=True)), None)).stored == USED
    assert model.calls == calls


async def test_the_samples_of_one_agent_stay_different_calls(store: Store) -> None:
    model = Counted()
    cache = Cache(model, "lab:a", store, {})
    for sample in range(3):
        await cache(replace(COLD, sample=sample), None)
    assert model.calls == 3


async def test_failures_are_never_kept_and_truncated_answers_are(store: Store) -> None:
    empty = Answer((Reasoning("Hm."), Text(" ")), "stop", USED)
    long = Answer((Text("And so on"),), "length", USED)
    model = Counted(ModelError("no", "server"), empty, long)
    cache = Cache(model, "lab:a", store, {})
    with pytest.raises(ModelError, match="no"):
        await cache(COLD, None)
    assert await cache(COLD, None) == empty
    assert await cache(COLD, None) == long
    assert (await cache(COLD, None)).finish_reason == "length"
    assert model.calls == 3


async def test_an_answer_with_caveats_is_never_given_again(store: Store) -> None:
    caveats = (Caveat("truncated", "it may be cut short"),)
    model = Counted(replace(ANSWER, caveats=caveats), ANSWER)
    cache = Cache(model, "lab:a", store, {})
    assert (await cache(COLD, None)).caveats == caveats
    assert await cache(COLD, None) == ANSWER
    assert (await cache(COLD, None)).stored == USED
    assert model.calls == 2


async def test_what_is_written_down_of_a_call(store: Store, tmp_path: Path) -> None:
    async def send(delta: Delta) -> None:
        await asyncio.sleep(0)

    cache = Cache(Counted(), "lab:a", store, {})
    streamed, plain = replace(WARM, sample=1), WARM
    await cache(streamed, send)
    await cache(plain, None)
    first, second = [stored_call(tmp_path / "s.db", call_key("lab:a", request)) for request in (streamed, plain)]
    assert (first.model, first.answer, first.request) == ("lab:a", ANSWER, streamed)
    assert first.first is not None
    assert 0 <= first.first <= first.seconds
    assert second.first is None
    assert first.started <= second.started


async def test_an_answer_is_kept_before_anyone_has_it() -> None:
    kept, release = list[Call](), asyncio.Event()

    class Slow:
        async def find_call(self, key: bytes) -> Answer | None:
            return None

        async def keep_call(self, call: Call) -> None:
            kept.append(call)
            await release.wait()

    asking_it = asyncio.create_task(Cache(Counted(), "lab:a", Slow(), {})(COLD, None))
    await turns()
    assert [call.answer for call in kept] == [ANSWER]
    assert not asking_it.done()
    release.set()
    assert await asking_it == ANSWER


async def test_the_same_call_at_the_same_moment_is_made_once(store: Store) -> None:
    model, heard, flights = Counted(gate=asyncio.Event()), list[Delta](), Flights()

    async def send(delta: Delta) -> None:
        heard.append(delta)

    caches = [Cache(model, "lab:a", store, flights) for _ in range(5)]
    callers = [asyncio.create_task(cache(COLD, send if number == 3 else None)) for number, cache in enumerate(caches)]
    apart = asyncio.create_task(caches[0](replace(COLD, terms=Terms(cache=False)), None))  # wants no other's answer
    await turns()
    assert model.gate is not None
    model.gate.set()
    answers = await asyncio.gather(*callers)
    assert answers[0] == await apart == ANSWER
    assert answers[1:] == [replace(ANSWER, usage=NOTHING_USED, stored=USED)] * 4
    assert heard == DELTAS
    assert model.calls == 2
    assert flights == {}


async def test_calls_that_may_not_be_stored_do_not_wait_for_each_other(store: Store) -> None:
    model = Counted(gate=asyncio.Event())
    cache = Cache(model, "lab:a", store, {})
    callers = [asyncio.create_task(cache(WARM, None)) for _ in range(3)]
    await turns()
    assert model.calls == 3
    assert model.gate is not None
    model.gate.set()
    assert await asyncio.gather(*callers) == [ANSWER] * 3


async def test_whoever_waits_takes_over_when_the_first_fails(store: Store) -> None:
    model, flights = Counted(ModelError("no", "server"), ANSWER, gate=asyncio.Event()), Flights()
    cache = Cache(model, "lab:a", store, flights)
    callers = [asyncio.create_task(cache(COLD, None)) for _ in range(3)]
    await turns()
    assert model.gate is not None
    model.gate.set()
    first, second, third = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(first, ModelError)
    assert second == ANSWER
    assert third == replace(ANSWER, usage=NOTHING_USED, stored=USED)
    assert model.calls == 2
    assert flights == {}


async def test_whoever_leaves_takes_nobody_along(store: Store) -> None:
    model, flights = Counted(gate=asyncio.Event()), Flights()
    cache = Cache(model, "lab:a", store, flights)
    leader, follower, heir, last = (asyncio.create_task(cache(COLD, None)) for _ in range(4))
    while model.calls < 1:
        await asyncio.sleep(0.001)
    follower.cancel()
    leader.cancel()
    while model.calls < 2:  # the heir's is under way
        await asyncio.sleep(0.001)
    assert leader.cancelled()
    assert follower.cancelled()
    assert model.gate is not None
    model.gate.set()
    assert await heir == ANSWER
    assert (await last).stored == USED
    assert flights == {}


async def test_a_leader_that_leaves_once_it_has_the_answer_leaves_it_to_the_others() -> None:
    keeping = asyncio.Event()

    class Stuck:
        async def find_call(self, key: bytes) -> Answer | None:
            return None

        async def keep_call(self, call: Call) -> None:
            keeping.set()
            await asyncio.Event().wait()

    model = Counted()
    cache = Cache(model, "lab:a", Stuck(), {})
    leader, follower = (asyncio.create_task(cache(COLD, None)) for _ in range(2))
    await keeping.wait()
    leader.cancel()
    assert (await follower).stored == USED
    assert model.calls == 1


async def test_a_store_that_fails_is_as_good_as_none() -> None:
    class Broken:
        async def find_call(self, key: bytes) -> Answer | None:
            raise StoreError("broken")

        async def keep_call(self, call: Call) -> None:
            raise StoreError("broken")

    model = Counted()
    cache = Cache(model, "lab:a", Broken(), {})
    assert await cache(COLD, None) == await cache(COLD, None) == ANSWER
    assert model.calls == 2


# -- a whole mixture


class Band:
    """Scripted models behind one store, and which of them were really asked."""

    def __init__(self, store: Store) -> None:
        self.store, self.flights, self.asked = store, Flights(), list[str]()

    async def play(self, recipe: Recipe) -> partsong.Transcript:
        self.asked.clear()
        models = {name: self.model(name) for name in recipe.models}
        return await partsong.run(recipe, "Why is the sky blue?", models)

    def model(self, name: str) -> Cache:
        scripted = Scripted(name.removeprefix("scripted:"))

        async def asked(request: Request, send: Send | None) -> Answer:
            self.asked.append(name)
            return await scripted(request, send)

        return Cache(asked, name, self.store, self.flights)


def mixture(aggregator: str, *, third: str = "scripted:c?input=1&output=2", layout: str = "tail") -> Recipe:
    one = Agent("scripted:a?input=1&output=2", samples=2, temperature=0.0)
    first = Layer((one, Agent("scripted:b?input=1&output=2", temperature=0.0)))
    second = Layer((one, Agent(third, temperature=0.0)))
    return partsong.Recipe("r", (first, second), Aggregator(aggregator, temperature=0.0), layout=layout)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", ["tail", "paper"])
async def test_another_aggregator_uses_all_layers_again(tmp_path: Path, layout: str) -> None:
    async with open_store(tmp_path / "s.db") as store:
        band = Band(store)
        whole = await band.play(mixture("scripted:y?input=1&output=2", layout=layout))
        assert len(band.asked) == 7
        assert whole.usage.dollars is not None
        assert whole.usage.dollars > 0
    async with open_store(tmp_path / "s.db") as store:  # another day
        band = Band(store)
        swapped = await band.play(mixture("scripted:z?input=1&output=2", layout=layout))
        assert band.asked == ["scripted:z?input=1&output=2"]
        for layer in range(2):
            before, now = whole.proposals(layer), swapped.proposals(layer)
            assert [answer.text for answer in before] == [answer.text for answer in now]
            assert len({answer.text for answer in now}) == 3  # two samples of one agent are two proposals
            assert [answer.stored for answer in now] == [answer.usage for answer in before]
        assert swapped.answer is not None
        assert swapped.usage == swapped.answer.usage  # nothing else was paid for

        await band.play(mixture("scripted:z?input=1&output=2", layout=layout))
        assert band.asked == []
        # Another voice in the second layer: the first is as it was, the aggregator reads something new.
        await band.play(mixture("scripted:z?input=1&output=2", third="scripted:d?input=1&output=2", layout=layout))
        assert band.asked == ["scripted:d?input=1&output=2", "scripted:z?input=1&output=2"]


async def test_two_runs_at_the_same_moment_pay_once(store: Store) -> None:
    band = Band(store)
    recipe = mixture("scripted:z?input=1&output=2")
    models = {name: band.model(name) for name in recipe.models}
    runs = await asyncio.gather(*(partsong.run(recipe, "Why is the sky blue?", models) for _ in range(2)))
    assert len(band.asked) == 7
    assert runs[0].text == runs[1].text
    paid = sum((run.usage for run in runs), NOTHING_USED)
    alone = await partsong.run(recipe, "Why is the sky blue?", {name: Scripted(name[9:]) for name in recipe.models})
    assert paid == alone.usage


async def test_within_a_turn_of_the_users_advice_is_asked_for_once(tmp_path: Path) -> None:
    """A coding agent's loop: the user asks, the aggregator calls tools, and each step would ask all proposers again."""
    asked: list[str] = []

    def counted(name: str) -> Model:
        async def model(request: Request, send: Send | None) -> Answer:
            asked.append(name)
            return Answer((Text(f"{name}{len(asked)}"),), usage=Usage(1, 1))

        return model

    layer = Layer((Agent("t:a", temperature=0.7), Agent("t:b", temperature=0.7)))
    recipe = Recipe("t", (layer, layer), Aggregator("t:z"))
    first = asking("Mend it.")
    step = Conversation(
        (
            *first.messages,
            Message("assistant", (ToolCall("1", "read", "{}"),)),
            Message("tool", (ToolResult("1", (Text("contents"),)),)),
        )
    )
    async with open_store(tmp_path / "s.db") as store:
        flights: Flights = {}
        models = {name: Cache(counted(name), name, store, flights) for name in recipe.models}
        await run(recipe, first, models)
        assert sorted(asked) == ["t:a", "t:a", "t:b", "t:b", "t:z"]
        after = await run(recipe, step, models)
        assert asked[5:] == ["t:z"]
        assert all(answer.stored is not None for answer in after.proposals(0))
        # The user's next turn is new, and so is the advice.
        await run(recipe, Conversation((*step.messages, *asking("And now?").messages)), models)
        assert sorted(asked[6:]) == ["t:a", "t:a", "t:b", "t:b", "t:z"]
