"""What providers really send, by dialect: each stream or document with its right value, mixed and cut anywhere.

The rows are in our own bytes. Each is a kind of oddity that some server has; docs/models.md tells the rules.
"""

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong.errors import ModelError
from partsong.model import (
    Answer,
    Delta,
    Message,
    Part,
    Reasoning,
    ReasoningDelta,
    Request,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from partsong.wire import chat, messages
from partsong.wire.endings import parse_end
from partsong.wire.json import Completeness
from partsong.wire.sse import Decoder
from partsong.wire.thoughts import Splitter, is_lone
from partsong.wire.tokens import estimate, estimate_tokens

ASKED = Request((Message("user", (Text("Why?"),)),))
TOOLS = frozenset({"get_weather", "get", "weather", "now"})
DONE = b"data: [DONE]\n\n"


def event(value: Any, name: str = "") -> bytes:
    data = value if isinstance(value, str) else json.dumps(value)
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def chunk(finish: Any = None, index: int = 0, **delta: Any) -> bytes:
    return event({"model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


def piece(index: Any = 0, finish: Any = None, choice: int = 0, **call: Any) -> bytes:
    """A chunk with a piece of a tool call."""
    function = {name: call.pop(name) for name in ("name", "arguments") if name in call}
    given = {} if index is None else {"index": index}
    return chunk(finish, choice, tool_calls=[given | call | {"type": "function", "function": function}])


def hear(said: Any, stream: bytes, cuts: Iterable[int] = ()) -> list[Delta]:
    """What is heard of a stream that is read in these pieces, as `exchange` reads it."""
    decoder, deltas, start = Decoder(), list[Delta](), 0
    for end in [*sorted(cuts), len(stream)]:
        if said.done or said.problem is not None:
            break
        deltas += said.hear(decoder.feed(stream[start:end]))
        start = end
    if not said.done and said.problem is None:
        deltas += said.hear(decoder.end())
        if said.ended:
            rest: list[Delta] = []
            said.finish(rest)
            deltas += rest
    return deltas


def told(deltas: list[Delta]) -> tuple[str, str, list[tuple[str, str, str]]]:
    """The words, thoughts and tool calls that a listener has heard."""
    calls: dict[int, tuple[str, str, str]] = {}
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            identity, name, arguments = calls.get(delta.index, ("", "", ""))
            calls[delta.index] = (identity + delta.id, name + delta.name, arguments + delta.arguments)
    return (
        "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)),
        "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)),
        [calls[index] for index in sorted(calls)],
    )


def kept(answer: Answer) -> tuple[str, str, list[tuple[str, str, str]]]:
    """The same of an answer."""
    return (
        answer.text,
        "".join(part.text for part in answer.parts if isinstance(part, Reasoning)),
        [(part.id, part.name, part.arguments) for part in answer.parts if isinstance(part, ToolCall)],
    )


# ---- 1. how answers end

ENDS: list[tuple[str, str]] = [
    *((word, "stop") for word in ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed")),
    *((word, "tool_calls") for word in ("tool_calls", "tool_use", "function_call")),
    *((word, "content_filter") for word in ("content_filter", "SAFETY", "IMAGE_SAFETY", "sensitive", "RECITATION")),
    *((word, "content_filter") for word in ("BLOCKLIST", "blocked", "PROHIBITED_CONTENT", "refusal", "error_filter")),
    *(
        (word, "length")
        for word in ("length", "max_tokens", "MAX_TOKENS", "model_context_window_exceeded", "token limit")
    ),
    *((word, "failed") for word in ("abort", "aborted", "cancelled", "error", "network_error", "FAILED", "timeout")),
    *((word, "failed") for word in ("MALFORMED_FUNCTION_CALL", "interrupted", "insufficient_system_resource")),
    *((word, "failed") for word in ("rate_limit", "max_time_timeout", "length_error")),
    *((word, "unknown") for word in ("pause_turn", "OTHER", "LANGUAGE", "incomplete", "done", "stopped", "compaction")),
    *((word, "") for word in ("", "null", "None")),
]


@pytest.mark.parametrize(("word", "meant"), ENDS)
def test_an_end_word_means_the_same_in_any_case_of_letters_and_in_both_formats(word: str, meant: str) -> None:
    for spelled in (word, word.upper(), word.lower(), f" {word} ", word.replace("_", "-")):
        assert parse_end(spelled) == meant
    said_chat, said_messages = chat.Said(), messages.Said()
    hear(said_chat, chunk(content="a") + chunk(word) + DONE)
    hear(
        said_messages, begun() + text(0, "a") + event({"type": "message_delta", "delta": {"stop_reason": word}}) + STOP
    )
    for said in (said_chat, said_messages):
        assert (said.problem is not None) == (meant == "failed")
        if meant == "failed":
            assert said.problem is not None
            assert word.encode() in said.problem
            continue
        answer = said.answer()
        expected = {"unknown": "length", "": "stop"}.get(meant, meant)
        assert answer.finish_reason == expected
        caveats = answer.caveats or ()
        assert [word in caveat.message for caveat in caveats] == ([True] if meant == "unknown" else [])


@given(st.text(max_size=12))
def test_no_word_outside_the_closed_list_is_a_good_end(word: str) -> None:
    if parse_end(word) in ("stop", "tool_calls"):
        name = word.strip().lower().replace("-", "_").replace(" ", "_")
        assert (name, "stop") in ENDS or (name, "tool_calls") in ENDS


def test_an_answer_without_an_end_word_ends_with_done_or_with_its_document_and_no_other_way() -> None:
    for finish in (None, ""):
        said = chat.Said()
        hear(said, chunk(finish, content="a") + DONE)
        assert (said.ended, said.answer().finish_reason, said.answer().caveats) == (True, "stop", msgspec.UNSET)
        said = chat.Said()
        hear(said, chunk(finish, content="a"))
        assert not said.ended
        said = chat.Said()
        said.hear_whole(json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": finish}]}).encode())
        assert (said.ended, said.answer().finish_reason) == (True, "stop")


def test_of_several_ends_the_weightiest_holds() -> None:
    for ends, meant in (
        (("going", "stop"), "stop"),
        (("stop", "length"), "length"),
        (("safety", "stop"), "content_filter"),
    ):
        said = chat.Said()
        hear(said, chunk(ends[0], content="a") + chunk(ends[1], content="b") + DONE)
        assert (said.answer().finish_reason, said.answer().caveats) == (meant, msgspec.UNSET)


# ---- 2. words after an end


def test_an_end_is_settled_only_if_it_came_alone_after_words() -> None:
    for stream, settled in (
        (chunk(content="a") + chunk("stop"), True),
        (chunk("stop", content="a"), False),
        (chunk("stop", content="a") + event({"choices": [], "usage": {"prompt_tokens": 1}}), True),
        (chunk("stop"), False),
        (chunk("stop", content=""), False),
        (chunk("stop", reasoning="Hm."), False),
        (chunk(content="a") + chunk("stop") + chunk(content="b") + chunk("stop"), False),
    ):
        said = chat.Said()
        hear(said, stream)
        assert (said.ended, said.settled) == (True, settled), stream


# ---- 3. tool calls in any shape

ONE, TWO = '{"city":"Ulm"}', '{"city":"Bonn"}'
PARALLEL: dict[str, list[bytes]] = {
    "as it should be": [
        piece(0, id="a", name="weather", arguments=""),
        piece(0, arguments=ONE[:5]) + piece(0, arguments=ONE[5:]),
        piece(1, id="b", name="now", arguments=TWO),
    ],
    "interleaved": [
        piece(0, id="a", name="weather") + piece(1, id="b", name="now"),
        piece(0, arguments=ONE[:5]) + piece(1, arguments=TWO[:7]),
        piece(0, arguments=ONE[5:]) + piece(1, arguments=TWO[7:]),
    ],
    "all at 0": [piece(0, id="a", name="weather", arguments=ONE), piece(0, id="b", name="now", arguments=TWO)],
    "all at 0, ids empty": [piece(0, id="", name="weather", arguments=ONE), piece(0, id="", name="now", arguments=TWO)],
    "all at 0, ids null": [
        piece(0, id=None, name="weather", arguments=ONE),
        piece(0, id=None, name="now", arguments=TWO),
    ],
    "all at 0, no ids": [piece(0, name="weather", arguments=ONE), piece(0, name="now", arguments=TWO)],
    "all at 0, ids equal": [
        piece(0, id="a", name="weather", arguments=ONE),
        piece(0, id="a", name="now", arguments=TWO),
    ],
    "all at 0, an id on the first": [
        piece(0, id="a", name="weather", arguments=ONE),
        piece(0, name="now", arguments=TWO),
    ],
    "no index": [piece(None, id="a", name="weather", arguments=ONE), piece(None, id="b", name="now", arguments=TWO)],
    "an index of letters": [piece("0", id="a", name="weather", arguments=ONE), piece("1", name="now", arguments=TWO)],
    "in one list": [
        chunk(
            tool_calls=[
                {"index": 0, "id": "", "function": {"name": "weather", "arguments": ONE}},
                {"index": 0, "id": "", "function": {"name": "now", "arguments": TWO}},
            ]
        )
    ],
    "arguments repeated whole": [
        piece(0, id="a", name="weather", arguments=ONE[:5]) + piece(0, arguments=ONE[5:]),
        piece(0, id="a", name="weather", arguments=ONE),
        piece(1, id="b", name="now", arguments=TWO) + piece(1, arguments=TWO),
    ],
    "a placeholder first": [
        piece(0, id="a", name="weather", arguments="{}") + piece(0, arguments=ONE),
        piece(1, id="b", name="now", arguments="{}") + piece(1, id="b", name="now", arguments=TWO),
    ],
    "a name on each piece": [
        piece(0, id="a", name="weather", arguments=ONE[:5]) + piece(0, id="a", name="weather", arguments=ONE[5:]),
        piece(1, id="b", name="now", arguments=TWO),
    ],
    "an id on each piece": [
        piece(0, id="a", name="weather") + piece(0, id="x", arguments=ONE[:5]) + piece(0, id="y", arguments=ONE[5:]),
        piece(1, id="b", name="now", arguments=TWO),
    ],
    "objects": [
        piece(0, id="a", name="weather", arguments=json.loads(ONE)),
        piece(1, name="now", arguments=json.loads(TWO)),
    ],
    "in another choice": [
        chunk(content="Look."),
        piece(0, choice=1, id="a", name="weather", arguments=ONE) + piece(1, choice=1, name="now", arguments=TWO),
    ],
    "an end on each chunk": [
        piece(0, "tool_calls", id="a", name="weather", arguments=ONE[:5]),
        piece(0, "tool_calls", arguments=ONE[5:]) + piece(1, "tool_calls", id="b", name="now", arguments=TWO),
    ],
}


@pytest.mark.parametrize("dialect", PARALLEL)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_two_tool_calls_are_two_in_every_dialect_however_they_are_cut(dialect: str, data: st.DataObject) -> None:
    stream = b"".join(PARALLEL[dialect]) + chunk("tool_calls") + DONE
    said = chat.Said(TOOLS)
    deltas = hear(said, stream, data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=30)))
    answer = said.answer()
    calls = [part for part in answer.parts if isinstance(part, ToolCall)]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("weather", json.loads(ONE)),
        ("now", json.loads(TWO)),
    ]
    assert len({call.id for call in calls}) == 2
    assert all(call.id for call in calls)
    assert answer.finish_reason == "tool_calls"
    assert told(deltas) == kept(answer)


def test_the_entries_of_a_whole_answer_are_a_tool_call_each() -> None:
    for ids in (("", ""), (None, None), ("a", "a"), ("a", "b"), ("a", None)):
        for index in ({}, {"index": 0}):
            entries = [
                index | {"id": identity, "type": "function", "function": {"name": "now", "arguments": "{}"}}
                for identity in ids
            ]
            said = chat.Said(TOOLS)
            deltas = said.hear_whole(json.dumps({"choices": [{"message": {"tool_calls": entries}}]}).encode())
            calls = [part for part in said.answer().parts if isinstance(part, ToolCall)]
            assert [(call.name, call.arguments) for call in calls] == [("now", "{}"), ("now", "{}")]
            assert calls[0].id
            assert calls[0].id != calls[1].id != ""
            assert told(deltas) == kept(said.answer())


@pytest.mark.parametrize(
    ("pieces", "names"),
    [
        (["get_", "weather"], ["get_weather"]),
        (["get", "_weather"], ["get_weather"]),
        (["get_weather", "get_weather"], ["get_weather"]),
        (["get", "now"], ["get", "now"]),
        (["get"], ["get"]),
        (["no_such_", "tool"], ["no_such_", "tool"]),
    ],
)
def test_a_name_in_pieces_is_told_from_two_names(pieces: list[str], names: list[str]) -> None:
    said = chat.Said(TOOLS)
    deltas = hear(said, b"".join(piece(0, id="a", name=name) for name in pieces) + chunk("tool_calls") + DONE)
    assert [call[1] for call in kept(said.answer())[2]] == names
    assert told(deltas) == kept(said.answer())


def test_the_old_function_call_is_a_tool_call() -> None:
    said = chat.Said()
    stream = chunk(function_call={"name": "now", "arguments": "{"}) + chunk(function_call={"arguments": "}"})
    hear(said, stream + chunk("function_call") + DONE)
    assert [call[1:] for call in kept(said.answer())[2]] == [("now", "{}")]


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_json_value_is_complete_at_its_end_and_not_before(value: Any) -> None:
    written = json.dumps({"a": value}, ensure_ascii=False)
    progress = Completeness()
    for letter in written[:-1]:
        progress.feed(letter)
        assert not progress.whole
    progress.feed(written[-1])
    assert progress.whole


# ---- 4. streams in the Messages format


def begun(identity: str = "msg_1") -> bytes:
    usage = {"input_tokens": 9, "output_tokens": 1}
    return event({"type": "message_start", "message": {"id": identity, "model": "m", "usage": usage}})


def opened(index: int, **block: Any) -> bytes:
    return event({"type": "content_block_start", "index": index, "content_block": block})


def grown(index: int, kind: str, **fields: Any) -> bytes:
    return event({"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", **fields}})


def closed(index: int) -> bytes:
    return event({"type": "content_block_stop", "index": index})


def text(index: int, words: str) -> bytes:
    return opened(index, type="text", text="") + grown(index, "text", text=words) + closed(index)


def tool(index: int, identity: str, name: str) -> bytes:
    return opened(index, type="tool_use", id=identity, name=name, input={})


def argued(index: int, arguments: str) -> bytes:
    return grown(index, "input_json", partial_json=arguments)


def stopped(reason: str) -> bytes:
    return event({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 7}})


