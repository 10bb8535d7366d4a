"""A model behind the Anthropic Messages API: streamed if somebody listens, else one plain call.

What newer models, or servers that imitate the API, do not accept is one table, `QUIRKS`: it is learnt from the refusal,
applied, and remembered for this model once it has helped. Nothing is dropped that would change what the answer is:
tools, a response format and stop sequences stay, and the refusal is passed on.
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
from partsong.wire import messages
from partsong.wire.messages import Said
from partsong.wire.sse import Decoder

Body = dict[str, Any]
VERSION = "2023-06-01"  # of the API; there has been no later one


class Quirk(Struct, frozen=True):
    """Something that a model does not accept.

    `says` finds it in the (lower-case) words of a refusal, and `change` makes a request's body do without. What lies
    in the conversation and not in the model is not remembered.
    """

    name: str
    says: re.Pattern[str]
    change: Callable[[Body], None]
    remembered: bool = True


def _refuses(name: str) -> re.Pattern[str]:
    complaint = r"(deprecated|unsupported|not (be )?(support|permit|allow|accept)|n't support|extra inputs|only be set)"
    return re.compile(rf"{complaint}.{{0,120}}\b{name}\b|\b{name}\b.{{0,120}}{complaint}", re.DOTALL)


def _drop(name: str) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        body.pop(name, None)

    return change


def _one_of_two(body: Body) -> None:
    if "temperature" in body:
        body.pop("top_p", None)


def _drop_thoughts(body: Body) -> None:
    body["messages"] = [
        turn | {"content": [block for block in turn["content"] if "thinking" not in block["type"]]}
        for turn in body["messages"]
    ]


# A refusal is matched against the rows in this order, and the first that changes the body is tried.
QUIRKS: tuple[Quirk, ...] = (
    Quirk("no top_p beside temperature", re.compile(r"temperature\W+and\W+top_p\W.{0,40}(both|together)"), _one_of_two),
    Quirk("no temperature", _refuses("temperature"), _drop("temperature")),
    Quirk("no top_p", _refuses("top_p"), _drop("top_p")),
    Quirk("no stream", _refuses("stream(ing)?"), _drop("stream")),
    Quirk("no thoughts of another", re.compile(r"\bsignature\b"), _drop_thoughts, remembered=False),
)
NO_STREAM = next(quirk for quirk in QUIRKS if quirk.name == "no stream")
TEACHES = frozenset({400, 422, 501})  # a refusal with another status has nothing to do with the form of the request


class Anthropic:
    """The model `name` at `base_url`. `quirks` is what is known so far of what it does not accept."""

    def __init__(self, http: Http, *, provider: str, base_url: str, name: str, key: str | None = None) -> None:
        """`base_url` may end in /v1 or not. Raises `ConfigurationError` for an address or a key that cannot be one."""
        self.name = name
        self.endpoint = Endpoint(http, provider, base_url, _path(base_url, "messages"), _headers(key), key)
        self.quirks: tuple[Quirk, ...] = ()

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        quirks = self.quirks
        while True:
            body = messages.body(request, self.name, stream=send is not None)
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
        self.quirks += tuple(quirk for quirk in quirks if quirk.remembered and quirk not in self.quirks)

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
                if said.ended:
                    await call.finish()
                    break
                data = await call.read()
            else:
                with suppress(ModelError):  # half an event is no answer, but the end may come without its last line
                    for delta in said.hear(decoder.end()):
                        await send(delta)
            return _answer(said, request, silent)
        except ModelError as fault:
            if said.heard and fault.usage is None:
                fault.usage = said.used(request)
            raise

    async def _whole(self, call: Call, request: Request, send: Send | None, start: bytes = b"") -> Answer:
        document = (await call.whole(start)).strip()
        said = Said()
        if document.startswith(b"<"):
            raise ModelError("the answer is a web page, no message; is base_url right?", "server")
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
    return await Endpoint(http, "base_url", base_url, _path(base_url, "models"), _headers(key), key).probe()


def _path(base_url: str, resource: str) -> str:
    """What comes after `base_url`: people write it with the version, and without."""
    versioned = base_url.partition("?")[0].rstrip("/").endswith("/v1")
    return resource if versioned else f"v1/{resource}"


def _headers(key: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "anthropic-version": VERSION}
    if key:
        headers["x-api-key"] = key
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
    answer = said.answer(request)
    if answer.finish_reason == "content_filter":
        # Whatever came before was cut off where the filter struck, and the API asks not to build on it.
        why = f": {said.refusal}" if said.refusal else ""
        raise ModelError(f"the provider's filter stopped the answer{why}", "content_filter", usage=answer.usage)
    if answer.text.strip() or any(type(part) is ToolCall for part in answer.parts):
        return answer
    why = "it answered without a word"
    if answer.finish_reason == "length":
        why += (
            ", as its tokens went into reasoning; max_tokens must be higher"
            if answer.parts
            else ": max_tokens is too low"
        )
    raise ModelError(why, "empty", usage=answer.usage)
