"""Chat Completions as the server speaks them, read by the types of OpenAI's own client."""

import base64
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from openai import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from partsong.errors import RequestError
from partsong.model import (
    ANY_OBJECT,
    Answer,
    Delta,
    Image,
    Message,
    Reasoning,
    ReasoningDelta,
    Request,
    Sampling,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from partsong.wire import chat
from partsong.wire.chat import Said, Stream, body, parse_request, serialize_answer, serialize_error
from partsong.wire.chat.fields import Body
from partsong.wire.history import short_id, with_ids
from partsong.wire.parsed import Options, ParsedRequest, answerable
from partsong.wire.reply import Format, Head, Problem
from partsong.wire.sse import Decoder
from tests.upstream import Exchange, Reply, Server, status
from tests.upstream import chat as chatting

HEAD = Head("r1", 1_700_000_000, "trio")
USED = Usage(100, 20, 40, 5, Decimal("0.01"))
COUNTED = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
PARAMS: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
ASK = {"role": "user", "content": "Hello?"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells.", "parameters": SCHEMA}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
SHAPELESS = {"type": "function", "function": {"name": "a", "parameters": 1}}
PIXEL = base64.b64encode(b"pixel").decode()
OLD = {"functions": [{"name": "weather", "parameters": SCHEMA}]}  # from before there were tools


def asked(**fields: Any) -> ParsedRequest:
    return parse_request(json.dumps({"model": "trio", "messages": [ASK]} | fields).encode())


def user(*pieces: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(pieces)}


def shown(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def streamed(request: ParsedRequest, deltas: list[tuple[int, Delta]], *answers: Answer) -> bytes:
    stream = Stream(request, HEAD)
    said = [stream.begin(), *(stream.say(delta, choice) for choice, delta in deltas)]
    return b"".join([*said, stream.finish(answers, USED, {"run": "r1"})])


def chunks_in(stream: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream that has come to its end."""
    datas = [data for _, data in Decoder().feed(stream)]
    assert datas.pop() == b"[DONE]"
    return [json.loads(data) for data in datas]


def accumulated(stream: bytes) -> ChatCompletion:
    """What OpenAI's client makes of a stream, every chunk of which it finds valid."""
    state: Any = ChatCompletionStreamState(input_tools=omit, response_format=omit)
    for chunk in chunks_in(stream):
        parsed = ChatCompletionChunk.model_validate(chunk, strict=True)
        assert parsed.to_dict() == chunk
        state.handle_chunk(parsed)
    completion: ChatCompletion = state.get_final_completion()
    return completion


# ---- what is read


def test_the_package_is_a_format() -> None:
    form: Format = chat
    assert form.parse_request(b'{"model":"m","messages":[{"role":"user","content":"x"}]}').model == "m"


def test_a_question_is_all_that_is_needed() -> None:
    said = asked()
    assert said == ParsedRequest("trio", said.conversation)
    assert said.conversation.messages == (Message("user", (Text("Hello?"),)),)


def test_every_setting_that_a_mixture_can_honour_is_read() -> None:
    fields: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 30,
        "max_tokens": 10,
        "seed": 7,
        "stop": ["END", "STOP"],
        "frequency_penalty": -1,
        "presence_penalty": 1.5,
        "reasoning_effort": "low",
        "verbosity": "high",
        "n": 2,
        "stream_options": {"include_usage": True},
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}},
        "metadata": {"team": "blue"},
        "user": "ann",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "store": True,
        "service_tier": "auto",
        "modalities": ["text"],
    }
    PARAMS.validate_python({"model": "trio", "messages": [ASK]} | fields)  # they are as OpenAI means them
    said = asked(**fields, stream=True, top_k=40, partsong={"events": True, "max_dollars": 0.5, "deadline": 9})
    assert said.conversation.sampling == Sampling(
        0.5, 0.9, 30, 7, ("END", "STOP"), 40, -1.0, 1.5, effort="low", verbosity="high"
    )
    assert (said.stream, said.samples, said.usage_in_stream) == (True, 2, True)
    assert said.conversation.tools == (Tool("weather", "Tells.", json.dumps(SCHEMA).encode()),)
    assert (said.conversation.tool_choice, said.conversation.parallel_tool_calls) == ("weather", False)
    assert said.conversation.response_format == json.dumps(SCHEMA).encode()
    assert said.labels == {"team": "blue", "user": "ann", "safety_identifier": "s", "prompt_cache_key": "k"}
    assert said.options == Options(events=True, max_dollars=Decimal("0.5"), deadline=9)


def test_what_is_null_or_unknown_or_says_nothing_is_as_if_it_were_not_there() -> None:
    fields = (
        "temperature top_p max_tokens seed stop n stream stream_options tools tool_choice logit_bias logprobs audio"
    )
    nulls = dict.fromkeys([*fields.split(), "functions", "response_format", "metadata", "partsong", "service_tier"])
    assert asked(**nulls) == asked()
    assert asked(logprobs=False, logit_bias={}, top_logprobs=0, top_k=-1, tools=[], tool_choice="auto") == asked()
    assert asked(response_format={"type": "text"}, prompt_cache_retention="24h", some_extension={"x": 1}) == asked()


def test_a_conversation_of_all_roles_is_read() -> None:
    said = asked(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": " kind."}]},
            {"role": "system", "content": "Be brief."},
            user({"type": "text", "text": "See"}, shown(f"data:image/png;base64,{PIXEL}"), shown("https://e.org/a")),
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "Sun"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "assistant", "content": "Yes.", "refusal": None, "audio": None, "annotations": []},
        ]
    )
    assert said.conversation.messages == (
        Message("system", (Text("Be"), Text(" kind."))),
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("See"), Image(b"pixel", "image/png"), Image(url="https://e.org/a"))),
        Message("assistant", (Reasoning("hm"), ToolCall("c1", "weather", '{"city": "Rome"}'))),
        Message("tool", (ToolResult("c1", (Text("Sun"),)),)),
        Message("assistant", (Text("No."),)),
        Message("assistant", (Text("Yes."),)),
    )


