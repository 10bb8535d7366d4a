"""How many holds and calls a second one process writes to PostgreSQL: with group commit, and one transaction each.

    python -m benchmarks.replicas postgresql://…       # an empty database: its tables are filled

Both ways are measured alternately, so that a busy machine slows both. A request is a hold under a cap, the beginning of
a layer, a call that is kept, and the settling of the hold. SQLite is measured beside them, in a temporary file.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from partsong import Answer, Request, Text, asking
from partsong.call import Call, call_key
from partsong.store.backend import Backend
from partsong.store.postgres import database
from partsong.store.postgres.backend import Postgres
from partsong.store.sqlite.backend import SQLite

ROUNDS, REQUESTS, AT_ONCE = 5, 400, 64
CAP, AMOUNT = {"": Decimal(10**9), "lab": Decimal(10**9)}, {"": Decimal("0.01"), "lab": Decimal("0.01")}


async def request(backend: Backend, number: int) -> None:
    hold = await backend.hold(AMOUNT, CAP)
    assert hold is not None
    await backend.begin(hold, AMOUNT, CAP)
    asked = Request(asking(f"Question number {number}?").messages)
    call = Call(call_key("lab:a", asked), "lab:a", asked, Answer((Text("Because."),)), time.time(), 1.0)
    await backend.keep_call(call, words=True)
    await backend.settle(hold, AMOUNT)


async def measure(backend: Backend) -> float:
    """Requests a second."""
    numbers = iter(range(REQUESTS))

    async def work() -> None:
        for number in numbers:
            await request(backend, number)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return REQUESTS / (time.perf_counter() - began)


async def main(address: str) -> None:
    found: dict[str, list[float]] = {"group commit": [], "one transaction each": [], "SQLite": []}
    together = database.TOGETHER
    with tempfile.TemporaryDirectory() as folder:
        postgres, sqlite = Postgres(address), SQLite(Path(folder) / "s.db")
        await postgres.open()
        await sqlite.open()
        try:
            for _ in range(ROUNDS):
                for name, backend, most in (
                    ("group commit", postgres, together),
                    ("one transaction each", postgres, 1),
                    ("SQLite", sqlite, together),
                ):
                    database.TOGETHER = most
                    found[name].append(await measure(backend))
        finally:
            await postgres.close()
            await sqlite.close()
    for name, rates in found.items():
        print(f"{name}: {statistics.median(rates):,.0f} requests/s (from {min(rates):,.0f} to {max(rates):,.0f})")
    ratios = [one / other for one, other in zip(found["group commit"], found["one transaction each"], strict=True)]
    print(f"group commit is {statistics.median(ratios):.1f} times as fast")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
