"""Documents in all three APIs, by the official SDKs over a real port; and what providers get of them."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from partsong.configuration import Configuration, DocumentLimits, Provider
from tests import pdfs
from tests.serving import recipe_file, serving
from tests.upstream import Exchange, Reply, Server, as_json, chat, status

DATA = pdfs.pdf("Revenue was 41 million.", "Costs fell.", pictures=2)
ENCODED = base64.b64encode(DATA).decode()
FILE = {"filename": "report.pdf", "file_data": f"data:application/pdf;base64,{ENCODED}"}
RECIPE = """
name = "two"
[[layers]]
agents = ["plain:a", "native:b"]
[aggregator]
model = "plain:z"
"""


@asynccontextmanager
async def two(folder: Path, limits: DocumentLimits | None = None) -> AsyncIterator[tuple[str, Server, Server]]:
    """A server, and its two providers: one whose models read text alone, and one whose models take PDFs."""
    async with Server(chat()) as plain, Server(chat()) as native:
        providers = {
            "plain": Provider("openai", f"{plain.url}/v1"),
            "native": Provider("openai", f"{native.url}/v1", documents=True),
        }
        configuration = Configuration(providers=providers, documents=limits or DocumentLimits())
        async with serving([recipe_file(folder, RECIPE, "two")], configuration=configuration) as (url, _):
            yield url, plain, native


def contents(server: Server) -> list[Any]:
    return [exchange.json["messages"][0]["content"] for exchange in server.exchanges]


def check(plain: Server, native: Server) -> None:
    """What the providers have got: the text, the same for both readers of it, and the file."""
    first, last = contents(plain)
    assert first.startswith("[document report.pdf, 2 pages]\n<document-")
    assert "Revenue was 41 million." in first
    assert first.endswith("What was the revenue?")
    assert last == first
    assert contents(native) == [[{"type": "file", "file": FILE}, {"type": "text", "text": "What was the revenue?"}]]


async def test_chat_completions_takes_files(tmp_path: Path) -> None:
    async with two(tmp_path) as (url, plain, native), openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x") as client:
        content: Any = [{"type": "file", "file": FILE}, {"type": "text", "text": "What was the revenue?"}]
        answer = await client.chat.completions.create(model="two", messages=[{"role": "user", "content": content}])
        assert answer.choices[0].message.content == "Hello, world."
        losses = answer.model_extra["partsong"]["losses"]  # type: ignore[index]
        check(plain, native)
    assert [(loss["model"], loss["kind"], loss["message"]) for loss in losses] == [
        ("plain:a", "shortened", "without 2 pictures of report.pdf"),
        ("plain:z", "shortened", "without 2 pictures of report.pdf"),
    ]


async def test_responses_takes_files_lists_them_and_goes_on_from_them(tmp_path: Path) -> None:
    async with two(tmp_path) as (url, plain, native), openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x") as client:
        file: Any = {"type": "input_file", **FILE}
        content = [file, {"type": "input_text", "text": "What was the revenue?"}]
        first = await client.responses.create(model="two", input=[{"role": "user", "content": content}])
        check(plain, native)
        items = (await client.responses.input_items.list(first.id)).data
        listed: Any = items[0]
        assert listed.content[0].file_data == FILE["file_data"]
        await client.responses.create(model="two", input="And the costs?", previous_response_id=first.id)
        assert contents(plain)[2] == contents(plain)[0]
        assert contents(native)[1] == contents(native)[0]


async def test_messages_takes_documents_and_counts_them(tmp_path: Path) -> None:
    async with two(tmp_path) as (url, plain, native), anthropic.AsyncAnthropic(base_url=url, api_key="x") as client:
        source: Any = {"type": "base64", "media_type": "application/pdf", "data": ENCODED}
        document: Any = {"type": "document", "title": "report.pdf", "source": source}
        turn: Any = {"role": "user", "content": [document, {"type": "text", "text": "What was the revenue?"}]}
        await client.messages.create(model="two", max_tokens=99, messages=[turn])
        check(plain, native)
        counted = await client.messages.count_tokens(model="two", messages=[turn])
    assert 20 < counted.input_tokens < 200


@pytest.mark.parametrize(
    ("data", "limits", "told"),
    [
        (pdfs.encrypted(), DocumentLimits(), "report.pdf: is encrypted"),
        (pdfs.endless_tree(), DocumentLimits(), "report.pdf: "),
        (b"\xff\xfe\x00", DocumentLimits(), "report.pdf: is text in UTF-16"),
        (pdfs.bomb(300, 3), DocumentLimits(seconds=1), "report.pdf: "),
        (b"words", DocumentLimits(characters=3), "report.pdf: has 5 characters, but at most 3 are taken"),
    ],
    ids=["encrypted", "endless", "utf-16", "bomb", "long"],
)
async def test_what_cannot_be_read_is_a_400_that_names_the_file_and_costs_nothing(
    tmp_path: Path, data: bytes, limits: DocumentLimits, told: str
) -> None:
    async with two(tmp_path, limits) as (url, plain, native), aiohttp.ClientSession() as session:
        file = {"filename": "report.pdf", "file_data": base64.b64encode(data).decode()}
        body = {"model": "two", "messages": [{"role": "user", "content": [{"type": "file", "file": file}]}]}
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            assert response.status == 400
            assert (await response.json())["error"]["message"].startswith(told)
        assert plain.exchanges == native.exchanges == []


async def test_pages_beyond_the_limit_are_told_and_no_file_is_sent(tmp_path: Path) -> None:
    async with two(tmp_path, DocumentLimits(pages=1)) as (url, plain, native), aiohttp.ClientSession() as session:
        body = {"model": "two", "messages": [{"role": "user", "content": [{"type": "file", "file": FILE}]}]}
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            losses = json.loads(await response.text())["partsong"]["losses"]
        assert contents(native)[0] == contents(plain)[0]
        assert contents(native)[0].startswith("[document report.pdf, pages 1-1 of 2]\n")
    assert {loss["message"] for loss in losses} == {"without pages 2-2 of 2, 2 pictures of report.pdf"}
    assert len(losses) == 3


async def test_anthropics_api_gets_document_blocks(tmp_path: Path) -> None:
    whole = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [{"type": "text", "text": "41 million."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    async with Server(as_json(whole)) as upstream:
        provider = Provider("anthropic", upstream.url, documents=True)
        async with serving([recipe_file(tmp_path)], providers={"far": provider}, models=["far:c"]) as (url, _):
            async with aiohttp.ClientSession() as session:
                body = {"model": "far:c", "messages": [{"role": "user", "content": [{"type": "file", "file": FILE}]}]}
                async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                    answer = await response.json()
        assert answer["choices"][0]["message"]["content"] == "41 million."
        assert answer["partsong"]["losses"] == []
        (block,) = upstream.exchanges[0].json["messages"][0]["content"]
    assert block == {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": ENCODED},
        "title": "report.pdf",
    }


@pytest.mark.parametrize(
    "words",
    [
        "Invalid value: 'file'. Supported values are: 'text', 'image_url'.",
        "This model does not support file content types.",
        "Unknown part type: file",
        "Input tag 'file' found using 'type' does not match any of the expected tags: 'text'",
        "messages.0.content must be a string",
    ],
)
async def test_a_model_that_refuses_files_reads_the_text_and_that_is_told(tmp_path: Path, words: str) -> None:
    def answer(exchange: Exchange) -> Reply:
        return status(400, words) if isinstance(exchange.json["messages"][0]["content"], list) else chat()(exchange)

    async with Server(answer) as upstream:
        provider = Provider("openai", f"{upstream.url}/v1", documents=True)
        async with serving([recipe_file(tmp_path)], providers={"far": provider}, models=["far:c"]) as (url, _):
            async with aiohttp.ClientSession() as session:
                body = {"model": "far:c", "messages": [{"role": "user", "content": [{"type": "file", "file": FILE}]}]}
                for asked in (2, 3):  # the second time it is known
                    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                        losses = (await response.json())["partsong"]["losses"]
                    assert len(upstream.exchanges) == asked
    assert contents(upstream)[1].startswith("[document report.pdf, 2 pages]\n<document-")
    assert [(loss["kind"], loss["message"]) for loss in losses] == [
        ("shortened", "the model takes no PDFs: it read the text of each, without pictures")
    ]
