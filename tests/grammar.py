"""The grammar of events, as the docstring of `partsong.events` states it, as a check that tests hold runs against."""

from collections.abc import Iterable
from decimal import Decimal

from partsong.analysis import LEAST_PROPOSALS, Analysis
from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
    AggregationStep,
    AnalysisFailed,
    AnalysisFinished,
    AnalysisReplaced,
    AnalysisStarted,
    AnyEvent,
    CallFinished,
    LayerFinished,
    LayerStarted,
    PromptFitted,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    ProposalSpared,
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolUsed,
    VotesCounted,
)
from partsong.model import NOTHING_USED, TextDelta, Usage
from partsong.recipe import ANALYST_SEAT, Recipe


def check(events: Iterable[AnyEvent]) -> None:
    """Raise `AssertionError` for the first event that may not stand where it stands, or for a missing end."""
    heard = list(events)
    assert isinstance(heard[0], RunStarted), heard[0]
    assert isinstance(heard[-1], RunFinished | RunFailed), heard[-1]
    recipe = heard[0].recipe
    layer = -1  # the layer that is or was last open
    open_layer = aggregating = spoke = counted = False
    elected: VotesCounted | None = None
    spared = 0
    tools = Decimal(0)
    analyst = ""  # "asked" once the analyst has begun, and "ended" once it has ended
    seats: dict[int, str] = {}
    calls: dict[tuple[int, int], list[CallFinished]] = {}
    table: list[tuple[int, int]] = []  # the proposals and comments that the open layer finds
    for event in heard[1:-1]:
        match event:
            case LayerStarted(layer=number, models=models):
                assert not open_layer
                assert not aggregating
                assert number == layer + 1
                assert elected is None
                counted = False
                assert models == tuple(agent.model for agent in recipe.layers[number].seats)
                layer, open_layer, seats = number, True, {}
            case ProposalStarted(layer=number, seat=seat, model=model, saw=saw):
                assert open_layer
                assert saw is None or (list(saw) == [each for each in table if each in saw] != table)
                assert number == layer
                assert seat not in seats
                assert model == recipe.layers[layer].seats[seat].model
                seats[seat] = "speaks"
            case CallFinished(layer=number, seat=seat):
                if number == len(recipe.layers) and seat == ANALYST_SEAT:
                    assert analyst == "asked"
                elif number == len(recipe.layers):
                    assert (aggregating, seat) == (True, 0)
                else:
                    assert open_layer
                    assert (number, seats.get(seat)) == (layer, "speaks")
                _check_call(event)
                calls.setdefault((number, seat), []).append(event)
            case ToolUsed(layer=number, seat=seat):
                if number == len(recipe.layers):
                    assert (analyst == "asked") if seat == ANALYST_SEAT else (aggregating, seat) == (True, 0)
                else:
                    assert open_layer
                    assert (number, seats.get(seat)) == (layer, "speaks")
                _check_use(event, recipe)
                tools += event.dollars
            case PromptFitted(layer=number, seat=seat) if (number, seat) == (len(recipe.layers), ANALYST_SEAT):
                assert analyst == "asked"
            case PromptFitted(layer=number, seat=seat) if number == len(recipe.layers):
                assert (aggregating, seat, spoke) == (True, 0, False)
            case ProposalReplaced(layer=number, seat=seat, model=model):
                assert open_layer
                assert (number, seats.get(seat)) == (layer, "speaks")
                assert model in recipe.layers[layer].seats[seat].fallback
            case ProposalDelta(layer=number, seat=seat) | PromptFitted(layer=number, seat=seat):
                assert open_layer
                assert (number, seats.get(seat)) == (layer, "speaks")
            case ProposalFinished(layer=number, seat=seat, answer=answer, model=model):
                assert open_layer
                assert (number, seats.get(seat)) == (layer, "speaks")
                said = [call for call in calls.get((number, seat), []) if call.error is None]
                if recipe.layers[layer].seats[seat].tools:
                    own = [call for call in said if call.model == model]
                    assert sum_of(own) == answer.usage, "the answer has the usage of all its calls"
                else:
                    assert [(call.model, call.usage) for call in said] == [(model, answer.usage)]
                assert said[-1] is calls[number, seat][-1], "a call after the answer"
                seats[seat] = "answered"
            case ProposalSpared(layer=number, seat=seat, usage=usage):
                assert open_layer
                assert (number, seats.get(seat)) in ((layer, "speaks"), (layer, None))
                assert seat in seats or usage is None
                assert recipe.layers[layer].seats[seat].tools or all(
                    call.error for call in calls.get((number, seat), [])
                )
                assert seat in seats or recipe.layers[layer].at_once is not None
                seats[seat] = "spared"
                spared += 1
            case ProposalFailed(layer=number, seat=seat) if seat not in seats:
                assert open_layer
                assert number == layer
                assert recipe.layers[layer].at_once is not None, "a seat that was never asked is lost"
                assert (number, seat) not in calls
                seats[seat] = "lost"
            case ProposalFailed(layer=number, seat=seat):
                assert open_layer
                assert (number, seats.get(seat)) == (layer, "speaks")
                assert recipe.layers[layer].seats[seat].tools or all(
                    call.error for call in calls.get((number, seat), [])
                )
                seats[seat] = "lost"
            case LayerFinished(layer=number, answered=answered):
                assert open_layer
                assert number == layer
                assert set(seats) == set(range(len(recipe.layers[layer].seats)))
                assert "speaks" not in seats.values()
                assert answered == list(seats.values()).count("answered")
                made = [(number, seat) for seat, end in sorted(seats.items()) if end == "answered"]
                assert made or recipe.layers[number].comments or isinstance(heard[-1], RunFailed)
                table = [*table, *made] if recipe.layers[number].comments else made
                open_layer = False
            case AnalysisStarted(model=model):
                assert (open_layer, aggregating, analyst) == (False, False, "")
                assert layer == len(recipe.layers) - 1
                assert recipe.analyst is not None
                assert model == recipe.analyst.model
                assert len(_proposals(recipe, table)) >= LEAST_PROPOSALS
                analyst = "asked"
            case AnalysisReplaced(model=model):
                assert analyst == "asked"
                assert recipe.analyst is not None
                assert model in recipe.analyst.fallback
            case AnalysisFinished(analysis=analysis, model=model):
                assert analyst == "asked"
                last = calls[len(recipe.layers), ANALYST_SEAT][-1]
                assert (last.model, last.error) == (model, None)
                assert quoted(analysis) <= _proposals(recipe, table)
                analyst = "ended"
            case AnalysisFailed():
                assert analyst == "asked"
                analyst = "ended"
            case VotesCounted(layer=number, groups=groups, abstained=abstained, needed=needed, seat=seat):
                assert not open_layer
                assert (number, counted, aggregating) == (layer, False, False)
                votes = [place for group in groups for place in group.seats]
                assert sorted([*votes, *abstained]) == [place for place in sorted(seats) if seats[place] == "answered"]
                assert [-len(group.seats) for group in groups] == sorted(-len(group.seats) for group in groups)
                assert (seat is not None) == (bool(groups) and len(groups[0].seats) >= needed)
                assert seat is None or seat in groups[0].seats
                counted, elected = True, event if seat is not None else None
            case AggregationDelta(delta=delta) if elected is not None:
                assert not aggregating
                assert not spoke
                assert isinstance(delta, TextDelta)
                spoke = True
            case AggregationStarted(model=model):
                assert analyst != "asked"
                compares = recipe.analyst is not None and len(_proposals(recipe, table)) >= LEAST_PROPOSALS
                assert (analyst == "ended") == compares
                assert not open_layer
                assert not aggregating
                assert layer == len(recipe.layers) - 1
                assert elected is None
                assert model == recipe.aggregator.model
                aggregating = True
            case AggregationReplaced(model=model):
                assert (aggregating, spoke) == (True, False)
                assert model in recipe.aggregator.fallback
            case AggregationStep(answer=answer):
                assert (aggregating, spoke) == (True, False)
                drafted = calls[len(recipe.layers), 0][-1]
                assert (drafted.error, drafted.usage) == (None, answer.usage)
            case AggregationDelta():
                assert aggregating
                spoke = True
            case _:
                raise AssertionError(f"{event} in the middle of a run")
    later = sum(len(each.seats) for each in recipe.layers[layer + 1 :])
    if isinstance(heard[-1], RunFinished) and elected is not None:
        assert spoke
        assert (heard[-1].layer, heard[-1].seat, heard[-1].last_resort) == (elected.layer, elected.seat, False)
        assert heard[-1].spared == spared + later
    elif isinstance(heard[-1], RunFinished):
        assert aggregating or heard[-1].last_resort
        assert not open_layer
        if heard[-1].seat is not None:
            assert (heard[-1].layer, heard[-1].seat) in table
            assert not recipe.layers[heard[-1].layer or 0].comments
        assert heard[-1].spared == spared
        assert (heard[-1].layer is None) == (heard[-1].seat is None)
        assert heard[-1].last_resort or any(call.error is None for call in calls.get((len(recipe.layers), 0), []))
    total = sum_of(call for called in calls.values() for call in called) + Usage(dollars=tools)
    assert total == heard[-1].usage, "the calls add up to the run's usage"