def test_functions_are_the_old_name_of_tools() -> None:
    called = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}}
    told = {"role": "function", "name": "weather", "content": "Sun"}
    said = asked(messages=[ASK, called, told, called, told], **OLD, function_call={"name": "weather"})
    assert [tool.name for tool in said.conversation.tools] == ["weather"]
    assert (said.conversation.tool_choice, said.conversation.parallel_tool_calls) == ("weather", False)
    parts = [part for message in said.conversation.messages[1:] for part in message.parts]
    ids = [part.id if isinstance(part, ToolCall) else part.call_id for part in parts]  # type: ignore[union-attr]
    assert ids[0] == ids[1] != ids[2] == ids[3]  # a result belongs to the call before it, by whichever name


def test_schemas_stay_the_callers_bytes() -> None:
    schema = b'{ "type":"object" ,"z":1,"a":1.0 }'
    said = parse_request(
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":'
        b'{"name":"f","strict":true,"parameters":' + schema + b'}}],"response_format":{"type":"json_schema",'
        b'"json_schema":{"name":"n","schema":' + schema + b"}}}"
    )
    assert said.conversation.tools == (Tool("f", "", schema, True),)
    assert said.conversation.response_format == schema


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"messages": [user({"type": "input_audio", "input_audio": {}})]}, "messages[0].content[0].type"),
        ({"messages": [ASK, user({"type": "file", "file": {"file_id": "f"}})]}, "messages[1].content[0].file.file_id"),
        ({"messages": [user({"type": "file", "file": {"filename": "f"}})]}, "messages[0].content[0].file.file_data"),
        (
            {"messages": [user({"type": "file", "file": {"file_data": "https://e.org/a.pdf"}})]},
            "messages[0].content[0].file.file_data",
        ),
        ({"messages": [user({"type": "input_audio"})]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        ({"messages": [{"role": "assistant", "content": [shown("https://e.org")]}]}, "messages[0].content[0]"),
        ({"messages": [user(shown("file:///etc/passwd"))]}, "messages[0].content[0].image_url.url"),
        ({"messages": [user(shown("data:image/png;base64,?"))]}, "messages[0].content[0].image_url.url"),
        ({"messages": [user(shown("data:image/png;base64,"))]}, "messages[0].content[0].image_url.url"),
        ({"messages": [user(shown("data:text/html;base64,AAAA"))]}, "messages[0].content[0].image_url.url"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [ASK, ASK, {"role": "user", "content": 3}]}, "messages[2].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]}]},
            "messages[0].tool_calls[0]",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": [{"type": "function"}]}]}, "messages[0].tool_calls[0].id"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "custom"}]}, "tools[0].custom"),
        ({"tools": [{"type": "custom", "custom": {"name": "a b"}}]}, "tools[0].custom.name"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "a", "format": {"type": "grammar"}}}]},
            "tools[0].custom.format.grammar",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [SHAPELESS]}, "tools[0].function.parameters"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [WEATHER], **OLD}, "functions"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
            "tool_choice.allowed_tools.mode",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "weather"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({**OLD, "function_call": "required"}, "function_call"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 2**70}, "max_completion_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"stop": [1]}, "stop[0]"),
        ({"verbosity": "chatty"}, "verbosity"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"partsong": {"deadline": 0}}, "partsong.deadline"),
        ({"partsong": {"evnets": True}}, "partsong"),
        ({"partsong": 3}, "partsong"),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_name_of_its_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        asked(**fields)
    assert caught.value.field == field
    assert field in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        parse_request(data)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
