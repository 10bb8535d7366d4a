"""What a request may name: no spelling of a model's id fetches a file, opens a path, or runs a script of the caller."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from partsong.assembly import assembling
from partsong.bounds import Bounds
from partsong.configuration import Configuration, ModelSettings, Provider, Serving
from partsong.folders import keys_path
from partsong.keys import Keys
from partsong.recipe import single
from partsong.server.application import Application
from partsong.server.naming import Naming
from partsong.server.problems import ProblemError
from partsong.weights import catalogue
from tests.serving import recipe_file, serving

QUESTION = [{"role": "user", "content": "Why?"}]
LOCAL = [
    "owner/repo/file.gguf",
    "owner/repo/FILE.GGUF",
    "owner/repo/file.gguf ",
    "owner/repo/../file.gguf",
    "owner%2Frepo%2Ffile.gguf",
    "owner\\repo\\file.gguf",
    "//owner/repo/file.gguf",
    "https://hub.example/file.gguf",
    "./file.gguf",
    "../file.gguf",
    "~/file.gguf",
    "~root/file.gguf",
    "~nobody-of-this-name/file.gguf",
    "/etc/passwd",
    "/etc/passwd/x.gguf",
    "file:///etc/passwd",
    "C:\\file.gguf",
    "smollm2-135m ",
    " smollm2-135m",
    "SmolLM2-135m",
    "smollm2-135m/../x.gguf",
    "smollm2‑135m",
    "smollm2-135m",
    "x" * 300 + ".gguf",
    "owner/repo/file-00001-of-00002.gguf",
    "nothing",
]
SCRIPTS = [
    "x",
    "x?",
    "x?text=Yes",
    "x?first=3600",
    "x?tokens=100000",
    "x?tokens=1e308",
    "z?text=So+it+is ",
    "z?text=so",
]
REFUSED = [f"local:{name}" for name in LOCAL] + [f"scripted:{name}" for name in SCRIPTS]
LOOKALIKES = ["locаl:owner/repo/f.gguf", "LOCAL:owner/repo/f.gguf", "local：owner/repo/f.gguf", "Scripted:z?text=Yes"]


class Hub:
    """A hub on loopback that counts what it is asked, and dribbles one byte after the other of what it has."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.left = asyncio.Event()
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        response = web.StreamResponse(headers={"ETag": '"one"'})
        response.content_length = 1_000_000
        await response.prepare(request)
        try:
            for _ in range(1000):
                await response.write(b"G")
                await asyncio.sleep(0.02)
        finally:
            self.left.set()
        return response


@asynccontextmanager
async def loopback(handler: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Hub]:
    made = Hub()
    async with loopback(made.answer) as url:
        made.url = url
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("PARTSONG_CACHE", str(tmp_path / "cache"))
        yield made


@pytest.fixture(autouse=True)
def no_keys() -> Iterator[None]:
    keys_path().unlink(missing_ok=True)
    yield
    keys_path().unlink(missing_ok=True)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def requests(model: str) -> Iterator[tuple[str, str, Any, dict[str, str]]]:
    """Every request that can name a model: method, path, body and headers."""
    chat = {"model": "three", "messages": QUESTION}
    yield "POST", "/v1/chat/completions", chat | {"model": model, "n": 2}, {}
    yield "POST", "/v1/chat/completions", chat | {"model": model, "stream": True}, {}
    yield "POST", "/v1/responses", {"model": model, "input": "Why?"}, {}
    yield "POST", "/v1/responses", {"model": model, "input": "Why?", "background": True}, {}
    yield "POST", "/v1/responses/input_tokens", {"model": model, "input": "Why?"}, {}
    yield "POST", "/v1/messages", {"model": model, "max_tokens": 9, "messages": QUESTION}, {}
    yield "POST", "/v1/messages/count_tokens", {"model": model, "messages": QUESTION}, {}
    yield "GET", f"/v1/models/{quote(model, safe='')}", None, {}
    for recipe in (
        {"aggregator": model},
        {"aggregator": {"model": "scripted:z?text=So+it+is", "fallback": model}},
        {"aggregator": {"model": "scripted:z?text=So+it+is", "fallback": [model]}},
        {"layers": [{"agents": [model]}]},
        {"layers": [{"agents": ["scripted:b?text=two", {"model": "scripted:b?text=two", "fallback": [model]}]}]},
    ):
        yield "POST", "/v1/chat/completions", chat | {"partsong": {"recipe": recipe}}, {}
        yield "POST", "/v1/chat/completions", chat, {"X-Partsong": json.dumps({"recipe": recipe})}


