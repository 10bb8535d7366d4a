"""A model behind any URL that speaks OpenAI's Chat Completions: streamed if somebody listens, else one plain call.

Compatible servers differ in what they accept. What they do not is one table, `QUIRKS`: some rows are known from the
model's name, the others are learnt from the refusal, applied, and remembered for this model once they have helped.
Nothing is dropped that would change what the answer is: tools, a response format and stop sequences stay, and the
refusal is passed on.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from partsong.errors import ModelError
from partsong.model import Answer, Request, Send, ToolCall
from partsong.providers.http import Call, Endpoint, Http
from partsong.providers.rejection import Rejection, read_problem
from partsong.wire import chat
from partsong.wire.chat import Said
from partsong.wire.sse import Decoder

Body = dict[str, Any]


class Quirk(Struct, frozen=True):
    """Something that a server does not accept.

    `says` finds it in the (lower-case) words of a refusal, `known` in the names of models that are known for it, and
    `change` makes a request's body do without.
    """

    name: str
    says: re.Pattern[str]
    change: Callable[[Body], None]
    known: re.Pattern[str] | None = None


def _refuses(name: str) -> re.Pattern[str]:
    complaint = (
        r"(unsupported|not support|n't support|unknown|unrecogni[sz]ed|unexpected|not permitted|forbidden|not allowed"
        r"|not available|only the default|deprecated)"
    )
    return re.compile(rf"{complaint}.{{0,120}}\b{name}\b|\b{name}\b.{{0,120}}{complaint}", re.DOTALL)


def _drop(*names: str) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        for name in names:
            body.pop(name, None)

    return change


def _rename_limit(body: Body) -> None:
    if "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")


def _loosen_schema(body: Body) -> None:
    if "response_format" in body:
        schema = body["response_format"]["json_schema"]
        body["response_format"] = {"type": "json_schema", "json_schema": schema | {"strict": False}}


def _merge_neighbours(body: Body) -> None:
    """One message where several of a role follow each other; those of tools, and with calls of tools, stay."""
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

# A refusal is matched against the rows in this order, and the first that changes the body is tried.
QUIRKS: tuple[Quirk, ...] = (
    Quirk(
        "max_completion_tokens in place of max_tokens",
        re.compile(rf"max_completion_tokens|{_refuses('max_tokens').pattern}", re.DOTALL),
        _rename_limit,
        re.compile(r"^(openai/)?(o[1-9](-|$)|gpt-5)"),
    ),
    Quirk(
        "no top_p",
        re.compile(rf"temperature\W+and\W+top_p\W.{{0,40}}(both|together)|{_refuses('top_p').pattern}", re.DOTALL),
        _drop("top_p"),
        REASONING,
    ),
    Quirk("no temperature", _refuses("temperature"), _drop("temperature"), REASONING),
    Quirk("no seed", _refuses("seed"), _drop("seed")),
    Quirk("no stream_options", re.compile("stream_options"), _drop("stream_options")),
    Quirk(
        "no stream",
        re.compile(rf"verified to stream|streaming|{_refuses('stream').pattern}", re.DOTALL),
        _drop("stream", "stream_options"),
    ),
    Quirk("roles alternate", re.compile(r"alternat(e|ing)\b|unexpected role"), _merge_neighbours),
    Quirk(
        "no system role",
        # Older templates know no system role, and complain about the order when they meet one.
        re.compile(
            r"system.{0,40}not.{0,20}(support|allow|enabl)|not support.{0,40}system|got.{0,5}system"
            r"|developer instruction is not enabled|unexpected role.{0,5}system|must alternate",
            re.DOTALL,
        ),
        _fold_system,
    ),
    Quirk("no strict schema", re.compile("strict|additionalproperties|invalid schema"), _loosen_schema),
    Quirk("calls are signed", re.compile("thought_?signature"), _sign_calls),
)
NO_STREAM = next(quirk for quirk in QUIRKS if quirk.name == "no stream")
# A refusal for these reasons, or with another status, has nothing to do with the form of the request.
TEACHES = frozenset({400, 404, 405, 415, 422, 500, 501})


class OpenAI:
    """The model `name` at `base_url`. `quirks` is what is known so far of what it does not accept."""

    def __init__(self, http: Http, *, provider: str, base_url: str, name: str, key: str | None = None) -> None:
        """Raises `ConfigurationError` for an address or a key that cannot be one."""
        self.name = name
        self.endpoint = Endpoint(http, provider, base_url, "chat/completions", _headers(key), key)
        self.quirks = tuple(quirk for quirk in QUIRKS if quirk.known is not None and quirk.known.search(name))

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        quirks = self.quirks
        while True:
            body = chat.body(request, self.name, stream=send is not None)
            for quirk in quirks:
                quirk.change(body)
            async with self.endpoint.post(_encode(body)) as call:
                if call.status == 200:
                    self._remember(*quirks)
                    if "stream" in body and send is not None:
                        return await self._stream(call, request, send)
                    return await self._whole(call, request, send)
                rejection = await call.rejection()
            learnt = _learnt(rejection, body)
            if learnt is None:
                raise rejection.error()
            quirks = (*quirks, learnt)

    def _remember(self, *quirks: Quirk) -> None:
        self.quirks += tuple(quirk for quirk in quirks if quirk not in self.quirks)

    async def _stream(self, call: Call, request: Request, send: Send) -> Answer:
        data = await call.read()
        while data.isspace():  # it is kept waiting
            data = await call.read()
        if data.lstrip()[:1] in (b"{", b"[", b"<"):
            answer = await self._whole(call, request, send, data)
            self._remember(NO_STREAM)  # it does as if nobody had asked for one
            return answer
        said, decoder, silent = Said(), Decoder(), not data
        try:
            while data:
                for delta in said.hear(decoder.feed(data)):
                    await send(delta)
                if said.problem is not None:
                    raise read_problem(said.problem, self.endpoint.secret).error()
                if said.done:
                    await call.finish()
                    break
                try:
                    data = await call.read()
                except ModelError:
                    if not said.ended:
                        raise
                    break  # nothing that was said is missing
            else:
                with suppress(ModelError):  # half an event is no answer, but an end may come without its last line
                    for delta in said.hear(decoder.end()):
                        await send(delta)
            return _answer(said, request, silent)
        except ModelError as fault:
            if said.heard and fault.usage is None:
                fault.usage = said.usage or said.estimate(request)
            raise

    async def _whole(self, call: Call, request: Request, send: Send | None, start: bytes = b"") -> Answer:
        document = (await call.whole(start)).strip()
        said = Said()
        if document.startswith(b"<"):
            raise ModelError("the answer is a web page, no chat completion; is base_url right?", "server")
        if document.startswith((b"data:", b"event:", b":")):  # it streams, whoever listens
            deltas = said.hear(Decoder().feed(document + b"\n\n"))
        else:
            deltas = said.hear_whole(document) if document else []
        if said.problem is not None:
            raise read_problem(said.problem, self.endpoint.secret).error()
        answer = _answer(said, request, not document)
        if send is not None:
            for delta in deltas:
                await send(delta)
        return answer


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


def _encode(body: Body) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise ModelError("the request has half a surrogate pair in it, which is no text", "refused") from None


def _learnt(rejection: Rejection, body: Body) -> Quirk | None:
    """The quirk that a refusal tells of, if there is one that makes a difference to `body` (which it changes)."""
    if rejection.status not in TEACHES:
        return None
    before = _encode(body)
    for quirk in QUIRKS:
        if quirk.says.search(rejection.text):
            quirk.change(body)
            if _encode(body) != before:
                return quirk
    return None


def _answer(said: Said, request: Request, silent: bool) -> Answer:
    """The answer, if there is one. Raises `ModelError` for what is none."""
    if silent:
        raise ModelError("the provider answered nothing at all", "empty")
    if not said.ended and not said.heard:
        raise ModelError("the answer is no stream of events", "server")
    if not said.ended:
        raise ModelError("the stream ended before the answer did", "truncated")
    if said.usage is None:
        said.usage = said.estimate(request)
    answer = said.answer()
    if answer.text.strip() or any(type(part) is ToolCall for part in answer.parts):
        return answer
    if answer.finish_reason == "content_filter":
        raise ModelError("the provider's filter stopped the answer", "content_filter", usage=answer.usage)
    why = "it answered without a word"
    if answer.finish_reason == "length":
        why += (
            ", as its tokens went into reasoning; max_tokens must be higher"
            if answer.parts
            else ": max_tokens is too low"
        )
    raise ModelError(why, "empty", usage=answer.usage)