NAMES = st.sampled_from(["x", *Body.__struct_fields__])


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.booleans())
@settings(max_examples=200, deadline=None)
def test_nothing_but_a_request_error_comes_of_any_fields(fields: dict[str, Any], alone: bool) -> None:
    try:
        said = parse_request(json.dumps(fields).encode()) if alone else asked(**fields)
    except RequestError:
        pass
    else:
        msgspec.json.encode(said)  # whatever is accepted can be kept
        msgspec.json.encode(
            body(Request(said.conversation.messages, sampling=said.conversation.sampling), "m", stream=True)
        )


# ---- there and back


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
CALLS = st.builds(ToolCall, TEXTS, st.just("weather"), TEXTS)
PICTURES = st.builds(Image, st.binary(min_size=1, max_size=9), st.just("image/png")) | st.just(
    Image(url="https://e.org")
)
MESSAGES = st.one_of(
    st.builds(lambda text: Message("system", (Text(text),)), TEXTS),
    st.builds(lambda text: Message("user", (Text(text),)), TEXTS),
    st.builds(lambda text, picture: Message("user", (Text(text), picture)), TEXTS, PICTURES),
    st.builds(lambda text, calls: Message("assistant", (Text(text), *calls)), TEXTS, st.lists(CALLS, max_size=2)),
    st.builds(lambda call, text: Message("tool", (ToolResult(call, (Text(text),)),)), TEXTS, TEXTS),
)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    max_tokens=st.none() | st.integers(1, 2**40),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(TEXTS, max_size=2).map(tuple),
    top_k=st.none() | st.integers(1, 99),
    frequency_penalty=st.none() | st.floats(-2, 2),
    effort=st.none() | st.sampled_from(["none", "low", "high"]),
    verbosity=st.none() | st.sampled_from(["low", "high"]),
)
TOOLS = st.just(()) | st.just((Tool("weather", "Tells.", json.dumps(SCHEMA).encode(), True),))
FORMATS = st.sampled_from([None, ANY_OBJECT, json.dumps(SCHEMA).encode()])