def quoted(analysis: Analysis) -> set[int]:
    """The seats that an analysis quotes, by the rules for its entries."""
    assert all(len(claim.seats) > 1 for claim in analysis.agreements)
    assert all(len(claim.seats) == 1 for claim in analysis.single)
    for found in analysis.contradictions:
        assert len(found.positions) > 1
        assert all(position.quotes for position in found.positions)
        assert len({seat for position in found.positions for seat in position.seats}) > 1
    positions = (position for found in analysis.contradictions for position in found.positions)
    return {seat for claim in (*analysis.agreements, *analysis.single, *positions) for seat in claim.seats}


def sum_of(calls: Iterable[CallFinished]) -> Usage:
    """The usage of all the calls. A call of which nothing is known adds nothing, as in the run's own sum."""
    return sum((call.usage for call in calls if call.usage is not None), NOTHING_USED)


def _proposals(recipe: Recipe, table: list[tuple[int, int]]) -> set[int]:
    """The seats of the proposals on the table, which is also where comments on them lie."""
    return {seat for layer, seat in table if not recipe.layers[layer].comments}


def _check_use(event: ToolUsed, recipe: Recipe) -> None:
    """A tool call: of a server that the recipe names, after a call of the same model."""
    assert event.server in ("", *recipe.tools)
    assert event.seconds >= 0
    assert event.error or event.server
    assert not (event.error and event.sources)


def _check_call(call: CallFinished) -> None:
    assert call.started >= 0
    assert call.seconds >= 0
    assert (round(call.started, 6), round(call.seconds, 6)) == (call.started, call.seconds)
    assert not (call.stored and call.error)
    assert call.error is not None or call.usage is not None
