"""Runs that were stored before calls were events: read, and shown as any other run."""

from decimal import Decimal
from pathlib import Path

import pytest

from partsong.events import AnyEvent, CallFinished, RunFinished, from_json
from partsong.model import Usage
from partsong.store import Timed, open_store
from partsong.store.document import as_json, plain
from partsong.store.earlier import with_calls
from tests import grammar
from tests.store.samples import forget_calls, recorded
from tests.store.test_recorder import FAILURES

# A run as an earlier version wrote it, seconds and events: a seat that was replaced, an aggregation in steps.
WRITTEN = """\
0.0 {"event":"run_started","recipe":{"name":"r","layers":[{"agents":[{"model":"t:a","fallback":["t:b"]}]}],\
"aggregator":{"model":"t:z"}},"conversation":{"messages":[{"role":"user","parts":[{"type":"text","text":"Why?"}]}]}}
0.0 {"event":"layer_started","layer":0,"models":["t:a"]}
0.5 {"event":"proposal_started","layer":0,"seat":0,"model":"t:a"}
1.5 {"event":"proposal_replaced","layer":0,"seat":0,"model":"t:b","error":{"cause":"rate","message":"too many"},\
"usage":{"input_tokens":3,"output_tokens":1}}
2.0 {"event":"proposal_delta","layer":0,"seat":0,"delta":{"type":"text","text":"So."}}
2.5 {"event":"proposal_finished","layer":0,"seat":0,"answer":{"parts":[{"type":"text","text":"So."}],\
"usage":{"input_tokens":5,"output_tokens":2}},"model":"t:b"}
2.5 {"event":"layer_finished","layer":0,"answered":1}
2.5 {"event":"aggregation_started","model":"t:z"}
3.5 {"event":"aggregation_step","proposals":[0],"tokens":9,"answer":{"parts":[{"type":"text","text":"A draft."}],\
"usage":{"input_tokens":8,"output_tokens":4}}}
5.0 {"event":"run_finished","answer":{"parts":[{"type":"text","text":"Yes."}],"usage":{"input_tokens":0,\
"output_tokens":0,"dollars":"0"},"stored":{"input_tokens":6,"output_tokens":2}},"usage":{"input_tokens":16,\
"output_tokens":7},"model":"t:z","planned":1,"answered":1}
"""


def earlier() -> list[Timed]:
    pairs = [line.split(" ", 1) for line in WRITTEN.splitlines()]
    return [(float(seconds), from_json(event)) for seconds, event in pairs]


def calls_of(events: list[AnyEvent]) -> list[CallFinished]:
    return [event for event in events if isinstance(event, CallFinished)]


def outcome(call: CallFinished) -> tuple[int, int, str, str, bool]:
    """What became of a call. That a ranker has named no proposal is a loss of its seat, and no error of its call."""
    cause = "" if call.error is None or call.error.cause == "invalid" else call.error.cause
    return call.layer, call.seat, call.model, cause, call.stored


def test_each_call_of_an_earlier_run_is_worked_out_from_its_seat() -> None:
    events = with_calls(earlier())
    grammar.check([event for _, event in events])
    first, second, draft, last = [(seconds, event) for seconds, event in events if isinstance(event, CallFinished)]
    assert first[0] == 1.5
    assert (first[1].model, first[1].started, first[1].seconds, first[1].usage) == ("t:a", 0.5, 1.0, Usage(3, 1))
    assert first[1].error is not None
    assert first[1].error.cause == "rate"
    assert second[1] == CallFinished(0, 0, "t:b", 1.5, 1.0, Usage(5, 2))
    assert draft[1] == CallFinished(1, 0, "t:z", 2.5, 1.0, Usage(8, 4))
    assert last[1] == CallFinished(1, 0, "t:z", 3.5, 1.5, Usage(dollars=Decimal(0)), stored=True)
    assert [event for event in events if not isinstance(event[1], CallFinished)] == earlier()


def test_the_calls_of_a_run_that_is_read_while_it_goes_on_do_not_change_later() -> None:
    whole = with_calls(earlier())
    for count in range(len(earlier())):
        part = with_calls(earlier()[:count])
        assert part == whole[: len(part)]


@pytest.mark.parametrize("what", sorted(FAILURES.keys() - {"a price is unknown"}))  # its model is not scripted
async def test_an_earlier_run_reads_like_a_new_one(tmp_path: Path, what: str) -> None:
    async with open_store(tmp_path / "s.db") as store:
        run, events = await recorded(store, FAILURES[what])
        forget_calls(tmp_path / "s.db")
        found = [event for _, event in await store.events(run)]
        assert [event for event in found if not isinstance(event, CallFinished)] == [
            event for event in events if not isinstance(event, CallFinished)
        ]
        assert sorted(map(outcome, calls_of(found))) == sorted(map(outcome, calls_of(events)))
        end = events[-1]
        if isinstance(end, RunFinished) and not end.last_resort:
            assert sum((call.usage for call in calls_of(found) if call.usage), Usage(dollars=Decimal(0))) == end.usage


async def test_a_new_run_is_read_as_it_is(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        run, events = await recorded(store, FAILURES["models are replaced"])
        timed = await store.events(run)
        assert [event for _, event in timed] == events
        assert with_calls(timed) is timed


async def test_the_document_of_a_run_lists_the_calls_of_each_seat(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        run, events = await recorded(store, FAILURES["the aggregator fails in mid-answer"])
        document = as_json(plain(await store.find_run(run)), await store.events(run))
    (layer,) = document["layers"]
    seats = [*layer["seats"], document["aggregator"]]
    assert [[call["model"] for call in seat["calls"]] for seat in seats] == [[call.model] for call in calls_of(events)]
    assert [call["usage"] for seat in seats for call in seat["calls"]] == [seat["usage"] for seat in seats]
    assert sum(seat["usage"]["output_tokens"] for seat in seats) == document["usage"]["output_tokens"]
    assert document["aggregator"]["calls"][0]["error"]["cause"] == "server"
    assert document["aggregator"]["usage"]["input_tokens"] > 0


def test_the_document_of_an_earlier_run_adds_up_the_calls_of_a_seat() -> None:
    document = as_json({}, with_calls(earlier()))
    (seat,) = document["layers"][0]["seats"]
    assert [(call["model"], call["started"], call["seconds"]) for call in seat["calls"]] == [
        ("t:a", 0.5, 1.0),
        ("t:b", 1.5, 1.0),
    ]
    assert (seat["usage"]["input_tokens"], seat["usage"]["output_tokens"]) == (8, 3)
    assert document["aggregator"]["stored"]["input_tokens"] == 6
    assert [call["stored"] for call in document["aggregator"]["calls"]] == [False, True]
