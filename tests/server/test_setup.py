"""Setting a provider's key and fetching weights over the server: who may, what is kept, and that no key comes out."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from partsong import provider_keys
from partsong.configuration import Configuration, Provider
from partsong.folders import keys_path
from partsong.keys import Keys
from partsong.server.application import Application
from partsong.server.owner import HEADER, Owner, new_code
from tests.serving import recipe_file, serving

KEY = "sk-0123456789-secret"
RECIPE = """
name = "lab"
[[layers]]
agents = ["lab:a"]
[aggregator]
model = "lab:b"
"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("LAB_KEY", raising=False)


@asynccontextmanager
async def provider(heard: list[str]) -> AsyncIterator[str]:
    """A provider that knows one key, and tells which keys it has seen; its base URL."""

    async def models(request: web.Request) -> web.Response:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        heard.append(key)
        if "wrong" in key:
            return web.json_response({"error": {"message": f"Incorrect API key provided: {key}"}}, status=401)
        return web.json_response({"data": [{"id": "a"}, {"id": "b"}]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


class Lab:
    """A server that was started by `partsong ui`, a provider, and a page that may have the owner's token."""

    def __init__(self, url: str, app: Application, session: aiohttp.ClientSession, code: str) -> None:
        self.url, self.app, self.session, self.code = url, app, session, code
        self.token = ""
        self.seen: list[str] = []

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        shown = {HEADER: self.token} if self.token else {}
        async with self.session.request(method, self.url + path, json=body, headers=shown | headers) as response:
            text = await response.text()
            self.seen.append(text)
            return response.status, await response.json()

    async def begin(self) -> None:
        status, told = await self.call("POST", "/api/setup/owner", {"code": self.code})
        assert status == 200
        self.token = told["token"]

    async def provider(self) -> Any:
        status, told = await self.call("GET", "/api/setup")
        assert status == 200
        return next(each for each in told["providers"] if each["name"] == "lab")


@asynccontextmanager
async def lab(tmp_path: Path, heard: list[str]) -> AsyncIterator[Lab]:
    code, digest = new_code()
    async with provider(heard) as base:
        table = {"lab": Provider(api="openai", base_url=base, key_env="LAB_KEY", key_page="https://lab.example/keys")}
        configuration = Configuration(providers=table)
        recipe = recipe_file(tmp_path, RECIPE, "lab")
        async with serving([recipe], configuration=configuration, owner=Owner(digest)) as (url, app):
            async with aiohttp.ClientSession() as session:
                yield Lab(url, app, session, code)


async def test_a_key_is_entered_for_the_session_and_makes_recipes_usable(tmp_path: Path) -> None:
    heard: list[str] = []
    async with lab(tmp_path, heard) as page:
        assert (await page.provider())["key"] is None
        assert "lab" in page.app.service().unusable
        await page.begin()
        status, told = await page.call("PUT", "/api/setup/keys/lab", {"key": f" {KEY}\n"})
        assert (status, told) == (200, {"name": "lab", "models": 2, "unsure": False})
        assert heard == [KEY]
        assert (await page.provider())["key"] == "session"
        assert (await page.provider())["page"] == "https://lab.example/keys"
        assert not provider_keys.keys_file().exists()
        assert "LAB_KEY" not in os.environ
        assert [*page.app.service().recipes] == ["lab"]
        assert page.app.service().unusable == {}
        status, about = await page.call("GET", "/api/about")
        assert about["recipes"][0]["unusable"] is None
        status, told = await page.call("DELETE", "/api/setup/keys/lab")
        assert (status, told["forgotten"]) == (200, True)
        assert (await page.provider())["key"] is None
        assert [*page.app.service().unusable] == ["lab"]
        assert not any(KEY in text for text in page.seen)


async def test_a_key_that_is_kept_can_be_read_by_the_user_alone(tmp_path: Path) -> None:
    async with lab(tmp_path, []) as page:
        await page.begin()
        await page.call("PUT", "/api/setup/keys/lab", {"key": "for-the-session"})
        status, _ = await page.call("PUT", "/api/setup/keys/lab", {"key": KEY, "keep": True})
        assert status == 200
        assert provider_keys.kept() == {"LAB_KEY": KEY}
        assert stat.S_IMODE(provider_keys.keys_file().stat().st_mode) == 0o600
        assert (await page.provider())["key"] == "kept"
        assert page.app.service().assembly.session_keys == {}
        assert not any(KEY in text for text in page.seen)


async def test_models_that_were_made_before_get_the_new_key(tmp_path: Path) -> None:
    async with lab(tmp_path, []) as page:
        await page.begin()
        await page.call("PUT", "/api/setup/keys/lab", {"key": "first"})
        assembly = page.app.service().assembly
        (before,) = (await assembly.models(["lab:a"])).values()
        assert assembly.has(["lab:a"])
        await page.call("PUT", "/api/setup/keys/lab", {"key": "second"})
        assert not assembly.has(["lab:a"])
        (after,) = (await assembly.models(["lab:a"])).values()
        assert after is not before


async def test_a_key_that_the_provider_refuses_is_not_used_and_not_repeated(tmp_path: Path) -> None:
    async with lab(tmp_path, []) as page:
        await page.begin()
        status, told = await page.call("PUT", "/api/setup/keys/lab", {"key": "sk-wrong-one", "keep": True})
        assert status == 422
        assert told["error"]["message"] == "lab refuses this key, so it is not used"
        for wrong in ("", "two words", "ä", "x" * 5000):
            status, told = await page.call("PUT", "/api/setup/keys/lab", {"key": wrong})
            assert (status, told["error"]["message"][:14]) == (400, "this is no key"), wrong
        assert (await page.provider())["key"] is None
        assert not any("sk-wrong" in text for text in page.seen)


async def test_the_environment_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", "from-the-environment")
    async with lab(tmp_path, []) as page:
        await page.begin()
        assert (await page.provider())["key"] == "environment"
        status, told = await page.call("PUT", "/api/setup/keys/lab", {"key": KEY})
        assert (status, "LAB_KEY is set" in told["error"]["message"]) == (409, True)


async def test_nobody_but_the_page_that_was_opened_sets_a_key(tmp_path: Path) -> None:
    heard: list[str] = []
    async with lab(tmp_path, heard) as page:
        refused = [
            await page.call("PUT", "/api/setup/keys/lab", {"key": KEY}),
            await page.call("PUT", "/api/setup/keys/lab", {"key": KEY}, **{HEADER: ""}),
            await page.call("PUT", "/api/setup/keys/lab", {"key": KEY}, **{HEADER: page.code}),
            await page.call("DELETE", "/api/setup/keys/lab"),
            await page.call("POST", "/api/setup/owner", {"code": "guessed"}),
            await page.call("POST", "/api/setup/owner", {"code": ""}),
        ]
        await page.begin()
        refused.append(await page.call("POST", "/api/setup/owner", {"code": page.code}))  # its address, seen by others
        foreign = {"origin": "https://evil.example"}
        refused.append(await page.call("PUT", "/api/setup/keys/lab", {"key": KEY}, **foreign))
        rebound = {"host": "evil.example", "origin": "http://evil.example"}
        refused.append(await page.call("PUT", "/api/setup/keys/lab", {"key": KEY}, **rebound))
        assert [status for status, _ in refused] == [403] * 9
        passed = await page.call("PUT", "/api/setup/keys/lab", {"key": KEY}, **{"x-forwarded-for": "10.0.0.1"})
        assert passed[0] == 401
        for name in ("nobody", "local", "lab%2F..", "ollama"):
            assert (await page.call("PUT", f"/api/setup/keys/{name}", {"key": KEY}))[0] == 404, name
        for more in ({"base_url": "http://evil.example"}, {"address": "http://evil.example"}):
            assert (await page.call("PUT", "/api/setup/keys/lab", {"key": KEY, **more}))[0] == 400
        assert heard == []
        assert (await page.provider())["key"] is None


async def test_a_server_that_nobody_opened_by_ui_takes_no_key(tmp_path: Path) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, app), aiohttp.ClientSession() as session:
        page = Lab(url, app, session, "")
        assert (await page.call("POST", "/api/setup/owner", {"code": ""}))[0] == 403
        assert (await page.call("PUT", "/api/setup/keys/openai", {"key": KEY}))[0] == 403
        status, told = await page.call("GET", "/api/setup")
        assert (status, told["owner"]) == (200, False)


async def test_a_server_with_keys_tells_callers_nothing_of_its_set_up(tmp_path: Path) -> None:
    code, digest = new_code()
    async with serving([recipe_file(tmp_path)], owner=Owner(digest)) as (url, app), aiohttp.ClientSession() as session:
        page = Lab(url, app, session, code)
        secret = Keys(keys_path()).add("ann")
        shown = {"x-api-key": secret}
        assert (await page.call("GET", "/api/setup", **shown))[0] == 403
        assert (await page.call("POST", "/api/setup/owner", {"code": code}, **shown))[0] == 403
        assert (await page.call("POST", "/api/setup/fetching", {"recipe": "three"}, **shown))[0] == 403


async def test_weights_are_fetched_told_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub answers slowly with the wrong file: what is told, that it ends when it is stopped, and why it failed."""
    going, ended = asyncio.Event(), asyncio.Event()

    async def file(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "98362432"})
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(65536))
                going.set()
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    hub = web.Application()
    hub.router.add_get("/{path:.*}", file)
    runner = web.AppRunner(hub)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("PARTSONG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
    small = 'name = "small"\nlayers = []\naggregator = "local:smollm2-135m"\n'
    try:
        async with serving([recipe_file(tmp_path, small, "small")]) as (url, app), aiohttp.ClientSession() as session:
            page = Lab(url, app, session, "")
            _, about = await page.call("GET", "/api/about")
            (fetch,) = about["recipes"][0]["fetches"]
            assert (fetch["model"], fetch["bytes"], fetch["licence"]) == ("local:smollm2-135m", 98362432, "Apache-2.0")
            assert (await page.call("POST", "/api/setup/fetching", {"recipe": "none"}))[0] == 404
            assert (await page.call("POST", "/api/setup/fetching", {"recipe": "small"}))[0] == 202
            await asyncio.wait_for(going.wait(), 30)
            assert (await page.call("GET", "/api/setup"))[1]["fetching"] == "small"
            assert (await page.call("GET", "/api/preparing"))[1]["models"][0]["state"] == "fetching"
            assert (await page.call("POST", "/api/setup/fetching", {"recipe": "small"}))[0] == 202
            assert (await page.call("DELETE", "/api/setup/fetching"))[0] == 200
            await asyncio.wait_for(ended.wait(), 30)
            assert (await page.call("GET", "/api/setup"))[1]["fetching"] is None
    finally:
        await runner.cleanup()
