"""Every field that the official clients document is honoured, ignored for a reason, or refused by its name.

The clients' own types are walked from the top, so a field that a newer client has, and no row of `tests/fields.py`,
fails here by its name.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import aiohttp
import msgspec
import pytest
from anthropic.types import message_create_params
from anthropic.types.beta import message_count_tokens_params as beta_count
from anthropic.types.beta import message_create_params as beta
from msgspec.structs import replace
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as responses_params
from typing_extensions import is_typeddict

from partsong.errors import RequestError
from partsong.model import Image, Message, Request, Text, ToolCall, ToolResult
from partsong.prompts import advised
from partsong.providers.quirks import CHAT as QUIRKS
from partsong.providers.quirks import MESSAGES as ANTHROPIC_QUIRKS
from partsong.wire import chat, messages, responses
from partsong.wire.parsed import ParsedRequest
from partsong.wire.speakers import spelled
from partsong.wire.told import BOOKKEEPING
from tests.server.fields import CHAT, MESSAGES, RESPONSES, TOLD, Beside, Row
from tests.serving import recipe_file, serving

Read = Callable[[bytes], ParsedRequest]
Put = Callable[[Any], dict[str, Any]]
APIS: dict[str, tuple[Read, dict[str, Row], tuple[type, ...]]] = {
    "Chat Completions": (chat.parse_request, CHAT, (chat_params.CompletionCreateParamsStreaming,)),
    "Messages": (
        messages.parse_request,
        MESSAGES,
        (beta.MessageCreateParamsStreaming, message_create_params.MessageCreateParamsStreaming),
    ),
    "Responses": (responses.parse_request, RESPONSES, (responses_params.ResponseCreateParamsStreaming,)),
}
TOLD_APART_BY = ("type", "role")  # what says of which type an object is


def types_in(hint: Any) -> Iterator[type]:
    """The types of objects that a field may hold."""
    if is_typeddict(hint):
        yield hint
    else:
        for inner in get_args(hint):
            yield from types_in(inner)


def literals(hint: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [value for inner in get_args(hint) for value in literals(inner)]


def row_of(kind: type, rows: dict[str, Row]) -> tuple[str, Row | None]:
    """The row of a type, by its name, or that with its module's where a name is used twice."""
    name = kind.__name__.removeprefix("Beta")
    for known in (f"{kind.__module__.rpartition('.')[2]}.{name}", name, ALIASES.get(name, "")):
        if known in rows:
            return known, rows[known]
    return name, None


# The stable and the beta API call the same by different names.
ALIASES = {
    "RequestDocumentBlockParam": "DocumentBlockParam",
    "CitationsConfigParamParam": "CitationsConfigParam",
    "WebSearchToolRequestErrorObjectParam": "WebSearchToolRequestErrorParam",
}


