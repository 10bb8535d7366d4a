"""The store on real files: calls are found again, runs come back as they happened, money is never given out twice."""

import asyncio
import datetime
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import partsong
from partsong import Agent, Aggregator, Answer, InputError, Layer, Message, Recipe, Request, Sampling, Text, Tool, Usage
from partsong.configuration import Configuration, Provider
from partsong.errors import StoreError
from partsong.events import AnyEvent, Failure, ProposalDelta, RunFailed, RunFinished, RunStarted
from partsong.middleware.cache import Cache
from partsong.model import Image, Reasoning, Terms, ToolCall, asking
from partsong.providers.scripted import Scripted
from partsong.store import Call, Store, Throughput, call_key, open_store
from partsong.store.sqlite.schema import MIGRATIONS
from tests.upstream import Server, chat

REQUEST = Request(asking("Why is the sky blue?").messages, sampling=Sampling(0.0))
RECIPE = Recipe(
    "duet", (Layer((Agent("scripted:a", samples=2), Agent("scripted:b?fail=server"))),), Aggregator("scripted:z")
)


def made(request: Request = REQUEST, text: str = "Rayleigh.", model: str = "lab:a", **fields: float) -> Call:
    answer = Answer((Text(text),), "length", Usage(7, 3, 2, 1, Decimal("0.000000123456789012345678")), "a-2026")
    return Call(call_key(model, request), model, request, answer, **{"started": 1e9, "seconds": 2.5, **fields})


def contents(path: Path) -> bytes:
    """Every value in the file, with what is deflated in plain; and the file's own bytes."""
    connection = sqlite3.connect(path)
    found = [file.read_bytes() for file in path.parent.iterdir()]
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for row in connection.execute(f"SELECT * FROM {table}").fetchall():
            for value in row:
                found.append(value if isinstance(value, bytes) else str(value).encode())
                if isinstance(value, bytes):
                    try:
                        found.append(zlib.decompress(value))
                    except zlib.error:
                        continue
    connection.close()
    return b"\n".join(found)


async def recorded(
    store: Store, recipe: Recipe = RECIPE, question: str = "Why?\nSay it."
) -> tuple[str, list[AnyEvent]]:
    """A run that was performed and recorded: its id, and what happened."""
    recorder, events = store.record(), []

    async def hear(event: AnyEvent) -> None:
        events.append(event)
        await recorder.hear(event)

    models = {name: Scripted(name.removeprefix("scripted:")) for name in recipe.models}
    await partsong.perform(recipe, asking(question), models, hear)
    await recorder.close()
    return recorder.id, events


# -- the key


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


# -- calls


async def test_a_call_is_found_again_as_it_was(tmp_path: Path) -> None:
    call = made(Request(REQUEST.messages, sample=2, terms=Terms(until=9.0)), first=0.5)
    async with open_store(tmp_path / "s.db") as store:
        assert await store.find_call(call.key) is None
        await store.keep_call(call)
        assert await store.find_call(call.key) == call.answer
    async with open_store(tmp_path / "s.db") as store:
        assert await store.find_call(call.key) == call.answer
        found = await store.find_whole_call(call.key)
        assert found is not None
        assert found.request == Request(REQUEST.messages, sample=2)
        assert (found.model, found.started, found.seconds, found.first) == ("lab:a", 1e9, 2.5, 0.5)
        assert await store.find_whole_call(b"another") is None
        later = made(call.request, "Because.")
        await store.keep_call(later)
        assert await store.find_call(call.key) == later.answer


async def test_stores_share_a_file(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as one, open_store(tmp_path / "s.db") as other:
        calls = [made(Request(REQUEST.messages, sample=number)) for number in range(40)]
        await asyncio.gather(*((one, other)[call.request.sample % 2].keep_call(call) for call in calls))
        for call in calls:
            assert await one.find_call(call.key) == await other.find_call(call.key) == call.answer


async def test_equal_prompts_are_stored_once(tmp_path: Path) -> None:
    messages = asking("word " * 20_000).messages
    async with open_store(tmp_path / "s.db") as store:
        await asyncio.gather(*(store.keep_call(made(Request(messages, sample=number))) for number in range(6)))
    assert contents(tmp_path / "s.db").count(b"word " * 20_000) == 1


async def test_what_cannot_be_stored_does_not_take_its_neighbours_with_it(tmp_path: Path) -> None:
    good, bad = made(), made(text="half a character: \ud800")
    async with open_store(tmp_path / "s.db") as store:
        kept = await asyncio.gather(
            *(store.keep_call(call) for call in (made(text="first"), bad, good)), return_exceptions=True
        )
        assert kept[0] is kept[2] is None
        assert isinstance(kept[1], StoreError)
        assert "s.db: this cannot be stored" in str(kept[1])
        assert await store.find_call(good.key) == good.answer
        await store.keep_call(good)  # the store itself has not failed


KEEPER = """
import asyncio, sys
from pathlib import Path
from partsong import Answer, Request, Text, asking
from partsong.store import Call, call_key, open_store

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        async def keep(number):
            request = Request(asking("Why?").messages, sample=number)
            answer = Answer((Text(str(number)),))
            await store.keep_call(Call(call_key("lab:a", request), "lab:a", request, answer, 0, 0))
            sys.stdout.write(f"{number}\\n")
            sys.stdout.flush()
        for number in range(0, 100_000, 5):
            await asyncio.gather(*(keep(number + at) for at in range(5)))
asyncio.run(main())
"""


async def test_a_call_that_was_kept_survives_the_death_of_its_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(tmp_path / "s.db")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(137)]
    process.kill()
    said += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    numbers = [int(line) for line in said if line.endswith("\n")]
    assert len(numbers) >= 137
    async with open_store(tmp_path / "s.db") as store:
        for number in numbers:
            answer = await store.find_call(call_key("lab:a", Request(asking("Why?").messages, sample=number)))
            assert answer is not None
            assert answer.text == str(number)


