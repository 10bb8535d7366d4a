"""Configuration in, models out: what is wrong is said before a model is made, with file, field or variable."""

import asyncio
import os
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web

import partsong
from partsong import Configuration, ConfigurationError, WeightsError, assemble, find_configuration, read_configuration
from partsong.assembly import assembling
from partsong.configuration import ModelSettings, Provider, known_providers
from partsong.folders import user_folder
from partsong.middleware.price import Price
from partsong.middleware.throughput import Throughput
from partsong.middleware.window import Window
from partsong.providers.local import WINDOW, Local
from partsong.weights.fetch import Fetching
from tests.upstream import Server, chat, chunk, event, status, stream

KEY = "PARTSONG_TEST_KEY"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment is what assembly reads, so a test may write it; nothing else is replaced."""
    for provider in known_providers().values():
        monkeypatch.delenv(provider.key_env or KEY, raising=False)
    return monkeypatch


def written(folder: Path, text: str) -> Path:
    path = folder / "partsong.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_documented_configuration_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
recipe = "local"
store = "metadata"
dollars_per_run = 0.25
dollars_per_day = 5
[providers.lab]
api = "openai"
base_url = "http://127.0.0.1:9100/v1"
key_env = "LAB_API_KEY"
concurrency = 64
dollars_per_day = 1.5
[models."lab:a"]
window = 32768
input_dollars_per_million = 1.0
output_dollars_per_million = 2.5
""",
    )
    assert read_configuration(path) == Configuration(
        "local",
        "metadata",
        Decimal("0.25"),
        Decimal(5),
        {"lab": Provider("openai", "http://127.0.0.1:9100/v1", "LAB_API_KEY", 64, dollars_per_day=Decimal("1.5"))},
        {"lab:a": ModelSettings(32768, Decimal("1.0"), Decimal("2.5"))},
        path,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recipe = ", "not valid TOML"),
        (
            "recipes = 1",
            (
                "recipes: there is no such field; known here: recipe, store, keep, dollars_per_run, dollars_per_day, "
                'providers, models, server, documents, bounds, tools; did you mean "recipe"?'
            ),
        ),
        (
            '[providers.lab]\napi = "smoke"',
            'providers."lab".api: is "smoke", but must be one of: anthropic, local, openai, scripted',
        ),
        ('[providers.lab]\nbase_url = "http://x"', 'providers."lab".api: is missing'),
        ('[providers.lab]\napi = "openai"', 'base_url is "", but must begin with http'),
        (
            '[providers.lab]\napi = "openai"\nbase_url = "http://x"\nkey = "secret"',
            'providers."lab".key: there is no such',
        ),
        ('[providers.lab]\napi = "scripted"\nconcurrency = 0', "concurrency is 0"),
        ("dollars_per_day = -1", "dollars_per_day is -1, but must be 0 dollars or more"),
        ('[providers.lab]\napi = "scripted"\ndollars_per_day = nan', "dollars_per_day is NaN"),
        ('store = "some"', 'store is "some", but must be "full", "metadata", "off" or postgresql://USER@HOST'),
        ('[providers.lab]\napi = "scripted"\nsilence = 0', "silence is 0"),
        ('[models."lab:a"]\nwindow = 0', 'models."lab:a": window is 0'),
        ('[models."lab:a"]\ninput_dollars_per_million = 1', "needs both"),
        ('[models."lab:a"]\ninput_dollars_per_million = -1\noutput_dollars_per_million = 1', "0 dollars or more"),
        ("models = 3", "models"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "pasted",
    [
        "sk-proj-4f7hJ2kLmN8pQ",
        "sk-ant-api03-xYz012345678",
        "gsk_4f7hJ2kLmN8pQrStUvWx",
        "AIzaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4",
        "d0e1f2a3b4c5d6e7f8a9b0c1d2e3f4a5",
        "0123456789abcdef",
        "my key",
        "",
    ],
)
def test_a_key_in_the_place_of_a_variable_is_refused_and_never_repeated(tmp_path: Path, pasted: str) -> None:
    path = written(tmp_path, f'[providers.lab]\napi = "openai"\nbase_url = "http://x/v1"\nkey_env = "{pasted}"')
    with pytest.raises(ConfigurationError, match="key_env must be the name of an environment variable") as caught:
        read_configuration(path)
    assert not pasted or pasted not in str(caught.value) + repr(caught.value.__context__)
    assert 'providers."lab"' in str(caught.value)


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "lab_key", "_K", "MY_LAB_2_KEY", "A_KEY_OF_A_SECOND_LAB_2"])
def test_the_name_of_a_variable_is_taken(variable: str) -> None:
    assert Provider("openai", "http://x/v1", key_env=variable).key_env == variable