class Walk:
    """The walk through one API's types; what is wrong is gathered, so that one run names all of it."""

    def __init__(self, read: Read, rows: dict[str, Row], told: frozenset[str] = frozenset()) -> None:
        self.read, self.rows, self.told = read, rows, told
        self.wrong: list[str] = []
        self.met: dict[str, set[str]] = {}
        self.refused: set[str] = set()

    def asked(self, request: dict[str, Any]) -> ParsedRequest | RequestError:
        try:
            return self.read(json.dumps(request).encode())
        except RequestError as problem:
            return problem

    def visit(self, kind: type, put: Put, where: str, parent: str) -> None:
        """Check a type of objects; `put` makes a request with one of them in it, at `where`."""
        name, row = row_of(kind, self.rows)
        if row is None:
            self.refuse_whole(kind, put, where)
            return
        new = set(get_type_hints(kind)) - self.met.setdefault(name, set()) - set(TOLD_APART_BY)
        if not new or (row.within and row.within != parent):
            return
        self.met[name] |= new
        before = self.asked(put(row.base))
        if isinstance(before, RequestError):
            self.wrong.append(f"{name}: its base is refused: {before}")
            return
        for field, hint in get_type_hints(kind).items():
            if field not in new:
                continue
            place = f"{where}.{field}".lstrip(".")
            if field in row.honoured:
                value, others = unwrapped(row.honoured[field])
                if value is not None:
                    after = self.asked(put({**row.base, **others, field: value}))
                    if isinstance(after, RequestError):
                        self.wrong.append(f"{place} ({name}) is refused: {after}")
                    elif after == before:
                        self.wrong.append(f"{place} ({name}) is honoured by its row, but silently dropped")
                self.descend(name, row, field, hint, put, place)
            elif field in row.ignored:
                if self.asked(put({**row.base, field: row.ignored[field][0]})) != before:
                    self.wrong.append(f"{place} ({name}) is ignored by its row, but changes what is asked")
            elif field in row.refused:
                self.refuse(put({**row.base, field: row.refused[field]}), place, name)
            else:
                self.wrong.append(f"{place} ({name}) is in no row of tests/fields.py: what becomes of it?")

    def descend(self, name: str, row: Row, field: str, hint: Any, put: Put, place: str) -> None:
        value, others = unwrapped(row.honoured[field])
        rest = value[1:] if isinstance(value, list) else []

        def listed(inner: Any) -> dict[str, Any]:
            return put({**row.base, **others, field: [inner, *rest]})

        def single(inner: Any) -> dict[str, Any]:
            return put({**row.base, **others, field: inner})

        for kind in dict.fromkeys(types_in(hint)):
            inner_row = row_of(kind, self.rows)[1]
            if isinstance(value, list) and not (inner_row and inner_row.single):
                self.visit(kind, listed, f"{place}[0]", name)
            else:
                self.visit(kind, single, place, name)

    def refuse_whole(self, kind: type, put: Put, where: str) -> None:
        """What has no row must be refused by its type, or told in words."""
        if kind.__name__.removeprefix("Beta") in self.told:
            self.tell(kind, put, where)
            return
        if kind.__name__ in self.refused:
            return
        self.refused.add(kind.__name__)
        said = {name: known[0] for name, hint in get_type_hints(kind).items() if (known := literals(hint))}
        if "type" not in said:
            self.wrong.append(f"{where} ({kind.__name__}) is in no row of tests/fields.py: what becomes of it?")
            return
        self.refuse(put({name: said[name] for name in ("type", "name", "role") if name in said}), where, kind.__name__)

    def tell(self, kind: type, put: Put, where: str) -> None:
        """Each field of such a type but bookkeeping must be told to the models in words."""
        hints = get_type_hints(kind)
        known = {name: values[0] for name, hint in hints.items() if (values := literals(hint))}
        said = {name: known.get(name, True if hint is bool else f"the {name}") for name, hint in hints.items()}
        said = {name: value for name, value in said.items() if name not in ("cache_control", "caller")}
        made = self.asked(put(said))
        if isinstance(made, RequestError):
            self.wrong.append(f"{where} ({kind.__name__}) is refused: {made}")
            return
        words = " ".join(message.text for message in made.conversation.messages)
        self.wrong += [
            f"{where}.{name} ({kind.__name__}) is not told in words"
            for name, value in said.items()
            if isinstance(value, str) and name not in BOOKKEEPING and json.dumps(value) not in words
        ]

    def refuse(self, request: dict[str, Any], place: str, name: str) -> None:
        problem = self.asked(request)
        if not isinstance(problem, RequestError):
            self.wrong.append(f"{place} ({name}) is not refused")
        elif not (problem.field or "").startswith(place) or str(problem.field) not in str(problem):
            self.wrong.append(f"{place} ({name}) is refused without its name: {problem}")


def unwrapped(value: Any) -> tuple[Any, dict[str, Any]]:
    return (value.value, value.others) if isinstance(value, Beside) else (value, {})


