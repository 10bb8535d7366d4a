"""Holds as leases: whoever dies, sleeps or comes back, what is really paid never passes the cap of the day."""

import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import pytest

from partsong.store.sqlite import spending
from partsong.store.sqlite.schema import MIGRATIONS

DAY, LEASE = "2026-11-26", 20.0
CAPS = {"": Decimal(100)}


@dataclass
class Run:
    """A run: its hold, what of it has begun, and what it has really paid."""

    id: int
    held: int
    begun: int = 0
    paid: int = 0
    sleeps: bool = False


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for statement in (statement for migration in MIGRATIONS for statement in migration):
        connection.execute(statement)
    yield connection
    connection.close()


def amount(dollars: int) -> dict[str, Decimal]:
    return {"": Decimal(dollars)}


@pytest.mark.parametrize("seed", range(30))
def test_what_is_paid_never_passes_the_cap(seed: int, connection: sqlite3.Connection) -> None:
    chance = random.Random(seed)
    now, paid = 0.0, 0
    runs: list[Run] = []
    seen: set[str] = set()
    for _ in range(400):
        now += chance.choice((0.1, 1.0, 5.0, 15.0))
        spending.renew(connection, [run.id for run in runs if not run.sleeps], now, now + LEASE)
        match chance.choice(("hold", "begin", "begin", "pay", "pay", "settle", "sleep", "wake", "die")):
            case "hold":
                worst = chance.randint(1, 40)
                hold = spending.hold(connection, DAY, amount(worst), CAPS, now, now + LEASE)
                if hold is not None:
                    runs.append(Run(hold, worst))
            case "begin" if runs:
                run = chance.choice(runs)
                more = chance.randint(run.begun, run.held)
                if spending.begin(connection, run.id, amount(more), CAPS, now, now + LEASE):
                    run.begun = more
                    seen.add("woken" if run.sleeps else "begun")
                else:
                    seen.add("refused")
            case "pay" if runs:
                run = chance.choice(runs)
                dollars = chance.randint(0, run.begun - run.paid)
                run.paid += dollars
                paid += dollars
            case "settle" if runs:
                run = runs.pop(chance.randrange(len(runs)))
                spending.settle(connection, run.id, amount(run.paid))
            case "sleep" if runs:
                chance.choice(runs).sleeps = True
            case "wake" if runs:
                chance.choice(runs).sleeps = False
            case "die" if runs and chance.random() < 0.2:
                runs.pop(chance.randrange(len(runs)))
        assert paid <= CAPS[""]
        assert spending.left(connection, DAY, CAPS, now)[""] >= 0
    assert {"begun", "woken"} <= seen