@given(st.lists(MESSAGES, min_size=1, max_size=4), TOOLS, FORMATS, SAMPLINGS, st.none() | st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_a_provider_is_sent_is_what_the_server_reads(
    messages: list[Message], tools: tuple[Tool, ...], form: bytes | None, sampling: Sampling, parallel: bool | None
) -> None:
    request = Request(
        tuple(messages),
        tools=tools,
        tool_choice="required" if tools else None,
        response_format=form,
        sampling=sampling,
        parallel_tool_calls=parallel if tools else None,
    )
    said = parse_request(msgspec.json.encode(body(request, "m", stream=True)))
    assert (said.model, said.stream, said.usage_in_stream) == ("m", True, True)
    back = said.conversation
    # Each tool call gets an id of its own, which fits the API.
    assert (back.messages, back.sampling) == (answerable(with_ids(request.messages, short_id)), request.sampling)
    assert (back.tools, back.tool_choice) == (request.tools, request.tool_choice)
    assert (back.response_format, back.parallel_tool_calls) == (form, request.parallel_tool_calls)


PARTS = (Reasoning("hm"), Text("I ask"), ToolCall("c1", "weather", '{"city":"Rome"}'), ToolCall("c2", "weather", "{}"))
DELTAS: list[Delta] = [
    ReasoningDelta("h"),
    ReasoningDelta("m"),
    TextDelta("I "),
    TextDelta("ask"),
    ToolCallDelta(0, "c1", "weather", '{"city":'),
    ToolCallDelta(0, arguments='"Rome"}'),
    ToolCallDelta(1, "c2", "weather", "{}"),
]


def test_a_partsong_behind_a_partsong_hears_the_same_answer() -> None:
    request = asked(stream_options={"include_usage": True})
    answer = Answer(PARTS, "tool_calls")
    plain, stream = Said(), Said()
    plain.hear_whole(serialize_answer(request, HEAD, (answer,), USED, {}))
    deltas = stream.hear(Decoder().feed(streamed(request, [(0, delta) for delta in DELTAS], answer)))
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == "I ask"
    for said in (plain, stream):
        heard = said.answer()
        assert (heard.parts, heard.finish_reason, heard.model) == (PARTS, "tool_calls", "trio")
        assert said.usage == replace(USED, dollars=None)


# ---- what is written


def test_a_whole_answer_is_what_the_client_expects() -> None:
    answers = (Answer(PARTS, "tool_calls"), Answer((Text("Ünd"),), "length"), Answer((ToolCall("c", "f", "{}"),)))
    written = serialize_answer(asked(n=3), HEAD, answers, USED, {"run": "r1"})
    shown = ChatCompletion.model_validate_json(written, strict=True)
    assert shown.to_dict(exclude_unset=True) == json.loads(written)
    assert (shown.id, shown.created, shown.model) == ("chatcmpl-r1", 1_700_000_000, "trio")
    assert [choice.finish_reason for choice in shown.choices] == ["tool_calls", "length", "tool_calls"]
    assert [choice.message.content for choice in shown.choices] == ["I ask", "Ünd", None]
    assert shown.choices[0].to_dict()["message"] == {
        "role": "assistant",
        "content": "I ask",
        "refusal": None,
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
            {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        ],
    }
    assert shown.usage is not None
    assert shown.usage.to_dict() == COUNTED
    assert shown.to_dict()["partsong"] == {"run": "r1"}


def test_a_stream_adds_up_to_the_whole_answer() -> None:
    answer = Answer(PARTS, "tool_calls")
    request = asked(stream=True, stream_options={"include_usage": True})
    stream = streamed(request, [(0, delta) for delta in DELTAS], answer)
    assert [chunk["choices"][0]["delta"] for chunk in chunks_in(stream)[5:8]] == [
        {"tool_calls": [CALL | {"index": 0, "function": {"name": "weather", "arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]},
        {"tool_calls": [CALL | {"index": 1, "id": "c2", "function": {"name": "weather", "arguments": "{}"}}]},
    ]
    final = accumulated(stream)
    message = final.choices[0].message
    assert (message.role, message.content, final.choices[0].finish_reason) == ("assistant", "I ask", "tool_calls")
    assert message.to_dict()["reasoning_content"] == "hm"
    calls = [
        (call.id, call.type, call.function.name, call.function.arguments)
        for call in message.tool_calls or []
        if call.type == "function"
    ]
    assert calls == [("c1", "function", "weather", '{"city":"Rome"}'), ("c2", "function", "weather", "{}")]
    assert final.usage is not None
    assert final.usage.to_dict() == COUNTED


def test_several_streamed_answers_are_told_apart() -> None:
    deltas: list[tuple[int, Delta]] = [
        (1, TextDelta("one")),
        (0, TextDelta("ze")),
        (1, ToolCallDelta(0, "c1", "f", "{}")),
        (0, TextDelta("ro")),
        (0, ToolCallDelta(0, "c0", "f", "{")),
        (0, ToolCallDelta(0, arguments="}")),
    ]
    answers = (
        Answer((Text("zero"), ToolCall("c0", "f", "{}")), "tool_calls"),
        Answer((Text("one"), ToolCall("c1", "f", "{}")), "tool_calls"),
    )
    stream = streamed(asked(n=2), deltas, *answers)
    final = accumulated(stream)
    assert [choice.message.content for choice in final.choices] == ["zero", "one"]
    assert [[call.id for call in choice.message.tool_calls or []] for choice in final.choices] == [["c0"], ["c1"]]
    chunks = chunks_in(stream)
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks[:3]] == ["assistant", "assistant", None]
    assert ["partsong" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_the_last_chunk_has_the_report_and_the_usage_where_it_was_asked_for() -> None:
    answer = Answer((Text("Hi"),))
    plain = chunks_in(streamed(asked(), [(0, TextDelta("Hi"))], answer))
    assert all(len(chunk["choices"]) == 1 and "usage" not in chunk for chunk in plain)
    assert plain[-1]["choices"][0]["finish_reason"] == "stop"
    assert plain[-1]["partsong"] == {"run": "r1"}
    counted = chunks_in(streamed(asked(stream_options={"include_usage": True}), [(0, TextDelta("Hi"))], answer))
    assert [chunk["usage"] for chunk in counted] == [None, None, None, COUNTED]
    assert (counted[-1]["choices"], counted[-1]["partsong"]) == ([], {"run": "r1"})
    assert [chunk["choices"] for chunk in counted[:-1]] == [chunk["choices"] for chunk in plain]


def test_who_asks_in_the_old_way_hears_it_in_the_old_way() -> None:
    answer = Answer((ToolCall("c1", "weather", '{"city":"Rome"}'),), "tool_calls")
    wanted = {"name": "weather", "arguments": '{"city":"Rome"}'}
    shown = ChatCompletion.model_validate_json(serialize_answer(asked(**OLD), HEAD, (answer,), USED, {}), strict=True)
    assert shown.choices[0].finish_reason == "function_call"
    assert shown.choices[0].message.to_dict()["function_call"] == wanted
    assert shown.choices[0].message.tool_calls is None
    deltas: list[tuple[int, Delta]] = [(0, each) for each in DELTAS[4:6]]
    final = accumulated(streamed(asked(**OLD), deltas, answer))
    assert final.choices[0].finish_reason == "function_call"
    assert final.choices[0].message.to_dict()["function_call"] == wanted


def test_events_of_the_run_go_unnoticed_by_the_client() -> None:
    stream = Stream(asked(), HEAD)
    event = b'{"event":"layer_started","error":"x"}'
    said = stream.begin() + stream.tell(event) + stream.wait() + stream.say(TextDelta("Hi"))
    said += stream.tell(b"{}") + stream.finish((Answer((Text("Hi"),)),), USED, {})
    assert accumulated(said).choices[0].message.content == "Hi"
    told = [chunk for chunk in chunks_in(said) if not chunk["choices"]]
    assert [chunk["partsong"] for chunk in told] == [json.loads(event), {}]
    assert not any("error" in chunk for chunk in told)  # the client takes that for a failure
    assert stream.wait().startswith(b":")
    assert Decoder().feed(stream.wait()) == []


@given(TEXTS)
@settings(max_examples=50, deadline=None)
def test_any_words_are_one_event(text: str) -> None:
    said = Stream(asked(), HEAD).say(TextDelta(text))
    assert said.count(b"\n") == 2
    assert json.loads(said.removeprefix(b"data: "))["choices"][0]["delta"] == {"content": text}


def test_a_problem_is_an_error_of_openais_shape() -> None:
    problem = Problem(400, "invalid_request", "no", field="tools[0]")
    wanted = {"error": {"message": "no", "type": "invalid_request_error", "param": "tools[0]", "code": None}}
    assert json.loads(serialize_error(problem)) == wanted
    long = Problem(400, "invalid_request", "long", code="window", partsong={"run": "r1"})
    assert json.loads(serialize_error(long)) == {
        "error": {"message": "long", "type": "invalid_request_error", "param": None, "code": "context_length_exceeded"},
        "partsong": {"run": "r1"},
    }
    said = Stream(asked(), HEAD).fail(Problem(429, "rate_limit", "slow", code="rate"))
    ((_, data),) = Decoder().feed(said)
    assert json.loads(data)["error"]["type"] == "rate_limit_error"


# ---- what a provider is sent, and what it may refuse


FULL = Request(
    (Message("user", (Text("Why?"),)),),
    tools=(Tool("weather", parameters=json.dumps(SCHEMA).encode(), strict=True),),
    parallel_tool_calls=False,
    response_format=ANY_OBJECT,
    sampling=Sampling(top_k=3, frequency_penalty=0.5, presence_penalty=0.5, effort="low", verbosity="low"),
)


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http(silence=5) as http:
        yield http


def refusing(field: str, words: str) -> Any:
    def answer(exchange: Exchange) -> Reply:
        return status(400, words) if field in exchange.json else chatting()(exchange)

    return answer


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("top_k", "Unrecognized request argument supplied: top_k"),
        ("reasoning_effort", "Unsupported value: 'reasoning_effort' does not support 'low' with this model."),
        ("reasoning_effort", "Model m does not support parameter reasoningEffort."),
        ("verbosity", "Unknown parameter: 'verbosity'."),
        ("frequency_penalty", "Unsupported parameter: 'frequency_penalty' is not supported with this model."),
        ("presence_penalty", "Model m does not support parameter presencePenalty."),
        ("parallel_tool_calls", "Unsupported parameter: 'parallel_tool_calls' is not supported with this model."),
    ],
)
async def test_a_provider_that_refuses_a_wish_is_asked_without_it(http: Http, field: str, words: str) -> None:
    async with Server(refusing(field, words)) as server:
        model = OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="m")
        assert (await model(FULL, None)).text
        first, second = (exchange.json for exchange in server.exchanges)
    assert {name: value for name, value in first.items() if name != field} == second


async def test_a_provider_without_json_object_is_given_a_schema(http: Http) -> None:
    def answer(exchange: Exchange) -> Reply:
        if exchange.json["response_format"]["type"] == "json_object":
            return status(400, "'response_format.type' must be 'json_schema' or 'text'")
        return chatting()(exchange)

    async with Server(answer) as server:
        assert (await OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="m")(FULL, None)).text
        first, second = (exchange.json for exchange in server.exchanges)
    assert first["response_format"] == {"type": "json_object"}
    schema = second["response_format"]["json_schema"]
    assert (schema["schema"], schema["strict"]) == (json.loads(ANY_OBJECT), False)


async def test_a_provider_that_knows_no_strict_tools_is_given_plain_ones(http: Http) -> None:
    def answer(exchange: Exchange) -> Reply:
        strict = "strict" in exchange.json["tools"][0]["function"]
        return (
            status(400, "tools.0.function.strict: Extra inputs are not permitted") if strict else chatting()(exchange)
        )

    async with Server(answer) as server:
        assert (await OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="m")(FULL, None)).text
        first, second = (exchange.json for exchange in server.exchanges)
    assert first["tools"][0]["function"].pop("strict") is True
    assert first == second


