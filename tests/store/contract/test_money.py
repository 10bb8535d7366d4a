"""The money of a day: counted exactly, and never given out twice."""

import asyncio
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from partsong.store import Store
from tests.store.contract.backends import Opening


async def test_money_is_counted_exactly_and_per_scope(opening: Opening) -> None:
    caps = {"": Decimal("1.00"), "openai": Decimal("0.50"), "key:alice": Decimal(0)}
    async with opening() as backend:
        assert await backend.left(caps) == caps
        tenth = {"": Decimal("0.1"), "openai": Decimal("0.1")}
        first, second = await backend.hold(tenth, caps), await backend.hold(tenth, caps)
        assert first is not None
        assert second is not None
        assert first != second
        assert await backend.left(caps) == {"": Decimal("0.80"), "openai": Decimal("0.30"), "key:alice": Decimal(0)}
        await backend.settle(first, {"": Decimal("0.000000123"), "openai": Decimal("0.000000123")})
        await backend.settle(first, {"": Decimal(99)})  # only the first settling counts
        assert (await backend.left(caps))[""] == Decimal("0.899999877")
        assert await backend.hold({"": Decimal("0.1"), "openai": Decimal("0.41")}, caps) is None
        assert (await backend.left(caps))[""] == Decimal("0.899999877")
        assert await backend.hold({"openai": Decimal("0.399999877")}, caps) is not None  # to the last millionth
        assert (await backend.left(caps))["openai"] == 0
    async with opening() as backend:  # as after a crash: a hold stays
        assert await backend.left(caps) == {"": Decimal("0.899999877"), "openai": Decimal(0), "key:alice": Decimal(0)}


async def test_a_hold_that_its_caller_left_is_let_go(opening: Opening) -> None:
    caps = {"": Decimal(1)}
    async with opening() as backend:
        holding = asyncio.create_task(Store(backend, "full").hold(caps, caps))
        await asyncio.sleep(0)
        holding.cancel()
        await asyncio.wait([holding])
        assert holding.cancelled()
    async with opening() as backend:
        assert await backend.left(caps) == caps


async def test_of_a_hold_that_has_lapsed_only_what_has_begun_counts(opening: Opening) -> None:
    caps = {"": Decimal(10), "lab": Decimal(9)}
    whole = {"": Decimal(6), "lab": Decimal(5)}
    async with opening() as backend:
        hold = await backend.hold(whole, caps, 3600.0)
        assert hold is not None
        assert await backend.begin(hold, {"": Decimal(2), "lab": Decimal(1)}, caps, 3600.0)
        assert await backend.left(caps) == {"": Decimal(4), "lab": Decimal(4)}  # it lives: all of it counts
        assert await backend.begin(hold, {"": Decimal(2), "lab": Decimal(1)}, caps, 0.0)
        assert await backend.left(caps) == {"": Decimal(8), "lab": Decimal(8)}
        await backend.renew([hold], 3600.0)
        assert (await backend.left(caps))[""] == 8  # it has lapsed, and its money may have been taken
        assert await backend.begin(hold, {"": Decimal(3), "lab": Decimal(1)}, caps, 3600.0)
        assert (await backend.left(caps))[""] == 4  # nobody took it, so it lives again
    async with opening() as backend:
        assert (await backend.left(caps))[""] == 4
        await backend.settle(hold, {"": Decimal(1)})
        assert (await backend.left(caps))[""] == 9
        assert not await backend.begin(hold, {"": Decimal(1)}, caps)
        await backend.renew([hold])
        assert (await backend.left(caps))[""] == 9


async def test_a_hold_that_has_lapsed_must_find_its_money_anew(opening: Opening) -> None:
    caps = {"": Decimal(10)}
    async with opening() as backend:
        dead = await backend.hold({"": Decimal(8)}, caps, 0.0)
        assert dead is not None
        other = await backend.hold({"": Decimal(7)}, caps, 3600.0)
        assert other is not None
        assert not await backend.begin(dead, {"": Decimal(4)}, caps)
        assert (await backend.left(caps))[""] == 3
        assert await backend.begin(dead, {"": Decimal(3)}, caps, 3600.0)  # the rest of it is not there
        assert (await backend.left(caps))[""] == 0
        assert await backend.begin(dead, {"": Decimal(1)}, {}, 3600.0)  # less is always allowed
        assert (await backend.left(caps))[""] == 2
        await backend.settle(dead, {"": Decimal(1)})
        await backend.settle(other, {})
        assert (await backend.left(caps))[""] == 9


HOLDER = """
import asyncio, sys
from decimal import Decimal
from pathlib import Path
from tests.store.contract.backends import opened

async def main():
    async with opened(sys.argv[1], Path(sys.argv[2])) as backend:
        amounts = {"": Decimal("0.07")}
        held = await asyncio.gather(*(backend.hold(amounts, {"": Decimal(1)}, 3600.0) for _ in range(10)))
        print(sum(hold is not None for hold in held))
asyncio.run(main())
"""


async def test_processes_cannot_overdraw_a_cap_together(name: str, opening: Opening, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, name, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(process.communicate()[0]) for process in processes) == 14  # of 30: 14 times 0.07 is 0.98
    async with opening() as backend:
        assert await backend.left({"": Decimal(1)}) == {"": Decimal("0.02")}