@pytest.mark.parametrize("api", APIS)
def test_every_documented_field_is_honoured_ignored_for_a_reason_or_refused_by_name(api: str) -> None:
    read, rows, roots = APIS[api]
    walk = Walk(read, rows, TOLD[api])
    for root in roots:
        walk.visit(root, dict, "", "")
    for name, row in rows.items():
        for field in {*row.honoured, *row.ignored, *row.refused} - walk.met.get(name, set()):
            walk.wrong.append(f"{name}.{field} has a row, but no client has it")
    assert not walk.wrong, "\n".join(walk.wrong)
    assert walk.refused


def test_counting_tokens_takes_the_fields_of_a_request_and_no_others() -> None:
    row = MESSAGES["MessageCreateParamsStreaming"]
    known = {*row.honoured, *row.ignored, *row.refused}
    assert set(get_type_hints(beta_count.MessageCountTokensParams)) <= known


def test_the_documentation_says_what_becomes_of_each_field() -> None:
    text = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
    tops = {name: rows[root.__name__] for name, (_, rows, (root, *_)) in APIS.items()}
    for name, row in tops.items():
        found = re.search(rf"^\| {name} \| (.*) \| (.*) \| (.*) \|$", text, re.MULTILINE)
        assert found is not None, f"docs/server.md has no row for {name}"
        honoured, ignored, refused = (set(re.findall(r"`(\w+)`", cell)) for cell in found.groups())
        assert honoured - BEYOND[name] == {*row.honoured}
        assert ignored == {*row.ignored}
        assert refused == {*row.refused}


# What is honoured although no client of today's documents it: older clients send it, or other servers know it.
BEYOND = {
    "Chat Completions": {"top_k"},
    "Messages": {"temperature", "top_k", "top_p", "output_format"},
    "Responses": {"frequency_penalty", "presence_penalty"},
}


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        ("Chat Completions", {"top_k": 5}),
        ("Responses", {"frequency_penalty": 0.5}),
        ("Responses", {"presence_penalty": 0.5}),
        ("Messages", {"temperature": 0.5}),
        ("Messages", {"top_k": 5}),
        ("Messages", {"top_p": 0.5}),
        ("Messages", {"output_format": {"type": "json_schema", "schema": {"type": "object"}}}),
    ],
)
def test_what_no_client_documents_any_more_is_honoured_still(api: str, fields: dict[str, Any]) -> None:
    read, rows, (root, *_) = APIS[api]
    base = rows[root.__name__].base
    assert read(json.dumps(base | fields).encode()) != read(json.dumps(base).encode())


def test_a_field_that_no_row_knows_fails_by_its_name() -> None:
    rows = {name: row for name, row in CHAT.items() if name != "ImageURL"}
    rows["ChatCompletionToolMessageParam"] = replace(rows["ChatCompletionToolMessageParam"], honoured={"content": "y"})
    walk = Walk(chat.parse_request, rows)
    walk.visit(chat_params.CompletionCreateParamsStreaming, dict, "", "")
    assert any("messages[0].tool_call_id" in wrong for wrong in walk.wrong)
    assert any("ImageURL" in wrong for wrong in walk.wrong)


# ---- what honouring means, where another request is not enough to see it


