"""Any bodies and headers, sent to the real application: each gets an answer in the shape of its API, in little time.

Valid requests are changed in places: types, sizes, nesting, numbers, letters, schemas, ids, documents. The application
runs on an event loop of its own, with scripted models and a store. Its time is counted as processor time of the thread
of the loop, which does not depend on what else the machine does.
"""

import asyncio
import base64
import copy
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from partsong.configuration import Configuration, Serving
from partsong.folders import keys_path
from partsong.keys import Keys
from partsong.server.application import Application, make_app
from tests.serving import recipe_file
from tests.wire.test_fuzz import VALID as READ
from tests.wire.test_fuzz import places

MOST_CPU = 2.0  # seconds of processor time of the loop's thread for one request: twenty times what any needs
EXPECTED = {502, 503, 504}  # the statuses above 499 that the documentation has; 500 is for faults of our own
JSON = "scripted:z?text=%7B%22a%22%3A+1%7D"
RECIPES = ("three", "few", "checked")
MORE = """
name = "NAME"
advice = "ADVICE"
[[layers]]
agents = ["scripted:a?text=<call+tool%3D%22clock%22>%7B%7D</call>", {{ model = "scripted:b?tokens=40", samples = 2 }}]
[aggregator]
model = "{aggregator}"
"""


def nested(levels: int, leaf: Any = 1, key: str = "a") -> Any:
    for _ in range(levels):
        leaf = {key: leaf} if key else [leaf]
    return leaf


def url_of(data: bytes, media: str) -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


TWICE = {"properties": {"a": {"$ref": "#"}}, "required": ["z"]}
SCHEMAS: list[Any] = [
    {"type": "object"},
    {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    {"anyOf": [TWICE, TWICE]},
    {"properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
    {"patternProperties": {"(.*a){20}$": False}},
    {"pattern": "(?=a)b"},
    {"$ref": "https://example.com/schema"},
    {"$dynamicAnchor": "x", "oneOf": [{"items": {"$dynamicRef": "#x"}}] * 3},
    {"enum": list(range(20_000))},
    {"enum": list(range(70_000))},
    {"multipleOf": 1e-308},
    {"minimum": 10**400},
    {"const": nested(90)},
    nested(120, {}, "not"),
    {"allOf": [{"if": {}, "then": {"unevaluatedProperties": False}}] * 300},
    {"type": "none of these"},
    {"required": "a"},
    True,
]
ODD = st.one_of(
    st.sampled_from([None, True, False, [], {}, "", 0, -1, 1, 2**63, 2**64, 10**400, -(10**30), 1e308, 1e-320, -0.0]),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["\x00", "\ud800", "\u202e", "\x1b[2J", "\ufeff", "</script>", "../../x", "data:", "data:,", "%00"]
    ),
    st.builds(lambda letter, count: letter * count, st.sampled_from("a<[\\\u00e4\U0001f469 "), st.integers(1, 200_000)),
    st.builds(nested, st.integers(1, 300), st.just(1), st.sampled_from(["a", ""])),
    st.builds(lambda value, count: [value] * count, st.sampled_from([None, "a", {}, 1]), st.integers(1, 5_000)),
    st.builds(lambda count: {f"k{index}": "v" for index in range(count)}, st.integers(1, 5_000)),
    st.sampled_from(SCHEMAS),
    st.sampled_from(
        [
            url_of(b"%PDF-1.7\n1 0 obj<</Kids[1 0 R]>>endobj", "application/pdf"),
            url_of(b"a\n" * 1_000, "text/plain"),
            url_of(b"\xff\xfe", "image/png"),
            "data:image/png;base64,!!!!",
            "data:" + ";a" * 1_000,
            "http://127.0.0.1:9/x.png",
            "file:///etc/passwd",
        ]
    ),
)
USER = {"role": "user", "content": "Is it so?"}
FILE = {"type": "file", "file": {"filename": "x.txt", "file_data": url_of(b"So it is.", "text/plain")}}
PARTSONG = {"deadline": 20, "events": True, "cache": False, "recipe": {"aggregator": {"temperature": 0.5}}}
TOOLS = [
    {"type": "function", "function": {"name": f"t{i}", "parameters": schema}} for i, schema in enumerate(SCHEMAS[:4])
]
ASKED: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"messages": [USER], "stream": True, "stream_options": {"include_usage": True}, "n": 3},
        {"messages": [USER], "tools": TOOLS, "tool_choice": "required", "partsong": PARTSONG},
        {"messages": [{"role": "user", "content": [FILE, {"type": "text", "text": "?"}]}], "metadata": {"a": "b"}},
        {"messages": [USER], "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}},
    ],
    "/v1/messages": [
        {"messages": [USER], "max_tokens": 50, "stream": True, "partsong": PARTSONG},
        {"messages": [USER] * 3, "max_tokens": 9, "thinking": {"type": "adaptive"}, "stop_sequences": ["so"]},
    ],
    "/v1/responses": [
        {"input": "Is it so?", "stream": True, "partsong": PARTSONG, "store": False},
        {"input": [{"type": "item_reference", "id": "msg_a_0"}], "previous_response_id": "resp_a"},
        {"input": [USER], "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}},
    ],
}
for module, example in READ.items():
    ASKED[f"/v1/{module.__name__.rpartition('.')[2].replace('chat', 'chat/completions')}"].append(example)
