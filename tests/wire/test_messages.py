"""The Anthropic Messages format, without a socket: golden requests, whole answers, and streams cut anywhere."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from partsong.errors import ModelError, RequestError
from partsong.model import (
    Answer,
    Delta,
    Image,
    Message,
    Part,
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
from partsong.wire import messages
from partsong.wire.messages.answer import REDACTED
from partsong.wire.messages.request import OPENING
from partsong.wire.tokens import estimate, estimate_tokens

WEATHER = Tool("weather", "The weather in a town", b'{"type":"object","properties":{"town":{"type":"string"}}}')


def message(role: Any, *parts: Part | str) -> Message:
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def body(request: Request, *, stream: bool = False) -> dict[str, Any]:
    """The body as the API reads it."""
    decoded = msgspec.json.decode(msgspec.json.encode(messages.body(request, "claude", stream=stream)))
    assert isinstance(decoded, dict)
    return decoded


def turns(*said: Message) -> list[tuple[str, list[dict[str, Any]]]]:
    return [(turn["role"], turn["content"]) for turn in body(Request(said))["messages"]]


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


# ---- a request


def test_a_plain_question_is_these_bytes() -> None:
    request = Request((message("user", "Why is the sky blue?"),))
    assert msgspec.json.encode(messages.body(request, "claude", stream=False)) == (
        b'{"model":"claude","max_tokens":4096,'
        b'"messages":[{"role":"user","content":[{"type":"text","text":"Why is the sky blue?"}]}]}'
    )


def test_everything_a_request_can_hold_is_said_in_the_api_s_words() -> None:
    request = Request(
        (
            message("system", "Be brief."),
            message("user", Image(b"\x89PNG", "image/png"), Image(url="https://example.org/a.jpg"), "What is this?"),
            message(
                "assistant", Reasoning("Hm.", "c2ln"), "Let me look.", ToolCall("t1", "weather", '{"town": "Ulm"}')
            ),
            message("tool", ToolResult("t1", (Text("rain"), Image(b"x", "image/gif")), is_error=True)),
        ),
        tools=(WEATHER,),
        tool_choice="auto",
        response_format=b'{"type":"object","additionalProperties":false}',
        sampling=Sampling(temperature=0.5, top_p=0.9, max_tokens=50, seed=7, stop=("END",)),
        sample=3,
    )
    assert body(request, stream=True) == {
        "model": "claude",
        "max_tokens": 50,
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
                    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.jpg"}},
                    text("What is this?"),
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                    text("Let me look."),
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"town": "Ulm"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [
                            text("rain"),
                            {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "eA=="}},
                        ],
                        "is_error": True,
                    }
                ],
            },
        ],
        "tools": [
            {
                "name": "weather",
                "description": "The weather in a town",
                "input_schema": {"type": "object", "properties": {"town": {"type": "string"}}},
            }
        ],
        "tool_choice": {"type": "auto"},
        "output_config": {
            "format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}
        },
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "stream": True,
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("weather", {"type": "tool", "name": "weather"}),
    ],
)
def test_a_tool_choice(choice: str, sent: dict[str, str]) -> None:
    asked = (message("user", "?"),)
    assert body(Request(asked, tools=(WEATHER,), tool_choice=choice))["tool_choice"] == sent
    assert "tool_choice" not in body(Request(asked, tool_choice=choice))  # refused where there are no tools


def test_a_tool_without_a_schema_takes_an_object() -> None:
    sent = body(Request((message("user", "?"),), tools=(Tool("now"),)))
    assert sent["tools"] == [{"name": "now", "input_schema": {"type": "object"}}]


@pytest.mark.parametrize("schema", [b"", b"{", b"[]", b"\xff", b'{"a":"\xff"}', b'{"a":' * 9999])
def test_a_schema_that_is_none_is_refused_before_anything_is_sent(schema: bytes) -> None:
    for request in (
        Request((message("user", "?"),), tools=(Tool("now", "", schema),)),
        Request((message("user", "?"),), response_format=schema),
    ):
        with pytest.raises(ModelError, match="no JSON Schema") as caught:
            messages.body(request, "claude", stream=False)
        assert caught.value.cause == "refused"


@pytest.mark.parametrize(("asked", "sent"), [(0.0, 0.0), (0.7, 0.7), (1.0, 1.0), (1.5, 1.0), (2.0, 1.0)])
def test_temperature_ends_at_one(asked: float, sent: float) -> None:
    assert body(Request((message("user", "?"),), sampling=Sampling(temperature=asked)))["temperature"] == sent


def test_system_messages_are_lifted_out_and_joined() -> None:
    request = Request(
        (
            message("system", "One.", " Still one."),
            message("user", "?"),
            message("system", " \n"),
            message("assistant", "!"),
            message("system", "Two."),
            message("user", "??"),
        )
    )
    sent = body(request)
    assert sent["system"] == "One. Still one.\n\nTwo."
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]


def test_a_picture_in_a_system_message_is_shown_by_the_user() -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    said = (message("system", Image(url="https://example.org/a.png"), "Look."), message("user", "?"))
    assert turns(*said) == [("user", [picture, text("?")])]
    assert body(Request(said))["system"] == "Look."


def test_neighbours_of_one_role_become_one_turn() -> None:
    call = {"type": "tool_use", "id": "a", "name": "now", "input": {}}
    assert turns(
        message("user", "one"),
        message("user", "two"),
        message("assistant", "three"),
        message("assistant", ToolCall("a", "now", "{}")),
        message("tool", ToolResult("a", ())),
        message("user", "four"),
    ) == [
        ("user", [text("one"), text("two")]),
        ("assistant", [text("three"), call]),
        ("user", [{"type": "tool_result", "tool_use_id": "a"}, text("four")]),
    ]


@pytest.mark.parametrize("nothing", ["", " ", "\n\t"])
def test_empty_text_is_not_sent(nothing: str) -> None:
    assert turns(
        message("user", "one", nothing),
        message("assistant", nothing),
        message("user", nothing),
        message("tool", ToolResult("a", (Text(nothing),))),
    ) == [("user", [text("one"), {"type": "tool_result", "tool_use_id": "a"}])]


def test_the_user_speaks_first() -> None:
    opening = ("user", [text(OPENING)])
    assert turns(message("assistant", "Hello."), message("user", "?")) == [
        opening,
        ("assistant", [text("Hello.")]),
        ("user", [text("?")]),
    ]
    assert turns(message("system", "Say something.")) == [opening]


def test_an_answer_to_be_continued_ends_without_white_space() -> None:
    assert turns(message("user", "?"), message("assistant", "one \n", "two \n"))[-1] == (
        "assistant",
        [text("one \n"), text("two")],
    )
    assert turns(message("user", "? "))[-1] == ("user", [text("? ")])


def test_reasoning_goes_back_only_when_signed_and_when_something_follows() -> None:
    redacted = {"type": "redacted_thinking", "data": "QUJD"}
    signed = {"type": "thinking", "thinking": "", "signature": "c2ln"}
    assert turns(
        message("user", "?"),
        message("assistant", Reasoning("unsigned"), Reasoning("", "c2ln"), Reasoning("", REDACTED + "QUJD"), "!"),
        message("user", "?"),
        message("assistant", "!", Reasoning("led to nothing", "c2ln")),
        message("user", "?"),
        message("assistant", Reasoning("led to nothing", "c2ln")),
    ) == [
        ("user", [text("?")]),
        ("assistant", [signed, redacted, text("!")]),
        ("user", [text("?")]),
        ("assistant", [text("!")]),
        ("user", [text("?")]),
    ]


@pytest.mark.parametrize("arguments", ['{"town": "Ul', "[1]", "42", '"x"', "{} {}"])
def test_arguments_that_are_no_object_are_shown_as_they_are(arguments: str) -> None:
    request = Request((message("assistant", ToolCall("a", "now", arguments)),))
    assert body(request)["messages"][-1]["content"][0]["input"] == {"INVALID_JSON": arguments}


def test_arguments_are_sent_as_the_model_wrote_them() -> None:
    request = Request((message("assistant", ToolCall("a", "now", '{"n": 1.50,  "m": 12345678901234567890123}')),))
    assert b'"input":{"n": 1.50,  "m": 12345678901234567890123}' in msgspec.json.encode(
        messages.body(request, "claude", stream=False)
    )


def test_another_provider_s_call_ids_are_written_in_the_api_s_letters() -> None:
    sent = turns(
        message("assistant", ToolCall("functions.now:0", "now", "")), message("tool", ToolResult("functions.now:0", ()))
    )
    assert sent[1][1][0]["id"] == sent[2][1][0]["tool_use_id"] == "functions_now_0"


# ---- a whole answer

ASKED = Request((message("user", "Why?"),))


def whole(**fields: Any) -> Answer:
    said = messages.Said()
    said.hear_whole(msgspec.json.encode(fields))
    assert said.ended
    assert said.problem is None
    return replace(said.answer(), usage=said.used(ASKED))


CONTENT: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "QUJD"},
    {"type": "text", "text": "Let me look."},
    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"town": "Ulm"}},
]
COUNTS = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 200,
    "cache_read_input_tokens": 3000,
    "output_tokens": 40,
    "output_tokens_details": {"thinking_tokens": 5},
    "service_tier": "standard",
}


def test_a_whole_answer() -> None:
    answer = whole(
        id="msg_1",
        type="message",
        role="assistant",
        model="claude-x-20990101",
        content=[
            *CONTENT,
            {"type": "text", "text": ""},
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "Ulm"}},
            {"type": "invented_later", "content": [{"type": "whatever"}]},
        ],
        stop_reason="tool_use",
        stop_sequence=None,
        usage=COUNTS,
    )
    assert answer == Answer(
        (
            Reasoning("Hm.", "c2ln"),
            Reasoning("", REDACTED + "QUJD"),
            Text("Let me look."),
            ToolCall("t1", "weather", '{"town":"Ulm"}'),
        ),
        "tool_calls",
        Usage(3210, 40, 3000, 5, cache_write_tokens=200),
        "claude-x-20990101",
    )


def test_a_whole_answer_says_what_a_stream_would_have_said() -> None:
    said = messages.Said()
    assert said.hear_whole(msgspec.json.encode({"content": CONTENT})) == [
        ReasoningDelta("Hm."),
        TextDelta("Let me look."),
        ToolCallDelta(0, "t1", "weather", '{"town":"Ulm"}'),
    ]


def test_what_was_answered_is_sent_back_unchanged() -> None:
    answer = whole(content=CONTENT)
    sent = turns(message("user", "?"), Message("assistant", answer.parts), message("tool", ToolResult("t1", ())))
    assert sent[1] == ("assistant", CONTENT)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "length"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("invented_later", "length"),
        (None, "stop"),
    ],
)
def test_stop_reasons(said: str | None, meant: str) -> None:
    assert whole(content=[text("x")], stop_reason=said).finish_reason == meant
    end = {"type": "message_delta", "delta": {"stop_reason": said}, "usage": {"output_tokens": 1}}
    assert heard([end])[1].answer().finish_reason == meant


def test_the_provider_s_reason_for_a_refusal_is_kept() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    said = messages.Said()
    said.hear_whole(msgspec.json.encode({"content": [], "stop_reason": "refusal", "stop_details": details}))
    assert said.refusal == "Not this."
    end = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}}
    assert heard([end, {"type": "message_delta", "delta": {"stop_details": None}}])[1].refusal == "Not this."


def test_only_the_content_must_be_there() -> None:
    assert whole(content=[]).parts == ()
    nothing = whole(content=[text("") | {"text": None}], model=None, stop_reason=None, usage={"input_tokens": None})
    assert (nothing.parts, nothing.finish_reason, nothing.model) == ((), "stop", "")


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"{", b"<html>", b"[]", b"{}", b'{"content":"x"}', b'{"content":[{"text":1}]}', b'"\xc3"', b"[" * 9999],
)
def test_what_is_no_answer_is_not_taken_for_one(rubbish: bytes) -> None:
    with pytest.raises(ModelError, match="no message") as caught:
        messages.Said().hear_whole(rubbish)
    assert caught.value.cause == "server"


def test_an_error_in_place_of_an_answer_is_kept() -> None:
    said = messages.Said()
    document = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    assert said.hear_whole(document) == []
    assert said.problem == document
    assert not said.ended


# ---- a stream


def heard(*reads: list[dict[str, Any]]) -> tuple[list[list[Delta]], messages.Said]:
    said = messages.Said()
    return [said.hear([(event["type"], msgspec.json.encode(event)) for event in read]) for read in reads], said


def opening(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


@pytest.mark.parametrize("wrong", [b"\xed\xa0\x80", b"\xff", b"\xc3"])
def test_arguments_that_are_no_utf_8_fail_no_stream(wrong: bytes) -> None:
    block = msgspec.json.encode(opening(0, type="tool_use", id="c", name="f", input={"a": "?"})).replace(b"?", wrong)
    said = messages.Said()
    said.hear([(event["type"], msgspec.json.encode(event)) for event in STREAM[:1]])
    said.hear([("content_block_start", block)])
    said.hear([("content_block_stop", msgspec.json.encode(closing(0)))])


def closing(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


STREAM: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-x-20990101",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 10,
                "cache_creation_input_tokens": 200,
                "cache_read_input_tokens": 3000,
                "output_tokens": 1,
            },
        },
    },
    opening(0, type="thinking", thinking="", signature=""),
    {"type": "ping"},
    piece(0, "thinking_delta", thinking="Let me "),
    piece(0, "thinking_delta", thinking="think."),
    piece(0, "signature_delta", signature="c2ln"),
    closing(0),
    opening(1, type="redacted_thinking", data="QUJD"),
    closing(1),
    opening(2, type="text", text=""),
    piece(2, "text_delta", text="Grüße"),
    piece(2, "citations_delta", citation={"type": "page_location"}),
    piece(2, "text_delta", text=" aus "),
    piece(2, "text_delta", text="Ulm 🌧"),
    closing(2),
    {"type": "invented_later", "index": 2, "delta": {"type": "whatever"}},
    opening(3, type="server_tool_use", id="s1", name="web_search", input={}),
    piece(3, "input_json_delta", partial_json='{"query": "x"}'),
    closing(3),
    opening(4, type="tool_use", id="t1", name="weather", input={}),
    piece(4, "input_json_delta", partial_json=""),
    piece(4, "input_json_delta", partial_json='{"town": '),
    piece(4, "input_json_delta", partial_json='"Ulm"}'),
    closing(4),
    opening(5, type="tool_use", id="t2", name="now", input={}),
    closing(5),
    opening(6, type="tool_use", id="t3", name="weather", input={"town": "Bonn"}),
    closing(6),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"input_tokens": None, "output_tokens": 42, "output_tokens_details": {"thinking_tokens": 6}},
    },
    {"type": "message_stop"},
]
ANSWER = Answer(
    (
        Reasoning("Let me think.", "c2ln"),
        Reasoning("", REDACTED + "QUJD"),
        Text("Grüße aus Ulm 🌧"),
        ToolCall("t1", "weather", '{"town": "Ulm"}'),
        ToolCall("t2", "now", "{}"),
        ToolCall("t3", "weather", '{"town":"Bonn"}'),
    ),
    "tool_calls",
    Usage(3210, 42, 3000, 6, cache_write_tokens=200),
    "claude-x-20990101",
)


def test_a_stream_in_one_read_is_one_delta_for_each_kind() -> None:
    (deltas,), said = heard(STREAM)
    assert deltas == [
        ReasoningDelta("Let me think."),
        TextDelta("Grüße aus Ulm 🌧"),
        ToolCallDelta(0, "t1", "weather", '{"town": "Ulm"}'),
        ToolCallDelta(1, "t2", "now", "{}"),
        ToolCallDelta(2, "t3", "weather", '{"town":"Bonn"}'),
    ]
    assert said.ended
    assert said.problem is None
    assert said.answer() == ANSWER


@given(st.sets(st.integers(1, len(STREAM) - 1)))
def test_wherever_a_stream_is_cut_the_deltas_are_the_answer(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    reads, said = heard(*(STREAM[start:end] for start, end in pairwise(edges)))
    assert said.answer() == ANSWER
    deltas = [delta for read in reads for delta in read]
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == ANSWER.text
    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == "Let me think."
    calls: dict[int, ToolCall] = {}
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            call = calls.get(delta.index, ToolCall("", "", ""))
            calls[delta.index] = ToolCall(call.id + delta.id, call.name + delta.name, call.arguments + delta.arguments)
    assert tuple(calls.values()) == tuple(part for part in ANSWER.parts if isinstance(part, ToolCall))
    for read in reads:
        kinds = [(type(delta), getattr(delta, "index", None)) for delta in read]
        assert all(one != other for one, other in pairwise(kinds))


def counted(*usages: dict[str, Any]) -> Usage:
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"usage": usages[0]}}]
    events += [opening(0, type="text", text=""), piece(0, "text_delta", text="Nine bytes and a word more")]
    events += [{"type": "message_delta", "delta": {}, "usage": usage} for usage in usages[1:]]
    return heard(events)[1].used(ASKED)


def test_running_totals_never_fall() -> None:
    end = {"input_tokens": 10, "output_tokens": 7}
    assert counted({"input_tokens": 10, "output_tokens": 1}, {"output_tokens": 7}) == Usage(10, 7)
    assert counted({"input_tokens": 10, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 7}) == Usage(10, 7)
    assert counted({}, end) == counted({"input_tokens": 0, "output_tokens": 0}, end) == Usage(10, 7)


def test_what_was_not_counted_is_estimated_and_said_to_be() -> None:
    words = estimate("Nine bytes and a word more")
    assert counted(COUNTS | {"output_tokens": 1}) == Usage(3210, words, 3000, 5, estimated=True, cache_write_tokens=200)
    assert counted({}) == counted({}, {}) == Usage(estimate_tokens(ASKED), words, estimated=True)
    assert counted({}, {"output_tokens": 99}) == Usage(estimate_tokens(ASKED), 99, estimated=True)
    assert whole(content=[text("Nine bytes and a word more")]).usage == counted({})


def test_an_error_in_the_stream_is_kept_with_what_came_before() -> None:
    words = [opening(0, type="text", text=""), piece(0, "text_delta", text="So far")]
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    (deltas,), said = heard([*words, error, {"type": "message_stop"}])
    assert deltas == [TextDelta("So far")]
    assert said.problem == msgspec.json.encode(error)
    assert not said.ended


def test_a_piece_of_a_block_that_never_began_is_kept() -> None:
    (deltas,), said = heard([piece(0, "text_delta", text="found"), closing(0)])
    assert deltas == [TextDelta("found")]
    assert said.answer().parts == (Text("found"),)


@pytest.mark.parametrize("rubbish", [b" ", b"{", b"[DON]", b"[]", b'{"index":"x"}', b'{"delta":{"text":"\xc3"}}'])
def test_what_is_no_event_is_not_taken_for_one(rubbish: bytes) -> None:
    with pytest.raises(ModelError, match="no event of a message") as caught:
        messages.Said().hear([("ping", b'{"type":"ping"}'), ("", rubbish)])
    assert caught.value.cause == "server"


def test_nothing_after_the_end_is_looked_at_and_empty_events_are_none() -> None:
    said = messages.Said()
    assert said.hear([("", b""), ("message_stop", b'{"type":"message_stop"}'), ("", b"[DONE]")]) == []
    assert said.ended


def test_an_event_without_a_type_is_known_by_its_name() -> None:
    said = messages.Said()
    said.hear([("message_stop", b"{}")])
    assert said.ended


@pytest.mark.parametrize("field", [b'"system": [{"type": "text", "text": \x8b}]', b'"system": [\x00]'])
def test_what_is_no_json_is_not_counted_either(field: bytes) -> None:
    """The conversation cannot be read, so that its JSON is counted: every part of it must be JSON."""
    data = b'{"model": "m", "messages": [{"role": "user", "content": [null]}], ' + field + b"}"
    with pytest.raises(RequestError, match="no JSON"):
        messages.parse_count(data)