def sent(asked: ParsedRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """What providers of either format are sent for it."""
    request = Request(asked.conversation.messages, asked.conversation.tools, sampling=asked.conversation.sampling)
    made = (chat.body(request, "m", stream=False), messages.body(request, "m", stream=False))
    openai, anthropic = (json.loads(msgspec.json.encode(body)) for body in made)
    return openai, anthropic


def ask_chat(*said: dict[str, Any]) -> ParsedRequest:
    return chat.parse_request(json.dumps({"model": "m", "messages": said}).encode())


def ask_messages(*said: dict[str, Any], **fields: Any) -> ParsedRequest:
    return messages.parse_request(json.dumps({"model": "m", "max_tokens": 9, "messages": said, **fields}).encode())


def test_speakers_keep_their_names_as_fields_or_in_words() -> None:
    ann, bob = ({"role": "user", "name": name, "content": f"I am {name}."} for name in ("Ann", "Bob"))
    asked = ask_chat(ann, bob)
    openai, anthropic = sent(asked)
    assert openai["messages"] == [
        {"role": "user", "content": "I am Ann.", "name": "Ann"},
        {"role": "user", "content": "I am Bob.", "name": "Bob"},
    ]
    assert [block["text"] for block in anthropic["messages"][0]["content"]] == ["Ann: I am Ann.", "Bob: I am Bob."]
    assert [message.name for message in advised(asked.conversation).messages] == ["Ann", "Bob"]


def test_a_name_stands_before_a_picture_too_and_nowhere_without_words() -> None:
    pixel = Image(b"x", "image/png")
    call = ToolCall("c", "f", "{}")
    shown, called = spelled((Message("user", (pixel,), "Ann"), Message("assistant", (call,), "Bob")))
    assert shown.parts == (Text("Ann: "), pixel)
    assert called.parts == (call,)


def test_servers_that_know_no_names_are_told_in_words() -> None:
    spell = next(quirk for quirk in QUIRKS if quirk.name == "no names")
    assert spell.says.search("body.messages.0.user.name: extra inputs are not permitted")
    body = {"messages": [{"role": "user", "name": "Ann", "content": "Hi."}, {"role": "user", "content": "Ho."}]}
    spell.change(body)
    assert body["messages"] == [{"role": "user", "content": "Ann:\n\nHi."}, {"role": "user", "content": "Ho."}]


def test_how_closely_a_picture_is_looked_at_is_passed_on() -> None:
    link = {"type": "image_url", "image_url": {"url": "https://e.org", "detail": "low"}}
    openai, anthropic = sent(ask_chat({"role": "user", "content": [link]}))
    assert openai["messages"][0]["content"] == [link]
    assert anthropic["messages"][0]["content"] == [{"type": "image", "source": {"type": "url", "url": "https://e.org"}}]


def test_a_picture_of_the_assistants_is_shown_by_a_user_where_assistants_show_none() -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "https://e.org"}}
    said = {"role": "assistant", "content": [{"type": "text", "text": "See."}, picture]}
    openai, anthropic = sent(ask_messages({"role": "user", "content": "Draw."}, said, {"role": "user", "content": "?"}))
    assert anthropic["messages"][1]["content"][1] == picture
    assert [message["role"] for message in openai["messages"]] == ["user", "assistant", "user", "user"]
    assert openai["messages"][2]["content"] == [{"type": "image_url", "image_url": {"url": "https://e.org"}}]


TOOLS: list[dict[str, Any]] = [
    {"name": name, "input_schema": {}, "defer_loading": name != "search"} for name in ("search", "clock", "mail")
]


def names(asked: ParsedRequest) -> list[str]:
    return [tool.name for tool in asked.conversation.tools]


def test_a_tool_is_loaded_when_a_result_refers_to_it() -> None:
    use = {"type": "tool_use", "id": "c", "name": "search", "input": {}}
    found = {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "tool_reference", "tool_name": "clock"}]}
    turns: list[dict[str, Any]] = [{"role": "user", "content": "Time?"}, {"role": "assistant", "content": [use]}]
    assert names(ask_messages(turns[0], tools=TOOLS)) == ["search"]
    asked = ask_messages(*turns, {"role": "user", "content": [found]}, tools=TOOLS)
    assert names(asked) == ["search", "clock"]
    assert asked.conversation.messages[-1].parts == (ToolResult("c", (Text("[the tool clock can be called now]"),)),)