ASKED["/v1/messages/count_tokens"] = ASKED["/v1/messages"]
ASKED["/v1/responses/input_tokens"] = ASKED["/v1/responses"]


def put(value: Any, place: tuple[Any, ...], new: Callable[[Any], Any]) -> Any:
    """The value with what stands at the place replaced by what `new` makes of it."""
    if not place:
        return new(value)
    value = copy.copy(value)
    value[place[0]] = put(value[place[0]], place[1:], new)
    return value


def grown(value: Any, more: Any, times: int) -> Any:
    """A value with more in it: a list or object is repeated or gets a field, a text is repeated.

    `more` takes the place of the value if `times` is 0.
    """
    if not times:
        return more
    match value:
        case list():
            return [*value, more] * times
        case dict():
            return value | {"another": more, "type": value.get("type", more)}
        case str():
            return value * times
        case _:
            return more


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    """The body of a request to an API: valid, changed in some places, or broken as JSON."""
    value: Any = {
        "model": draw(st.sampled_from((*RECIPES, *RECIPES, "scripted:x?tokens=9"))),
        **draw(st.sampled_from(ASKED[path])),
    }
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 3)))):
        place = draw(st.sampled_from(places(value)[1:] or [()]))
        more, times = draw(ODD), draw(st.sampled_from((1, 2, 50, 1_000)))
        if draw(st.booleans()):
            value = put(value, place, partial(grown, more=more, times=0))
        else:
            value = put(value, place, partial(grown, more=more, times=times))
        if not isinstance(value, dict):
            break
    data = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        start, length = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        data = data[:start] + draw(st.binary(max_size=20)) + data[start + length :]
    return data


OPTIONS = st.one_of(
    st.none(),
    st.none(),
    st.binary(max_size=40),
    st.builds(lambda key, value: json.dumps({key: value}).encode(), st.sampled_from([*PARTSONG, "stay"]), ODD),
    st.builds(lambda count: b"[" * count, st.integers(1, 60_000)),
)


