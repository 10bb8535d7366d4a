"""The Chat Completions format: what is sent, to the byte, and what is understood."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.errors import ModelError
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
from partsong.wire import chat
from partsong.wire.chat import Said
from partsong.wire.tokens import estimate, estimate_tokens


def encode(*messages: Message, stream: bool = False, **fields: Any) -> str:
    return msgspec.json.encode(chat.body(Request(messages, **fields), "m", stream=stream)).decode()


def user(*parts: Part) -> Message:
    return Message("user", parts)


def said(*deltas: dict[str, Any], **more: Any) -> list[tuple[str, bytes]]:
    """The events of a stream with these deltas."""
    return [
        ("", json.dumps({"model": "m", "choices": [{"index": 0, "delta": delta}]} | more).encode()) for delta in deltas
    ]


def called(**call: Any) -> list[tuple[str, bytes]]:
    function = {name: call.pop(name) for name in ("name", "arguments") if name in call}
    return said({"tool_calls": [call | {"type": "function", "function": function}]})


def ending(reason: str) -> list[tuple[str, bytes]]:
    return [("", json.dumps({"choices": [{"delta": {}, "finish_reason": reason}]}).encode())]


DONE = [("", b"[DONE]")]


# ---- what is sent


def test_a_plain_question_is_as_short_as_can_be() -> None:
    assert encode(user(Text("Why?"))) == '{"model":"m","messages":[{"role":"user","content":"Why?"}]}'


def test_a_stream_is_asked_to_count() -> None:
    assert encode(user(Text("Why?")), stream=True) == (
        '{"model":"m","messages":[{"role":"user","content":"Why?"}],'
        '"stream":true,"stream_options":{"include_usage":true}}'
    )


def test_sampling_is_sent_as_far_as_it_is_set() -> None:
    sampling = Sampling(temperature=0.0, top_p=0.9, max_tokens=5, seed=0, stop=("\n", "END"))
    assert encode(user(Text("Why?")), sampling=sampling) == (
        '{"model":"m","messages":[{"role":"user","content":"Why?"}],'
        '"temperature":0.0,"top_p":0.9,"max_tokens":5,"seed":0,"stop":["\\n","END"]}'
    )


def test_every_role_and_part() -> None:
    written = json.loads(
        encode(
            Message("system", (Text("Be "), Text("kind."))),
            user(Text("What is this?"), Image(b"\x89PNG", "image/png"), Image(url="https://example.org/a.png")),
            Message("assistant", (Reasoning("hm"), Text("Let me look."), ToolCall("c1", "look", '{"a": 1}'))),
            Message("tool", (ToolResult("c1", (Text("a "), Text("cat"))),)),
            Message("assistant", (Text("A cat."),)),
            user(Text("Sure?")),
        )
    )
    assert written["messages"] == [
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Sure?"},
    ]


def test_reasoning_is_left_out_and_so_is_a_turn_that_was_nothing_else() -> None:
    calls = (Reasoning("hm"), ToolCall("c", "look", "{}"))
    written = json.loads(encode(Message("assistant", (Reasoning("hm"),)), Message("assistant", calls), user(Text("?"))))
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert written["messages"] == [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "?"}]


def test_pictures_that_tools_return_are_shown_after_all_results() -> None:
    cat, dog = Image(url="https://example.org/cat"), Image(url="https://example.org/dog")
    written = json.loads(
        encode(
            Message("tool", (ToolResult("1", (Text("cat"), cat)),)),
            Message("tool", (ToolResult("2", (dog,)), ToolResult("3", (Text("gone"),), is_error=True))),
        )
    )
    assert written["messages"] == [
        {"role": "tool", "tool_call_id": "1", "content": "cat"},
        {"role": "tool", "tool_call_id": "2", "content": ""},
        {"role": "tool", "tool_call_id": "3", "content": "Error: gone"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "https://example.org/cat"}},
                {"type": "image_url", "image_url": {"url": "https://example.org/dog"}},
            ],
        },
    ]


def test_pictures_that_tools_return_are_shown_before_the_next_turn() -> None:
    cat = Image(url="https://example.org/cat")
    written = json.loads(encode(Message("tool", (ToolResult("1", (cat,)), Text("There."))), user(Text("And?"))))
    assert [(message["role"], message["content"]) for message in written["messages"]] == [
        ("tool", ""),
        ("user", "There."),
        ("user", [{"type": "image_url", "image_url": {"url": "https://example.org/cat"}}]),
        ("user", "And?"),
    ]


def test_pictures_of_the_system_are_shown_by_a_user() -> None:
    cat, dog = Image(url="https://example.org/cat"), Image(url="https://example.org/dog")
    shown = [
        {"type": "image_url", "image_url": {"url": "https://example.org/cat"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/dog"}},
    ]
    system = (Message("system", (Text("Know "), cat, Text("it."))), Message("system", (dog,)))
    assert json.loads(encode(*system, user(Text("Who?"))))["messages"] == [
        {"role": "system", "content": "Know it."},
        {"role": "user", "content": shown},
        {"role": "user", "content": "Who?"},
    ]
    assert json.loads(encode(*system))["messages"][1:] == [{"role": "user", "content": shown}]


def test_a_tools_schema_is_sent_as_it_came() -> None:
    schema = b'{"type": "object",  "properties":{"b":{},"a":{}}}'
    written = encode(user(Text("?")), tools=(Tool("look", "See.", schema), Tool("wait")))
    assert written.endswith(
        '"tools":[{"type":"function","function":{"name":"look","description":"See.","parameters":'
        '{"type": "object",  "properties":{"b":{},"a":{}}}}},'
        '{"type":"function","function":{"name":"wait"}}]}'
    )


def test_a_tool_that_takes_nothing_says_so_as_servers_want_it() -> None:
    tools = Tool("a"), Tool("b", "", b" { } "), Tool("c", "", b'{"type":"object"}'), Tool("d", "", b'{"$ref":"#/x"}')
    closed = Tool("e", "", b'{"type": "object", "additionalProperties": false}')
    sent = json.loads(encode(user(Text("?")), tools=(*tools, closed)))["tools"]
    assert [tool["function"].get("parameters") for tool in sent] == [
        None,
        None,
        {"type": "object", "properties": {}},
        {"$ref": "#/x"},
        {"type": "object", "additionalProperties": False, "properties": {}},
    ]


@pytest.mark.parametrize("schema", [b"", b"{", b"[]", b"null", b"{} {}", b"\xff", b'{"a":"\xff"}', b'{"a":' * 9999])
def test_a_schema_that_is_none_is_refused_before_anything_is_sent(schema: bytes) -> None:
    for fields in ({"tools": (Tool("now", "", schema),)}, {"response_format": schema}):
        with pytest.raises(ModelError, match="no JSON Schema") as caught:
            encode(user(Text("?")), **fields)
        assert caught.value.cause == "refused"


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("look", {"type": "function", "function": {"name": "look"}}),
    ],
)
def test_a_choice_of_tools(choice: str, sent: Any) -> None:
    assert json.loads(encode(user(Text("?")), tools=(Tool("look"),), tool_choice=choice))["tool_choice"] == sent
    assert "tool_choice" not in json.loads(encode(user(Text("?")), tool_choice=choice))


def test_a_response_format_is_a_strict_schema() -> None:
    assert json.loads(encode(user(Text("?")), response_format=b'{"type":"object"}'))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
    }


# ---- what is understood


def test_a_whole_answer() -> None:
    heard = Said()
    deltas = heard.hear_whole(
        json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "model": "m-2026",
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "content": "Hello.",
                            "reasoning_content": "Hm.",
                            "refusal": None,
                            "tool_calls": [
                                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                            ],
                        },
                        "finish_reason": "tool_calls",
                    }
                ],
                "usage": {
                    "prompt_tokens": 10,
                    "completion_tokens": 5,
                    "total_tokens": 15,
                    "prompt_tokens_details": {"cached_tokens": 4},
                    "completion_tokens_details": {"reasoning_tokens": 3},
                },
            }
        ).encode()
    )
    assert deltas == [ReasoningDelta("Hm."), TextDelta("Hello."), ToolCallDelta(0, "c", "f", "{}")]
    assert heard.answer() == Answer(
        (Reasoning("Hm."), Text("Hello."), ToolCall("c", "f", "{}")), "tool_calls", Usage(10, 5, 4, 3), "m-2026"
    )
    assert heard.ended


def test_all_the_text_of_one_read_is_one_delta() -> None:
    heard = Said()
    assert heard.hear(said({"role": "assistant", "content": ""})) == []
    assert heard.hear(said({"content": "a"}, {"content": None}, {"content": "b"}, {"content": "c"})) == [
        TextDelta("abc")
    ]
    assert heard.hear(said({"reasoning": "x"}, {"reasoning": "y"}, {"content": "d"}, {"content": "e"})) == [
        ReasoningDelta("xy"),
        TextDelta("de"),
    ]
    assert heard.hear(said({"content": "f"}, {"reasoning_content": "z"}) + ending("stop")) == [
        TextDelta("f"),
        ReasoningDelta("z"),
    ]
    assert not heard.done
    assert heard.hear(DONE) == []
    assert heard.done
    assert heard.answer() == Answer((Reasoning("xyz"), Text("abcdef")), "stop", Usage(), "m")


def test_the_count_may_come_anywhere_and_more_than_once() -> None:
    heard = Said()
    heard.hear(said({"content": "a"}, usage={"prompt_tokens": 9, "completion_tokens": 1}))
    heard.hear(said({"content": "a"}, usage=None))
    heard.hear([("", b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2.0}}'), *DONE])
    assert heard.usage == Usage(9, 2)


@pytest.mark.parametrize(
    ("counted", "usage"),
    [
        # one that leaves the reasoning out of the answer's tokens, and has it in the total
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(10, 35, 0, 30),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 0}, Usage(10, 5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8}, Usage(10, 5, 8)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": None}, Usage(10, 5)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({}, None),
        (None, None),
    ],
)
def test_counts_of_many_kinds(counted: Any, usage: Usage | None) -> None:
    heard = Said()
    heard.hear_whole(json.dumps({"choices": [{"message": {"content": "a"}}], "usage": counted}).encode())
    assert heard.usage == usage


@pytest.mark.parametrize(
    ("counted", "dollars"),
    [
        ('"cost":0.00014159000000000001', Decimal("0.000141590001")),
        ('"cost":1.5e-7', Decimal("0.00000015")),
        ('"cost":0', Decimal(0)),
        ('"cost":0.95,"is_byok":false,"cost_details":{"upstream_inference_cost":19}', Decimal("0.95")),
        ('"cost":0.95,"is_byok":true,"cost_details":{"upstream_inference_cost":19}', Decimal("19.95")),
        ('"cost":0.95,"is_byok":true,"cost_details":{"upstream_inference_cost":null}', None),
        ('"cost":0.95,"is_byok":true', None),
        ('"cost":{"total_cost":0.006}', Decimal("0.006")),  # Perplexity
        ('"cost":{"total_cost":-1}', None),
        ('"cost":{}', None),
        ('"cost_in_usd_ticks":37756000', Decimal("0.0037756")),  # xAI
        ('"cost_in_usd_ticks":-1', None),
        ('"cost_in_usd_ticks":"many"', None),
        ('"cost":null', None),
        ('"cost":true', None),
        ('"cost":"cheap"', None),
        ('"cost":-1', None),
        ('"cost":1e999999999', None),
        ('"costs":1', None),
    ],
)
def test_dollars_that_the_server_reports_are_kept_to_12_decimals(counted: str, dollars: Decimal | None) -> None:
    heard = Said()
    usage = f'{{"prompt_tokens":9,"completion_tokens":2,{counted}}}'
    heard.hear([("", f'{{"choices":[],"usage":{usage}}}'.encode()), *DONE])
    assert heard.usage == Usage(9, 2, dollars=dollars)


def test_an_estimate_counts_all_that_was_written() -> None:
    heard = Said()
    heard.hear(
        [
            *said({"content": "four words of text", "reasoning": "and a thought"}),
            *called(id="c", name="f", arguments="{}"),
        ]
    )
    request = Request((user(Text("Why?")),))
    written = "four words of text" + "and a thought" + "f" + "{}"
    assert heard.estimate(request) == Usage(estimate_tokens(request), estimate(written), estimated=True)


@pytest.mark.parametrize(
    ("reason", "understood"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter", "content_filter"),
        ("refusal", "content_filter"),
        ("something_new", "length"),
    ],
)
def test_how_it_ended(reason: str, understood: str) -> None:
    heard = Said()
    heard.hear(said({"content": "a"}))
    assert not heard.ended
    heard.hear(ending(reason))
    assert heard.ended
    assert not heard.done
    assert heard.answer().finish_reason == understood


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource"])
def test_an_end_that_is_none(reason: str) -> None:
    heard = Said()
    heard.hear(said({"content": "a"}) + ending(reason))
    assert not heard.ended
    assert heard.problem is not None


def test_a_refusal_is_no_part_of_the_answer() -> None:
    heard = Said()
    said_first = said({"content": "Well."}, {"refusal": "I can"}, {"refusal": "not."})
    assert heard.hear(said_first + ending("stop")) == [TextDelta("Well.")]
    assert heard.answer() == Answer((Text("Well."),), "content_filter", Usage(), "m")
    assert heard.refusal == "I cannot."
    assert heard.used(Request(())).output_tokens == estimate("Well.I cannot.")


def test_content_may_be_a_list_of_parts() -> None:
    heard = Said()
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Hello"},
        {"type": "reference", "reference_ids": [1]},
        {"type": "text", "text": "."},
    ]
    assert heard.hear(said({"content": parts})) == [ReasoningDelta("Hm."), TextDelta("Hello.")]
    more = [{"type": "thinking", "thinking": "So."}, {"type": "refusal", "refusal": "No."}]
    assert heard.hear(said({"content": "a"}, {"content": [{"text": "b"}]}, {"content": more})) == [
        TextDelta("ab"),
        ReasoningDelta("So."),
    ]
    assert heard.refusal == "No."


# ---- tool calls


def calls(heard: Said) -> list[tuple[str, str]]:
    return [(part.name, part.arguments) for part in heard.answer().parts if isinstance(part, ToolCall)]


def test_tool_calls_come_in_pieces() -> None:
    heard = Said()
    deltas: list[Delta] = []
    deltas += heard.hear(called(index=0, id="c0", name="f", arguments=""))
    deltas += heard.hear(called(index=0, arguments='{"a"') + called(index=0, arguments=":1}"))
    deltas += heard.hear(called(index=1, id="c1", name="g", arguments="{") + called(index=1, arguments="}"))
    deltas += heard.hear(ending("tool_calls"))
    assert deltas == [
        ToolCallDelta(0, "c0", "f"),
        ToolCallDelta(0, arguments='{"a":1}'),
        ToolCallDelta(1, "c1", "g", "{}"),
    ]
    assert heard.answer().parts == (ToolCall("c0", "f", '{"a":1}'), ToolCall("c1", "g", "{}"))
    assert heard.answer().finish_reason == "tool_calls"


def test_calls_that_are_all_numbered_0_are_told_apart_by_their_ids() -> None:
    heard = Said()
    heard.hear(
        called(index=0, id="c0", name="f", arguments='{"a":1}')
        + called(index=0, id="c1", name="f", arguments='{"a":2}')
    )
    assert calls(heard) == [("f", '{"a":1}'), ("f", '{"a":2}')]


def test_calls_without_a_number_are_told_apart_by_their_names() -> None:
    heard = Said()
    heard.hear(called(id="c0", name="f", arguments='{"a"') + called(arguments=":1}") + called(id="c1", name="g"))
    heard.hear(called(arguments="[]"))
    assert calls(heard) == [("f", '{"a":1}'), ("g", "[]")]


def test_an_id_of_its_own_on_every_piece_does_not_begin_a_call() -> None:
    heard = Said()
    heard.hear(
        called(index=0, id="x1", name="f")
        + called(index=0, id="x2", arguments="{")
        + called(index=0, id="x3", arguments="}")
    )
    assert heard.answer().parts == (ToolCall("x1", "f", "{}"),)


def test_a_name_that_is_said_again_does_not_begin_a_call() -> None:
    heard = Said()
    heard.hear(called(index=0, id="c", name="f", arguments="{") + called(index=0, name="f", arguments="}"))
    heard.hear(called(index=0, id="c", name="f", arguments=" "))
    assert calls(heard) == [("f", "{} ")]


def test_a_name_may_come_late() -> None:
    heard = Said()
    assert heard.hear(called(index=0, id="c")) == [ToolCallDelta(0, "c")]
    assert heard.hear(called(index=0, name="f", arguments="{}")) == [ToolCallDelta(0, name="f", arguments="{}")]
    assert heard.answer().parts == (ToolCall("c", "f", "{}"),)


def test_calls_without_an_id_get_one_each() -> None:
    heard = Said()
    heard.hear(called(index=0, name="f", arguments="{}") + called(index=1, name="g", arguments="{}"))
    first, second = (part.id for part in heard.answer().parts if isinstance(part, ToolCall))
    assert first
    assert second
    assert first != second


def test_arguments_may_be_an_object_or_nothing() -> None:
    heard = Said()
    assert heard.hear(called(index=0, id="c", name="f", arguments={"a": [1]}) + called(index=1, id="d", name="g")) == [
        ToolCallDelta(0, "c", "f", '{"a":[1]}'),
        ToolCallDelta(1, "d", "g"),
    ]
    assert heard.hear(ending("stop")) == [ToolCallDelta(1, arguments="{}")]
    assert calls(heard) == [("f", '{"a":[1]}'), ("g", "{}")]
    assert heard.answer().finish_reason == "tool_calls"


# ---- what is not understood


@pytest.mark.parametrize(
    "data",
    [
        b"garbage",
        b'{"choices":[{"delta":{"content":"half a char\xc3"}}]}',
        b'{"choices":[{"delta":{"content":5}}]}',
        b'{"choices":"none"}',
        b"[]",
        b"7",
        b'{"choices":[]},{"choices":[]}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_chunk(data: bytes) -> None:
    with pytest.raises(ModelError, match="the stream has") as caught:
        Said().hear([("", data)])
    assert caught.value.cause == "server"
    with pytest.raises(ModelError, match="is no chat completion") as caught:
        Said().hear_whole(data)
    assert caught.value.cause == "server"


HALF = b'{"choices":[{"delta":{"content":"\\ud83d"}}]}'


def test_half_a_surrogate_pair_that_nothing_completes_is_no_text() -> None:
    for after in ([*DONE], said({"content": "x"}), said({"content": "\U0001f600"})):
        heard = Said()
        assert heard.hear([("", HALF)]) == []
        with pytest.raises(ModelError, match="the stream has half a surrogate pair") as caught:
            heard.hear(after)
        assert caught.value.cause == "server"
    with pytest.raises(ModelError, match="is no chat completion"):
        Said().hear_whole(HALF)


def test_two_halves_of_a_chunk_are_no_chunk() -> None:
    with pytest.raises(ModelError, match="the stream has"):
        Said().hear([("", b'{"choices":[],"x":[{}'), ("", b"{}]}")])


@pytest.mark.parametrize(
    "event",
    [
        ("", b'{"error":{"message":"overloaded","type":"server_error"}}'),
        ("error", b'{"error":"overloaded"}'),
        ("", b'{"object":"error","message":"overloaded","code":500}'),
        ("", b'{"detail":"overloaded"}'),
        ("error", b'"overloaded"'),
        ("error", b"overloaded"),
    ],
)
def test_an_error_in_place_of_a_chunk(event: tuple[str, bytes]) -> None:
    heard = Said()
    heard.hear(said({"content": "a"}))
    heard.hear([event])
    assert heard.problem == event[1]


def test_what_has_no_choices_and_no_error_is_passed_over() -> None:
    heard = Said()
    assert (
        heard.hear([("ping", b'{"type":"ping"}'), ("", b""), ("", b'{"choices":null}'), ("", b'{"error":null}')]) == []
    )
    assert not heard.heard
    assert heard.problem is None
    assert heard.hear([("", b'{"choices":[],"prompt_filter_results":[{}]}')]) == []
    assert heard.heard


WORDS = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.lists(st.tuples(st.sampled_from(["content", "reasoning"]), WORDS), max_size=20), st.data())
def test_however_chunks_are_read_the_answer_is_the_same(spoken: list[tuple[str, str]], data: st.DataObject) -> None:
    events = said(*({name: words} for name, words in spoken)) + DONE
    heard, deltas, rest = Said(), [], events
    while rest:
        taken = data.draw(st.integers(1, len(rest)))
        deltas += heard.hear(rest[:taken])
        rest = rest[taken:]
    text = "".join(words for name, words in spoken if name == "content")
    thoughts = "".join(words for name, words in spoken if name == "reasoning")
    assert heard.answer().text == text == "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    assert thoughts == "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))
    assert heard.answer().parts == ((Reasoning(thoughts),) if thoughts else ()) + ((Text(text),) if text else ())
