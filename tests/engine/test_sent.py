"""What seats were sent, worked out from a run's events, is what they were sent."""

import random
from dataclasses import dataclass, field

import msgspec
import pytest

from partsong import Agent, Aggregator, Answer, Layer, Message, ModelError, Recipe, Request, Send, Text, Usage, asking
from partsong.engine.again import Changes
from partsong.engine.sent import Sent, plain, sent_in, shown
from partsong.events import AnyEvent
from partsong.model import Image, Sampling, ToolCall
from partsong.model_info import ModelInfo
from partsong.recipe import Analyst, Sees
from tests.engine import test_again, test_sent_golden
from tests.engine.test_analyst import FOUND, Says, heard, models

TEXTS = (*test_sent_golden.TEXTS, '<call tool="look">{"b":  2}</call>')


@dataclass(slots=True)
class Noting:
    """A model that keeps its requests, and answers with a text that its name and the request decide."""

    name: str
    info: ModelInfo = field(default_factory=ModelInfo)
    fails: bool = False
    asked: list[Request] = field(default_factory=list)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.asked.append(request)
        if self.fails:
            raise ModelError("it is down", "server")
        chance = random.Random(f"{self.name} {len(self.asked)} {request.sample}")
        return Answer((Text(chance.choice(TEXTS)),), chance.choice(("stop", "stop", "length")), Usage(7, 1))


def key(name: str, messages: tuple[Message, ...], sampling: Sampling) -> str:
    return msgspec.json.encode((name, messages, sampling)).decode()


def asked(known: dict[str, Noting]) -> list[str]:
    return sorted(key(name, each.messages, each.sampling) for name, model in known.items() for each in model.asked)


def told(sent: tuple[Sent, ...]) -> list[str]:
    return sorted(key(call.model, each.messages, each.sampling) for each in sent for call in each.calls)


def any_recipe(chance: random.Random) -> Recipe:
    """A recipe with parts, comments, own instructions, fallbacks, selection or an analyst, as far as it is one."""
    layers = []
    for index in range(chance.randrange(1, 4)):
        agents = tuple(
            Agent(
                f"m:{index}-{place}",
                chance.randrange(1, 4),
                temperature=chance.choice([None, 0.7]),
                seed=chance.choice([None, None, 5]),
                system=chance.choice(["", "", "You are a poet."]),
                instruction=chance.choice([None, None, "Improve on {proposals}"]) if index else None,
                fallback=(f"m:{index}-{place}-b",),
            )
            for place in range(chance.randrange(1, 4))
        )
        views: tuple[Sees, ...] = (1, 2, "none", "split")
        sees = chance.choice(views) if index and chance.random() < 0.5 else "all"
        comments = index > 0 and sees != "none" and chance.random() < 0.3
        layers.append(Layer(agents, sees=sees, comments=comments))
    try:
        return Recipe(
            "r",
            tuple(layers),
            Aggregator("m:z", method=chance.choice(["synthesize", "select"]), temperature=chance.choice([None, 0.1])),
            layout=chance.choice(["tail", "tail", "paper"]),
            seed=chance.choice([None, 3]),
            advice=chance.choice(["user_turn", "every_step", "calls"]),
            analyst=chance.choice([None, Analyst("m:an", system="Compare.")]),
        )
    except ValueError:
        return any_recipe(chance)


@pytest.mark.parametrize("seed", range(150))
async def test_what_is_worked_out_was_sent(seed: int) -> None:
    chance = random.Random(seed)
    recipe, conversation = any_recipe(chance), test_sent_golden.conversation(chance)
    if recipe.aggregator.method == "select":  # which calls no tools
        conversation = asking("Why?", system="Be kind.")
    if chance.random() < 0.5:
        conversation = msgspec.structs.replace(conversation, sampling=Sampling(top_p=0.5))
    known = {name: Noting(name, fails=chance.random() < 0.2 and not name.endswith("-b")) for name in recipe.models}
    known["m:z"].fails = False
    events, _ = await heard(recipe, known, conversation)
    sent = await sent_in(events)
    assert told(sent) == asked(known)
    for each in sent:
        assert await sent_in(events, (each.layer, each.seat)) == (each,)