STOP = event({"type": "message_stop"})
CALLS: tuple[Part, ...] = (ToolCall("a", "weather", ONE), ToolCall("b", "now", TWO))
DIALECTS: dict[str, tuple[bytes, tuple[Part, ...]]] = {
    "an index used twice": (text(0, "One ") + text(0, "two."), (Text("One "), Text("two."))),
    "a tool call at the index of words": (
        text(0, "Look.") + tool(0, "a", "weather") + argued(0, ONE) + closed(0),
        (Text("Look."), CALLS[0]),
    ),
    "two tool calls at one index": (
        tool(1, "a", "weather") + argued(1, ONE) + tool(1, "b", "now") + argued(1, TWO) + closed(1),
        CALLS,
    ),
    "two tool calls at one index, begun together": (
        tool(1, "a", "weather") + tool(1, "b", "now") + argued(1, ONE) + argued(1, TWO) + closed(1) + closed(1),
        CALLS,
    ),
    "two tool calls, interleaved": (
        tool(0, "a", "weather") + tool(1, "b", "now") + argued(0, ONE[:4]) + argued(1, TWO) + argued(0, ONE[4:]),
        CALLS,
    ),
    "arguments repeated whole": (tool(0, "a", "weather") + argued(0, ONE) + argued(0, ONE) + closed(0), CALLS[:1]),
    "a block that never began": (grown(0, "text", text="a") + grown(0, "text", text="b"), (Text("ab"),)),
    "thoughts that never began": (
        grown(0, "thinking", thinking="Hm.") + grown(0, "signature", signature="c2ln") + text(1, "Yes."),
        (Reasoning("Hm.", "c2ln"), Text("Yes.")),
    ),
    "thoughts in a block of words": (
        opened(0, type="text", text="") + grown(0, "thinking", thinking="Hm.") + grown(0, "text", text="Yes."),
        (Reasoning("Hm."), Text("Yes.")),
    ),
    "words in a block of thoughts": (
        opened(0, type="thinking", thinking="") + grown(0, "thinking", thinking="Hm.") + grown(0, "text", text="Yes."),
        (Reasoning("Hm."), Text("Yes.")),
    ),
    "thoughts between tags": (text(0, "<think>Hm.</think>\n\nYes."), (Reasoning("Hm."), Text("Yes."))),
    "a tool of the provider's": (
        opened(0, type="server_tool_use", id="s", name="web_search", input={}) + argued(0, '{"q":1}') + closed(0),
        (),
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("end", [STOP, DONE])
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_blocks_of_every_dialect_are_heard_as_they_are_kept(dialect: str, end: bytes, data: st.DataObject) -> None:
    blocks, parts = DIALECTS[dialect]
    stream = begun() + blocks + stopped("end_turn") + end
    said = messages.Said()
    deltas = hear(said, stream, data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=30)))
    assert said.done
    answer = said.answer()
    assert answer.parts == parts
    assert told(deltas) == kept(answer)
    assert said.used(ASKED) == Usage(9, 7)