async def test_no_request_names_what_nobody_has_named(
    hub: Hub, tmp_path: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[str] = []

    def exists(path: Path) -> bool:
        touched.append(str(path))
        return False

    monkeypatch.setattr(Path, "exists", exists)
    async with serving([recipe_file(tmp_path)]) as (url, app):
        touched.clear()
        before = await app.service().store.runs()
        every = [(model, request) for model in (REFUSED[0], REFUSED[-2]) for request in requests(model)]
        # The requests take turns with the other spellings: all go through one decision.
        for index, model in enumerate((*REFUSED, *LOOKALIKES)):
            every += [(model, request) for request in list(requests(model))[index % 4 :: 4]]
        for model, (method, path, body, headers) in every:
            async with session.request(method, url + path, json=body, headers=headers) as response:
                assert response.status in (400, 404), (model, path, await response.text())
                assert "error" in await response.json(), (model, path)
        assert not [path for path in touched if path.endswith((".gguf", "passwd"))]
        assert app.service().preparing.all() == []
        assert await app.service().store.runs() == before
    assert hub.asked == []
    assert not (tmp_path / "cache").exists()


async def test_recipes_in_requests_name_no_more(hub: Hub, tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, app):
        for model in ("local:owner/repo/file.gguf", "local:smollm2-135m", "scripted:x?text=Yes", "local:/etc/x.gguf"):
            text = f'name = "own"\naggregator = "{model}"\nlayers = [{{ agents = ["scripted:b?text=two"] }}]'
            async with session.post(f"{url}/api/recipes/check", json={"toml": text}) as response:
                told = await response.json()
                assert told["ok"]
                assert model in told["unusable"]
            async with session.put(f"{url}/api/recipes/own", json={"toml": text}) as response:
                assert response.status == 403
            assert "own" not in {*app.service().recipes, *app.service().unusable, *app.service().shelf}
        for field in (
            'include = "../three"',
            'include = "/etc/passwd"',
            'instruction_file = "/etc/passwd"',
            'include = "%s"' % ("a" * 300),
        ):
            text = f'name = "own"\n{field}\naggregator = "scripted:b?text=two"\nlayers = []'
            async with session.post(f"{url}/api/recipes/check", json={"toml": text}) as response:
                assert not (await response.json())["ok"]
            async with session.put(f"{url}/api/recipes/own", json={"toml": text}) as response:
                assert response.status == 400
            override = {"partsong": {"recipe": {field.split()[0]: "x"}}}
            async with session.post(
                f"{url}/v1/chat/completions", json={"model": "three", "messages": QUESTION, **override}
            ) as response:
                assert response.status == 400
        for name in ("../three", "..%2f..%2fetc%2fpasswd", "moa%00", "%2e%2e"):
            async with session.get(f"{url}/api/recipes/{name}") as response:
                assert response.status in (400, 404)
    assert hub.asked == []


async def test_what_is_named_may_be_asked(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with serving([recipe_file(tmp_path)], models=["scripted:x?text=Yes"]) as (url, _):
        for model, answer in (("scripted:x?text=Yes", "Yes"), ("scripted:b?text=two", "two"), ("three", "So it is")):
            body = {"model": model, "messages": QUESTION}
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == answer
    async with serving([recipe_file(tmp_path)], server=Serving(models=False), models=["scripted:x?text=Yes"]) as (
        url,
        _,
    ):
        body = {"model": "scripted:x?text=Yes", "messages": QUESTION}
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            assert response.status == 404


class Upstream:
    """A provider on loopback with a list of models."""

    def __init__(self, body: Any, status: int = 200) -> None:
        self.body, self.status = body, status
        self.asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response(self.body, status=self.status)


async def decision(upstream: Upstream, asked: list[str], **more: Any) -> list[int]:
    """For each model of a provider: the status of a refusal, or 200."""
    async with loopback(upstream.answer) as url:
        lab = Provider("openai", f"{url}/v1")
        configuration = Configuration(providers={"lab": lab}, **more)
        found: list[int] = []
        async with assembling(configuration) as assembly:
            naming = Naming(configuration, assembly, {})
            for model in asked:
                try:
                    await naming.check([f"lab:{model}"], "model")
                    found.append(200)
                except ProblemError as error:
                    found.append(error.problem.status)
    return found


async def test_hosted_models_are_those_of_the_providers_list() -> None:
    listed = {"data": [{"id": "large"}, {"id": "models/gem"}, {"id": "qwen3:latest"}, {"id": "claude-x-20260101"}]}
    upstream = Upstream(listed)
    names = ["large", "gem", "qwen3", "claude-x", "Large", "large ", "larg", "../large", ""]
    assert await decision(upstream, names) == [200] * 4 + [404] * 4 + [200]  # "lab:" is refused as no id at all
    assert upstream.asked == 1
    assert await decision(Upstream([{"id": "bare"}]), ["bare", "other"]) == [200, 404]
    for status in (404, 405, 501):
        assert await decision(Upstream({}, status), ["large"]) == [404]
    named = {"lab:large": ModelSettings()}
    assert await decision(unlisted := Upstream({}, 404), ["large", "small"], models=named) == [200, 404]
    assert unlisted.asked == 1
    for broken in (Upstream("what", 200), Upstream({}, 500), Upstream({"data": "x"}), Upstream({}, 401)):
        assert await decision(broken, ["large", "large", "small"]) == [503, 503, 503]
        assert broken.asked == 1


async def test_all_requests_wait_for_one_list() -> None:
    upstream = Upstream({"data": [{"id": "large"}]})
    async with loopback(upstream.answer) as url:
        configuration = Configuration(providers={"lab": Provider("openai", url)})
        async with assembling(configuration) as assembly:
            naming = Naming(configuration, assembly, {})
            first = asyncio.create_task(naming.check(["lab:large"], "model"))
            others = [asyncio.create_task(naming.check(["lab:large"], "model")) for _ in range(50)]
            await asyncio.sleep(0)
            first.cancel()  # the others have their list all the same
            await asyncio.gather(*others)
    assert upstream.asked == 1


IDS = st.text(min_size=1, max_size=40) | st.sampled_from(REFUSED + LOOKALIKES)


@settings(max_examples=300)
@given(prefix=st.sampled_from(["local:", "scripted:", "LOCAL:", " local:", "local::"]), name=IDS)
def test_no_spelling_of_an_id_is_allowed(prefix: str, name: str) -> None:
    async def refused() -> None:
        recipes = {"three": single("scripted:z?text=So+it+is")}
        async with assembling(Configuration()) as assembly:
            naming = Naming(Configuration(), assembly, recipes)
            identity = prefix + name
            here = {f"local:{entry.name}" for entry in catalogue.entries()} | {"scripted:z?text=So+it+is"}
            known = identity.partition(":")[0] in assembly.providers
            assert identity in here or not known or await naming.refusal([identity]) is not None

    asyncio.run(refused())


INVISIBLE = [
    *map(chr, (*range(0x20), *range(0x7F, 0xA0))),
    *"\u00ad\u061c\u200b\u200d\u200e\u2028\u2029\u202e\u2066\u2069\ufeff",
]


def looked_up(wrong: str) -> Iterator[tuple[str, str, Any]]:
    """Every request that looks something up by an id."""
    chat: dict[str, Any] = {"model": "three", "messages": QUESTION}
    answer: dict[str, Any] = {"model": "three", "input": "Why?"}
    yield "POST", "/v1/chat/completions", chat | {"model": f"scripted:{wrong}"}
    for field in ("user", "safety_identifier", "prompt_cache_key"):
        yield "POST", "/v1/chat/completions", chat | {field: wrong}
        yield "POST", "/v1/responses", answer | {field: wrong}
    yield "POST", "/v1/chat/completions", chat | {"metadata": {wrong: "x"}}
    yield "POST", "/v1/chat/completions", chat | {"metadata": {"user_id": wrong}}
    yield "POST", "/v1/chat/completions", chat | {"metadata": {"conversation": wrong}}
    yield "POST", "/v1/messages", chat | {"max_tokens": 9, "metadata": {"user_id": wrong}}
    yield "POST", "/v1/responses", answer | {"previous_response_id": wrong}
    yield "POST", "/v1/responses", answer | {"input": [{"type": "item_reference", "id": wrong}]}
    yield "POST", "/v1/chat/completions", chat | {"partsong": {"recipe": {"aggregator": f"scripted:{wrong}"}}}
    part = quote(wrong, safe="", errors="surrogatepass")
    for path in ("/v1/models/scripted:{}", "/v1/responses/{}", "/v1/runs/{}/events", "/api/runs/{}"):
        yield "GET", path.format(part), None
    yield "GET", f"/api/runs?model={part}", None
    yield "GET", f"/api/runs?before={part}", None
    yield "GET", f"/api/votes/tally?a={part}&b=x", None
    yield "DELETE", f"/v1/runs/{part}", None
    yield "DELETE", f"/v1/runs?conversation={part}", None
    yield "POST", f"/v1/runs/{part}/stop", {}
    yield "POST", f"/v1/responses/{part}/cancel", {}
    sides = {"a": {"recipe": "three", "run": wrong}, "b": {"recipe": "other", "run": "x"}}
    yield "POST", "/api/votes", {"question": "?", "choice": "a", **sides}


async def test_ids_that_no_reader_can_see_are_refused(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    letters = itertools.cycle(INVISIBLE)
    async with serving([recipe_file(tmp_path)]) as (url, app):
        before = await app.service().store.runs()
        for _ in range(4):
            for method, path, body in looked_up(f"a{(letter := next(letters))}b"):
                async with session.request(method, url + path, json=body) as response:
                    text = await response.text()
                    assert response.status == 400, (letter, path, text)
                    assert f"U+{ord(letter):04X}" in text
                    assert letter in " \n\t\r" or letter not in text
        for method, path, body in looked_up("x" * 5000):
            if "aggregator" in str(body):
                continue  # a scripted model's id holds its whole answer, and is refused because nobody names it
            async with session.request(method, url + path, json=body) as response:
                assert response.status == 400, (path, await response.text())
                assert "at most 2,048" in await response.text()
        assert await app.service().store.runs() == before
    short = replace(Configuration(), bounds=Bounds(id_bytes=8))
    async with serving([recipe_file(tmp_path)], configuration=short) as (url, _):
        async with session.get(f"{url}/api/runs/123456789") as response:
            assert response.status == 400
        async with session.get(f"{url}/api/runs/12345678") as response:
            assert response.status == 404


NAMED = """
name = "named"
layers = [{{ agents = ["local:owner/repo/slow.gguf"] }}]
aggregator = "{aggregator}"
"""


async def fetching(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    async with session.get(f"{url}/api/preparing", headers=headers) as response:
        found: list[dict[str, Any]] = (await response.json())["models"]
        return found


async def test_a_fetch_is_seen_delays_nobody_and_ends_with_those_who_wait(
    hub: Hub, tmp_path: Path, session: aiohttp.ClientSession, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xllamacpp")
    recipes = [recipe_file(tmp_path), recipe_file(tmp_path, NAMED, "named")]
    async with serving(recipes, server=Serving(at_once=1, waiting=1)) as (url, app):
        keys = Keys(keys_path())
        everything, three = ({"x-api-key": keys.add(name, recipes=of)} for name, of in (("a", ()), ("b", ("three",))))
        body = {"model": "named", "messages": QUESTION}
        waiting = asyncio.create_task(ask(session, url, body, everything))
        while not (found := await fetching(session, url, everything)) or not found[0]["done"]:
            await asyncio.sleep(0.01)
        assert found[0]["model"] == "local:owner/repo/slow.gguf"
        assert (found[0]["state"], found[0]["total"]) == ("fetching", 1_000_000)
        assert await fetching(session, url, three) == []
        for _ in range(5):  # also with a single place for runs, which the waiting request does not take
            assert await ask(session, url, body | {"model": "three"}, three) == 200
        ready = {name: await readyz(session, url, headers) for name, headers in (("all", everything), ("none", {}))}
        assert ready["all"]["models"][0]["model"] == "local:owner/repo/slow.gguf"
        assert ready["none"] == {"status": "ready", "store": "full", "recipes": 2, "unusable": 0, "preparing": 1}
        assert not hub.left.is_set()
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.wait_for(hub.left.wait(), 60)
        while app.service().preparing.all():
            await asyncio.sleep(0.01)
        assert "preparing" not in await readyz(session, url, everything)
        # A server that stops waits for no file.
        waiting = asyncio.create_task(ask(session, url, body, everything))
        while len(hub.asked) < 2:
            await asyncio.sleep(0.01)
        app.service().stop()
        assert await waiting == 503
    said = capfd.readouterr().err
    assert "fetching local:owner/repo/slow.gguf" in said
    assert "nobody waits for this file any more" in said


async def ask(session: aiohttp.ClientSession, url: str, body: Any, headers: dict[str, str]) -> int:
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        await response.read()
        return response.status


async def readyz(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> dict[str, Any]:
    async with session.get(f"{url}/readyz", headers=headers) as response:
        found: dict[str, Any] = await response.json()
        return found


async def test_the_application_is_made_with_its_naming(tmp_path: Path) -> None:
    async with serving([recipe_file(tmp_path)]) as (_, app):
        assert isinstance(app, Application)
        assert app.service().naming.named() >= {"scripted:z?text=So+it+is", "scripted:b?text=two"}