def test_tools_come_and_go_by_what_the_system_says() -> None:
    def change(kind: str, name: str) -> dict[str, Any]:
        tool = {"type": "tool_reference", "name": name}
        return {"role": "system", "content": [{"type": f"tool_{kind}", "tool": tool}]}

    turns = [{"role": "user", "content": "Hi."}, change("addition", "mail"), change("removal", "search")]
    asked = ask_messages(*turns, tools=TOOLS)
    assert names(asked) == ["mail"]
    assert asked.conversation.messages == (Message("user", (Text("Hi."),)),)
    with pytest.raises(RequestError, match="there is no tool"):
        ask_messages(*turns, tools=TOOLS, tool_choice={"type": "tool", "name": "search"})


def test_what_is_said_for_one_turn_is_not_read_in_the_next() -> None:
    user, once = (
        {"role": "user", "content": "Hi."},
        {"role": "system", "content": "Now.", "clear_at": "next_user_message"},
    )
    assert ask_messages(user, once).conversation.messages[0].text == "Hi.\n\nNow."
    assert [message.text for message in ask_messages(user, once, user).conversation.messages] == ["Hi.", "Hi."]


def test_documents_and_what_was_searched_become_words() -> None:
    document = {"type": "document", "title": "Log", "source": {"type": "text", "media_type": "text/plain", "data": "a"}}
    result = {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "b"}]}
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    page = {"type": "web_search_result", "title": "P", "url": "U", "encrypted_content": "x"}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [page]}
    asked = ask_messages(
        {"role": "user", "content": [document, result]},
        {"role": "assistant", "content": [use, found]},
        {"role": "user", "content": "?"},
    )
    assert [message.text for message in asked.conversation.messages] == [
        "[document: Log\na\n]\n[search result: T (S)\nb\n]\n",
        '\n[called the tool web_search with {"query": "q"}]\n[the search returned:\n- P (U)\n]\n',
        "?",
    ]


def test_thinking_as_it_sees_fit_is_asked_of_those_who_want_to_be_told() -> None:
    asked = ask_messages({"role": "user", "content": "?"}, thinking={"type": "adaptive"}, temperature=1)
    openai, anthropic = sent(asked)
    assert anthropic["thinking"] == {"type": "adaptive"}
    assert "temperature" not in anthropic
    assert "thinking" not in openai
    asked = ask_messages(
        {"role": "user", "content": "?"}, thinking={"type": "disabled"}, output_config={"effort": "low"}
    )
    openai, anthropic = sent(asked)
    assert anthropic["thinking"] == {"type": "disabled"}
    assert anthropic["output_config"] == {"effort": "low"}
    assert openai["reasoning_effort"] == "low"
    openai, anthropic = sent(ask_messages({"role": "user", "content": "?"}, thinking={"type": "disabled"}))
    assert openai["reasoning_effort"] == "none"
    assert "output_config" not in anthropic


@pytest.mark.parametrize(
    ("thinking", "words", "instead"),
    [
        ({"type": "adaptive"}, "adaptive thinking is not supported on this model", {}),
        (
            {"type": "enabled", "budget_tokens": 2000},
            '"thinking.type.enabled" is not supported for this model. use "thinking.type.adaptive"',
            {"thinking": {"type": "adaptive"}},
        ),
        ({"type": "disabled"}, "thinking.type: disabled is not supported for this model", {}),
    ],
)
def test_a_model_that_thinks_in_the_other_way_is_asked_for_that(
    thinking: dict[str, Any], words: str, instead: dict[str, Any]
) -> None:
    quirk = next(quirk for quirk in ANTHROPIC_QUIRKS if quirk.says.search(words))
    body = {"thinking": thinking}
    quirk.change(body)
    assert body == instead