def test_arguments_of_a_tool_call_that_never_began_are_a_failure() -> None:
    with pytest.raises(ModelError, match="never began"):
        hear(messages.Said(), begun() + argued(0, ONE))


def test_a_message_that_begins_again_in_the_middle_is_no_answer() -> None:
    said = messages.Said()
    hear(said, begun("msg_1") + begun("msg_2") + text(0, "Once.") + begun("msg_2") + stopped("end_turn") + STOP)
    assert said.answer().text == "Once."
    with pytest.raises(ModelError, match="began its answer again") as caught:
        hear(messages.Said(), begun("msg_1") + text(0, "Once.") + begun("msg_2") + text(0, "Once again."))
    assert caught.value.cause == "truncated"


# ---- 5. bookkeeping

ODD = st.sampled_from(["", "x", -1, 3, 2.5, True, [], [1], {}, {"a": [None]}, None])
FIELDS = ("usage", "model", "id", "created", "object", "service_tier", "x_groq", "system_fingerprint")


@given(st.dictionaries(st.sampled_from(FIELDS), ODD), ODD, ODD, ODD)
def test_bookkeeping_of_any_kind_never_costs_an_answer(
    fields: dict[str, Any], logprobs: Any, index: Any, count: Any
) -> None:
    choice = {
        "index": 0,
        "delta": {"content": "Yes."},
        "logprobs": {"content": [{"token": "Yes.", "logprob": logprobs}]},
    }
    usage = {"prompt_tokens": count, "completion_tokens": count, "prompt_tokens_details": index, "total_tokens": index}
    stream = event({"choices": [choice | {"logprobs": logprobs}], **fields})
    stream += event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": index}], "usage": usage})
    said = chat.Said()
    hear(said, stream + DONE)
    answer = said.answer()
    assert (answer.text, answer.finish_reason) == ("Yes.", "stop")
    used = said.used(ASKED)
    assert used.input_tokens >= 0
    assert used.output_tokens >= 0
    body = {
        "id": fields.get("id"),
        "model": fields.get("model"),
        "usage": {"input_tokens": count, "output_tokens": index},
    }
    said_messages = messages.Said()
    hear(
        said_messages, event({"type": "message_start", "message": body}) + text(0, "Yes.") + stopped("end_turn") + STOP
    )
    assert said_messages.answer().text == "Yes."


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"choices":[{"delta":{"content":"b"},"logprobs":{"content":[{"token":"b","logprob":NaN}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"b"}}],"usage":{"prompt_tokens":NaN,"cost":Infinity}}\n\n',
        b'data: {"choices":[{"delta":{"content":"b"}}],"model":3}\n\n',
        b'data: ping\n\ndata: {"choices":[{"delta":{"content":"b"}}]}\n\n',
        b'event: ping\ndata: still here\n\ndata: {"choices":[{"delta":{"content":"b"}}]}\n\n',
        b'event: keepalive\ndata: \n\ndata: : heartbeat\n\ndata: {"choices":[{"delta":{"content":"b"}}]}\n\n',
        b'retry: 100\n: comment\n\nid: 7\ndata: {"choices":[{"delta":{"content":"b"}}]}\n\n',
    ],
)
@pytest.mark.parametrize("done", [DONE, b"data: [DONE] \n\n", b"data:[DONE]\n\n", b"data:  [DONE]"])
def test_oddities_around_an_answer_leave_it_whole(odd: bytes, done: bytes) -> None:
    for cuts in ((), range(1, 400)):
        said = chat.Said()
        stream = chunk(content="a") + odd + chunk("stop", content="c") + done
        hear(said, stream, (cut for cut in cuts if cut < len(stream)))
        assert (said.answer().text, said.ended) == ("abc", True)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), st.data())
