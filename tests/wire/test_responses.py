"""The Responses API as the server speaks it, read by the types of OpenAI's own client."""

import base64
import json
from decimal import Decimal
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from partsong.errors import RequestError
from partsong.model import (
    ANY_OBJECT,
    Answer,
    Delta,
    Image,
    Message,
    Part,
    Reasoning,
    ReasoningDelta,
    Sampling,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from partsong.wire import responses
from partsong.wire.parsed import Options, ParsedRequest
from partsong.wire.reply import Format, Head, Problem
from partsong.wire.responses import Stream, parse_request, serialize_answer, serialize_error
from partsong.wire.sse import Decoder

HEAD = Head("r1", 1_700_000_000, "trio")
USED = Usage(100, 20, 40, 5, Decimal("0.01"), cache_write_tokens=7)
PARAMS: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsNonStreaming)
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "weather", "description": "Tells.", "parameters": SCHEMA, "strict": True}
ENCRYPTED = ["reasoning.encrypted_content"]


def asked(**fields: Any) -> ParsedRequest:
    request = {"model": "trio", "input": "Hello?"} | fields
    return parse_request(json.dumps(request).encode())


def refused(**fields: Any) -> str | None:
    with pytest.raises(RequestError) as caught:
        asked(**fields)
    assert caught.value.field is None or caught.value.field in str(caught.value)
    return caught.value.field


def events_in(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream; each is what its line says, and they are numbered."""
    events: list[dict[str, Any]] = []
    for name, data in Decoder().feed(stream):
        event = json.loads(data)
        assert event["type"] == name
        assert event["sequence_number"] == len(events)
        events.append(event)
    return events


def accumulated(stream: bytes) -> Any:
    """The final response, as the client's helper for streams has it, after every event was read as strictly as can."""
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events_in(stream):
        if event["type"] != "partsong.event":
            state.handle_event(EVENTS.validate_python(event))
    return state._completed_response


def streamed(request: ParsedRequest, deltas: list[Delta], parts: tuple[Part, ...], finish: Any = "stop") -> bytes:
    stream = Stream(request, HEAD)
    said = stream.begin() + b"".join(stream.say(delta) for delta in deltas)
    return said + stream.finish((Answer(parts, finish),), USED, {"run": "r1"})


def as_format(module: Format) -> Format:
    return module


def test_the_package_is_a_format() -> None:
    assert as_format(responses).parse_request(b'{"model":"m","input":"x"}').model == "m"


def test_a_string_is_a_question_of_the_user_under_the_instructions() -> None:
    request = asked(instructions="Be brief.")
    assert request.conversation.messages == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("Hello?"),)),
    )
    assert (request.model, request.stream, request.keep, request.previous, request.samples) == (
        "trio",
        False,
        True,
        "",
        1,
    )


def test_every_setting_that_a_mixture_can_honour_is_read() -> None:
    fields: dict[str, Any] = {
        "model": "trio",
        "input": "Hello?",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 50,
        "parallel_tool_calls": False,
        "reasoning": {"effort": "high", "summary": "auto"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "place", "schema": SCHEMA}},
        "metadata": {"team": "a"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "store": False,
        "previous_response_id": "resp_0",
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "name": "weather"},
        "include": ENCRYPTED,
        "truncation": "auto",
        "service_tier": "auto",
        "background": False,
        "top_logprobs": 0,
        "stream_options": {"include_obfuscation": False},
        "stream": False,
        "unheard_of": {"x": 1},
    }
    PARAMS.validate_python(fields)
    request = asked(**fields, partsong={"deadline": 9, "events": True})
    said = request.conversation
    assert said.sampling == Sampling(0.5, 0.9, 50, effort="high", verbosity="low")
    assert said.tools == (Tool("weather", "Tells.", json.dumps(SCHEMA).encode(), True),)
    assert (said.tool_choice, said.parallel_tool_calls) == ("weather", False)
    assert json.loads(said.response_format or b"") == SCHEMA
    assert request.labels == {"team": "a", "user": "u", "safety_identifier": "s", "prompt_cache_key": "k"}
    assert (request.keep, request.previous) == (False, "resp_0")
    assert request.options == Options(events=True, deadline=9.0)
    shown = Response.model_validate_json(serialize_answer(request, HEAD, (Answer((Text("x"),)),), USED, {}))
    assert shown.tools[0].to_dict() == WEATHER
    assert (shown.temperature, shown.top_p, shown.max_output_tokens, shown.user) == (0.5, 0.9, 50, "u")
    assert (shown.store if hasattr(shown, "store") else None, shown.truncation) == (False, "auto")
    assert shown.previous_response_id == "resp_0"
    assert shown.metadata == {"team": "a"}
    assert shown.parallel_tool_calls is False
    assert shown.reasoning is not None
    assert shown.reasoning.effort == "high"
    assert shown.text is not None
    assert shown.text.format is not None
    assert shown.text.format.to_dict() == {"description": None, "strict": False, **fields["text"]["format"]}