async def test_a_refusal_reaches_the_client_as_a_400_that_names_the_field(tmp_path: Path) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _), aiohttp.ClientSession() as session:
        for path, api, field, shown in (
            ("chat/completions", "Chat Completions", "logit_bias", "param"),
            ("messages", "Messages", "inference_geo", "message"),
            ("responses", "Responses", "access_programs", "param"),
        ):
            _, rows, (root, *_) = APIS[api]
            row = rows[root.__name__]
            async with session.post(f"{url}/v1/{path}", json={**row.base, field: row.refused[field]}) as response:
                error = (await response.json())["error"]
            assert response.status == 400
            assert field in error[shown]
            assert field in error["message"]


def test_what_a_service_did_with_its_own_tools_is_told_in_words() -> None:
    use = {"type": "server_tool_use", "id": "s", "name": "web_fetch", "input": {"url": "U"}}
    page = {"type": "web_fetch_result", "url": "U", "content": {"type": "document", "title": "T"}}
    fetched = {"type": "web_fetch_tool_result", "tool_use_id": "s", "content": page}
    ran = {"type": "mcp_tool_use", "id": "m", "name": "find", "server_name": "files", "input": {"q": "x"}}
    returned = {"type": "mcp_tool_result", "tool_use_id": "m", "is_error": False, "content": "Nothing."}
    asked = ask_messages(
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": [use, fetched, ran, returned]},
        {"role": "user", "content": "!"},
    )
    assert asked.conversation.messages[1].text == (
        '\n[called the tool web_fetch with {"url": "U"}]\n'
        '\n[the page that was fetched: {"content":{"type":"web_fetch_result","url":"U","content":'
        '{"type":"document","title":"T"}}}]\n'
        '\n[a tool of an MCP server was called: {"name":"find","server_name":"files","input":{"q":"x"}}]\n'
        '\n[the MCP server returned: {"is_error":false,"content":"Nothing."}]\n'
    )


@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        ("bash_20250124", None),
        ("text_editor_20250728", ["view", "create", "str_replace", "insert"]),
        ("text_editor_20241022", ["view", "create", "str_replace", "insert", "undo_edit"]),
        ("memory_20250818", ["view", "create", "str_replace", "insert", "delete", "rename"]),
    ],
)
def test_tools_that_anthropics_clients_run_get_a_schema(kind: str, commands: list[str] | None) -> None:
    asked = ask_messages({"role": "user", "content": "?"}, tools=[{"type": kind, "name": "tool"}])
    (tool,) = asked.conversation.tools
    command = json.loads(tool.parameters)["properties"]["command"]
    assert command.get("enum") == commands
    assert tool.description


@pytest.mark.parametrize("kind", ["bash_", "bash_x", "text_editor", "web_search_20250305", "computer_20250124"])
def test_other_tools_of_a_provider_are_refused_by_their_type(kind: str) -> None:
    with pytest.raises(RequestError, match=r"tools\[0\].type"):
        ask_messages({"role": "user", "content": "?"}, tools=[{"type": kind, "name": "tool"}])


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "user", "content": "A question of seven words, or eight."}],
        [{"role": "user", "content": "?"}, {"role": "assistant", "content": "The answer begins"}],
        [{"role": "system", "content": "Be brief, and kind, and clear."}],
        [{"role": "user", "content": [{"type": "document", "source": {"type": "base64", "data": "A" * 400}}]}],
        [{"role": "user", "content": [{"type": "container_upload", "file_id": "file_0123456789abcdef"}]}],
        [{"role": "user", "content": [{"type": "something_new", "words": "as many as it has"}]}],
    ],
)
@pytest.mark.parametrize("tools", [[], TOOLS, [{"type": "web_search_20250305", "name": "web_search"}]])
async def test_the_tokens_of_any_conversation_are_counted(
    tmp_path: Path, turns: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _), aiohttp.ClientSession() as session:
        request = {"model": "three", "messages": turns, "tools": tools}
        async with session.post(f"{url}/v1/messages/count_tokens", json=request) as response:
            assert response.status == 200
            assert (await response.json())["input_tokens"] > 5