def test_a_surrogate_pair_may_be_split_over_two_chunks(words: str, data: st.DataObject) -> None:
    units = words.encode("utf-16-be")
    escaped = [f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2)]
    size = data.draw(st.integers(1, 3))
    pieces = ["".join(escaped[at : at + size]) for at in range(0, len(escaped), size)]
    said_chat, said_messages = chat.Said(), messages.Said()
    stream = b"".join(f'data: {{"choices":[{{"delta":{{"content":"{piece}"}}}}]}}\n\n'.encode() for piece in pieces)
    deltas = hear(said_chat, stream + DONE)
    assert said_chat.answer().text == words == told(deltas)[0]
    blocks = b"".join(
        f'data: {{"type":"content_block_delta","index":0,"delta":{{"text":"{piece}"}}}}\n\n'.encode()
        for piece in pieces
    )
    hear(said_messages, begun() + blocks + stopped("end_turn") + STOP)
    assert said_messages.answer().text == words


# ---- 6. a message beside a delta


def test_an_empty_delta_beside_a_message() -> None:
    whole = {"choices": [{"delta": {"role": "assistant", "content": ""}, "message": {"content": "Yes."}}]}
    said = chat.Said()
    said.hear_whole(json.dumps(whole).encode())
    assert said.answer().text == "Yes."
    said = chat.Said()
    said.hear_whole(json.dumps({"choices": [{"delta": {"content": "Yes."}, "message": {"content": ""}}]}).encode())
    assert said.answer().text == "Yes."


