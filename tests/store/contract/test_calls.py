"""Calls: found again by their key, and read for the throughput of models."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from partsong import Request
from partsong.errors import StoreError
from partsong.model import Terms, asking
from partsong.store import Store, Throughput, call_key
from partsong.store.backend import UnstorableError
from tests.store.contract.backends import Opening
from tests.store.samples import REQUEST, made


async def test_a_call_is_found_again_as_it_was(opening: Opening) -> None:
    call = made(Request(REQUEST.messages, sample=2, terms=Terms(until=9.0)), first=0.5)
    async with opening() as backend:
        assert await backend.find_answer(call.key) is None
        await backend.keep_call(call, words=True)
        assert await backend.find_answer(call.key) == call.answer
    async with opening() as backend:
        assert await backend.find_answer(call.key) == call.answer
        assert await backend.find_answer(b"another") is None
        later = made(call.request, "Because.")
        await backend.keep_call(later, words=True)
        assert await backend.find_answer(call.key) == later.answer


async def test_a_call_without_words_is_not_found_but_counts_for_the_throughput(opening: Opening) -> None:
    async with opening() as backend:
        await backend.keep_call(made(), words=False)
        assert await backend.find_answer(made().key) is None
        assert (await backend.throughputs(["lab:a"]))["lab:a"].tokens == 3


async def test_two_share_a_database(opening: Opening) -> None:
    async with opening() as one, opening() as other:
        calls = [made(Request(REQUEST.messages, sample=index)) for index in range(40)]
        await asyncio.gather(*((one, other)[call.request.sample % 2].keep_call(call, words=True) for call in calls))
        for call in calls:
            assert await one.find_answer(call.key) == await other.find_answer(call.key) == call.answer


async def test_what_cannot_be_stored_does_not_take_its_neighbours_with_it(opening: Opening) -> None:
    good, bad = made(), made(text="half a character: \ud800")
    async with opening() as backend:
        store = Store(backend, "full")
        kept = await asyncio.gather(
            *(store.keep_call(call) for call in (made(text="first"), bad, good)), return_exceptions=True
        )
        assert kept[0] is kept[2] is None
        assert isinstance(kept[1], UnstorableError)
        assert str(kept[1]).startswith(f"{backend.address}: this cannot be stored")
        assert await store.find_call(good.key) == good.answer
        await store.keep_call(good)  # the store itself has not failed


async def test_the_throughput_of_a_model_is_that_of_its_latest_calls(opening: Opening) -> None:
    async with opening() as backend:
        for index in range(30):  # the first ten were slow, and are long ago
            seconds = 100.0 if index < 10 else 6.5
            await backend.keep_call(made(started=float(index), seconds=seconds, first=0.5), words=True)
        await backend.keep_call(made(seconds=6.0, model="lab:b"), words=True)
        assert await backend.throughputs(["lab:a", "lab:b", "lab:c"]) == {
            "lab:a": Throughput(0.5, 2.0, 3),
            "lab:b": Throughput(None, 2.0, 3),
        }


KEEPER = """
import asyncio, sys
from pathlib import Path
from partsong import Answer, Request, Text, asking
from partsong.store import Call, call_key
from tests.store.contract.backends import opened

async def main():
    async with opened(sys.argv[1], Path(sys.argv[2])) as backend:
        async def keep(index):
            request = Request(asking("Why?").messages, sample=index)
            answer = Answer((Text(str(index)),))
            await backend.keep_call(Call(call_key("lab:a", request), "lab:a", request, answer, 0, 0), words=True)
            sys.stdout.write(f"{index}\\n")
            sys.stdout.flush()
        for start in range(0, 100_000, 5):
            await asyncio.gather(*(keep(start + more) for more in range(5)))
asyncio.run(main())
"""


async def test_a_call_that_was_kept_survives_the_death_of_its_process(
    name: str, opening: Opening, tmp_path: Path
) -> None:
    process = subprocess.Popen([sys.executable, "-c", KEEPER, name, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(137)]
    process.kill()
    said += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    kept = [int(line) for line in said if line.endswith("\n")]
    assert len(kept) >= 137
    async with opening() as backend:
        for index in kept:
            answer = await backend.find_answer(call_key("lab:a", Request(asking("Why?").messages, sample=index)))
            assert answer is not None
            assert answer.text == str(index)


# The life of a back end


async def test_a_back_end_that_is_closed_is_a_store_error(opening: Opening) -> None:
    async with opening() as backend:
        await backend.keep_call(made(), words=True)
    with pytest.raises(StoreError, match="the store is closed"):
        await backend.find_answer(made().key)
    with pytest.raises(StoreError, match="the store is closed"):
        await backend.keep_call(made(), words=True)
    with pytest.raises(StoreError, match="the store is closed"):
        await backend.prune(0.0)


def test_a_back_end_of_another_event_loop_is_a_store_error(opening: Opening) -> None:
    """Also if that loop was closed with the store open and a write under way: a caller must not wait for ever."""
    first = asyncio.new_event_loop()
    context = opening()
    backend = first.run_until_complete(context.__aenter__())

    async def begin() -> None:
        backend.keep_call(made(), words=True)

    first.run_until_complete(begin())
    first.close()

    async def use() -> None:
        with pytest.raises(StoreError, match="opened in another event loop"):
            await backend.find_answer(made().key)
        with pytest.raises(StoreError, match="opened in another event loop"):
            await backend.keep_call(made(), words=True)
        await backend.close()
        with pytest.raises(StoreError, match="the store is closed"):
            await backend.find_answer(made().key)

    asyncio.run(use())

    async def look() -> None:
        async with opening() as another:
            assert await another.find_answer(made().key) == made().answer

    asyncio.run(look())


async def test_writes_are_made_in_order_and_nobody_has_to_wait(opening: Opening) -> None:
    async with opening() as backend:
        for index in range(50):
            backend.keep_call(made(text=str(index)), words=True)
        answer = None
        while answer is None or answer.text != "49":
            answer = await backend.find_answer(made().key)
        for index in range(50):
            backend.keep_call(made(text=f"again {index}"), words=True)
    async with opening() as backend:  # closing wrote what was queued
        answer = await backend.find_answer(made().key)
        assert answer is not None
        assert answer.text == "again 49"
