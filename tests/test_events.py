"""Events and their JSON, and the transcript that is folded from them."""

import json
from decimal import Decimal

import pytest

from partsong import (
    Agent,
    Aggregator,
    Answer,
    Image,
    Layer,
    Reasoning,
    Recipe,
    Text,
    TextDelta,
    Transcript,
    Usage,
    asking,
)
from partsong.events import (
    AggregationDelta,
    AggregationStarted,
    AnyEvent,
    CallFinished,
    Failure,
    LayerFinished,
    LayerStarted,
    Loss,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
    from_json,
    to_json,
)
from tests import grammar

RECIPE = Recipe("r", (Layer((Agent("t:a"), Agent("t:b"))),), Aggregator("t:z"))
LOSS = Loss(0, 1, "t:b", "rate", "too fast")
RUN: tuple[AnyEvent, ...] = (
    RunStarted(RECIPE, asking("Why?", images=(Image(b"\x89PNG", "image/png"),))),
    LayerStarted(0, ("t:a", "t:b")),
    ProposalStarted(0, 0, "t:a"),
    ProposalStarted(0, 1, "t:b"),
    ProposalDelta(0, 0, TextDelta("Be")),
    CallFinished(0, 1, "t:b", 0.0, 0.25, Usage(1, 0), Failure("rate", "too fast", 429)),
    ProposalFailed(0, 1, Failure("rate", "too fast", 429), Usage(1, 0)),
    ProposalDelta(0, 0, TextDelta("cause")),
    CallFinished(0, 0, "t:a", 0.0, 0.5, Usage(3, 1)),
    ProposalFinished(0, 0, Answer((Reasoning("hm"), Text("Because")), usage=Usage(3, 1), model="a-1"), "t:a"),
    LayerFinished(0, 1),
    AggregationStarted("t:z"),
    AggregationDelta(TextDelta("So.")),
    CallFinished(1, 0, "t:z", 0.5, 0.125, Usage(5, 8)),
    RunFinished(Answer((Text("So."),)), Usage(9, 9), (LOSS,)),
)


@pytest.mark.parametrize("event", [*RUN, RunFailed(Failure("timeout", "late"), Usage())])
def test_json_and_back_is_the_same_event(event: AnyEvent) -> None:
    line = to_json(event)
    assert b"\n" not in line
    assert from_json(line) == event


def test_the_json_has_the_documented_names() -> None:
    proposal = json.loads(to_json(RUN[9]))
    assert proposal["event"] == "proposal_finished"
    assert (proposal["layer"], proposal["seat"], proposal["answer"]["text"]) == (0, 0, "Because")
    end = json.loads(to_json(RUN[-1]))
    assert end["event"] == "run_finished"
    assert end["answer"]["text"] == "So."
    call = json.loads(to_json(RUN[5]))
    assert (call["event"], call["started"], call["seconds"]) == ("call_finished", 0.0, 0.25)
    assert (
        json.loads(to_json(RunFailed(Failure("rate", "x"), Usage(dollars=Decimal("0.10")))))["usage"]["dollars"]
        == "0.10"
    )
    loss = {"layer": 0, "seat": 1, "model": "t:b", "cause": "rate", "message": "too fast"}
    assert end["losses"] == [loss | {"kind": "failed", "replaced_by": ""}]
    assert json.loads(to_json(RunFailed(Failure("rate", "x"), Usage())))["usage"]["dollars"] is None


def test_the_transcript_folds_a_run() -> None:
    grammar.check(RUN)
    transcript = Transcript()
    for event in RUN[:5]:
        transcript.hear(event)
    assert transcript.layers[0][0].text == "Be"
    assert transcript.answer is None
    for event in RUN[5:]:
        transcript.hear(event)
    assert transcript.layers[0][0].answer is not None
    assert transcript.layers[0][1].error == Failure("rate", "too fast", 429)
    assert [answer.text for answer in transcript.proposals(0)] == ["Because"]
    assert transcript.answer is not None
    assert (transcript.text, transcript.aggregator, transcript.losses) == ("So.", "t:z", (LOSS,))
    assert transcript.recipe is RECIPE
    assert [(call.layer, call.seat) for call in transcript.calls] == [(0, 1), (0, 0), (1, 0)]


@pytest.mark.parametrize("gone", range(len(RUN)))
def test_the_grammar_notices_what_is_missing(gone: int) -> None:
    if isinstance(RUN[gone], ProposalDelta | AggregationDelta):
        return
    with pytest.raises(AssertionError):
        grammar.check(RUN[:gone] + RUN[gone + 1 :])


def test_a_sum_with_something_unknown_in_it_is_unknown() -> None:
    known, unknown = Usage(1, 2, 3, 4, Decimal(1)), Usage(1, 2, estimated=True)
    assert known + known == Usage(2, 4, 6, 8, Decimal(2))
    assert (known + unknown).dollars is None
    assert (known + unknown).estimated