def test_a_turn_of_the_assistants_is_put_together_again() -> None:
    picture = "data:image/png;base64," + base64.b64encode(b"png").decode()
    items: list[Any] = [
        {"role": "developer", "content": "Rules."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": picture, "detail": "auto"},
                {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "sig",
        },
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "I ask", "annotations": []},
                {"type": "refusal", "refusal": "."},
            ],
        },
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "sun"}]},
        {"role": "assistant", "content": "One."},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Go on"},
    ]
    PARAMS.validate_python({"model": "trio", "input": items})
    assert asked(input=items).conversation.messages == (
        Message("system", (Text("Rules."),)),
        Message(
            "user", (Text("Look"), Image(b"png", "image/png"), Image(url="https://example.org/a.png", detail="low"))
        ),
        Message(
            "assistant",
            (
                Reasoning("hm", "sig"),
                Text("I ask"),
                Text("."),
                ToolCall("c1", "weather", "{}"),
                ToolCall("c2", "weather", '{"a":1}'),
            ),
        ),
        Message("tool", (ToolResult("c1", (Text("rain"),)),)),
        Message("tool", (ToolResult("c2", (Text("sun"),)),)),
        Message("assistant", (Text("One."),)),
        Message("assistant", (Text("Two."),)),
        Message("user", (Text("Go on"),)),
    )


def test_schemas_stay_the_callers_bytes() -> None:
    schema = b'{ "b":1.0,  "a":"\\u00e4" }'
    body = b'{"model":"m","input":"x","tools":[{"type":"function","name":"f","parameters":%b}],' % schema
    request = parse_request(body + b'"text":{"format":{"type":"json_schema","name":"n","schema":%b}}}' % schema)
    assert request.conversation.tools[0].parameters == schema
    assert request.conversation.response_format == schema
    assert asked(text={"format": {"type": "json_object"}}).conversation.response_format == ANY_OBJECT
    assert asked(text={"format": {"type": "text"}}).conversation.response_format is None


def test_a_choice_of_some_tools_leaves_only_these() -> None:
    tools = [WEATHER, WEATHER | {"name": "time"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "time"}]}
    said = asked(tools=tools, tool_choice=choice).conversation
    assert [tool.name for tool in said.tools] == ["time"]
    assert said.tool_choice == "required"
    assert asked(tools=tools, tool_choice="none").conversation.tool_choice == "none"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"background": True, "store": False}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"max_tool_calls": 0}, "max_tool_calls"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"truncation": "some"}, "truncation"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"include": [*ENCRYPTED, "message.output_text.logprobs"]}, "include[1]"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": 1}}}, "text.format.schema"),
        ({"tools": [WEATHER, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "custom"}]}, "tools[0].name"),
        ({"tools": [{"type": "custom", "name": "f", "format": {"type": "json"}}]}, "tools[0].format.type"),
        (
            {"tools": [{"type": "custom", "name": "f", "format": {"type": "grammar", "syntax": "ebnf"}}]},
            "tools[0].format.syntax",
        ),
        (
            {
                "tools": [
                    {
                        "type": "custom",
                        "name": "f",
                        "format": {"type": "grammar", "syntax": "lark", "definition": "x" * 70_000},
                    }
                ]
            },
            "tools[0].format",
        ),
        ({"tools": [{"type": "custom", "name": "f"}, WEATHER | {"name": "f"}]}, "tools[1].name"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [WEATHER | {"name": "a b"}]}, "tools[0].name"),
        ({"tools": [WEATHER | {"parameters": []}]}, "tools[0].parameters"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice.type"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{"type": "compaction_trigger"}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].file_data"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "file:///etc/passwd"}]}]},
            "input[0].content[0].image_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,*"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"partsong": {"evnets": True}}, "partsong"),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_name_of_its_field(fields: dict[str, Any], field: str) -> None:
    assert refused(**fields) == field


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"model":"\xff"}', b"[" * 100_000, b"null"])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_request(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    [
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "metadata",
        "include",
        "partsong",
        "temperature",
        "top_p",
        "store",
    ]
)
words = st.sampled_from(
    [
        "message",
        "function_call",
        "function_call_output",
        "reasoning",
        "input_image",
        "input_text",
        "user",
        "assistant",
        "function",
    ]
)
keys = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "summary",
        "output",
        "call_id",
        "name",
        "arguments",
        "text",
        "image_url",
        "parameters",
        "format",
        "schema",
        "tools",
    ]
)
likely = st.recursive(
    words | json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, likely, max_size=4) | json_values)