async def test_the_steps_of_an_aggregator_are_told_one_by_one() -> None:
    layer = Layer((Agent("m:a"), Agent("m:b"), Agent("m:c"), Agent("m:d")))
    recipe = Recipe("r", (layer,), Aggregator("m:z"), fit="window")
    known = {name: Noting(name) for name in recipe.models}
    known["m:z"].info = ModelInfo(window=700, count=None)
    texts = {name: Says(f"{name} " + "and so on " * 60) for name in ("m:a", "m:b", "m:c", "m:d")}
    events, _ = await heard(recipe, {**known, **texts})
    sent = await sent_in(events, (1, 0))
    assert [each.step for each in sent] == [*range(1, len(sent)), 0]
    assert len(sent) > 1
    for each, request in zip(sent, known["m:z"].asked, strict=True):
        assert each.messages == request.messages or "shortened" in " ".join(each.notes)
        assert len(each.calls) == 1


async def test_an_analysis_is_in_what_the_aggregator_was_sent() -> None:
    known = models()
    recipe = Recipe("r", (Layer((Agent("m:a"), Agent("m:b"))),), Aggregator("m:z"), analyst=Analyst("m:an"))
    events, transcript = await heard(recipe, known)
    assert transcript.analysis is not None
    assert FOUND
    sent = {(each.layer, each.seat): each for each in await sent_in(events)}
    assert sent[1, 0].messages == known["m:z"].asked[0].messages
    assert sent[1, 1].messages == known["m:an"].asked[0].messages
    assert sent[1, 1].schema


async def test_seats_that_were_found_and_prompts_that_were_shortened_say_so() -> None:
    every = test_again.known(z=Says(error=test_again.DOWN), y=Says(error=test_again.DOWN))
    _, earlier = await heard(test_again.two_layers(), every)
    every = test_again.known()
    events, _ = await test_again.again(earlier, Changes(), every)
    notes = {(each.layer, each.seat): " ".join(each.notes) for each in await sent_in(events)}
    assert "found, perhaps in run earlier" in notes[0, 0]
    assert "found" not in notes[2, 0]
    short = test_again.known(z=Says(info=ModelInfo(window=300)), a=Says("word " * 900))
    events, _ = await heard(test_again.two_layers(), short)
    short = test_again.known(d=Says(info=ModelInfo(window=700)), a=Says("word " * 900))
    events, _ = await heard(test_again.two_layers(), short)
    (each,) = await sent_in(events, (1, 0))
    assert "the prompt was shortened from" in each.notes[0]


async def test_a_run_that_has_not_begun_was_sent_nothing() -> None:
    assert await sent_in([]) == ()
    events, _ = await heard(test_again.two_layers(), test_again.known())
    begun: list[AnyEvent] = events[:1]
    assert await sent_in(begun) == ()


def test_messages_for_people_have_words_for_pictures_and_tools() -> None:
    parts = (Image(b"abc", "image/png"), Image(url="https://x.test/a.png"), ToolCall("1", "look", "{}"), Text("Why?"))
    told = shown(Message("user", parts))
    assert told.role == "user"
    assert "[picture: image/png, 3 bytes]" in told.text
    assert "[picture: https://x.test/a.png]" in told.text
    assert "[called the tool look with {}]" in told.text
    assert told.text.endswith("Why?")
    assert told.tokens > 0


async def test_it_goes_to_json_with_tokens_and_settings() -> None:
    recipe = Recipe("r", (Layer((Agent("m:a", temperature=0.7),)),), Aggregator("m:z"), seed=1)
    known = {name: Noting(name) for name in recipe.models}
    events, _ = await heard(recipe, known, asking("Why?", system="Be kind."))
    first, last = (plain(each) for each in await sent_in(events))
    assert [each["role"] for each in first["messages"]] == ["system", "user"]
    assert first["sampling"] == {"temperature": 0.7, "seed": known["m:a"].asked[0].sampling.seed}
    assert first["calls"][0]["input_tokens"] == 7
    assert last["messages"][-1]["text"] == known["m:z"].asked[0].messages[-1].text
    msgspec.json.encode((first, last))
