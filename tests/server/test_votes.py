"""A recipe that takes a vote, asked with the official SDKs in all three APIs, as a stream and as a whole."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from partsong.transcript import Transcript
from tests.serving import recipe_file, serving

ANSWER = "Six times seven: the answer is 42."
VOTE = """
name = "jury"
[[layers]]
agents = [
    "scripted:a?text=Six+times+seven:+the+answer+is+42.",
    "scripted:b?text=The+answer+is+42",
    "scripted:c?text=The+answer+is+48.&first=60",
]
[aggregator]
method = "vote"
otherwise = "OTHERWISE"
MODEL
"""
SPLIT = VOTE.replace("jury", "split").replace('answer+is+42"', 'answer+is+43"').replace("&first=60", "")
LONELY = VOTE.replace("jury", "lonely").replace("[aggregator]", "agree = 2\n[aggregator]")
ASK: Any = [{"role": "user", "content": "What is 6 times 7?"}]
GROUPS = [{"answer": "42.", "seats": [0, 1]}]


def written(folder: Path, text: str, otherwise: str = "fail", model: str = "") -> str:
    name = text.split('name = "')[1].split('"')[0]
    (folder / f"{name}.toml").write_text(text.replace("OTHERWISE", otherwise).replace("MODEL", model))
    return str(folder / f"{name}.toml")


def check_report(report: dict[str, Any], rule: str = "majority") -> None:
    assert (report["layer"], report["seat"], report["spared"], report["losses"]) == (0, 0, 1, [])
    assert (report["planned"], report["answered"], report["model"]) == (
        3,
        2,
        "scripted:a?text=Six+times+seven:+the+answer+is+42.",
    )
    (count,) = report["votes"]
    assert count == {"layer": 0, "rule": rule, "needed": 2, "seat": 0, "groups": GROUPS, "abstained": []}
    assert [call["seat"] for call in report["calls"]] == [0, 1, 2]
    assert {call["layer"] for call in report["calls"]} == {0}, "no aggregator was asked"


@pytest.mark.parametrize(("recipe", "rule"), [(VOTE, "majority"), (LONELY, "agree")], ids=["vote", "agree"])
async def test_the_answer_of_a_vote_in_every_api_of_the_sdks(recipe: str, rule: str, tmp_path: Path) -> None:
    def ask(url: str, name: str) -> None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model=name, messages=ASK)
            assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (ANSWER, "stop")
            check_report(whole.model_extra["partsong"], rule)  # type: ignore[index]
            chunks = list(client.chat.completions.create(model=name, messages=ASK, stream=True))
            words = [
                chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content
            ]
            assert words == [ANSWER], "the answer is said whole"
            check_report(
                next(told for each in reversed(chunks) if (told := (each.model_extra or {}).get("partsong"))), rule
            )
            answered = client.responses.create(model=name, input=ASK)
            assert answered.output_text == ANSWER
            check_report(answered.model_extra["partsong"], rule)  # type: ignore[index]
            with client.responses.stream(model=name, input=ASK) as stream:
                deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
                assert deltas == [ANSWER]
                assert stream.get_final_response().output_text == ANSWER
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as claude:
            message = claude.messages.create(model=name, max_tokens=3, messages=ASK)
            assert (message.content[0].text, message.stop_reason) == (ANSWER, "end_turn")  # type: ignore[union-attr]
            check_report(message.model_extra["partsong"], rule)  # type: ignore[index]
            with claude.messages.stream(model=name, max_tokens=99, messages=ASK) as told:
                assert list(told.text_stream) == [ANSWER]

    async with serving([written(tmp_path, recipe)]) as (url, app):
        name = "jury" if rule == "majority" else "lonely"
        await asyncio.to_thread(ask, url, name)
        runs = [run for run in await app.service().store.runs() if run.recipe == name]
        assert {run.status for run in runs} == {"finished"}
        for run in runs:
            transcript = Transcript()
            for _, event in await app.service().store.events(run.id):
                transcript.hear(event)
            assert (transcript.layer, transcript.seat, transcript.spared, transcript.text) == (0, 0, 1, ANSWER)
            assert [(count.rule, count.seat) for count in transcript.votes] == [(rule, 0)]
            assert [seat.spared for seat in transcript.layers[0]] == [False, False, True]


async def test_a_vote_without_a_majority_is_an_error_or_the_aggregators_answer(tmp_path: Path) -> None:
    def fails(url: str) -> None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=2) as client:
            with pytest.raises(openai.APIStatusError, match="the vote has no majority") as caught:
                client.chat.completions.create(model="split", messages=ASK)
            assert caught.value.status_code == 502
            assert caught.value.response.json()["partsong"]["votes"][0]["seat"] is None

    async with serving([written(tmp_path, SPLIT)]) as (url, app):
        await asyncio.to_thread(fails, url)
        runs = [run for run in await app.service().store.runs() if run.recipe == "split"]
        assert len(runs) == 1, "the same request would fail again, so it is made once"

    def writes(url: str) -> None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model="split", messages=ASK, max_tokens=2)
            assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("It is", "length")
            report = whole.model_extra["partsong"]  # type: ignore[index]
            assert (report["layer"], report["seat"], report["votes"][0]["seat"]) == (None, None, None)

    async with serving([written(tmp_path, SPLIT, "synthesize", 'model = "scripted:z?text=It+is+so"')]) as (url, _):
        await asyncio.to_thread(writes, url)


async def test_tools_and_schemas_are_refused_by_name(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    async with (
        serving([recipe_file(tmp_path), written(tmp_path, VOTE), written(tmp_path, LONELY)]) as (url, _),
        aiohttp.ClientSession() as session,
    ):
        for name in ("jury", "lonely"):
            for fields, word in (({"tools": [tool]}, "tools"), ({"response_format": schema}, "schema")):
                body = {"model": name, "messages": ASK, **fields}
                async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                    told = (await response.json())["error"]["message"]
                    assert response.status == 400
                assert f"{name}: its aggregator takes a vote" in told
                assert word in told
