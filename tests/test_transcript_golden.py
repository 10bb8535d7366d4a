"""One golden file says what events fold into, for `transcript.py` here and for the page's `fold.js` in test_page.py."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from partsong.events import from_json, to_builtins
from partsong.model import Answer
from partsong.transcript import Transcript

GOLDEN = Path(__file__).parent / "golden" / "transcript.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))


def plain(transcript: Transcript) -> dict[str, Any]:
    """The transcript as JSON has it, an answer with its text, as events have it."""

    def answered(answer: Answer | None) -> dict[str, Any] | None:
        return None if answer is None else msgspec.to_builtins(answer) | {"text": answer.text}

    whole: dict[str, Any] = msgspec.to_builtins(transcript)
    whole["answer"] = answered(transcript.answer)
    for seats, layer in zip(whole["layers"], transcript.layers, strict=True):
        for seat, known in zip(seats, layer, strict=True):
            seat["answer"] = answered(known.answer)
    whole["fitted"] = [to_builtins(event) for event in transcript.fitted]
    whole["calls"] = [to_builtins(event) for event in transcript.calls]
    whole["uses"] = [to_builtins(event) for event in transcript.uses]
    if transcript.answer is None and transcript.error is None:
        whole["usage"] = None  # of a run that goes on, the page says nothing
    folded: dict[str, Any] = json.loads(msgspec.json.encode(whole))
    return folded


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_events_fold_into_what_the_golden_file_says(case: dict[str, Any]) -> None:
    transcript = Transcript()
    for event in case["events"]:
        transcript.hear(from_json(json.dumps(event)))
    assert plain(transcript) == case["folded"]
