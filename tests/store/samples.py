"""Calls and runs to store, which several tests share."""

import sqlite3
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

import partsong
from partsong import Agent, Aggregator, Answer, Layer, Message, Recipe, Request, Sampling, Text, Usage
from partsong.events import AnyEvent
from partsong.model import asking
from partsong.providers.scripted import Scripted
from partsong.store import Call, Store, call_key

REQUEST = Request(asking("Why is the sky blue?").messages, sampling=Sampling(0.0))
RECIPE = Recipe(
    "duet", (Layer((Agent("scripted:a", samples=2), Agent("scripted:b?fail=server"))),), Aggregator("scripted:z")
)


def made(request: Request = REQUEST, text: str = "Rayleigh.", model: str = "lab:a", **fields: Any) -> Call:
    """A call that has ended."""
    answer = Answer((Text(text),), "length", Usage(7, 3, 2, 1, Decimal("0.000000123456789012345678")), "a-2026")
    return Call(call_key(model, request), model, request, answer, **{"started": 1e9, "seconds": 2.5, **fields})


async def recorded(
    store: Store, recipe: Recipe = RECIPE, question: str = "Why?\nSay it.", *, begins: bool = False
) -> tuple[str, list[AnyEvent]]:
    """Perform and record a run; its id and its events."""
    recorder, events = store.record(begins=begins), list[AnyEvent]()

    async def hear(event: AnyEvent) -> None:
        events.append(event)
        await recorder.hear(event)

    models = {name: Scripted(name.removeprefix("scripted:")) for name in recipe.models}
    await partsong.perform(recipe, asking(question), models, hear)
    await recorder.close()
    return recorder.id, events


def stored_call(path: Path, key: bytes) -> Call:
    """The latest call with this key, as its row in the SQLite file `path` has it."""
    connection = sqlite3.connect(path)
    model, request, messages, answer, *times = connection.execute(
        "SELECT model, request, messages, answer, started, seconds, first FROM calls "
        "JOIN prompts ON prompts.number = prompt WHERE key = ? ORDER BY calls.number DESC LIMIT 1",
        (key,),
    ).fetchone()
    connection.close()
    sent = msgspec.json.decode(zlib.decompress(messages), type=tuple[Message, ...])
    asked = replace(msgspec.json.decode(request, type=Request), messages=sent)
    return Call(key, model, asked, msgspec.json.decode(answer, type=Answer), *times)


def forget_calls(path: Path) -> None:
    """Make the runs in the SQLite file `path` those of an earlier version, which had no events for calls."""
    connection = sqlite3.connect(path)
    for run, number, piece in connection.execute("SELECT run, number, events FROM pieces").fetchall():
        lines = zlib.decompress(piece).splitlines(keepends=True)
        kept = b"".join(line for line in lines if b'"event":"call_finished"' not in line)
        connection.execute(
            "UPDATE pieces SET events = ? WHERE run = ? AND number = ?", (zlib.compress(kept), run, number)
        )
    connection.commit()
    connection.close()
