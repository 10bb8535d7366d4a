"""Long runs and calls: their bytes are made beside the writes of others, and everything is kept in order."""

import base64
import os
import zlib
from pathlib import Path

from partsong.events import AggregationStarted, CallFinished, Failure, RunFailed, RunStarted
from partsong.heavy import is_heavy
from partsong.model import NOTHING_USED, Answer, Conversation, Image, Message, Request, Text
from partsong.recipe import single
from partsong.store import Call, call_key, open_store
from partsong.store.encoding import pack_messages, unpack_events

PICTURE = Image(os.urandom(3_000_000), "image/png")
LONG = Conversation((Message("user", (PICTURE, Text("What is it?"))),))
END = RunFailed(Failure("cancelled", "it was stopped", None), NOTHING_USED, (), 0, 0)


async def test_the_events_of_a_long_run_are_kept_in_order(tmp_path: Path) -> None:
    assert is_heavy(LONG)
    async with open_store(tmp_path / "journal.db") as store:
        recorders = [store.record() for _ in range(3)]
        for recorder in recorders:
            await recorder.hear(RunStarted(single("x:y"), LONG, ()))
            recorder._save()
            await recorder.hear(AggregationStarted("x:y"))
            recorder._save()
            await recorder.hear(END)
        for recorder in recorders:
            await recorder.close()
            assert recorder.kept
            kept = [event for _, event in await store.events(recorder.id)]
            events = [event for event in kept if not isinstance(event, CallFinished)]  # which is worked out
            assert events == [RunStarted(single("x:y"), LONG, ()), AggregationStarted("x:y"), END]
    async with open_store(tmp_path / "journal.db") as store:
        assert len(await store.runs()) == 3


async def test_a_store_that_is_closed_at_once_keeps_a_long_run(tmp_path: Path) -> None:
    async with open_store(tmp_path / "journal.db") as store:
        recorder = store.record()
        await recorder.hear(RunStarted(single("x:y"), LONG, ()))
        await recorder.hear(END)
    async with open_store(tmp_path / "journal.db") as store:
        assert (await store.events(recorder.id))[-1][1] == END


async def test_long_calls_of_many_seats_are_found_again(tmp_path: Path) -> None:
    requests = [Request(LONG.messages, sample=sample) for sample in range(4)]
    async with open_store(tmp_path / "journal.db") as store:
        for request in requests:
            answer = Answer((Text(f"A cat, says {request.sample}."),))
            await store.keep_call(Call(call_key("x:y", request), "x:y", request, answer, 1.0, 1.0))
        for request in requests:
            found = await store.find_call(call_key("x:y", request))
            assert found is not None
            assert found.text == f"A cat, says {request.sample}."
    assert (tmp_path / "journal.db").stat().st_size < 3 * 4_000_000  # the messages are there once


def test_what_hardly_shrinks_is_not_deflated_and_read_all_the_same() -> None:
    random, plain = os.urandom(2 << 20).hex().encode().upper(), b"word " * (1 << 19)
    dense = base64.b64encode(os.urandom(2 << 20))
    assert len(pack_messages(dense)) >= len(dense)
    assert len(pack_messages(plain)) < len(plain) // 50
    for text in (random, plain, dense):
        assert zlib.decompress(pack_messages(text)) == text
    assert unpack_events([]) == []
