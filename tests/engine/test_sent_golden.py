"""Recipes that use no later word send the same bytes as before the word came: digests of everything that runs send.

`tests/golden/sent.json` was written by `written()` with the code before layers could see parts, comment, or have
instructions of their own. Whoever changes a prompt on purpose writes the file anew and says so.
"""

import asyncio
import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from partsong import Agent, Aggregator, Answer, Conversation, Layer, Message, Recipe, Request, Send, Text, Usage, asking
from partsong.engine import perform
from partsong.errors import InputError
from partsong.events import AnyEvent
from partsong.model import Model, Tool, ToolCall, ToolResult
from partsong.model_info import ModelInfo
from partsong.recipes.finding import shipped

GOLDEN = Path(__file__).parents[1] / "golden" / "sent.json"
GENERATED = 2000
PART = 100  # generated recipes in one digest
TOOL = Tool("look", "It looks.\nAnd more.", b'{"type":"object"}')
TEXTS = ("One.", "Two\nlines.", "<proposal> {fence} {proposals}", '<call tool="look">{"a":1}</call> so', "Long. " * 400)


@dataclass(slots=True)
class Noting:
    """A model that notes what it is sent, and answers with a text that its name and the request decide."""

    name: str
    texts: tuple[str, ...]
    info: ModelInfo
    sent: list[bytes] = field(default_factory=list)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        sent = msgspec.json.encode((self.name, request.messages, request.tools, request.sampling, request.sample))
        self.sent.append(sent)
        number = int.from_bytes(hashlib.sha256(sent).digest()[:4], "big")
        return Answer((Text(self.texts[number % len(self.texts)]),), ("stop", "length")[number % 3 == 0], Usage(1, 1))


def conversation(chance: random.Random) -> Conversation:
    if chance.random() < 0.5:
        return asking("Why?", system=chance.choice(["", "Be kind."]))
    call = Message("assistant", (ToolCall("1", "look", "{}"),))
    result = Message("tool", (ToolResult("1", (Text("found"),)),))
    steps = (call, result) * chance.randrange(3)
    return Conversation((Message("user", (Text("Look it up."),)), *steps), tools=(TOOL,))


def recipe(chance: random.Random, number: int, *, writes: bool) -> Recipe:
    layers = []
    for index in range(chance.randrange(1, 4)):
        agents = [
            Agent(
                f"m:{index}-{agent}",
                chance.randrange(1, 4),
                temperature=chance.choice([None, 0.7]),
                seed=chance.choice([None, None, 5]),
                system=chance.choice(["", "", "You are a poet."]),
            )
            for agent in range(chance.randrange(1, 4))
        ]
        layers.append(Layer(tuple(agents)))
    return Recipe(
        f"r{number}",
        tuple(layers),
        Aggregator("m:last", method="synthesize" if writes else chance.choice(["synthesize", "select"])),
        layout=chance.choice(["tail", "paper"]),
        instruction=chance.choice([None, None, "Unite {fence}: {proposals} Now!", "Weigh:"]),
        fit=chance.choice(["truncate", "window"]),
        seed=chance.choice([None, 7]),
        advice=chance.choice(["user_turn", "every_step", "calls", 2]),
    )


def sent(made: Recipe, asked: Conversation, window: int | None, texts: tuple[str, ...]) -> bytes:
    """A digest of every request of a run."""
    models: Mapping[str, Model] = {name: Noting(name, texts, ModelInfo(window)) for name in made.models}

    async def hear(event: AnyEvent) -> None:
        pass

    try:
        asyncio.run(perform(made, asked, models, hear, watch=False))
    except InputError as refused:
        return str(refused).encode()
    noted = sorted(each for model in models.values() if isinstance(model, Noting) for each in model.sent)
    return hashlib.sha256(b"\n".join(noted)).digest()


def generated() -> Iterator[bytes]:
    chance = random.Random(18)
    for number in range(GENERATED):
        asked = conversation(chance)
        made = recipe(chance, number, writes=bool(asked.tools))
        window = chance.choice([None, None, None, 1500, 3000])
        texts = ("1", "2") if made.aggregator.method == "select" and chance.random() < 0.5 else TEXTS
        yield sent(made, asked, window, texts)


def written() -> dict[str, Any]:
    own = {each.name: sent(each, asking("Why?", system="Be kind."), None, TEXTS).hex() for each in shipped()}
    every = list(generated())
    parts = [hashlib.sha256(b"".join(every[start : start + PART])).hexdigest() for start in range(0, GENERATED, PART)]
    return {"shipped": own, "generated": parts}


def test_recipes_without_later_words_send_what_they_always_sent() -> None:
    assert written() == json.loads(GOLDEN.read_text(encoding="utf-8"))
