"""Files in the three formats: read from requests, and written for providers."""

import base64
import json
from typing import Any

import msgspec
import pytest

from partsong import Document, Message, Request, Text, ToolResult
from partsong.errors import RequestError
from partsong.wire import chat, messages, responses
from partsong.wire.files import file_of, parse_file
from tests import pdfs

DATA = pdfs.pdf("words")
ENCODED = base64.b64encode(DATA).decode()
URL = f"data:application/pdf;base64,{ENCODED}"
REPORT = Document(DATA, "application/pdf", "report.pdf")


def asked(api: Any, content: list[dict[str, Any]]) -> tuple[Any, ...]:
    turns = [{"role": "user", "content": content}]
    field = "input" if api is responses else "messages"
    request = {"model": "m", field: turns} | ({"max_tokens": 9} if api is messages else {})
    parts: tuple[Any, ...] = api.parse_request(json.dumps(request).encode()).conversation.messages[0].parts
    return parts


def test_the_three_apis_read_the_same_document() -> None:
    file = {"filename": "report.pdf", "file_data": URL}
    assert asked(chat, [{"type": "file", "file": file}]) == (REPORT,)
    assert asked(responses, [{"type": "input_file", **file}]) == (REPORT,)
    source = {"type": "base64", "media_type": "application/pdf", "data": ENCODED}
    assert asked(messages, [{"type": "document", "title": "report.pdf", "source": source}]) == (REPORT,)
    marked = {"type": "document", "source": source, "cache_control": {"type": "ephemeral"}, "context": "Of 2026."}
    assert asked(messages, [marked]) == (
        Text("[about the next document: Of 2026.]\n"),
        Document(DATA, "application/pdf", cache_control="5m"),
    )


def test_base64_alone_is_a_file_and_a_type_that_says_nothing_is_none() -> None:
    assert parse_file(ENCODED, "a", "x") == Document(DATA, "", "a")
    assert parse_file(f"data:application/octet-stream;base64,{ENCODED}", "a", "x").media_type == ""
    assert parse_file(f"data:text/csv;charset=utf-8;base64,{ENCODED}", "a", "x").media_type == "text/csv"
    assert file_of(ENCODED, " Text/Plain", "a", "x").media_type == "text/plain"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://example.org/a.pdf", "no file is fetched"),
        ("data:application/pdf,words", "must be base64"),
        ("data:application/pdf;base64", "must be base64"),
        ("data:application/pdf;base64,*", "is no base64"),
        ("data:application/pdf;base64,", "there is nothing in the file"),
        ("file:///etc/passwd", "is no base64"),
    ],
)
def test_what_is_no_file_is_refused_by_its_field(url: str, told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        parse_file(url, "a", "messages[0].file")
    assert caught.value.field == "messages[0].file"


@pytest.mark.parametrize(
    ("api", "piece", "field"),
    [
        (chat, {"type": "file", "file": {"file_id": "f"}}, "messages[0].content[0].file.file_id"),
        (chat, {"type": "file"}, "messages[0].content[0].file"),
        (responses, {"type": "input_file", "file_id": "f"}, "input[0].content[0].file_id"),
        (responses, {"type": "input_file", "file_url": "https://e.org"}, "input[0].content[0].file_url"),
        (
            messages,
            {"type": "document", "source": {"type": "url", "url": "https://e.org"}},
            "messages[0].content[0].source.type",
        ),
        (
            messages,
            {"type": "document", "source": {"type": "file", "file_id": "f"}},
            "messages[0].content[0].source.type",
        ),
        (
            messages,
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "*"}},
            "messages[0].content[0].source.data",
        ),
    ],
)
def test_files_from_elsewhere_are_refused_by_name(api: Any, piece: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        asked(api, [piece])
    assert caught.value.field == field


def test_results_of_tools_hold_documents() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": ENCODED}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "document", "source": source}]}
    use = {"type": "tool_use", "id": "t", "name": "read", "input": {}}
    turns = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    request = json.dumps({"model": "m", "max_tokens": 9, "messages": turns}).encode()
    last = messages.parse_request(request).conversation.messages[-1].parts[0]
    assert last == ToolResult("t", (Document(DATA, "application/pdf"),))


def written(api: Any, request: Request) -> Any:
    return json.loads(msgspec.json.encode(api.body(request, "m", stream=False)))["messages"]


def test_a_document_is_written_in_the_form_of_each_api() -> None:
    request = Request((Message("user", (REPORT, Text("?"))),))
    file = {"type": "file", "file": {"filename": "report.pdf", "file_data": URL}}
    assert written(chat, request) == [{"role": "user", "content": [file, {"type": "text", "text": "?"}]}]
    source = {"type": "base64", "media_type": "application/pdf", "data": ENCODED}
    block = {"type": "document", "source": source, "title": "report.pdf"}
    assert written(messages, request) == [{"role": "user", "content": [block, {"type": "text", "text": "?"}]}]


def test_a_users_message_shows_the_files_of_tools_where_tools_show_none() -> None:
    request = Request((Message("tool", (ToolResult("t", (Text("see"), REPORT)),)),))
    tool, user = written(chat, request)
    assert tool == {"role": "tool", "tool_call_id": "t", "content": "see"}
    assert [part["type"] for part in user["content"]] == ["file"]
    result = written(messages, request)[0]["content"][0]
    assert [block["type"] for block in result["content"]] == ["text", "document"]