def test_a_message_that_repeats_what_the_deltas_have_said_is_passed_over() -> None:
    def both(delta: str, message: str, finish: str | None = None) -> bytes:
        choice = {"delta": {"content": delta}, "message": {"content": message}, "finish_reason": finish}
        return event({"choices": [choice]})

    said = chat.Said()
    hear(said, both("One ", "One ") + both("two.", "One two.") + both("", "One two.", "stop") + DONE)
    assert said.answer().text == "One two."
    said = chat.Said()
    hear(said, both("", "") + both("", "One two.", "stop") + DONE)
    assert said.answer().text == "One two."


# ---- 7. thoughts among the words

THOUGHTS: list[tuple[str, str, str]] = [
    ("<think>Hm.</think>Yes.", "Hm.", "Yes."),
    ("\n <think>Hm.</think>\n\nYes.", "Hm.", "Yes."),
    ("<think></think>Yes.", "", "Yes."),
    ("<think>Hm.</think><think>So.</think>Yes.", "Hm.So.", "Yes."),
    ("<think>Hm. <b></think>Yes <think>.", "Hm. <b>", "Yes <think>."),
    ("<think>never closed", "never closed", ""),
    ("Yes, <think>no</think>.", "", "Yes, <think>no</think>."),
    ("```\n<think>\n</think>\n```", "", "```\n<think>\n</think>\n```"),
    ("Close it with `</think>` then.", "", "Close it with `</think>` then."),
    ("```\nx</think>\n```\n", "", "```\nx</think>\n```\n"),
    ("The model writes </think> at the end of it.", "", "The model writes </think> at the end of it."),
    ('It is "</think>".', "", 'It is "</think>".'),
    ("Hm.</think>Yes.", "Hm.", "Yes."),
    ("Hm.\n</think>\n\nYes.", "Hm.\n", "Yes."),
    ("Hm.</think>", "Hm.", ""),
    ("a < b and <thing> and </thin", "", "a < b and <thing> and </thin"),
    ("<thinking>is no tag", "", "<thinking>is no tag"),
    ("<", "", "<"),
    ("  ", "", "  "),
]


