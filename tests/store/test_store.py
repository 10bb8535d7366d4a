"""What the store decides above its back end: keys of calls, modes, ids, and what happens after a failure."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from partsong import InputError, Message, Request, Sampling, Text, Tool
from partsong.errors import StoreError
from partsong.events import RunStarted
from partsong.model import Image, Reasoning, Terms, ToolCall, asking
from partsong.store import Store, call_key, open_store
from tests.clock import jumping
from tests.store.samples import RECIPE, REQUEST, made, recorded


def test_the_key_of_a_call_is_the_same_in_every_process_and_version() -> None:
    """If this fails, every call that anybody has stored is lost: then `KEY_VERSION` must grow, and it must be meant."""
    request = Request(
        (
            Message("system", (Text("Be brief."),)),
            Message("user", (Image(b"\x89PNG", "image/png"), Text("Why?"))),
            Message("assistant", (Reasoning("hm", "sig"), ToolCall("1", "look", '{"at": "sky"}'))),
        ),
        (Tool("look", "Look at it.", b'{"type": "object"}'),),
        "auto",
        b'{"type":"object"}',
        Sampling(0.0, 0.9, 100, 7, ("END",)),
        3,
    )
    assert call_key("lab:a", REQUEST).hex() == "dd694c3f572d115eab0c3cf71d4ed410248c19b1052284dba7253a91f114062c"
    assert call_key("lab:a", request).hex() == "b69382fd8eb94df3a1be9cd204b8d4a25e17ec1c5e0f0eda6278e62ba6ed4107"


def test_the_key_is_made_of_what_is_asked_and_of_nothing_else() -> None:
    def key(model: str = "lab:a", **changes: object) -> bytes:
        return call_key(model, Request(**{"messages": REQUEST.messages, **changes}))  # type: ignore[arg-type]

    def tool(parameters: bytes) -> tuple[Tool, ...]:
        return (Tool("look", "", parameters),)

    assert key() == key(terms=Terms(until=3.0, once=True, cache=False))
    assert key(sampling=Sampling(0)) == key(sampling=Sampling(0.0))
    assert key(tools=tool(b'{"a":1,"b":2}')) == key(tools=tool(b'{ "a": 1, "b": 2 }\n'))
    assert key(response_format=b'{"a":1}') == key(response_format=b'{"a" : 1}')
    others = [
        key(),
        key("lab:b"),
        key(messages=asking("Why is the sky black?").messages),
        key(sample=1),
        key(sampling=Sampling(0.0)),
        key(sampling=Sampling(seed=0)),
        key(tools=tool(b'{"a":1,"b":2}')),
        key(tools=tool(b'{"b":2,"a":1}')),  # a model writes its fields in the schema's order
        key(tools=tool(b"no JSON")),
        key(tool_choice="none"),
        key(response_format=b"{}"),
    ]
    assert len(set(others)) == len(others)


async def test_off_touches_no_file(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db", "off") as store:
        await store.keep_call(made())
        assert await store.find_call(made().key) is None
        await recorded(store)
        assert await store.runs() == []
        assert await store.throughputs(["lab:a"]) == {}
        hold = await store.hold({"": Decimal(1)}, {})
        assert hold is not None
        await store.settle(hold, {"": Decimal(1)})
        with pytest.raises(StoreError, match="a cap per day needs it"):
            await store.hold({"": Decimal(1)}, {"": Decimal(9)})
        with pytest.raises(StoreError, match="the store is off"):
            await store.find_run("last")
    assert list(tmp_path.iterdir()) == []


async def test_runs_are_found_by_what_their_id_begins_with(tmp_path: Path) -> None:
    start = RunStarted(RECIPE, asking("Why?"))
    async with open_store(tmp_path / "s.db") as store:
        with pytest.raises(InputError, match="no run is in the store yet"):
            await store.find_run("last")
        for name in ("k7abc", "k7abd", "m1"):
            recorder = store.record(name)
            await recorder.hear(start)
            await recorder.close()
        assert [run.id for run in await store.runs(2)] == ["m1", "k7abd"]
        assert (await store.find_run("last")).id == "m1"
        assert (await store.find_run("m")).id == "m1"
        assert (await store.find_run("k7abc")).id == "k7abc"
        with pytest.raises(InputError, match='2 runs begin with "k7": k7abd, k7abc; give more of the id'):
            await store.find_run("k7")
        with pytest.raises(InputError, match='no run "k7abx"; near it: k7abd, k7abc, m1'):
            await store.find_run("k7abx")
        with pytest.raises(InputError, match='no run ""'):
            await store.find_run("")
        with pytest.raises(InputError, match='no run "k9"'):
            await store.events("k9")


async def test_ids_are_short_and_sort_by_time(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db", "off") as store:
        ids = []
        for _ in range(20):
            ids.append(store.record().id)
            await asyncio.sleep(0.002)
    assert ids == sorted(ids)
    assert len(set(ids)) == 20
    assert {len(name) for name in ids} == {12}


@jumping
async def test_writes_that_fail_while_reads_fail_already_are_tried_again() -> None:
    """Reads may fail first: a server that shares its keys reads before each request."""

    class Broken:
        address, works, probed = "db", False, 0

        async def probe(self) -> None:
            self.probed += 1
            if not self.works:
                raise StoreError("gone")

        async def find_run(self, run: str) -> None:
            if not self.works:
                raise StoreError("gone")

    backend = Broken()
    store = Store(backend, "full")  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        await store.run("x")
    store.health.failed(StoreError("gone"), writing=True)
    await asyncio.sleep(7)
    assert backend.probed == 3
    backend.works = True
    await asyncio.sleep(2)
    assert store.health.failing is None
    assert await store.run("x") is None
    await store.close()
