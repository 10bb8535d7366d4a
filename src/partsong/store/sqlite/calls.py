"""Calls in the store: found again by their key, and read for how fast each model has been of late."""

import hashlib
import sqlite3
import statistics
import zlib
from collections.abc import Iterable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from partsong.call import Call
from partsong.model import Answer, Message, Request, Terms

RECENT = 20  # calls: enough for a median, few enough to follow a provider's day

_requests = msgspec.json.Decoder(Request)
_answers = msgspec.json.Decoder(Answer)
_messages = msgspec.json.Decoder(tuple[Message, ...])


class Throughput(Struct, frozen=True):
    """How fast a model is: seconds to its first token (`None`: never seen) and for each, and tokens that it writes."""

    first: float | None
    each: float
    tokens: int

    def seconds(self, tokens: int | None = None) -> float:
        """How long an answer of so many new tokens takes; of as many as usual, where nobody says."""
        return (self.first or 0.0) + self.each * (self.tokens if tokens is None else tokens)


def keep(connection: sqlite3.Connection, call: Call, *, words: bool) -> None:
    """Add a finished call; without its key (a digest of words) and texts where `words` are not to be kept."""
    prompt = request = answer = None
    if words:
        prompt = _prompt(connection, call.request.messages)
        request = msgspec.json.encode(replace(call.request, messages=(), terms=Terms()))
        answer = msgspec.json.encode(call.answer)
    usage = call.answer.usage
    connection.execute(
        "INSERT INTO calls VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            call.key if words else None,
            call.model,
            call.answer.model,
            call.started,
            call.seconds,
            call.first,
            usage.input_tokens,
            usage.output_tokens,
            None if usage.dollars is None else str(usage.dollars),
            call.answer.finish_reason,
            prompt,
            request,
            answer,
        ),
    )


def _prompt(connection: sqlite3.Connection, messages: tuple[Message, ...]) -> int | None:
    """The number of these messages, which are there once, however many calls were told them."""
    text = msgspec.json.encode(messages)
    digest = hashlib.sha256(text).digest()
    row = connection.execute("SELECT number FROM prompts WHERE digest = ?", (digest,)).fetchone()
    if row is not None:
        number: int = row[0]
        return number
    return connection.execute("INSERT INTO prompts VALUES (NULL, ?, ?)", (digest, zlib.compress(text, 1))).lastrowid


def find_answer(connection: sqlite3.Connection, key: bytes) -> Answer | None:
    """What was last answered to the call, if it is there and this version can read it."""
    row = connection.execute("SELECT answer FROM calls WHERE key = ? ORDER BY number DESC LIMIT 1", (key,)).fetchone()
    try:
        return None if row is None else _answers.decode(row[0])
    except msgspec.DecodeError:
        return None


def find_call(connection: sqlite3.Connection, key: bytes) -> Call | None:
    """The whole call that was last made with this key."""
    row = connection.execute(
        "SELECT model, request, messages, answer, started, seconds, first "
        "FROM calls JOIN prompts ON prompts.number = prompt WHERE key = ? ORDER BY calls.number DESC LIMIT 1",
        (key,),
    ).fetchone()
    if row is None:
        return None
    model, request, messages, answer, *times = row
    asked = replace(_requests.decode(request), messages=_messages.decode(zlib.decompress(messages)))
    return Call(key, model, asked, _answers.decode(answer), *times)


def throughputs(connection: sqlite3.Connection, models: Iterable[str]) -> dict[str, Throughput]:
    """How fast each model has been in its last calls; a model without any is absent."""
    found = {}
    for model in dict.fromkeys(models):
        rows = connection.execute(
            "SELECT seconds, first, output_tokens FROM calls WHERE model = ? AND output_tokens > 0 "
            "ORDER BY started DESC LIMIT ?",
            (model, RECENT),
        ).fetchall()
        if rows:
            found[model] = _pace(rows)
    return found


def _pace(rows: list[tuple[float, float | None, int]]) -> Throughput:
    """Medians: one call that hung or was cut short says little of the next."""
    streamed = [(seconds, first, tokens) for seconds, first, tokens in rows if first is not None]
    tokens = round(statistics.median(tokens for _, _, tokens in rows))
    if not streamed:
        return Throughput(None, statistics.median(seconds / tokens for seconds, _, tokens in rows), tokens)
    first = statistics.median(first for _, first, _ in streamed)
    return Throughput(
        first, statistics.median((seconds - first) / tokens for seconds, first, tokens in streamed), tokens
    )


def prune(connection: sqlite3.Connection, before: float, at_most: int) -> int:
    """Delete up to so many calls that began before then, and the prompts that no call needs; how many calls."""
    old = connection.execute("SELECT number, prompt FROM calls WHERE started < ? LIMIT ?", (before, at_most)).fetchall()
    connection.executemany("DELETE FROM calls WHERE number = ?", ((number,) for number, _ in old))
    connection.executemany(
        "DELETE FROM prompts WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM calls WHERE prompt = ?1)",
        {(prompt,) for _, prompt in old if prompt is not None},
    )
    return len(old)
