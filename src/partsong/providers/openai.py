"""A model behind any URL that speaks OpenAI's Chat Completions: streamed if somebody listens, else one plain call.

Compatible servers differ in what they accept. What they do not is one table, `QUIRKS`.
"""

import re
from typing import Any

from msgspec import Raw

from partsong.model import ANY_OBJECT, Answer, Request, Send
from partsong.providers.exchange import ask
from partsong.providers.http import Endpoint, Http, Told
from partsong.providers.quirks import NO_STREAM, Body, Quirk, Quirks, drop, refuses
from partsong.wire import chat


def _rename_limit(body: Body) -> None:
    if "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")


def _loosen_schema(body: Body) -> None:
    if "json_schema" in (asked := body.get("response_format", {})):
        body["response_format"] = asked | {"json_schema": asked["json_schema"] | {"strict": False}}
    if "tools" in body:
        body["tools"] = [
            tool | {"function": {name: value for name, value in tool["function"].items() if name != "strict"}}
            for tool in body["tools"]
        ]


def _spell_out_object(body: Body) -> None:
    """Any object, as a schema."""
    if body.get("response_format") == {"type": "json_object"}:
        schema = {"name": "answer", "strict": False, "schema": Raw(ANY_OBJECT)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}


def _spell_names(body: Body) -> None:
    """The speakers' names in front of their words."""
    body["messages"] = [
        {
            "role": message["role"],
            "content": _together(f"{message['name']}:", message["content"]),
            **{key: value for key, value in message.items() if key not in ("role", "name", "content")},
        }
        if "name" in message
        else message
        for message in body["messages"]
    ]


def _merge_neighbours(body: Body) -> None:
    """One message where several of a role follow each other; those of tools, and with calls of tools, stay."""
    _spell_names(body)
    merged: list[Body] = []
    for message in body["messages"]:
        last = merged[-1] if merged else {}
        if message["role"] == last.get("role") and message.keys() == last.keys() == {"role", "content"}:
            merged[-1] = {"role": last["role"], "content": _together(last["content"], message["content"])}
        else:
            merged.append(message)
    body["messages"] = merged


def _fold_system(body: Body) -> None:
    """The system's words at the head of the user's first."""
    _spell_names(body)
    told = [message["content"] for message in body["messages"] if message["role"] == "system"]
    rest = [message for message in body["messages"] if message["role"] != "system"]
    if not told:
        return
    words = "\n\n".join(told)
    for number, message in enumerate(rest):
        if message["role"] == "user":
            rest[number] = {"role": "user", "content": _together(words, message["content"])}
            break
    else:
        rest.insert(0, {"role": "user", "content": words})
    body["messages"] = rest


def _fold_system_and_merge(body: Body) -> None:
    _fold_system(body)
    _merge_neighbours(body)


def _together(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    pieces = (
        [{"type": "text", "text": content}] if isinstance(content, str) else content for content in (first, second)
    )
    return [piece for content in pieces for piece in content]


def _sign_calls(body: Body) -> None:
    """Google's own mark for calls whose signature is not at hand, because another model made them or it was lost."""
    signature = {"google": {"thought_signature": "skip_thought_signature_validator"}}
    body["messages"] = [
        message | {"tool_calls": [calls[0] | {"extra_content": signature}, *calls[1:]]}
        if (calls := message.get("tool_calls"))
        else message
        for message in body["messages"]
    ]


REASONING = re.compile(r"^(openai/)?(o[1-9](-|$)|gpt-5(-(mini|nano|pro|codex))?(-\d|$))")

# Some servers write their fields in camel case when they complain of them, and words are compared in lower case.
# A refusal is matched against the rows in this order, and the first that changes the body is tried.
QUIRKS: tuple[Quirk, ...] = (
    Quirk(
        "max_completion_tokens in place of max_tokens",
        refuses("max_tokens", "max_completion_tokens"),
        _rename_limit,
        re.compile(r"^(openai/)?(o[1-9](-|$)|gpt-5)"),
    ),
    Quirk("no top_p", refuses("top_p", r"temperature\W+and\W+top_p\W.{0,40}(both|together)"), drop("top_p"), REASONING),
    Quirk("no temperature", refuses("temperature"), drop("temperature"), REASONING),
    Quirk("no seed", refuses("seed"), drop("seed")),
    Quirk("no logprobs", refuses("(top_)?logprobs"), drop("logprobs", "top_logprobs")),
    Quirk("no top_k", refuses("top_k"), drop("top_k")),
    Quirk("no reasoning_effort", refuses("reasoning_?effort"), drop("reasoning_effort")),
    Quirk("no verbosity", refuses("verbosity"), drop("verbosity")),
    Quirk("no frequency_penalty", refuses("frequency_?penalty"), drop("frequency_penalty")),
    Quirk("no presence_penalty", refuses("presence_?penalty"), drop("presence_penalty")),
    Quirk("no parallel_tool_calls", refuses("parallel_tool_calls"), drop("parallel_tool_calls")),
    Quirk("no stream_options", re.compile("stream_options"), drop("stream_options")),
    NO_STREAM,
    Quirk("no names", refuses("name", r"messages\W{1,3}\d+.{0,40}\bname\b"), _spell_names),
    Quirk(
        "a schema in place of json_object",
        re.compile(r"response_format.{0,80}json_schema", re.DOTALL),
        _spell_out_object,
    ),
    Quirk("roles alternate", re.compile(r"alternat(e|ing)\b|unexpected role"), _merge_neighbours),
    Quirk(
        "no system role",
        re.compile(
            r"system.{0,40}not.{0,20}(support|allow|enabl)|not support.{0,40}system|got.{0,5}system"
            r"|developer instruction is not enabled|unexpected role.{0,5}system",
            re.DOTALL,
        ),
        _fold_system,
    ),
    # Older templates know no system role, and complain about the order when they meet one.
    Quirk("roles alternate, and no system role", re.compile("must alternate"), _fold_system_and_merge),
    Quirk("no strict schema", re.compile(r"\bstrict\b|additionalproperties|invalid schema"), _loosen_schema),
    Quirk("calls are signed", re.compile("thought_?signature"), _sign_calls),
)


class OpenAI:
    """The model `name` at `base_url`. `quirks` is what is known so far of what it does not accept."""

    def __init__(
        self,
        http: Http,
        *,
        provider: str,
        base_url: str,
        name: str,
        key: str | None = None,
        told: Told | None = None,
    ) -> None:
        """`told` hears what responses say about rate limits. Raises `ConfigurationError` for a wrong address or key."""
        self.name = name
        self.endpoint = Endpoint(http, provider, base_url, "chat/completions", _headers(key), key, told)
        self.quirks = Quirks(QUIRKS, name)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        return await ask(self.endpoint, chat, self.name, self.quirks, request, send)


async def reachable(http: Http, base_url: str, key: str | None = None) -> str | None:
    """What is wrong with an address or a key, asked by a GET of its list of models; `None` if nothing is.

    Raises `ConfigurationError` for an address or a key that cannot be one.
    """
    return await Endpoint(http, "base_url", base_url, "models", _headers(key), key).probe()


def _headers(key: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return headers
