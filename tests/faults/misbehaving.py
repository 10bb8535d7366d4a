"""Models that misbehave, each in its way, behind a real HTTP server: a model's name says how, `hung.c17.0.1`.

Whatever fails says `CANARY` first, if it can say anything at all: a prompt that holds it was built on failed text.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from partsong.errors import Cause
from tests.faults.speech import Chat, Messages, Wire, broken_off, well
from tests.upstream import HTML, NOTHING, RESET, SILENCE, Exchange, Piece, Reply, status

CANARY = "canary"
SAID = f"The {CANARY} sings and "  # before it fails


@dataclass(frozen=True)
class Fault:
    """How a model fails: `answer` is what its server does; `causes` are those that may be told for it.

    speaks: a stream of it brings `SAID` before it fails. once: asking again makes no sense, so nobody does. counted:
    it says how many tokens it has used. passes: the second call is answered well.
    """

    answer: Callable[[Wire], Reply]
    causes: tuple[Cause, ...]
    speaks: bool = False
    once: bool = False
    counted: bool = False
    passes: bool = False


def _in_a_date() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)


def _rejecting(answer: int, wait: Callable[[], str] | None = None, **error: Any) -> Callable[[Wire], Reply]:
    return lambda wire: status(answer, f"no {CANARY}", {"Retry-After": wait()} if wait else {}, **error)


def _breaking_off(*then: Callable[[Wire], bytes], end: str = "whole") -> Callable[[Wire], Reply]:
    return lambda wire: broken_off(wire, SAID, *(piece(wire) for piece in then), end=end)


def _pinging(wire: Wire) -> Reply:
    """A server that keeps the connection alive, and says nothing."""
    ping, pieces = b": ping\n\n" if wire.streamed else b"  ", list[Piece]()
    for number in range(60):
        pieces += (ping, later(number + 1))
    kind = "text/event-stream" if wire.streamed else "application/json"
    return Reply(tuple(pieces), content_type=kind, end="silence")


FAULTS: dict[str, Fault] = {
    "slow": Fault(lambda wire: well(wire, SAID, "stop", later(1000)), ("timeout",)),
    "pinging": Fault(_pinging, ("timeout",)),
    "silent": Fault(_breaking_off(end="silence"), ("timeout",), speaks=True),
    "hung": Fault(lambda wire: SILENCE, ("timeout",)),
    "401": Fault(_rejecting(401), ("auth",), once=True),
    "402": Fault(_rejecting(402), ("billing",), once=True),
    "429": Fault(_rejecting(429), ("rate",)),
    "429-seconds": Fault(_rejecting(429, lambda: "3"), ("rate",)),
    "429-date": Fault(_rejecting(429, _in_a_date), ("rate",)),
    "429-late": Fault(_rejecting(429, lambda: "25"), ("rate",)),
    "429-hour": Fault(_rejecting(429, lambda: "3600"), ("rate",), once=True),
    "429-passing": Fault(_rejecting(429, lambda: "3"), (), passes=True),
    "429-money": Fault(_rejecting(429, type="insufficient_quota"), ("billing",), once=True),
    "500": Fault(_rejecting(500), ("server",)),
    "503": Fault(_rejecting(503), ("server",)),
    "503-passing": Fault(_rejecting(503), (), passes=True),
    "reset": Fault(lambda wire: RESET, ("network",)),
    "reset-passing": Fault(lambda wire: RESET, (), passes=True),
    "closed": Fault(lambda wire: NOTHING, ("network",)),
    "reset-midway": Fault(_breaking_off(end="reset"), ("truncated",), speaks=True),
    "closed-midway": Fault(_breaking_off(end="close"), ("truncated",), speaks=True),
    "truncated": Fault(_breaking_off(), ("truncated", "server"), speaks=True),
    "page": Fault(lambda wire: HTML, ("server",)),
    "noise": Fault(lambda wire: Reply(f"{SAID}this is no JSON".encode()), ("server",)),
    "half-json": Fault(_breaking_off(lambda wire: wire.half()), ("server",), speaks=True),
    "error": Fault(_breaking_off(lambda wire: wire.problem()), ("server",), speaks=True),
    "empty": Fault(lambda wire: well(wire, ""), ("empty",), once=True, counted=True),
    "nothing": Fault(lambda wire: Reply(b""), ("empty",), once=True),
    "filtered": Fault(
        lambda wire: well(wire, SAID, "content_filter"), ("content_filter",), speaks=True, once=True, counted=True
    ),
    "filtered-before": Fault(_rejecting(400, code="content_filter"), ("content_filter",), once=True),
}
# A `tardy` model takes so many seconds to begin, and a `cut` one stops at its limit of tokens; both are well otherwise.
TARDY = 6.0


@dataclass(frozen=True)
class Call:
    """One request as it came, and when, by the running loop's clock."""

    name: str
    at: float
    body: str


class Stage:
    """Answers for the server: by the model's name, `FAULT.CELL.LAYER.SEAT`; `calls` holds what each cell asked."""

    def __init__(self) -> None:
        self.calls: dict[str, list[Call]] = defaultdict(list)

    def __call__(self, exchange: Exchange) -> Reply:
        asked = exchange.json
        name, streamed = asked["model"], bool(asked.get("stream"))
        wire = Messages(streamed) if exchange.path.endswith("/messages") else Chat(streamed)
        behaviour, cell, *_ = name.split(".")
        again = any(call.name == name for call in self.calls[cell])
        self.calls[cell].append(Call(name, asyncio.get_running_loop().time(), exchange.body.decode()))
        fault = FAULTS.get(behaviour)
        if fault is not None and not (fault.passes and again):
            return fault.answer(wire)
        finish = "length" if behaviour == "cut" else "stop"
        return well(wire, words_of(name), finish, *([later(TARDY)] if behaviour == "tardy" else []))


def words_of(name: str) -> str:
    """What the model of this name says if all is well."""
    return f"As far as I know, it is {'-'.join(name.split('.')[2:])}."


def later(seconds: float) -> asyncio.Event:
    """An event that is set in so many seconds."""
    due = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, due.set)
    return due