def test_nothing_but_a_request_error_comes_of_any_json(body: Any) -> None:
    if isinstance(body, dict):
        body = {"model": "m", "input": "x"} | body
    try:
        request = parse_request(json.dumps(body).encode())
    except RequestError:
        return
    assert serialize_answer(request, HEAD, (Answer((Text("x"),)),), USED, {})


def test_a_whole_answer_is_what_the_client_expects() -> None:
    parts = (Reasoning("hm", "sig"), Text("I "), Text("ask"), ToolCall("c1", "weather", '{"city":"Rome"}'))
    shown = Response.model_validate_json(
        serialize_answer(asked(), HEAD, (Answer(parts, "tool_calls"),), USED, {"run": "r1"})
    )
    assert (shown.id, shown.created_at, shown.model, shown.status) == ("resp_r1", 1_700_000_000, "trio", "completed")
    assert [item.type for item in shown.output] == ["reasoning", "message", "function_call"]
    assert shown.output_text == "I ask"
    assert shown.output[2].to_dict() == {
        "type": "function_call",
        "id": "fc_r1_2",
        "status": "completed",
        "call_id": "c1",
        "name": "weather",
        "arguments": '{"city":"Rome"}',
    }
    assert shown.usage is not None
    assert shown.usage.to_dict() == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 7},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 120,
    }
    assert shown.to_dict()["partsong"] == {"run": "r1"}


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_broke_off_is_incomplete(finish: Any, reason: str) -> None:
    shown = Response.model_validate_json(serialize_answer(asked(), HEAD, (Answer((Text("I"),), finish),), USED, {}))
    assert shown.status == "incomplete"
    assert shown.incomplete_details is not None
    assert shown.incomplete_details.reason == reason
    events = events_in(streamed(asked(), [TextDelta("I")], (Text("I"),), finish))
    assert events[-1]["type"] == "response.incomplete"
    assert events[-2]["item"]["status"] == "incomplete"
    EVENTS.validate_python(events[-1])


def test_a_stream_tells_items_in_the_documented_order() -> None:
    deltas: list[Delta] = [
        ReasoningDelta("h"),
        ReasoningDelta("m"),
        TextDelta("I "),
        TextDelta("äsk"),
        ToolCallDelta(0, "c1", "weather"),
        ToolCallDelta(1, "c2", "weather", "{"),
        ToolCallDelta(0, arguments="{}"),
        ToolCallDelta(1, arguments="}"),
    ]
    parts = (Reasoning("hm"), Text("I äsk"), ToolCall("c1", "weather", "{}"), ToolCall("c2", "weather", "{}"))
    stream = streamed(asked(), deltas, parts, "tool_calls")
    events = events_in(stream)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    final = accumulated(stream)
    assert final.output_text == "I äsk"
    plain = json.loads(serialize_answer(asked(), HEAD, (Answer(parts, "tool_calls"),), USED, {"run": "r1"}))
    assert events[-1]["response"] == plain
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == plain["output"]


def test_reasoning_keeps_its_signature_where_it_is_asked_for() -> None:
    parts = (Reasoning("hm", "sig"), Text("I"), Reasoning("", "veiled"))
    request = asked(include=ENCRYPTED)
    stream = streamed(request, [ReasoningDelta("hm"), TextDelta("I")], parts)
    items = [event["item"] for event in events_in(stream) if event["type"] == "response.output_item.done"]
    assert [(item["type"], item.get("encrypted_content")) for item in items[:2]] == [
        ("reasoning", "sig"),
        ("message", None),
    ]
    again = asked(input=[*items[:2], {"role": "user", "content": "And?"}]).conversation.messages
    assert again[0] == Message("assistant", (Reasoning("hm", "sig"), Text("I")))
    assert b"sig" not in streamed(asked(), [ReasoningDelta("hm"), TextDelta("I")], parts)
    assert b"sig" not in serialize_answer(asked(), HEAD, (Answer(parts),), USED, {})
    whole_items = json.loads(serialize_answer(request, HEAD, (Answer(parts),), USED, {}))["output"]
    assert asked(input=whole_items).conversation.messages[0].parts == (Reasoning("", "veiled"), *parts[:2])


