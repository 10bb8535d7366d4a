"""The fault matrix: whatever fails wherever, the run ends in time, answers if it can, and says what it lost and why."""

from dataclasses import replace
from itertools import pairwise

import pytest

from partsong.events import AggregationStarted, RunFailed, RunFinished
from tests import grammar
from tests.faults.cells import DEADLINE, Cell, Performed, Place, perform_all
from tests.faults.misbehaving import CANARY, FAULTS, SAID, words_of

HANGING = ("slow", "pinging", "silent", "hung")
SLIP = 0.01  # seconds: what a callback may come late in time that jumps
PLACES = {
    "one": Place((3,), frozenset({(0, 1)})),
    "all-but-one": Place((3,), frozenset({(0, 0), (0, 2)})),
    "all": Place((3,), frozenset({(0, 0), (0, 1), (0, 2)})),
    "aggregator": Place((3,), frozenset({(1, 0)})),
    "everybody": Place((3,), frozenset({(0, 0), (0, 1), (0, 2), (1, 0)})),
    "alone": Place((), frozenset({(0, 0)})),
    "first-layer-one": Place((2, 2), frozenset({(0, 0)})),
    "second-layer-one": Place((2, 2), frozenset({(1, 1)})),
    "each-layer-one": Place((2, 2), frozenset({(0, 0), (1, 1)})),
    "first-layer": Place((2, 2), frozenset({(0, 0), (0, 1)})),
    "second-layer": Place((2, 2), frozenset({(1, 0), (1, 1)})),
    "one-comment": Place((2, 2), frozenset({(1, 0)}), frozenset({1})),
    "every-comment": Place((2, 2), frozenset({(1, 0), (1, 1)}), frozenset({1})),
    "what-is-commented": Place((2, 2, 1), frozenset({(0, 1), (1, 1)}), frozenset({1})),
    "one-each-and-aggregator": Place((2, 2), frozenset({(0, 0), (1, 1), (2, 0)})),
}
WATCHED = [Cell(fault, place, where) for fault in FAULTS for place, where in PLACES.items()]
PLAIN = [replace(cell, watch=False, patient=True) for cell in WATCHED]
MIXED = [
    replace(cell, watch=watch, patient=not watch)
    for cell in WATCHED
    for watch in (True, False)
    if cell.place in ("all-but-one", "aggregator")
]
CELLS = [*WATCHED, *PLAIN, *(replace(cell, api="anthropic") for cell in MIXED)]
CELLS += [replace(cell, watch=False) for cell in WATCHED if cell.place == "all-but-one"]
CELLS += [replace(cell, patient=True) for cell in WATCHED if cell.place in ("all-but-one", "aggregator")]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, Performed | BaseException]:
    """What became of the cells that are wanted, all performed at once."""
    wanted = [item.callspec.params["cell"] for item in request.session.items if _in_matrix(item)]  # type: ignore[attr-defined]
    return perform_all(wanted)