@pytest.mark.parametrize(("content", "thoughts", "words"), THOUGHTS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_thoughts_are_told_from_words_however_they_are_cut(
    content: str, thoughts: str, words: str, data: st.DataObject
) -> None:
    cuts = [0, *sorted(data.draw(st.sets(st.integers(0, len(content)), max_size=8))), len(content)]
    pieces = [content[start:end] for start, end in pairwise(cuts)]
    said = chat.Said()
    deltas = hear(said, b"".join(chunk(content=piece) for piece in pieces) + chunk("stop") + DONE)
    assert kept(said.answer())[:2] == (words, thoughts)
    said_messages = messages.Said()
    stream = b"".join(grown(0, "text", text=piece) for piece in pieces)
    hear(said_messages, begun() + stream + stopped("end_turn") + STOP)
    assert kept(said_messages.answer())[:2] == (words, thoughts)
    if "<think>" in content[:9]:  # a lone tag is known when words have been heard already
        assert told(deltas)[:2] == (words, thoughts)


def test_a_lone_tag_in_one_read_is_heard_as_it_is_kept_and_is_expected_from_then_on() -> None:
    said = chat.Said()
    assert hear(said, chunk(content="Hm.</think>") + chunk(content="Yes.") + DONE) == [
        ReasoningDelta("Hm."),
        TextDelta("Yes."),
    ]
    assert said.lone_tag
    said = chat.Said(thinks_first=True)
    deltas = said.hear([("", data[6:].strip()) for data in (chunk(content="Hm"), chunk(content="."))])
    assert deltas == [ReasoningDelta("Hm.")]
    deltas += hear(said, chunk(content="</think>\nYes.") + DONE)
    assert told(deltas) == kept(said.answer()) == ("Yes.", "Hm.", [])


def test_an_answer_that_was_expected_to_begin_with_thoughts_and_does_not_is_kept_as_words() -> None:
    for finish, words in (("stop", "Yes."), ("length", "")):
        said = chat.Said(thinks_first=True)
        deltas = hear(said, chunk(content="Yes.") + chunk(finish) + DONE)
        assert kept(said.answer())[:2] == told(deltas)[:2] == (words, "Yes.")
    said = chat.Said(thinks_first=True)
    deltas = hear(said, chunk(reasoning="Hm.") + chunk(content="Yes.") + chunk("stop") + DONE)
    assert kept(said.answer())[:2] == told(deltas)[:2] == ("Yes.", "Hm.")


@given(st.text('<>/think `\n"ab.', max_size=40), st.data())
def test_whatever_is_written_no_letter_is_lost(content: str, data: st.DataObject) -> None:
    cuts = [0, *sorted(data.draw(st.sets(st.integers(0, len(content)), max_size=8))), len(content)]
    written: list[str] = []
    splitter, heard = Splitter(written), ""
    for start, end in pairwise(cuts):
        for kind, piece in splitter.feed(content[start:end]):
            heard += piece
            if kind == "words":
                written.append(piece)
    heard += "".join(piece for _, piece in splitter.end())
    bare = content.replace("<think>", "").replace("</think>", "")
    assert "".join(heard.replace("<think>", "").replace("</think>", "").split()) == "".join(bare.split())


def test_where_a_tag_stands_alone() -> None:
    assert is_lone("Hm.", "Yes")
    assert not is_lone("<think>", "Yes")
    assert not is_lone("`", "`")


# ---- 11. money


@pytest.mark.parametrize(
    ("counted", "usage"),
    [
        ({"prompt_tokens": -35, "completion_tokens": 7}, Usage(estimate_tokens(ASKED), 7, estimated=True)),
        ({"prompt_tokens": 9, "completion_tokens": -35}, Usage(9, estimate("Yes."), estimated=True)),
        ({"prompt_tokens": 10**15, "completion_tokens": 7}, Usage(estimate_tokens(ASKED), 7, estimated=True)),
        ({"prompt_tokens": "9", "completion_tokens": "7"}, Usage(9, 7)),
        ({"prompt_tokens": 8.5, "completion_tokens": 7.0}, Usage(9, 7)),
        ({"prompt_tokens": 100, "completion_tokens": 7, "cached_tokens": 60}, Usage(100, 7, 60)),
        (
            {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1400}},
            Usage(1500, 7, 1400),
        ),
        ({"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": -3}}, Usage(100, 7)),
        (
            {"prompt_tokens": 100, "completion_tokens": 0, "prompt_tokens_details": "odd"},
            Usage(100, estimate("Yes."), estimated=True),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 7, "reasoning_tokens": 5}, Usage(9, 7, 0, 5)),
    ],
)
def test_counts_that_cannot_be_right_are_not_counted(counted: dict[str, Any], usage: Usage) -> None:
    said = chat.Said()
    said.hear_whole(json.dumps({"choices": [{"message": {"content": "Yes."}}], "usage": counted}).encode())
    assert said.used(ASKED) == usage