@pytest.mark.parametrize(
    ("deltas", "parts"),
    [
        ([], (Reasoning("hm"), Text("All of it"), ToolCall("c1", "f", "{}"))),
        ([TextDelta("All")], (Text("All of it"),)),
        ([TextDelta("Something else")], (Text("All of it"),)),
        ([ToolCallDelta(0, "c1", "f", '{"a"')], (Text("All of it"), ToolCall("c1", "f", '{"a":1}'))),
        ([ToolCallDelta(0, "c1", "f", "{oops")], (ToolCall("c1", "f", "{}"),)),
        ([ToolCallDelta(0, "c1", "f", "{oops")], (Text("All of it"), ToolCall("c2", "f", "{}"))),
        ([ReasoningDelta("no"), TextDelta("All of ")], (Reasoning("hm"), Text("All of it"))),
    ],
)
def test_the_answer_has_the_last_word(deltas: list[Delta], parts: tuple[Part, ...]) -> None:
    stream = streamed(asked(), deltas, parts)
    final = accumulated(stream)
    assert final.output_text == "".join(part.text for part in parts if isinstance(part, Text))
    calls = [(item.call_id, item.arguments) for item in final.output if item.type == "function_call"]
    assert calls == [(part.id, part.arguments) for part in parts if isinstance(part, ToolCall)]
    events = events_in(stream)
    added = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    done = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    assert added == done == list(range(len(added)))


def test_events_of_the_run_go_unnoticed_by_the_client() -> None:
    stream = Stream(asked(), HEAD)
    said = stream.tell(b'{"type":"layer_started","error":"x"}') + stream.wait() + stream.begin()
    said += stream.say(TextDelta("Hi")) + stream.tell(b"{}") + stream.finish((Answer((Text("Hi"),)),), USED, {})
    assert [event["type"] for event in events_in(said)].count("response.created") == 1
    told = [event for event in events_in(said) if event["type"] == "partsong.event"]
    assert [event["event"] for event in told] == [{"type": "layer_started", "error": "x"}, {}]
    assert not any("error" in event for event in told)  # the client takes that, at the top of any event, for a failure
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    kinds = []
    for event in events_in(said):
        kinds += [each.type for each in state.handle_event(construct_type(type_=ResponseStreamEvent, value=event))]
    assert kinds.count("partsong.event") == 2
    assert state._completed_response.output_text == "Hi"


def test_a_stream_that_fails_says_so_and_what_there_was() -> None:
    stream = Stream(asked(), HEAD)
    said = stream.begin() + stream.say(TextDelta("Half"))
    said += stream.fail(Problem(429, "rate_limit", "too many", code="rate", partsong={"run": "r1"}))
    last = EVENTS.validate_python(events_in(said)[-1])
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert (last.response.error.code, last.response.error.message) == ("rate_limit_exceeded", "too many")
    assert last.response.output_text == "Half"
    assert last.response.to_dict()["partsong"] == {"run": "r1"}


def test_a_problem_is_an_error_of_openais_shape() -> None:
    body = json.loads(serialize_error(Problem(400, "invalid_request", "no", field="tools[0]", code=None)))
    assert body == {"error": {"message": "no", "type": "invalid_request_error", "param": "tools[0]", "code": None}}
    assert json.loads(
        serialize_error(Problem(400, "invalid_request", "long", code="window", partsong={"run": "r"}))
    ) == {
        "error": {"message": "long", "type": "invalid_request_error", "param": None, "code": "context_length_exceeded"},
        "partsong": {"run": "r"},
    }


# ---- tools that take free text


PATCH = {"type": "custom", "name": "patch", "description": "Patches.", "format": {"type": "text"}}
FREE: Any = [PATCH, WEATHER]


