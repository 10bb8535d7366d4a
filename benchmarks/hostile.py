"""The upstream of attacks.py: an OpenAI-compatible server on loopback whose models answer in ways that do harm.

    python benchmarks/hostile.py [PORT, 0 for any free one]

The name of the model says what it does; `MODELS` has them all. No answer ends on its own if its table entry says so.
"""

import asyncio
import gzip
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

Deltas = AsyncIterator[dict[str, Any]]
WORD = "word " * 8
MANY = 100_000


async def plain() -> Deltas:
    yield {"content": "It is so, and that is all."}


async def nest() -> Deltas:
    """18 levels in 109 characters."""
    yield {"content": '{"a":' * 18 + "1" + "}" * 18}


async def array() -> Deltas:
    yield {"content": json.dumps({"list": list(range(MANY))})}


async def letters() -> Deltas:
    yield {"content": json.dumps({"text": "a" * 300_000 + "!"})}


async def calls() -> Deltas:
    for index in range(MANY):
        function = {"name": "look", "arguments": '{"a": 1}'}
        yield {"tool_calls": [{"index": index, "id": f"c{index}", "type": "function", "function": function}]}


async def arguments() -> Deltas:
    """One tool call whose arguments never end."""
    function = {"name": "look", "arguments": '{"a": "'}
    yield {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]}
    while True:
        yield {"tool_calls": [{"index": 0, "function": {"arguments": WORD * 100}}]}


async def endless() -> Deltas:
    while True:
        yield {"content": WORD * 100}


async def thoughts() -> Deltas:
    while True:
        yield {"reasoning_content": WORD * 100}


async def tiny() -> Deltas:
    for _ in range(MANY):
        yield {"content": "a"}


async def opened() -> Deltas:
    """What may become a mark of a fence, again and again."""
    for _ in range(4000):
        yield {"content": "<" * 50}


async def proposed() -> Deltas:
    """Beginnings of proposed tool calls whose arguments are a string without an end."""
    yield {"content": '<call tool="look">{"a": "' * 40_000}


async def dollars() -> Deltas:
    yield {"content": "$a" * 60_000 + "\n```js\n" + "x=>{(`${" * 5_000 + "\n```\n" + "<think>" * 10_000}


async def terminal() -> Deltas:
    yield {"content": "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\u2066\x9b31m" * 1_000}


async def wide() -> Deltas:
    yield {"content": "\U0001f469\u200d\U0001f4bb" * 200_000}


MODELS: dict[str, Callable[[], Deltas]] = {
    each.__name__: each
    for each in (
        plain,
        nest,
        array,
        letters,
        calls,
        arguments,
        endless,
        thoughts,
        tiny,
        opened,
        proposed,
        dollars,
        terminal,
        wide,
    )
}
USAGE = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}


async def answer(request: web.Request) -> web.StreamResponse:
    asked = json.loads(await request.read())
    name = asked["model"]
    match name:
        case "line":  # one event without an end
            return await _forever(request, b"data: {" + b'"a":"' + b"x" * 65_536, b"x" * 65_536)
        case "alive":
            return await _forever(request, b"", b": still here\n\n" * 1_000)
        case "bomb":
            body = gzip.compress(b'{"choices": [{"message": {"content": "' + b"a" * 500_000_000)
            return web.Response(body=body, headers={"content-encoding": "gzip", "content-type": "application/json"})
        case "usage":
            return web.json_response(
                _whole({"content": "So it is."}, {"prompt_tokens": 10**30, "completion_tokens": -5})
            )
        case "deep":
            return web.Response(body=b"[" * 20_000_000, content_type="application/json")
    if name not in MODELS:
        return web.json_response({"error": {"message": "there is no such model"}}, status=404)
    if not asked.get("stream"):
        return await _at_once(request, MODELS[name]())
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    async for delta in MODELS[name]():
        await response.write(_event({"choices": [{"index": 0, "delta": delta}]}))
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE}
    await response.write(_event(end) + b"data: [DONE]\n\n")
    return response


async def models(request: web.Request) -> web.Response:
    names = (*MODELS, "line", "alive", "bomb", "usage", "deep")
    return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


async def _at_once(request: web.Request, deltas: Deltas) -> web.StreamResponse:
    """The whole answer, as JSON. An endless one is sent as a string that does not end."""
    message: dict[str, Any] = {"content": ""}
    async for delta in deltas:
        if "tool_calls" in delta:
            message.setdefault("tool_calls", []).extend(delta["tool_calls"])
        else:
            message["content"] += delta.get("content", "")
        if len(message["content"]) > 10_000_000 or len(message.get("tool_calls", ())) > MANY:
            start = b'{"choices": [{"message": {"content": "'
            return await _forever(request, start, b"x" * 65_536)
    return web.json_response(_whole(message, USAGE))


async def _forever(request: web.Request, start: bytes, more: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(start)
    while True:
        await response.write(more)


def _whole(message: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return {"id": "c", "model": "hostile", "choices": [choice], "usage": usage}


def _event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


async def main(port: int) -> None:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_get("/v1/models", models)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # clients leave, as they should
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
