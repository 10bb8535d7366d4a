"""Whatever a client sends to any of the three APIs, it is read, or refused by name: nothing else is ever raised."""

import json
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong.errors import RequestError
from partsong.wire import chat, messages, responses
from tests.server.test_serve import served
from tests.serving import THREE, recipe_file

FORMATS = (chat, messages, responses)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
VALID: dict[ModuleType, dict[str, Any]] = {
    chat: {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "t"}, PICTURE]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "noon"},
        ],
        "tools": [TOOL],
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "stream_options": {"include_usage": True},
        "stop": ["x"],
        "partsong": {"deadline": 3},
    },
    messages: {
        "model": "m",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "t"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "clock", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "noon"}]},
        ],
        "tools": [{"name": "clock", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "metadata": {"user_id": "u"},
    },
    responses: {
        "model": "m",
        "instructions": "s",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "t"}]},
            {"type": "function_call", "call_id": "c", "name": "clock", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "noon"},
        ],
        "tools": [{"type": "function", "name": "clock", "parameters": {"type": "object"}}],
        "text": {"format": {"type": "text"}},
        "reasoning": {"effort": "low"},
    },
}


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value within a value."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [here, *(place for step, within in inner for place in places(within, (*here, step)))]


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at a place."""
    if not place:
        return new
    step, *rest = place
    changed = list(value) if isinstance(value, list) else dict(value)
    changed[step] = put(value[step], tuple(rest), new)
    return changed


def read(form: ModuleType, body: bytes) -> None:
    with suppress(RequestError):
        form.parse_request(body)


@pytest.mark.parametrize("form", FORMATS, ids=["chat", "messages", "responses"])
def test_a_valid_request_is_read(form: ModuleType) -> None:
    asked = form.parse_request(json.dumps(VALID[form]).encode())
    assert asked.model == "m"
    assert asked.conversation.messages[-1].role == "tool"
    assert asked.conversation.tools[0].name == "clock"


@pytest.mark.parametrize("form", FORMATS, ids=["chat", "messages", "responses"])
@given(body=st.binary(max_size=64) | VALUES.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(form: ModuleType, body: bytes) -> None:
    read(form, body)


@pytest.mark.parametrize("form", FORMATS, ids=["chat", "messages", "responses"])
@given(data=st.data(), new=VALUES)
@settings(max_examples=300, deadline=None)
def test_a_request_with_something_else_in_any_place_is_read_or_refused(
    form: ModuleType, data: st.DataObject, new: Any
) -> None:
    place = data.draw(st.sampled_from(places(VALID[form])))
    read(form, json.dumps(put(VALID[form], place, new)).encode())


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Where a server listens that has a process of its own, whose model is called `m`."""
    folder = tmp_path_factory.mktemp("fuzz")
    recipe_file(folder, THREE.replace('"three"', '"m"'), "m", "scripted:z?text=%7B%7D")
    with served(folder, "--recipe", "m.toml", "--store", "off") as (_, url):
        yield "127.0.0.1", int(url.rpartition(":")[2])


PATHS = {chat: "/v1/chat/completions", messages: "/v1/messages", responses: "/v1/responses"}
STATUSES = {200, 400, 402, 403, 404, 413, 429, 500, 502, 503, 504}


def post(address: tuple[str, int], path: str, body: bytes) -> int:
    """Send it; whatever comes back is an answer, a stream that ends, or an error in its API's shape."""
    connection = HTTPConnection(*address, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        said = response.read()
    finally:
        connection.close()
    assert response.status in STATUSES, said
    assert b"Traceback" not in said
    if response.status != 200:
        error = json.loads(said)["error"]
        assert isinstance(error["message"], str)
        assert error["message"]
        assert error["type"]
    assert "a fault" not in said.decode("utf-8", "replace")
    return response.status


@pytest.mark.parametrize("form", FORMATS, ids=["chat", "messages", "responses"])
def test_over_http_any_body_gets_an_answer_or_a_typed_error(address: tuple[str, int], form: ModuleType) -> None:
    assert post(address, PATHS[form], json.dumps(VALID[form]).encode()) == 200

    @given(body=st.binary(max_size=64) | VALUES.map(lambda value: json.dumps(value).encode()))
    @settings(max_examples=40, deadline=None)
    def anything(body: bytes) -> None:
        assert post(address, PATHS[form], body) != 200

    @given(data=st.data(), new=VALUES, streamed=st.booleans())
    @settings(max_examples=150, deadline=None)
    def nearly_right(data: st.DataObject, new: Any, streamed: bool) -> None:
        asked = VALID[form] | ({"stream": True} if streamed else {})
        changed = put(asked, data.draw(st.sampled_from(places(asked)[1:])), new)
        post(address, PATHS[form], json.dumps(changed).encode())

    anything()
    nearly_right()