def test_a_tool_that_takes_free_text_is_a_function_for_the_models() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    request = asked(tools=[PATCH | {"format": grammar}], tool_choice={"type": "custom", "name": "patch"})
    (tool,) = request.conversation.tools
    assert json.loads(tool.parameters)["required"] == ["input"]
    assert tool.description == "Patches.\n\nThe input must follow this lark grammar:\nstart: WORD"
    assert request.conversation.tool_choice == "patch"
    shown = Response.model_validate_json(serialize_answer(request, HEAD, (Answer((Text("x"),)),), USED, {}))
    assert shown.tools[0].to_dict() == PATCH | {"format": grammar}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [('{"input":"*** Begin\\n+a"}', "*** Begin\n+a"), ("plain", "plain"), ('{"input":3}', '{"input":3}')],
)
def test_a_call_of_it_is_its_text_whole_and_streamed(arguments: str, text: str) -> None:
    request = asked(tools=FREE)
    parts = (Text("I patch."), ToolCall("c1", "patch", arguments), ToolCall("c2", "weather", "{}"))
    shown = Response.model_validate_json(serialize_answer(request, HEAD, (Answer(parts, "tool_calls"),), USED, {}))
    whole = [item.to_dict() for item in shown.output]
    assert whole[1]["type"] == "custom_tool_call"
    assert (whole[1]["call_id"], whole[1]["name"], whole[1]["input"]) == ("c1", "patch", text)
    deltas: list[Delta] = [
        TextDelta("I patch."),
        ToolCallDelta(0, "c1", "patch", arguments[:5]),
        ToolCallDelta(1, "c2", "weather", "{}"),
        ToolCallDelta(0, arguments=arguments[5:]),
    ]
    for told in (deltas, deltas[:1], []):
        stream = streamed(request, told, parts, "tool_calls")
        events = events_in(stream)
        assert accumulated(stream).output_text == "I patch."
        assert events[-1]["response"]["output"] == whole
        said = [event for event in events if event["type"] == "response.custom_tool_call_input.delta"]
        assert "".join(event["delta"] for event in said) == text
        (done,) = [event for event in events if event["type"] == "response.custom_tool_call_input.done"]
        assert done["input"] == text


def test_an_earlier_call_of_it_is_read_again() -> None:
    items: list[Any] = [
        {"role": "user", "content": "Go"},
        {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": 'a "b"'},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done"},
    ]
    PARAMS.validate_python({"model": "m", "input": items})
    call, result = asked(input=items, tools=FREE).conversation.messages[1:]
    assert call.parts == (ToolCall("c1", "patch", '{"input":"a \\"b\\""}'),)
    assert result.parts == (ToolResult("c1", (Text("Done"),)),)


# ---- what ends with the system, and what only OpenAI's own models know


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (["developer"], [("user", "0")]),
        (["system", "developer"], [("system", "0"), ("user", "1")]),
        (["user", "developer"], [("user", "0\n\n1")]),
        (["user", "developer", "system"], [("user", "0\n\n1\n\n2")]),
        (["user", "assistant", "developer"], [("user", "0"), ("assistant", "1"), ("user", "2")]),
        (["developer", "user"], [("system", "0"), ("user", "1")]),
    ],
)
def test_a_conversation_may_end_with_the_system(roles: list[str], expected: list[tuple[str, str]]) -> None:
    items = [{"role": role, "content": str(index)} for index, role in enumerate(roles)]
    messages = asked(input=items).conversation.messages
    assert [(message.role, message.text) for message in messages] == expected


def test_data_and_what_is_too_long_are_left_out_of_words_and_said_to_be() -> None:
    picture = {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "A" * 9000}
    listing = {"type": "mcp_call", "id": "m", "name": "f", "arguments": "{}", "output": "word " * 20_000}
    (message,) = asked(input=[picture, listing, {"role": "user", "content": "?"}]).conversation.messages[:1]
    assert "(9,000 characters of data)" in message.text
    assert "more characters are left out" in message.text
    assert len(message.text) < 40_000


def test_the_screen_of_a_computer_is_shown() -> None:
    shot = {"type": "computer_screenshot", "image_url": "https://e.org/s.png"}
    items = [{"role": "user", "content": "Go"}, {"type": "computer_call_output", "call_id": "c", "output": shot}]
    last = asked(input=items).conversation.messages[-1]
    assert last.role == "user"
    assert last.parts[-1] == Image(url="https://e.org/s.png")


def test_keeping_a_stream_alive_is_an_event() -> None:
    stream = Stream(asked(), HEAD)
    said = stream.wait() + stream.wait() + stream.say(TextDelta("Hi"))
    said += stream.wait() + stream.finish((Answer((Text("Hi"),)),), USED, {})
    kinds = [event["type"] for event in events_in(said)]
    assert kinds.count("response.in_progress") == 4
    assert accumulated(said).output_text == "Hi"


# ---- the schema of Open Responses