# ---- tools that take free text, and what the system says last


PATCH: Any = {"type": "custom", "custom": {"name": "patch", "description": "Patches."}}


def test_a_tool_that_takes_free_text_is_a_function_for_the_models() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}}
    tool = {"type": "custom", "custom": {"name": "patch", "format": grammar}}
    said = asked(tools=[tool, WEATHER], tool_choice={"type": "custom", "custom": {"name": "patch"}}).conversation
    assert said.tool_choice == "patch"
    assert said.tools[0].description == "The input must follow this regex grammar:\na+"
    allowed = {"mode": "auto", "tools": [{"type": "custom", "custom": {"name": "patch"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    assert [tool.name for tool in asked(tools=[tool, WEATHER], tool_choice=choice).conversation.tools] == ["patch"]


def test_a_call_of_it_is_its_text_whole_and_streamed() -> None:
    request = asked(tools=[PATCH, WEATHER])
    answer = Answer((ToolCall("c1", "patch", '{"input":"+a"}'), ToolCall("c2", "weather", "{}")), "tool_calls")
    shown = ChatCompletion.model_validate_json(serialize_answer(request, HEAD, (answer,), USED, {}), strict=True)
    custom = {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "+a"}}
    assert next(each.to_dict() for each in shown.choices[0].message.tool_calls or ()) == custom
    deltas: list[tuple[int, Delta]] = [
        (0, ToolCallDelta(0, "c1", "patch", '{"inp')),
        (0, ToolCallDelta(1, "c2", "weather", "{}")),
        (0, ToolCallDelta(0, arguments='ut":"+a"}')),
    ]
    told = [
        each
        for chunk in chunks_in(streamed(request, deltas, answer))
        for choice in chunk["choices"]
        for each in choice["delta"].get("tool_calls", ())
    ]
    assert [each for each in told if each["index"] == 0] == [{"index": 0, **custom}]
    history = [
        ASK,
        {"role": "assistant", "tool_calls": [custom]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
    ]
    assert asked(messages=history).conversation.messages[1].parts == (answer.parts[0],)


def test_a_conversation_may_end_with_the_system() -> None:
    developer = {"role": "developer", "content": "Be brief."}
    assert asked(messages=[ASK, developer]).conversation.messages == (
        Message("user", (Text("Hello?"), Text("\n\n"), Text("Be brief."))),
    )
    assert asked(messages=[developer]).conversation.messages == (Message("user", (Text("Be brief."),)),)
    result = {"role": "tool", "tool_call_id": "c1", "content": "Sun"}
    history = [ASK, {"role": "assistant", "tool_calls": [CALL]}, result, developer]
    assert asked(messages=history).conversation.messages[-1] == Message(
        "tool", (ToolResult("c1", (Text("Sun"),)), Text("\n\n"), Text("Be brief."))
    )


@pytest.mark.parametrize(("stop", "meant"), [("", ()), ([], ()), (["", "END"], ("END",)), ("END", ("END",))])
def test_a_stop_word_that_is_empty_stops_nothing(stop: Any, meant: tuple[str, ...]) -> None:
    assert asked(stop=stop).conversation.sampling.stop == meant