def test_this_folder_comes_before_the_users_and_an_explicit_file_before_both(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    here, user = tmp_path / "here", tmp_path / "config" / "partsong"
    here.mkdir()
    user.mkdir(parents=True)
    environment.chdir(here)
    environment.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert find_configuration() == Configuration()
    written(user, 'recipe = "moa"')
    assert find_configuration().recipe == "moa"
    written(here, 'recipe = "mine.toml"')
    assert find_configuration().recipe == "mine.toml"
    explicit = written(tmp_path, 'recipe = "mine.toml"')
    assert find_configuration(explicit).recipe == str(tmp_path / "mine.toml")
    with pytest.raises(ConfigurationError, match="no such file"):
        find_configuration(tmp_path / "gone.toml")


def test_downloads_go_where_the_user_says(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("XDG_CACHE_HOME", str(tmp_path))
    environment.delenv("PARTSONG_CACHE", raising=False)
    assert user_folder("cache") == tmp_path / "partsong"
    environment.setenv("PARTSONG_CACHE", str(tmp_path / "models"))
    assert user_folder("cache") == tmp_path / "models"


LAB = Provider("openai", "http://127.0.0.1:1/v1", KEY)


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("lab:a", None, f"lab: needs a key, but the environment variable {KEY} is not set"),
        ("lab:a", "  ", f"{KEY} is not set"),
        ("lab:a", "töp-secret", f"the key in {KEY} has characters that no key can have"),
        ("openai:gpt-4o", None, "OPENAI_API_KEY"),
        ("anthropic:claude", None, "ANTHROPIC_API_KEY"),
        ("opnai:gpt-4o", None, 'there is no provider "opnai"; known: '),
        ("opnai:gpt-4o", None, 'did you mean "openai"?'),
        ("gpt-4o", None, 'one has the form "provider:model"'),
        ("scripted:a?tokns=3", None, 'did you mean "tokens"?'),
        ("local:no-such-model", None, "no-such-model"),
    ],
)
async def test_an_id_that_will_not_do_is_refused(
    environment: pytest.MonkeyPatch, name: str, key: str | None, said: str
) -> None:
    if key is not None:
        environment.setenv(KEY, key)
    with pytest.raises(ConfigurationError) as caught:
        async with assemble(["scripted:a", name], Configuration(providers={"lab": LAB})):
            pass
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_the_key_is_sent_and_the_configured_price_and_window_hold(environment: pytest.MonkeyPatch) -> None:
    environment.setenv(KEY, "sk-test")
    async with Server(chat("Hello.")) as server:
        lab = Provider("openai", server.url + "/v1", KEY)
        known = {"lab:a": ModelSettings(100, Decimal(1), Decimal(2))}
        async with assemble(["lab:a", "lab:b"], Configuration(providers={"lab": lab}, models=known)) as models:
            transcript = await partsong.run(partsong.single("lab:a"), "Why?", models)
            unknown = await partsong.run(partsong.single("lab:b"), "Why?", models)
            with pytest.raises(partsong.QuestionError, match="reads 100"):
                await partsong.run(partsong.single("lab:a"), "word " * 500, models)
    assert [exchange.headers["Authorization"] for exchange in server.exchanges] == ["Bearer sk-test"] * 2
    assert transcript.usage.dollars == Decimal(11 + 2 * 7) / 1_000_000
    assert unknown.usage.dollars is None