def test_a_later_zero_replaces_no_count() -> None:
    said = chat.Said()
    for counted in ((9, 7), (0, 0), (9, 0)):
        usage = {"prompt_tokens": counted[0], "completion_tokens": counted[1]}
        hear(said, event({"choices": [{"delta": {"content": "a"}}], "usage": usage}))
    assert said.used(ASKED) == Usage(9, 7)


NUMBERS = st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5) | st.none() | st.booleans()


@given(
    st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"]), NUMBERS)
)
def test_no_count_is_ever_negative_or_absurd(counted: dict[str, Any]) -> None:
    said = chat.Said()
    said.hear_whole(json.dumps({"choices": [{"message": {"content": "Yes."}}], "usage": counted}).encode())
    used = said.used(ASKED)
    assert 0 <= used.cached_input_tokens <= used.input_tokens <= 2 * 10**8
    assert 0 <= used.output_tokens <= 10**8
    assert used.dollars is None


# ---- 12. what is no text


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"content": "Yes.", "images": [{"type": "image_url"}]}, "images"),
        ({"content": "Yes.", "audio": {"data": "AAAA"}}, "audio"),
        ({"content": [{"type": "text", "text": "Yes."}, {"type": "output_image", "data": "AAAA"}]}, "output_image"),
    ],
)
def test_a_modality_that_cannot_be_passed_on_is_a_caveat(message: dict[str, Any], kind: str) -> None:
    said = chat.Said()
    said.hear_whole(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode())
    (caveat,) = said.answer().caveats or ()
    assert said.answer().text == "Yes."
    assert (caveat.kind, kind in caveat.message) == ("shortened", True)