@dataclass
class Response:
    """A response as the application sent it, and the seconds of processor time that it took."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cpu: float = 0.0


@dataclass
class House:
    """The application on a loop of its own."""

    runner: asyncio.Runner
    app: Application
    key: str
    statuses: Counter[int] = field(default_factory=Counter)

    def ask(self, path: str, body: bytes, options: bytes | None) -> Response:
        began = time.thread_time()
        response = self.runner.run(self._ask(path, body, options))
        response.cpu = time.thread_time() - began
        self.statuses[response.status] += 1
        return response

    async def _ask(self, path: str, body: bytes, options: bytes | None) -> Response:
        told = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {self.key}".encode())]
        if options is not None:
            told.append((b"x-partsong", options))
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {"headers": told, "client": ("127.0.0.1", 1), "scheme": "http", "server": ("127.0.0.1", 80)}
        response, sent, left = Response(), False, asyncio.Event()

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await left.wait()
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert not response.status, "the response begins twice"
                response.status = message["status"]
                response.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            response.body += message.get("body", b"")

        async with asyncio.timeout(120):  # a guard: nothing here takes more than a few seconds
            await self.app(scope, receive, send)
        left.set()
        return response


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("fuzz")
    recipes = (
        recipe_file(folder),
        *(
            recipe_file(folder, MORE.replace("NAME", name).replace("ADVICE", advice), name, JSON)
            for name, advice in (("few", "calls"), ("checked", "every_step"))
        ),
    )
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("PARTSONG_STATE", str(folder))
        key = Keys(keys_path()).add("fuzz")
        app = make_app(lambda: (Configuration(server=Serving(recipes=recipes)), "full"))
        stack = AsyncExitStack()
        runner.run(stack.enter_async_context(app.lifespan(Starlette())))
        made = House(runner, app, key)
        yield made
        runner.run(stack.aclose())
    print(f"statuses: {dict(made.statuses)}")
    assert made.statuses[200] * 20 > made.statuses.total(), made.statuses  # the requests are not refused at the door


def check_error(path: str, said: Any) -> None:
    """Assert that an error is the one of its API."""
    error = said["error"]
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    if path.startswith("/v1/messages"):
        assert said["type"] == "error"
        assert isinstance(said["request_id"], str)
    else:
        assert {"param", "code"} <= error.keys()


def check_answer(path: str, said: Any) -> None:
    """Assert that an answer is the one of its API."""
    match path:
        case "/v1/chat/completions":
            assert said["object"] == "chat.completion"
            assert [choice["message"]["role"] for choice in said["choices"]] == ["assistant"] * len(said["choices"])
        case "/v1/messages":
            assert (said["type"], said["role"]) == ("message", "assistant")
            assert isinstance(said["content"], list)
        case "/v1/responses":
            assert said["object"] == "response"
            assert isinstance(said["output"], list)
        case _:
            assert said["input_tokens"] >= 0


def check_stream(path: str, body: bytes) -> None:
    """Assert that a stream has whole events, and ends as its API ends."""
    lines = body.decode().split("\n")
    assert lines[-2:] == ["", ""]
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data:")]
    events = [json.loads(each) for each in data if each != "[DONE]"]
    match path:
        case "/v1/chat/completions":
            assert data[-1] == "[DONE]" or "error" in events[-1]
        case "/v1/messages":
            assert events[-1]["type"] in ("message_stop", "error")
        case _:
            assert events[-1]["type"] in ("response.completed", "response.incomplete", "response.failed", "error")


def check(path: str, response: Response) -> None:
    assert response.status in EXPECTED or 200 <= response.status < 500, (response.status, response.body[:500])
    media = response.headers["content-type"].partition(";")[0]
    if media == "text/event-stream":
        assert response.status == 200
        check_stream(path, response.body)
    else:
        assert media == "application/json"
        said = json.loads(response.body)
        (check_answer if response.status == 200 else check_error)(path, said)
    assert response.headers["x-request-id"]
    assert response.cpu < MOST_CPU, f"{response.cpu:.1f} s of processor time"


@pytest.mark.parametrize("path", ASKED)
@given(data=st.data())
@settings(max_examples=100)
def test_every_request_has_an_answer_in_the_shape_of_its_api_in_little_time(
    house: House, path: str, data: st.DataObject
) -> None:
    body, options = data.draw(bodies(path)), data.draw(OPTIONS)
    check(path, house.ask(path, body, options))