NUMBER, WHOLE, TEXT, FLAG, NULL = (
    {"type": "number"},
    {"type": "integer"},
    {"type": "string"},
    {"type": "boolean"},
    {"type": "null"},
)


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, NULL]}


def whole_object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}


STATES = {"enum": ["in_progress", "completed", "incomplete"]}
USAGE = whole_object(
    input_tokens=WHOLE,
    output_tokens=WHOLE,
    total_tokens=WHOLE,
    input_tokens_details=whole_object(cached_tokens=WHOLE),
    output_tokens_details=whole_object(reasoning_tokens=WHOLE),
)
ITEMS = {
    "message": whole_object(id=TEXT, status=STATES, role={"const": "assistant"}, content={"type": "array"}),
    "function_call": whole_object(id=TEXT, call_id=TEXT, name=TEXT, arguments=TEXT, status=STATES),
    "reasoning": whole_object(id=TEXT, summary={"type": "array"}),
}
# Every field that the specification requires of a response, with its type (openresponses.org, April 2026).
RESOURCE = whole_object(
    id=TEXT,
    object={"const": "response"},
    created_at=WHOLE,
    completed_at=or_null(WHOLE),
    status=TEXT,
    incomplete_details=or_null(whole_object(reason=TEXT)),
    model=TEXT,
    previous_response_id=or_null(TEXT),
    instructions=or_null(TEXT),
    output={"type": "array"},
    error=or_null(whole_object(code=TEXT, message=TEXT)),
    tools={"type": "array"},
    tool_choice={},
    truncation={"enum": ["auto", "disabled"]},
    parallel_tool_calls=FLAG,
    text=whole_object(format=whole_object(type=TEXT)),
    top_p=NUMBER,
    presence_penalty=NUMBER,
    frequency_penalty=NUMBER,
    top_logprobs=WHOLE,
    temperature=NUMBER,
    reasoning=or_null(whole_object(effort=or_null(TEXT), summary=or_null(TEXT))),
    user=or_null(TEXT),
    usage=or_null(USAGE),
    max_output_tokens=or_null(WHOLE),
    max_tool_calls=or_null(WHOLE),
    store=FLAG,
    background=FLAG,
    service_tier=TEXT,
    metadata={"type": "object"},
    safety_identifier=or_null(TEXT),
    prompt_cache_key=or_null(TEXT),
)


def check_resource(shown: dict[str, Any]) -> None:
    jsonschema_rs.validate(RESOURCE, shown)
    for item in shown["output"]:
        jsonschema_rs.validate(ITEMS[item["type"]], item)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [WEATHER], "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}},
        {"temperature": 0, "top_p": 1, "presence_penalty": 1, "frequency_penalty": -1, "max_tool_calls": 3},
        {"reasoning": {"effort": "low"}, "metadata": {"a": "b"}, "user": "u", "store": False},
    ],
)
def test_responses_and_events_have_every_field_that_open_responses_requires(fields: dict[str, Any]) -> None:
    request = asked(**fields)
    parts = (Reasoning("hm"), Text("I ask"), ToolCall("c1", "weather", "{}"))
    deltas: list[Delta] = [ReasoningDelta("hm"), TextDelta("I ask"), ToolCallDelta(0, "c1", "weather", "{}")]
    check_resource(json.loads(serialize_answer(request, HEAD, (Answer(parts, "tool_calls"),), USED, {})))
    failing = Stream(request, HEAD)
    broken = failing.begin() + failing.wait() + failing.fail(Problem(502, "server", "no"))
    for stream in (streamed(request, deltas, parts, "tool_calls"), streamed(request, [], parts, "length"), broken):
        for event in events_in(stream):
            if "response" in event:
                check_resource(event["response"])
            if "item" in event:
                jsonschema_rs.validate(ITEMS[event["item"]["type"]], event["item"])
            ended = event["type"] == "response.completed"
            assert not ended or event["response"]["completed_at"] >= event["response"]["created_at"]


def test_an_item_that_is_nested_deeply_is_told_as_far_as_anyone_reads() -> None:
    deep: Any = "core"
    for _ in range(200):
        deep = [deep]
    items = [{"type": "mcp_call", "id": "m", "output": deep}, {"role": "user", "content": "?"}]
    assert "(nested deeper)" in asked(input=items).conversation.messages[0].text
    endless = b'{"model":"m","input":[{"type":"mcp_call","output":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
    with pytest.raises(RequestError):
        parse_request(endless)