async def test_a_provider_gets_no_more_calls_at_once_than_configured() -> None:
    scripted = partsong.Agent("scripted:a", samples=3)
    recipe = partsong.Recipe("t", (partsong.Layer((scripted,)),), partsong.Aggregator("scripted:a"))
    async with Server(chat("Hello.")) as server:
        lab = Provider("openai", server.url + "/v1", concurrency=1)
        agents = partsong.Layer((partsong.Agent("lab:a", samples=4),))
        recipe = partsong.Recipe("t", (agents,), partsong.Aggregator("lab:a"))
        async with assemble(recipe.models, Configuration(providers={"lab": lab})) as models:
            transcript = await partsong.run(recipe, "Why?", models)
    assert transcript.text == "Hello."
    assert len(server.exchanges) == 5
    assert server.connections == 1  # one call at a time needs one connection


async def test_what_can_pass_is_tried_again_and_what_hangs_is_given_up(environment: pytest.MonkeyPatch) -> None:
    async with Server(status(429, "slow down", {"Retry-After": "0"}), chat("Hello.")) as server:
        lab = Provider("openai", server.url + "/v1")
        async with assemble(["lab:a"], Configuration(providers={"lab": lab})) as models:
            assert (await partsong.run(partsong.single("lab:a"), "Why?", models)).text == "Hello."
    assert len(server.exchanges) == 2
    async with Server(stream(event(chunk(content="Hel")), end="silence")) as server:
        lab = Provider("openai", server.url + "/v1", first_token=9, silence=0.05)
        async with assemble(["lab:a"], Configuration(providers={"lab": lab})) as models:
            with pytest.raises(partsong.RunError, match=r"silent for 0\.05 s") as caught:
                await partsong.run(partsong.single("lab:a"), "Why?", models)
    assert caught.value.transcript.text == "Hel"
    assert len(server.exchanges) == 1


async def test_a_local_model_gets_the_window_that_is_configured(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    path = tmp_path / "own.gguf"
    path.write_bytes(b"GGUF")  # enough to be found; it is loaded at the first call, and there is none
    name = f"local:{path}"
    async with assemble([name], Configuration(models={name: ModelSettings(window=20_000)})) as models:
        wrapped = models[name]
        assert isinstance(wrapped, Window)
        assert isinstance(wrapped.model, Price)
        assert isinstance(wrapped.model.model, Throughput)
        assert isinstance(wrapped.model.model.model, Local)
        assert wrapped.info.window == wrapped.model.model.model.window == 20_000
    async with assemble([name], Configuration()) as models:
        assert isinstance(wrapped := models[name], Window)
        assert wrapped.info.window == WINDOW


class SlowHub:
    """A hub on loopback that never sends the end of a file."""

    def __init__(self) -> None:
        self.asked, self.left = asyncio.Event(), asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": '"one"'})
        response.content_length = 1_000_000
        await response.prepare(request)
        self.asked.set()
        try:
            while True:
                await response.write(b"G")
                await asyncio.sleep(0.01)
        finally:
            self.left.set()


async def test_a_file_that_comes_slowly_delays_only_those_who_want_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp")
    monkeypatch.setenv("PARTSONG_CACHE", str(tmp_path))
    hub, app, heard = SlowHub(), web.Application(), list[Fetching]()
    app.router.add_get("/{path:.*}", hub.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
    slow = "local:owner/repo/slow.gguf"
    async with assembling(Configuration(), fetching=heard.append) as assembly:
        first, second = (asyncio.create_task(assembly.models([slow, "scripted:a"])) for _ in range(2))
        await hub.asked.wait()
        assert list(await assembly.models(["scripted:a", "scripted:b"])) == ["scripted:a", "scripted:b"]
        assert not assembly.has([slow])
        first.cancel()  # the other one still waits for the same fetch
        await asyncio.wait([first])
        assert not hub.left.is_set()
        second.cancel()
        await asyncio.wait([second])
        await asyncio.wait_for(hub.left.wait(), 60)
        hub.asked.clear()
        third = asyncio.create_task(assembly.models([slow]))
        await hub.asked.wait()
    with pytest.raises(WeightsError, match="partsong is closing"):
        await third
    assert heard[-1].state == "ended"
    assert heard[-1].note == "nobody waits for this file any more"
    await runner.cleanup()


async def test_a_pipe_is_no_file_of_weights(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    pytest.importorskip("xllamacpp")
    os.mkfifo(tmp_path / "x.gguf")  # opening it would wait for ever
    with pytest.raises(WeightsError, match="no regular file"):
        async with assemble([f"local:{tmp_path / 'x.gguf'}"], Configuration()):
            pass