# -- the file


async def test_the_file_is_this_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "s.db"
    async with open_store(path) as store:
        await store.keep_call(made())
        files = list(path.parent.iterdir())
        assert len(files) > 1  # the log, too
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)} == {0o700}


async def test_a_file_has_the_newest_schema_and_can_shrink(tmp_path: Path) -> None:
    for _ in range(2):
        async with open_store(tmp_path / "s.db"):
            pass
    connection = sqlite3.connect(tmp_path / "s.db")
    asked = ("user_version", "auto_vacuum", "journal_mode")
    found = [connection.execute(f"PRAGMA {what}").fetchone()[0] for what in asked]
    connection.close()
    assert found == [len(MIGRATIONS), 2, "wal"]


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()


def foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE cookies (name)")
    connection.close()


def no_database(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (newer, "was written by a newer partsong .* use that one, or another file"),
        (foreign, "is another program's database"),
        (no_database, "is damaged .* move the file away"),
        (folder, "cannot be opened for writing"),
    ],
)
async def test_a_file_that_will_not_do_is_refused(tmp_path: Path, spoil: object, said: str) -> None:
    path = tmp_path / "s.db"
    async with open_store(path):
        pass
    assert callable(spoil)
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=f"s.db: .*{said}"):
        async with open_store(path):
            pass
    assert (path.read_bytes() if path.is_file() else None) == before


async def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be opened for writing: Not a directory"):
        async with open_store(tmp_path / "file" / "s.db"):
            pass


async def test_a_file_that_is_damaged_later_is_a_store_error(tmp_path: Path) -> None:
    path, call = tmp_path / "s.db", made(text="x" * 100_000)
    async with open_store(path) as store:
        await store.keep_call(call)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    async with open_store(path) as store:
        with pytest.raises(StoreError, match=r"s\.db: the store is damaged"):
            await store.find_call(call.key)
        assert "damaged" in str(store.problem)


async def test_a_store_that_another_process_locks_is_left_alone_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with open_store(path, patience=0.05) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"s\.db: another process keeps the store locked"):
            await store.keep_call(made())
        first = store.problem
        assert first is not None
        other.execute("ROLLBACK")
        other.close()
        with pytest.raises(StoreError) as caught:  # at once, though it would work now
            await store.keep_call(made())
        assert caught.value is first
        recorder = store.record()
        assert await store.runs() == []
        await recorder.close()


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file of this process may grow, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_without_room_never_breaks_a_run(tmp_path: Path, no_room: None) -> None:
    path = tmp_path / "s.db"
    async with open_store(path) as store:
        with pytest.raises(StoreError, match=r"s\.db: the store failed"):
            await store.keep_call(made(text=os.urandom(200_000).hex()))
        _, events = await recorded(store, question=os.urandom(200_000).hex())
        assert isinstance(events[-1], RunFinished)
        assert isinstance(store.problem, StoreError)


# -- the modes