def _in_matrix(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and item.function is test_a_fault


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_fault(cell: Cell, outcomes: dict[str, Performed | BaseException]) -> None:
    outcome = outcomes[cell.name]
    if isinstance(outcome, BaseException):
        raise outcome
    grammar.check(outcome.events)
    assert outcome.ended - outcome.started <= DEADLINE + SLIP
    _check_end(cell, outcome)
    _check_reserve(cell, outcome)
    _check_losses(cell, outcome)
    _check_prompts(cell, outcome)
    _check_calls(cell, outcome)
    _check_usage(cell, outcome)
    _check_told_calls(cell, outcome)


def _reached(cell: Cell) -> int:
    """How many layers can be asked (the aggregator counts): those after one that has no proposal cannot."""
    place, fails = cell.where, not FAULTS[cell.fault].passes
    for layer, seats in enumerate(place.layers):
        if fails and layer not in place.comments and all((layer, seat) in place.faulty for seat in range(seats)):
            return layer + 1
    return len(place.layers) + 1


def _lost(cell: Cell) -> set[tuple[int, int]]:
    """The addresses that are asked and fail."""
    if FAULTS[cell.fault].passes:
        return set()
    return {address for address in cell.where.faulty if address[0] < _reached(cell)}


def _check_end(cell: Cell, outcome: Performed) -> None:
    place, fault, last = cell.where, FAULTS[cell.fault], outcome.events[-1]
    if place.aggregator not in _lost(cell) and _reached(cell) > len(place.layers):
        assert isinstance(last, RunFinished), last
        assert last.answer.text == words_of(outcome.models[place.aggregator]) == outcome.transcript.text
        assert last.model.endswith(outcome.models[place.aggregator])
        assert not last.last_resort
        return
    assert isinstance(last, RunFailed), last
    said = ""
    if _reached(cell) <= len(place.layers):
        assert last.error.cause == "no_proposals"
    else:
        assert last.error.cause in fault.causes, last.error
        said = SAID if fault.speaks else ""
    assert last.text == said
    assert outcome.transcript.text == said
    assert outcome.transcript.error == last.error


def _check_reserve(cell: Cell, outcome: Performed) -> None:
    calls = outcome.calls_of(cell.where.aggregator)
    assert bool(calls) == (_reached(cell) > len(cell.where.layers))
    if calls:
        assert calls[0].at <= outcome.started + DEADLINE * 0.6 + SLIP
        started = next(n for n, event in enumerate(outcome.events) if isinstance(event, AggregationStarted))
        assert outcome.times[started] <= outcome.started + DEADLINE * 0.6 + SLIP


def _check_losses(cell: Cell, outcome: Performed) -> None:
    last, place = outcome.events[-1], cell.where
    assert isinstance(last, RunFinished | RunFailed)
    lost = {address for address in _lost(cell) if address != place.aggregator}
    told = [loss for loss in last.losses if (loss.layer, loss.seat) != place.aggregator]
    assert {(loss.layer, loss.seat) for loss in told} == lost
    assert len(told) == len(lost)
    for loss in told:
        assert loss.cause in FAULTS[cell.fault].causes, loss
        # A limit of the provider's fails the call; asked again, it may be the layer's end that comes first.
        kinds = ("cut_off", *(() if cell.patient else ("failed",))) if loss.cause == "timeout" else ("failed",)
        assert loss.kind in kinds, loss
        assert loss.model.endswith(outcome.models[loss.layer, loss.seat])
    assert last.planned == sum(place.layers)
    assert last.answered == sum(place.layers[: _reached(cell)]) - len(lost)
    assert outcome.transcript.losses == last.losses


def _check_prompts(cell: Cell, outcome: Performed) -> None:
    """What failed is in no prompt, and what a layer proposed is in all prompts of the next one, and of no other.

    Beside comments, the proposals stay.
    """
    lost = _lost(cell)
    for call in outcome.calls:
        assert CANARY not in call.body, call.name
        asked = int(call.name.split(".")[2])
        for address, name in outcome.models.items():
            seen = address[0] in cell.where.found_by(asked) and address not in lost
            assert (words_of(name) in call.body) == seen, (call.name, name)


def _check_calls(cell: Cell, outcome: Performed) -> None:
    """Nobody is asked again for what will not pass, or after words that somebody has heard; nor too soon."""
    fault = FAULTS[cell.fault]
    for address in outcome.models:
        calls = outcome.calls_of(address)
        if address[0] >= _reached(cell):
            assert not calls
        elif address not in cell.where.faulty or fault.once or (fault.speaks and _heard(cell, address)):
            assert len(calls) == 1
        elif fault.passes:
            assert len(calls) == 2
        elif cell.fault not in (*HANGING, "429-late"):
            assert len(calls) > 1, "what can pass is tried again"
        least = {"429-seconds": 3, "429-passing": 3, "429-date": 2, "429-late": 25}.get(cell.fault, 0.5)
        if address in _lost(cell) and cell.fault not in HANGING:
            assert outcome.failed_at(address) <= calls[-1].at + SLIP, "what was lost is not waited for"
        assert all(later.at - earlier.at >= least for earlier, later in pairwise(calls))


def _heard(cell: Cell, address: tuple[int, int]) -> bool:
    """Whether somebody listens to the words of this seat."""
    return cell.watch or address == cell.where.aggregator


def _check_usage(cell: Cell, outcome: Performed) -> None:
    fault, used, lost = FAULTS[cell.fault], outcome.transcript.usage, _lost(cell)
    well = sum(address[0] < _reached(cell) for address in outcome.models) - len(lost)
    counted = well + (len(lost) if fault.counted else 0)
    least = (11 * counted, 7 * counted)
    if fault.counted or not lost:
        assert (used.input_tokens, used.output_tokens) == least
    elif fault.speaks and any(_heard(cell, address) for address in lost):
        # Whoever was heard speaking has cost something, though nobody counted it.
        assert used.input_tokens > least[0]
        assert used.output_tokens > least[1]
        assert used.estimated
    else:
        assert used.input_tokens >= least[0]
        assert used.output_tokens >= least[1]


def _check_told_calls(cell: Cell, outcome: Performed) -> None:
    """There is one event for each model that was asked, however often its provider was tried, and they add up."""
    told = outcome.transcript.calls
    lost, reached = _lost(cell), _reached(cell)
    assert sorted((call.layer, call.seat) for call in told) == [
        address for address in cell.where.addresses if address[0] < reached
    ]
    for call in told:
        assert call.model.endswith(outcome.models[call.layer, call.seat])
        assert (call.error is not None) == ((call.layer, call.seat) in lost)
        assert call.started + call.seconds <= outcome.ended - outcome.started + SLIP
    assert grammar.sum_of(told) == outcome.transcript.usage
