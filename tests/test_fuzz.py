"""Whatever a client sends to any of the three APIs, it is read, or refused by name: nothing else is ever raised."""

import json
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong.errors import RequestError
from partsong.wire import chat, messages, responses

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
        form.read(body)


@pytest.mark.parametrize("form", FORMATS, ids=["chat", "messages", "responses"])
def test_a_valid_request_is_read(form: ModuleType) -> None:
    asked = form.read(json.dumps(VALID[form]).encode())
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