async def test_metadata_has_no_words(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with open_store(path, "metadata") as store:
        await store.keep_call(made(text="SECRET"))
        assert await store.find_call(made().key) is None
        run, events = await recorded(store, question="Why SECRET?")
        stored = (await store.runs())[0]
        assert (stored.id, stored.mode, stored.question, stored.calls, stored.losses) == (run, "metadata", "", 4, 1)
        assert stored.recipe == "duet"
        with pytest.raises(InputError, match=r'without its words \(store = "metadata"\)'):
            await store.events(run)
        assert (await store.throughputs(["lab:a"]))["lab:a"].tokens == 3
    everything = contents(path)
    assert b"lab:a" in everything
    answer = events[-1]
    assert isinstance(answer, RunFinished)
    for words in (b"SECRET", b"Why", b"Rayleigh", answer.answer.text[:20].encode(), made().key):
        assert words not in everything


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


async def test_a_key_never_reaches_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-never-to-be-written-down"
    monkeypatch.setenv("PARTSONG_TEST_KEY", key)
    path = tmp_path / "s.db"
    recipe = Recipe("r", (Layer((Agent("lab:a"), Agent("lab:b"))),), Aggregator("lab:z"))
    async with Server(chat("Because of Rayleigh.")) as server, open_store(path) as store:
        lab = Provider("openai", f"{server.url}/v1", "PARTSONG_TEST_KEY")
        async with partsong.assemble(recipe.models, Configuration(providers={"lab": lab})) as models:
            recorder = store.record()
            cached = {name: Cache(model, name, store, {}) for name, model in models.items()}
            await partsong.perform(recipe, asking("Why?"), cached, recorder.hear)
            await recorder.close()
        assert {exchange.headers["Authorization"] for exchange in server.exchanges} == {f"Bearer {key}"}
        everything = contents(path)
    assert everything.count(b"Because of Rayleigh.") >= 4  # each call, and the run
    assert key.encode() not in everything
    assert b"Bearer" not in everything


# -- runs


async def test_a_run_comes_back_as_it_happened(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        run, events = await recorded(store)
    async with open_store(tmp_path / "s.db") as store:
        timed = await store.events(run)
        assert [event for _, event in timed] == events
        assert any(isinstance(event, ProposalDelta) for event in events)
        seconds = [second for second, _ in timed]
        assert seconds == sorted(seconds)
        assert seconds[0] == 0.0
        stored = await store.find_run(run)
        last = events[-1]
        assert isinstance(last, RunFinished)
        assert stored.started.tzinfo is datetime.UTC
        assert abs(datetime.datetime.now(datetime.UTC) - stored.started) < datetime.timedelta(minutes=5)
        assert stored.seconds == seconds[-1]
        assert (stored.status, stored.recipe, stored.model, stored.question) == (
            "finished",
            "duet",
            "scripted:z",
            "Why?",
        )
        assert (stored.calls, stored.stored, stored.losses, stored.cause) == (4, 0, 1, "")
        assert stored.tokens == last.usage.input_tokens + last.usage.output_tokens
        assert stored.dollars == last.usage.dollars


async def test_a_run_that_fails_or_is_left_is_recorded_as_failed(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        run, _ = await recorded(store, Recipe("r", (), Aggregator("scripted:z?fail=billing&after=3")))
        failed = await store.find_run(run)
        assert (failed.status, failed.cause, failed.calls) == ("failed", "billing", 1)
        hanging = asyncio.create_task(recorded(store, Recipe("r", (), Aggregator("scripted:z?first=60"))))
        while (await store.runs(1))[0].id == run:
            await asyncio.sleep(0.01)
        assert (await store.runs(1))[0].status == "open"
        hanging.cancel()
        await asyncio.wait([hanging])
        # Nobody closed that recorder: what it heard is written all the same.
        while (left := (await store.runs(1))[0]).status == "open":
            await asyncio.sleep(0.01)
        assert (left.status, left.cause) == ("failed", "cancelled")


async def test_a_run_under_way_is_there_with_all_that_was_said_until_then(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        _, events = await recorded(store)
        recorder = store.record("mine")
        for event in events[:-1]:
            await recorder.hear(event)
        while (newest := await store.find_run("last")).id != "mine" or len(await store.events("mine")) < len(
            events
        ) - 1:
            await asyncio.sleep(0.01)
        assert (newest.status, newest.calls, newest.model) == ("open", 3, "scripted:z")
        await recorder.close()
        again = store.record("mine")
        await again.hear(events[0])
        await again.close()
        assert [event for _, event in await store.events("mine")] == events[:1]


async def test_answers_from_the_store_are_no_calls(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        for _ in range(2):
            recorder = store.record()
            models = {name: Cache(Scripted(name[9:]), name, store, {}) for name in ("scripted:a", "scripted:z")}
            recipe = Recipe("r", (Layer((Agent("scripted:a", temperature=0),)),), Aggregator("scripted:z"))
            await partsong.perform(recipe, asking("Why?"), models, recorder.hear)
            await recorder.close()
        assert [(run.calls, run.stored) for run in await store.runs()] == [(1, 1), (2, 0)]


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


async def test_pruning_forgets_what_is_old_and_gives_the_room_back(tmp_path: Path) -> None:
    path, month = tmp_path / "s.db", datetime.timedelta(days=30)
    now = time.time()
    async with open_store(path) as store:
        big = asking(os.urandom(300_000).hex()).messages
        old, young = made(Request(big), started=0.0), made(started=now)
        both = made(Request(REQUEST.messages, sample=1), started=0.0)  # its prompt is young's as well
        for call in (old, young, both):
            await store.keep_call(call)
        run, _ = await recorded(store)
        assert (await store.prune(month)).calls == 2
        assert await store.find_call(old.key) is None
        assert await store.find_call(both.key) is None
        assert (await store.find_whole_call(young.key)) is not None
        assert (await store.find_run(run)).status == "finished"
        before = path.stat().st_size
        await store.keep_call(old)
        pruned = await store.prune(month)
        assert (pruned.runs, pruned.calls) == (0, 1)
        assert pruned.bytes > 250_000
        assert path.stat().st_size <= before
        everything = await store.prune(datetime.timedelta(seconds=-1))
        assert (everything.runs, everything.calls) == (1, 1)
        assert await store.runs() == []
        with pytest.raises(InputError):
            await store.events(run)
        await store.prune(datetime.timedelta(days=999_999_999))


# -- the money of a day


async def test_money_is_counted_exactly_and_per_scope(tmp_path: Path) -> None:
    caps = {"": Decimal("1.00"), "openai": Decimal("0.50"), "key:alice": Decimal(0)}
    async with open_store(tmp_path / "s.db") as store:
        assert await store.left(caps) == caps
        tenth = {"": Decimal("0.1"), "openai": Decimal("0.1")}
        first, second = await store.hold(tenth, caps), await store.hold(tenth, caps)
        assert first is not None
        assert second is not None
        assert first != second
        assert await store.left(caps) == {"": Decimal("0.80"), "openai": Decimal("0.30"), "key:alice": Decimal(0)}
        await store.settle(first, {"": Decimal("0.000000123"), "openai": Decimal("0.000000123")})
        await store.settle(first, {"": Decimal(99)})  # once is all that counts
        assert (await store.left(caps))[""] == Decimal("0.899999877")
        assert await store.hold({"": Decimal("0.1"), "openai": Decimal("0.41")}, caps) is None
        assert (await store.left(caps))[""] == Decimal("0.899999877")
        assert await store.hold({"openai": Decimal("0.399999877")}, caps) is not None  # to the last millionth
        assert (await store.left(caps))["openai"] == 0
    async with open_store(tmp_path / "s.db") as store:  # as after a crash: what was held stays held
        assert await store.left(caps) == {"": Decimal("0.899999877"), "openai": Decimal(0), "key:alice": Decimal(0)}


async def test_a_hold_that_its_caller_left_is_let_go(tmp_path: Path) -> None:
    caps = {"": Decimal(1)}
    async with open_store(tmp_path / "s.db") as store:
        holding = asyncio.create_task(store.hold(caps, caps))
        await asyncio.sleep(0)
        holding.cancel()
        await asyncio.wait([holding])
        assert holding.cancelled()
    async with open_store(tmp_path / "s.db") as store:
        assert await store.left(caps) == caps


HOLDER = """
import asyncio, sys
from decimal import Decimal
from pathlib import Path
from partsong.store import open_store

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        amounts = {"": Decimal("0.07")}
        held = await asyncio.gather(*(store.hold(amounts, {"": Decimal(1)}) for _ in range(10)))
        print(sum(hold is not None for hold in held))
asyncio.run(main())
"""


async def test_processes_cannot_overdraw_a_cap_together(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "s.db")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(process.communicate()[0]) for process in processes) == 14  # of 30: 14 times 0.07 is 0.98
    async with open_store(tmp_path / "s.db") as store:
        assert await store.left({"": Decimal(1)}) == {"": Decimal("0.02")}


# -- how fast models are


async def test_the_pace_of_a_model_is_that_of_its_last_calls(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        for number in range(30):  # the first ten were slow, and are long ago
            seconds = 100.0 if number < 10 else 6.5
            await store.keep_call(made(started=float(number), seconds=seconds, first=0.5, model="lab:a"))
        await store.keep_call(made(seconds=6.0, model="lab:b"))
        assert await store.throughputs(["lab:a", "lab:b", "lab:c"]) == {
            "lab:a": Throughput(0.5, 2.0, 3),
            "lab:b": Throughput(None, 2.0, 3),
        }
    assert Throughput(0.5, 2.0, 3).seconds(10) == 20.5
    assert Throughput(0.5, 2.0, 3).seconds() == 6.5


async def test_a_recorder_that_heard_of_no_beginning_writes_nothing(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        recorder = store.record()
        await recorder.hear(RunFailed(Failure("server", "no"), Usage()))
        await recorder.close()
        assert await store.runs() == []
