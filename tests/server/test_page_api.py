"""What the web page asks of its server, over a real port and with real stores."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest
import yarl

from partsong.configuration import Serving
from partsong.events import from_json
from partsong.folders import keys_path, recipes_folder
from partsong.keys import Keys
from partsong.server.application import Application
from partsong.server.pages.faults import read_recipe
from partsong.server.pages.votes import wilson
from tests.cli.test_cli import code_of
from tests.grammar import check
from tests.serving import recipe_file, serving

NONE: Mapping[str, str] = MappingProxyType({})
HOSTILE = '</script><img src=x onerror=alert(1)>\u2028\u0000"\\'
PRICED = "scripted:{}?text=Word&input=1000&output=1000"
# Models that these tests ask, or write into recipes, over the server; the configuration must name them.
NAMED = [
    PRICED.format("dear"),
    *(f"scripted:{name}" for name in "abcdez"),
    "scripted:a?input=1&output=1",
    "scripted:slow?text=one+two+three&each=60",
    "scripted:c?text=%60%60%60%60sh%0Als%0A%60%60%60%0A",
    "scripted:c?text=three",
]
LOSING = """
name = "losing"
[[layers]]
agents = ["scripted:a?text=one", "scripted:b?fail=server"]
[aggregator]
model = "scripted:z?text=So+it+is"
"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store, keys and recipes for each test alone: what the environment says is how they are found."""
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@dataclass(frozen=True)
class Page:
    """The page's side: a session and the server's address."""

    session: aiohttp.ClientSession
    url: str
    app: Application

    async def get(self, path: str, status: int = 200, headers: Mapping[str, str] = NONE) -> Any:
        async with self.session.get(self.url + path, headers=headers) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def send(
        self, method: str, path: str, body: Any, status: int = 200, headers: Mapping[str, str] = NONE
    ) -> Any:
        async with self.session.request(method, self.url + path, json=body, headers=headers) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def ask(self, question: str, model: str = "three", headers: Mapping[str, str] = NONE, **metadata: str) -> str:
        """Ask, and return the run's id."""
        body = {"model": model, "messages": [{"role": "user", "content": question}], "metadata": metadata}
        answer = await self.send("POST", "/v1/chat/completions", body, headers=headers)
        run: str = answer["partsong"]["run"]
        return run


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    recipes = [recipe_file(tmp_path), recipe_file(tmp_path, LOSING, "losing")]
    async with serving(recipes, models=NAMED) as (url, app), aiohttp.ClientSession() as session:
        yield Page(session, url, app)


async def test_it_says_what_can_be_asked(page: Page) -> None:
    about = await page.get("/api/about")
    assert (about["keyed"], about["store"]) == (False, "full")
    three = about["recipes"][0]
    assert (three["name"], three["calls"], three["unusable"]) == ("three", 4, None)
    assert [len(layer) for layer in three["layers"]] == [3]
    assert three["aggregator"] == "scripted:z?text=So+it+is"
    assert three["typical_dollars"] == 0
    assert "scripted:b?text=two" in about["models"]


async def test_recipes_that_cannot_be_used_are_told_with_the_reason(tmp_path: Path) -> None:
    text = 'name = "far"\naggregator = "nobody:x"\nlayers = [{{ agents = ["scripted:a"] }}]'
    async with serving([recipe_file(tmp_path, text, "far")]) as (url, app), aiohttp.ClientSession() as session:
        page = Page(session, url, app)
        (far,) = (await page.get("/api/about"))["recipes"]
        assert far["layers"] == [["scripted:a"]]
        assert far["typical_dollars"] is None
        assert 'there is no provider "nobody"' in far["unusable"]
        assert (await page.get("/api/recipes/far"))["unusable"] == far["unusable"]


async def test_runs_are_listed_with_what_came_of_them(page: Page) -> None:
    run = await page.ask("Is it so?\nSay yes.", "losing")
    listed = await page.get("/api/runs")
    assert not listed["more"]
    (line,) = listed["runs"]
    assert (line["id"], line["question"], line["state"]) == (run, "Is it so?", "finished")
    assert (line["lost"], line["layers"], line["recipe"]) == (1, 2, "losing")
    assert line["dollars"] == 0
    assert line["tokens"] > 0


async def test_runs_are_found_by_text_recipe_model_money_loss_and_time(page: Page) -> None:
    plain = await page.ask("Grüße aus Köln")
    lost = await page.ask("And now?", "losing")
    dear = await page.ask("And what of 100% of it?", PRICED.format("dear"))

    async def found(query: str) -> list[str]:
        return [run["id"] for run in (await page.get(f"/api/runs?{query}"))["runs"]]

    assert await found("") == [dear, lost, plain]
    assert await found("text=köln+GRÜSSE") == [plain]
    assert await found("text=100%25") == [dear]
    assert await found("recipe=losing") == [lost]
    assert await found("model=scripted:c?text%3Dthree") == [plain]
    assert await found("model=scripted:b?fail%3Dserver") == [lost]
    assert await found("min_dollars=0.0001") == [dear]
    assert await found("lost=1") == [lost]
    assert await found("after=2020-01-01") == [dear, lost, plain]
    assert await found("after=2120-01-01T00:00:00Z") == []
    assert await found("text=';+DROP+TABLE+runs;--") == []


async def test_pages_go_on_where_the_one_before_ended(page: Page) -> None:
    runs = [await page.ask(f"Question {number}") for number in range(5)]
    first = await page.get("/api/runs?limit=2")
    await page.ask("One that comes in between")
    second = await page.get(f"/api/runs?limit=2&before={first['runs'][-1]['id']}")
    third = await page.get(f"/api/runs?limit=2&before={second['runs'][-1]['id']}")
    assert [run["id"] for each in (first, second, third) for run in each["runs"]] == runs[::-1]
    assert [each["more"] for each in (first, second, third)] == [True, True, False]


async def test_a_search_that_makes_no_sense_names_the_field(page: Page) -> None:
    for query, field in (
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("min_dollars=x", "min_dollars"),
        ("lost=perhaps", "lost"),
        ("after=yesterday", "after"),
        ("before=nothing", "before"),
        ("colour=red", "colour"),
    ):
        error = (await page.get(f"/api/runs?{query}", 400))["error"]
        assert error["param"] == field
        assert error["message"].startswith(f"{field}: ")


async def test_conversations_are_listed_searched_changed_and_deleted(page: Page) -> None:
    await page.ask("Of a program")
    first = await page.ask("What is a fugue?", conversation="c1", after="")
    second = await page.ask("And a canon?", conversation="c1", after=first)
    await page.ask("Is it so?", conversation="c2")

    async def listed(query: str = "") -> list[str]:
        return [each["id"] for each in (await page.get(f"/api/conversations?{query}"))["conversations"]]

    (_, entry) = (await page.get("/api/conversations"))["conversations"]
    assert (entry["id"], entry["title"], entry["last"], entry["named"]) == ("c1", "What is a fugue?", second, False)
    assert await listed() == ["c2", "c1"]
    assert await listed("text=CANON+fugue") == ["c1"]
    assert await listed("text=so+it+is") == ["c2", "c1"]  # words of the answers
    assert await listed("limit=1&before=c2") == ["c1"]
    changed = await page.send("PATCH", "/api/conversations/c1", {"title": " On \n fugues ", "pinned": True})
    assert (changed["title"], changed["named"], changed["pinned"]) == ("On fugues", True, True)
    assert await listed() == ["c1", "c2"]
    await page.send("PATCH", "/api/conversations/c2", {"archived": True})
    assert (await listed(), await listed("archived=1")) == (["c1"], ["c2"])
    for path, body, status, field in (
        ("c1", {}, 400, None),
        ("c1", {"title": "x" * 201}, 400, "title"),
        ("c1", {"colour": "red"}, 400, "colour"),
        ("nobody", {"pinned": True}, 404, "conversation"),
    ):
        error = (await page.send("PATCH", f"/api/conversations/{path}", body, status))["error"]
        assert error["param"] == field
    assert (await page.get("/api/conversations?before=nobody", 400))["error"]["param"] == "before"
    await page.send("DELETE", "/v1/runs?conversation=c1", None)
    assert (await listed(), await listed("archived=1")) == ([], ["c2"])


async def test_the_runs_of_a_conversation_say_what_they_go_on_from(page: Page) -> None:
    first = await page.ask("One", conversation="c", after="")
    second = await page.ask("Two", conversation="c", after=first)
    again = (await page.send("POST", f"/v1/runs/{second}/again", {"aggregator": "scripted:e"}))["partsong"]["run"]
    other = await page.ask("One, in other words", conversation="c", after="")
    unsaid = await page.ask("A client that names the conversation alone", conversation="c")
    whole = await page.get(f"/api/runs/{again}/conversation")
    assert (whole["id"], whole["title"], whole["listed"]) == ("c", "One", True)
    after = {run["id"]: run["after"] for run in whole["runs"]}
    assert after == {first: None, second: first, again: first, other: None, unsaid: other}
    alone = await page.ask("Alone")
    whole = await page.get(f"/api/runs/{alone}/conversation")
    assert (whole["id"], whole["title"], whole["listed"]) == (alone, "Alone", False)
    await page.ask("Gone on", conversation=alone, after=alone)
    whole = await page.get(f"/api/runs/{alone}/conversation")
    assert ([run["after"] for run in whole["runs"]], whole["listed"]) == ([None, alone], True)
    lost = await page.ask("After a run that is gone", conversation="c", after="nothing")
    assert (await page.get(f"/api/runs/{lost}/conversation"))["runs"][-1]["after"] is None


async def test_conversations_are_those_of_the_caller(tmp_path: Path) -> None:
    alice, bob = ({"x-api-key": Keys(keys_path()).add(name)} for name in ("alice", "bob"))
    async with serving([recipe_file(tmp_path)]) as (url, app), aiohttp.ClientSession() as session:
        page = Page(session, url, app)
        run = await page.ask("A secret", headers=alice, conversation="c")
        assert (await page.get("/api/conversations", headers=bob))["conversations"] == []
        await page.get(f"/api/runs/{run}/conversation", 404, bob)
        await page.send("PATCH", "/api/conversations/c", {"title": "Mine"}, 404, bob)
        await page.send("DELETE", "/v1/runs?conversation=c", None, headers=bob)
        assert (await page.get(f"/api/runs/{run}/conversation", headers=alice))["title"] == "A secret"


async def test_runs_of_batches_are_listed_only_if_asked_for(page: Page) -> None:
    asked = await page.ask("Of a person")
    recorder = page.app.service().store.record(source="batch")
    for _, event in await page.app.service().store.events(asked):
        await recorder.hear(event)
    await recorder.close()
    assert [run["id"] for run in (await page.get("/api/runs"))["runs"]] == [asked]
    both = (await page.get("/api/runs?apart=1"))["runs"]
    assert [(run["id"], run["source"]) for run in both] == [(recorder.id, "batch"), (asked, None)]


async def test_a_run_is_told_as_it_happened(page: Page) -> None:
    run = await page.ask(HOSTILE, "losing")
    told = await page.get(f"/api/runs/{run}")
    assert (told["id"], told["state"], told["answer"]) == (run, "finished", "So it is")
    events = [from_json(json.dumps(each["event"])) for each in told["events"]]
    check(events)
    seconds = [each["seconds"] for each in told["events"]]
    assert seconds == sorted(seconds)
    assert told["events"][0]["event"]["conversation"]["messages"][0]["parts"][0]["text"] == HOSTILE
    assert told["events"][-1]["event"]["answer"]["text"] == "So it is"
    assert (await page.get("/api/runs/nothing", 404))["error"]["param"] == "run"
    assert (await page.get(f"/api/runs/{run[:6]}", 404))["error"]["param"] == "run"


async def test_an_open_run_is_told_as_far_as_it_is(page: Page) -> None:
    body = {"model": "scripted:slow?text=one+two+three&each=60", "messages": [{"role": "user", "content": "Slowly"}]}
    async with page.session.post(f"{page.url}/v1/chat/completions", json=body | {"stream": True}) as response:
        run = response.headers["x-partsong-run"]
        await response.content.readany()
        while (listed := await page.get("/api/runs"))["runs"] == []:  # it is written down within moments
            await asyncio.sleep(0.01)
        assert (listed["runs"][0]["id"], listed["runs"][0]["state"]) == (run, "open")
        told = await page.get(f"/api/runs/{run}")
        assert (told["state"], told["answer"]) == ("open", None)
        assert [each["event"]["event"] for each in told["events"]][:2] == ["run_started", "aggregation_started"]


async def test_a_run_is_exported_as_json_and_as_markdown(page: Page) -> None:
    run = await page.ask("Is it so?\n# No heading", "losing")
    async with page.session.get(f"{page.url}/api/runs/{run}/export") as response:
        assert response.headers["content-disposition"] == f'attachment; filename="partsong-{run}.json"'
        document = await response.json()
    assert document["run"]["id"] == run
    assert document["layers"][0]["seats"][0]["text"] == "one"
    async with page.session.get(f"{page.url}/api/runs/{run}/export?form=markdown") as response:
        assert response.headers["content-disposition"] == f'attachment; filename="partsong-{run}.md"'
        text = await response.text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# `losing`",
        "## Question",
        "## Answer of `scripted:z?text=So+it+is`",
        "## Layer 1",
        "### Seat 1: `scripted:a?text=one`",
        "### Seat 2: `scripted:b?fail=server`",
        "## Lost or changed",
        "## Usage",
    ]
    assert "> # No heading" in text
    assert "\nSo it is\n" in text
    assert "> one" in text
    assert "Lost (server):" in text
    assert (await page.get(f"/api/runs/{run}/export?form=pdf", 400))["error"]["param"] == "form"


async def test_what_a_seat_was_sent_is_told_and_exported(page: Page) -> None:
    run = await page.ask("Is it so?", "losing")
    (first,) = (await page.get(f"/api/runs/{run}/sent?layer=0&seat=0"))["sent"]
    assert [(each["role"], each["text"]) for each in first["messages"]] == [("user", "Is it so?")]
    assert first["calls"][0]["model"] == "scripted:a?text=one"
    (last,) = (await page.get(f"/api/runs/{run}/sent?layer=1&seat=0"))["sent"]
    assert "number=1>\none\n" in last["messages"][-1]["text"]
    assert (await page.get(f"/api/runs/{run}/sent?layer=7&seat=7"))["sent"] == []
    for query in ("layer=x&seat=0", "layer=0", "layer=-1&seat=0"):
        await page.get(f"/api/runs/{run}/sent?{query}", 400)
    await page.get("/api/runs/none/sent?layer=0&seat=0", 404)
    async with page.session.get(f"{page.url}/api/runs/{run}/export?form=markdown&prompts=true") as response:
        text = await response.text()
    assert "## Sent to layer 1, seat 2" in text
    assert "## Sent to aggregator" in text
    async with page.session.get(f"{page.url}/api/runs/{run}/export?prompts=true") as response:
        assert len((await response.json())["sent"]) == 3


async def test_what_a_new_run_would_ask_is_told_with_its_price(page: Page) -> None:
    run = await page.ask("Is it so?", "losing")
    path = f"/api/runs/{run}/again"
    told = await page.send("POST", path, {"retry": [[0, 1]]}, 200)
    assert (told["calls"], told["models"]) == (2, ["scripted:b?fail=server", "scripted:z?text=So+it+is"])
    assert (await page.send("POST", path, {}, 200))["calls"] == 1
    assert await page.send("POST", path, {"best": True}, 200) == {"calls": 0, "models": [], "typical_dollars": 0}
    dear = await page.send("POST", path, {"aggregator": PRICED.format("dear")}, 200)
    assert dear["typical_dollars"] > (await page.send("POST", path, {}, 200))["typical_dollars"]
    wrong: list[Any] = [{"retry": [[0, 0]]}, {"without": [[9, 9]]}, {"aggregator": "nonsense"}, {"method": "guess"}, []]
    for body in wrong:
        await page.send("POST", path, body, 400)
    await page.send("POST", "/api/runs/none/again", {}, 404)


async def test_an_open_fence_of_the_answers_is_closed(page: Page) -> None:
    run = await page.ask("Code?", "scripted:c?text=%60%60%60%60sh%0Als%0A%60%60%60%0A")
    async with page.session.get(f"{page.url}/api/runs/{run}/export?form=markdown") as response:
        assert "````sh\nls\n```\n````\n" in await response.text()


async def test_what_a_store_without_words_has_is_shown(tmp_path: Path) -> None:
    async with (
        serving([recipe_file(tmp_path)], mode="metadata", models=["scripted:e"]) as (url, app),
        aiohttp.ClientSession() as session,
    ):
        page = Page(session, url, app)
        run = await page.ask("A secret")
        told = await page.get(f"/api/runs/{run}")
        assert (told["kept"], told["question"], told["events"], told["answer"]) == (False, "", [], None)
        assert told["tokens"] > 0
        async with session.get(f"{url}/api/runs/{run}/export?form=markdown") as response:
            text = await response.text()
            assert "`three`" in text
            assert "secret" not in text
        await page.get(f"/v1/runs/{run}/events", 404)
        pair = [await page.ask("A secret", model) for model in ("three", "scripted:e")]
        sides = {
            side: {"recipe": name, "run": run}
            for side, name, run in zip("ab", ("three", "scripted:e"), pair, strict=True)
        }
        await page.send("POST", "/api/votes", {"question": "A secret", "choice": "a", **sides}, 201)
    assert b"A secret" not in b"".join(file.read_bytes() for file in (tmp_path / "state").iterdir())


async def test_a_server_without_a_store_says_so(tmp_path: Path) -> None:
    async with serving([recipe_file(tmp_path)], mode="off") as (url, app), aiohttp.ClientSession() as session:
        page = Page(session, url, app)
        assert (await page.get("/api/about"))["store"] == "off"
        assert await page.get("/api/runs") == {"runs": [], "more": False}
        assert await page.get("/api/conversations") == {"conversations": [], "more": False}
        assert (await page.get("/api/totals?days=1"))["models"] == []
        assert "the store is off" in (await page.get("/api/runs/some", 503))["error"]["message"]


async def events_of(page: Page, path: str, headers: Mapping[str, str] = NONE) -> list[tuple[str, str, Any]]:
    """Each event's name, id and data."""
    async with page.session.get(page.url + path, headers=headers) as response:
        assert response.status == 200
        text = (await response.read()).decode()
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return found


async def test_a_stream_of_events_has_times_where_they_are_wanted(page: Page) -> None:
    run = await page.ask("Is it so?")
    plain = await events_of(page, f"/v1/runs/{run}/events")
    timed = await events_of(page, f"/v1/runs/{run}/events?times=1")
    assert [each for each in timed if each[0] != "time"] == plain
    times = [data["seconds"] for name, _, data in timed if name == "time"]
    assert times == sorted(set(times))
    stored = (await page.get(f"/api/runs/{run}"))["events"]
    assert times == sorted({each["seconds"] for each in stored})
    assert timed[0] == ("time", "", {"seconds": 0.0})


async def test_a_stream_of_events_is_taken_up_again(page: Page) -> None:
    run = await page.ask("Is it so?")
    path = f"/v1/runs/{run}/events"
    whole = await events_of(page, path)
    assert [number for _, number, _ in whole] == [str(number) for number in range(len(whole))]
    assert await events_of(page, f"{path}?from=3") == whole[3:]
    assert await events_of(page, f"{path}?from=1", headers={"Last-Event-ID": "4"}) == whole[5:]
    assert await events_of(page, f"{path}?from={len(whole)}") == []
    for query, header, field in (("?from=-1", {}, "from"), ("", {"Last-Event-ID": "x"}, "Last-Event-ID")):
        assert (await page.get(path + query, 400, headers=header))["error"]["param"] == field


async def test_runs_are_added_up_by_day_and_by_model(page: Page) -> None:
    for _ in range(2):
        await page.ask("Is it so?", "losing")
    await page.ask("And this?", PRICED.format("dear"))
    totals = await page.get("/api/totals?days=3")
    assert [day["runs"] for day in totals["days"]][:2] == [0, 0]
    today = totals["days"][-1]
    assert (today["runs"], today["lost"], today["unpriced"]) == (3, 2, 0)
    listed = (await page.get("/api/runs"))["runs"]
    assert today["tokens"] == sum(run["tokens"] for run in listed) == sum(each["tokens"] for each in totals["models"])
    assert today["dollars"] == pytest.approx(sum(run["dollars"] for run in listed))
    models = {each["model"]: each for each in totals["models"]}
    assert totals["models"][0]["model"] == PRICED.format("dear")
    assert totals["models"][0]["dollars"] == pytest.approx(today["dollars"])
    assert (models["scripted:b?fail=server"]["lost"], models["scripted:a?text=one"]["calls"]) == (2, 2)
    assert (await page.get("/api/totals?days=0", 400))["error"]["param"] == "days"


async def test_a_key_sees_its_own_alone(tmp_path: Path) -> None:
    recipes = [recipe_file(tmp_path), recipe_file(tmp_path, LOSING, "losing")]
    async with serving(recipes, models=NAMED) as (url, app), aiohttp.ClientSession() as session:
        page = Page(session, url, app)
        nobodys = await page.ask("Before there were keys")
        keys = Keys(keys_path())
        alice = {"x-api-key": keys.add("alice")}
        bob = {"authorization": f"Bearer {keys.add('bob', recipes=('losing',))}"}
        hers = [await page.ask("Alice asks", model, headers=alice) for model in ("three", "losing")]
        his = await page.ask("Bob asks", "losing", headers=bob)

        assert await page.get("/api/about") == {
            "version": (await page.get("/api/about", headers=alice))["version"],
            "keyed": True,
        }
        about = await page.get("/api/about", headers=bob)
        assert [recipe["name"] for recipe in about["recipes"]] == ["losing"]
        assert (about["keyed"], about["models"]) == (True, [])
        await page.get("/api/about", 401, headers={"x-api-key": "ps-wrong"})

        assert [run["id"] for run in (await page.get("/api/runs", headers=alice))["runs"]] == hers[::-1]
        assert [run["id"] for run in (await page.get("/api/runs", headers=bob))["runs"]] == [his]
        assert (await page.get(f"/api/runs?before={his}", 400, headers=alice))["error"]["param"] == "before"
        for run in (his, nobodys):
            for path in (f"/api/runs/{run}", f"/api/runs/{run}/export"):
                await page.get(path, 404, headers=alice)
        assert (await page.get("/api/totals?days=1", headers=bob))["days"][0]["runs"] == 1
        assert [
            each["model"]
            for each in (await page.get("/api/totals?days=1", headers=bob))["models"]
            if "c?" in each["model"]
        ] == []
        await page.get("/api/recipes/three", 404, headers=bob)
        await page.get("/api/recipes/three", 200, headers=alice)

        vote = {"question": "?", "choice": "a", "blind": True}
        sides = {
            side: {"recipe": name, "run": run} for side, name, run in zip("ab", ("three", "losing"), hers, strict=True)
        }
        assert (await page.send("POST", "/api/votes", vote | sides, 400, headers=bob))["error"]["param"] == "a.run"
        await page.send("POST", "/api/votes", vote | sides, 201, headers=alice)
        assert (await page.get("/api/votes/tally", headers=bob)) == {"pairs": []}
        assert (await page.get("/api/votes/tally?a=three&b=losing", headers=bob))["share"] is None
        assert len((await page.get("/api/votes/tally", headers=alice))["pairs"]) == 1

        text = 'name = "mine"\nlayers = []\naggregator = "scripted:a"'
        error = (await page.send("PUT", "/api/recipes/mine", {"toml": text}, 403, headers=alice))["error"]
        assert "no keys" in error["message"]
        for path in ("/api/runs", f"/api/runs/{his}", "/api/totals", "/api/recipes/three", "/api/votes/tally"):
            await page.get(path, 401)


async def test_other_pages_read_nothing(page: Page) -> None:
    name, port = page.url.removeprefix("http://").split(":")
    rebound = {"Host": f"evil.test:{port}"}
    for path in ("/api/about", "/api/runs", "/api/recipes/three"):
        await page.get(path, 403, headers=rebound)
        await page.get(path, 403, {"Origin": "http://evil.test"})
        await page.get(path, 403, {"Origin": f"http://evil.test:{port}", **rebound})
        await page.get(path, 200, {"Origin": page.url})
        await page.get(path, 200, {"Origin": f"http://localhost:{port}", "Host": f"localhost:{port}"})
        await page.get(path, 403, {"Origin": f"http://localhost:{port}", "Host": f"{name}:{port}"})


async def test_votes_are_counted_with_their_interval(page: Page) -> None:
    async def vote(a: str, b: str, choice: str, runs: tuple[str, str] | None = None) -> Any:
        one, other = runs or (await page.ask("Which?", a), await page.ask("Which?", b))
        body = {"question": HOSTILE, "a": {"recipe": a, "run": one}, "b": {"recipe": b, "run": other}, "choice": choice}
        return await page.send("POST", "/api/votes", body | {"blind": True}, 201)

    for _ in range(3):
        await vote("three", "losing", "a")
    await vote("losing", "three", "a")  # the other way round
    after = await vote("losing", "three", "tie")
    assert (after["a"], after["b"], after["ties"], after["share"]) == (1, 3, 1, 0.3)
    tally = await page.get("/api/votes/tally?a=three&b=losing")
    assert (tally["a"], tally["b"], tally["ties"], tally["share"]) == (3, 1, 1, 0.7)
    assert tally["interval"] == pytest.approx([0.2988, 0.9274], abs=1e-4)
    assert (await page.get("/api/votes/tally"))["pairs"] == [{"recipes": ["losing", "three"], **after}]
    runs = (await page.ask("Again", "three"), await page.ask("Again", "losing"))
    await vote("three", "losing", "a", runs)
    changed = await vote("losing", "three", "a", runs[::-1])
    assert (changed["a"], changed["b"]) == (2, 3)
    assert await page.get("/api/votes/tally?a=three&b=nobody") == {
        "a": 0,
        "b": 0,
        "ties": 0,
        "share": None,
        "interval": None,
    }


def test_an_interval_is_wilsons() -> None:
    # E. B. Wilson's interval for 8 of 10 and 0 of 20, as R's prop.test without correction gives it.
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611252), abs=1e-6)
    assert wilson(20, 20)[1] == 1.0


async def test_votes_that_make_no_sense_are_refused(page: Page) -> None:
    one, other = await page.ask("Which?"), await page.ask("Which?", "losing")
    good = {
        "question": "?",
        "a": {"recipe": "three", "run": one},
        "b": {"recipe": "losing", "run": other},
        "choice": "a",
    }
    for change, field in (
        ({"choice": "c"}, "choice"),
        ({"question": 3}, "question"),
        ({"a": {"recipe": "three"}}, "a.run"),
        ({"a": {"recipe": "three", "run": "last"}}, "a.run"),
        ({"a": {"recipe": "three", "run": other}}, "a.recipe"),
        ({"b": {"recipe": "three", "run": one}}, "b.recipe"),
        ({"extra": 1}, "extra"),
    ):
        assert (await page.send("POST", "/api/votes", good | change, 400))["error"]["param"] == field
    assert (await page.get("/api/votes/tally?a=three", 400))["error"]["param"] == "b"
    assert await page.get("/api/votes/tally") == {"pairs": []}


async def test_a_recipe_is_shown_with_its_text_and_drawn(page: Page) -> None:
    losing = await page.get("/api/recipes/losing")
    assert losing["toml"] == LOSING
    assert losing["drawn"]["layers"] == [[{"model": "scripted:a?text=one"}, {"model": "scripted:b?fail=server"}]]
    assert losing["drawn"]["aggregator"] == {"model": "scripted:z?text=So+it+is"}
    assert (losing["calls"], losing["worst_dollars"], losing["saved"], losing["unusable"]) == (3, 0, False, None)
    assert (await page.get("/api/recipes/nothing", 404))["error"]["param"] == "name"


DRAWN = """name = "mine"

[[layers]]
quorum = 2
agents = [
    { model = "scripted:a?input=1&output=1", samples = 3, temperature = 0.5 },
    "scripted:b",
]

[aggregator]
model = "scripted:z"
"""


async def test_a_text_is_checked_and_drawn(page: Page) -> None:
    checked = await page.send("POST", "/api/recipes/check", {"toml": DRAWN})
    assert (checked["ok"], checked["name"], checked["calls"], checked["unusable"]) == (True, "mine", 5, None)
    drawn = checked["drawn"]
    assert drawn["layers"][0][0] == {"model": "scripted:a?input=1&output=1", "samples": 3, "temperature": 0.5}
    assert drawn["layer_settings"] == [{"quorum": 2}]
    wrong = await page.send("POST", "/api/recipes/check", {"toml": DRAWN.replace("quorum = 2", "quorum = 9")})
    message = "is 9, but must be from 1 to the layer's 4 seats"
    assert wrong == {"ok": False, "errors": [{"field": "layers.0.quorum", "line": 4, "message": message}]}
    assert checked["worst_dollars"] > checked["typical_dollars"] > 0
    included = await page.send("POST", "/api/recipes/check", {"toml": 'include = "moa-lite"\nname = "x"'})
    assert included["ok"], included
    alone = await page.send(
        "POST", "/api/recipes/check", {"toml": 'name = "x"\nlayers = []\naggregator = "scripted:z"'}
    )
    assert (alone["ok"], alone["calls"], alone["drawn"]["layers"]) == (True, 1, [])
    assert "scripted" not in json.dumps(await page.get("/api/runs"))  # nobody was asked


@pytest.mark.parametrize(
    ("old", "new", "field", "line", "said"),
    [
        ('"scripted:b"', '"b"', "layers.0.agents.1.model", 7, "provider:model"),
        ("samples = 3", "samples = 0", "layers.0.agents.0.samples", 6, "0, but must be from 1"),
        ("temperature = 0.5", "temprature = 0.5", "layers.0.agents.0.temprature", 6, 'did you mean "temperature"'),
        ("quorum = 2", "quorum = 9", "layers.0.quorum", 4, "9, but must be from 1 to the layer's 4 seats"),
        ("quorum = 2", 'quorum = "2"', "layers.0.quorum", 4, "expected `int"),
        ('model = "scripted:z"', "samples = 1", "aggregator.model", 10, "is missing"),
        ('name = "mine"', "", "name", None, "is missing"),
        ("[[layers]]\n", "[layer]\n", "layer", 3, "no such field"),
        ('name = "mine"', 'name = "mine"\nfit = "squeeze"', "fit", 2, "must be one of"),
        ('name = "mine"', 'name = "mine"\ninclude = "/etc/x.toml"', "include", 2, "shipped recipe"),
        ('name = "mine"', 'name = "mine"\ninclude = "nothing"', "include", 2, "there is no recipe"),
        ('name = "mine"', 'name = "mine"\ninstruction_file = "/etc/passwd"', "instruction_file", 2, "no file is read"),
        ("quorum = 2", 'system = """\n\n\n"""', "layers.0.system", 4, "no such field"),
        ("quorum = 2", "quorum = = 2", "", 4, "not TOML"),
        ('"scripted:z"', '"scripted:z', "", 11, "not TOML"),
        ("quorum = 2", "quorum = 1" + "0" * 5000, "", None, "cannot be read"),
        ("quorum = 2", "quorum = " + "[" * 3000, "", None, "cannot be read"),
        ("quorum = 2", "about = '" + "x" * 70_000 + "'", "", None, "at most"),
    ],
)
def test_a_fault_has_its_field_and_its_line(old: str, new: str, field: str, line: int | None, said: str) -> None:
    recipe, (fault,) = read_recipe(DRAWN.replace(old, new))
    assert recipe is None
    assert (fault.field, fault.line) == (field, line)
    assert said in fault.message


def test_all_faulty_agents_are_told_at_once() -> None:
    layers = "\n".join(f'[[layers]]\nagents = [\n  "scripted:a",\n  "{name}",\n]\n' for name in ("b", "x:c", "d"))
    _, faults = read_recipe(f'name = "x"\n{layers}\naggregator = {{ model = "x:z", samples = 2 }}')
    assert [(fault.field, fault.line) for fault in faults] == [
        ("layers.0.agents.1.model", 5),
        ("layers.2.agents.1.model", 17),
    ]  # the aggregator's line stands in the last layer's table, as TOML has it


def test_a_long_text_is_not_read_for_ever() -> None:
    lines = "\n".join(f'"scripted:a{number}",' for number in range(3000))
    _, faults = read_recipe(f'name = "x"\naggregator = "x:z"\nlayers = [{{ agents = [\n{lines}\n"b"] }}]')
    assert [fault.field for fault in faults] == ["layers.0.agents.3000.model"]


async def test_a_recipe_is_saved_offered_and_replaced(page: Page) -> None:
    saved = await page.send("PUT", "/api/recipes/mine", {"toml": DRAWN})
    path = recipes_folder() / "mine.toml"
    assert saved == {"name": "mine", "path": str(path), "restart": False, "lasts": False}
    assert path.read_text() == DRAWN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in recipes_folder().iterdir()] == ["mine.toml"]
    await page.ask("Is it so?", "mine")
    shown = await page.get("/api/recipes/mine")
    assert (shown["saved"], shown["toml"]) == (True, DRAWN)
    changed = DRAWN.replace("scripted:z", "nobody:z")
    assert (await page.send("PUT", "/api/recipes/mine", {"toml": changed}, 409))["error"]["param"] == "replace"
    await page.send("PUT", "/api/recipes/mine", {"toml": changed, "replace": True})
    unusable = {each["name"]: each["unusable"] for each in (await page.get("/api/about"))["recipes"]}
    assert 'there is no provider "nobody"' in unusable["mine"]


def test_saved_recipes_have_a_name_on_the_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    recipes_folder().mkdir(parents=True)
    (recipes_folder() / "mine.toml").write_text(DRAWN)
    (recipes_folder() / "moa.toml").write_text(DRAWN)  # what is shipped under that name is meant
    (recipes_folder() / "broken.toml").write_text("name = 3")
    assert code_of("recipes", "mine") == 0
    assert capfd.readouterr().out == DRAWN
    assert code_of("recipes") == 0
    listed = capfd.readouterr()
    assert "\nmine " in listed.out
    assert "broken.toml: name: expected" in listed.err
    assert code_of("cost", "mine", "--prompt-tokens", "10", "--json") == 0
    assert '"recipe":"mine"' in capfd.readouterr().out
    assert code_of("cost", "moa", "--prompt-tokens", "10", "--json") == 0
    assert '"recipe":"moa"' in capfd.readouterr().out


async def test_saved_recipes_are_there_after_a_start(page: Page) -> None:
    await page.send("PUT", "/api/recipes/mine", {"toml": DRAWN})
    (recipes_folder() / "broken.toml").write_text("name = 3")
    async with serving([], models=NAMED) as (url, app):
        again = Page(page.session, url, app)
        recipes = {each["name"]: each for each in (await again.get("/api/about"))["recipes"]}
        assert recipes["mine"]["calls"] == 5
        assert "name: expected" in recipes["broken"]["unusable"]
        assert (await again.get("/api/recipes/broken"))["toml"] == "name = 3"
        error = (await again.send("PUT", "/api/recipes/moa", {"toml": DRAWN.replace("mine", "moa")}, 409))["error"]
        assert error["param"] == "name"
        async with serving(["mine"]) as (named, alone):
            assert (await Page(page.session, named, alone).get("/api/recipes/mine"))["saved"]
        for name in ("moa", "frontier"):
            assert (await again.get(f"/api/recipes/{name}"))["drawn"]["layers"]


async def test_a_name_leads_nowhere_else(page: Page, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*.toml"))
    evil = "..%2Fevil ..%2F..%2Fetc%2Fx %2Fetc%2Fx %2E%2E .hidden a.toml a%00b con a%5Cb"
    for name in (*evil.split(), "x" * 65, "%20"):
        url = yarl.URL(f"{page.url}/api/recipes/{name}", encoded=True)
        async with page.session.put(url, json={"toml": DRAWN}) as response:
            assert response.status == 400, name
            assert (await response.json())["error"]["param"] == "name"
        async with page.session.get(url) as response:
            assert response.status == 404
    assert sorted(tmp_path.rglob("*.toml")) == before


async def test_what_cannot_be_saved_is_refused(page: Page, tmp_path: Path) -> None:
    for body, field in (
        ({"toml": DRAWN.replace('"mine"', '"other"')}, "toml.name"),
        ({"toml": DRAWN.replace("quorum = 2", "quorum = 9")}, "toml.layers.0.quorum"),
        ({"toml": "x = "}, "toml"),
        ({}, "toml"),
        ({"toml": DRAWN, "force": True}, "force"),
    ):
        assert (await page.send("PUT", "/api/recipes/mine", body, 400))["error"]["param"] == field
    assert not recipes_folder().exists()


async def test_nothing_is_saved_where_others_can_reach_it(tmp_path: Path) -> None:
    async with (
        serving([recipe_file(tmp_path)], server=Serving(host="0.0.0.0")) as (url, app),
        aiohttp.ClientSession() as session,
    ):
        error = (await Page(session, url, app).send("PUT", "/api/recipes/mine", {"toml": DRAWN}, 403))["error"]
        assert "listens on this machine alone" in error["message"]
    assert not recipes_folder().exists()


@pytest.mark.parametrize("workers", [1, 2])
async def test_several_processes_need_a_new_start_if_that_helps(tmp_path: Path, workers: int) -> None:
    own, other = recipes_folder(), recipe_file(tmp_path)
    own.mkdir(parents=True)
    for named, lasts in (([], True), ([str(own)], True), ([other, str(own / "mine.toml")], True), ([other], False)):
        async with (
            serving(named, models=NAMED, server=Serving(workers=workers)) as (url, app),
            aiohttp.ClientSession() as session,
        ):
            body = {"toml": DRAWN, "replace": True}
            saved = await Page(session, url, app).send("PUT", "/api/recipes/mine", body)
        assert (saved["restart"], saved["lasts"]) == (lasts and workers > 1, lasts)


def write_study(folder: Path) -> None:
    """A study as the bench leaves it: two mixtures and a model alone, one answer broken off."""
    folder.mkdir(parents=True)
    mixture = {"recipe": {"name": "mix", "layers": [{"agents": [{"model": "x:a"}]}], "aggregator": {"model": "x:z"}}}
    alone = {"recipe": {"name": "alone", "layers": [], "aggregator": {"model": "x:a"}}}
    manifest = {"task": "sums", "samples": ["1", "2"], "contestants": {"mix": mixture, "alone": alone}, "versions": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    usage = {"input_tokens": 2, "output_tokens": 1, "dollars": "0.25"}
    outputs = [
        {"contestant": name, "sample": sample, "answers": [name], "seconds": 2.0, "usage": usage}
        for sample in ("1", "2")
        for name in ("mix", "alone")
    ]
    grades = [
        {"contestant": "mix", "sample": "1", "value": 1.0},
        {"contestant": "mix", "sample": "1", "value": 0.0},  # graded again: the later line counts
        {"contestant": "alone", "sample": "1", "value": 1.0},
        {"contestant": "mix", "sample": "2", "value": 1.0},
        {"contestant": "alone", "sample": "2", "value": 0.0},
    ]
    verdicts = [{"one": "alone", "other": "mix", "sample": "2", "value": 0.75, "parts": {}}]
    samples = [{"id": "1", "turns": ["What is 2 + 2?"]}, {"id": "2", "turns": ["Why?", "And then?"]}]
    files: Mapping[str, Iterable[object]] = {
        "outputs": outputs,
        "grades": grades,
        "verdicts": verdicts,
        "samples": samples,
    }
    for name, lines in files.items():
        text = "".join(f"{json.dumps(each)}\n" for each in lines)
        (folder / f"{name}.jsonl").write_text(text + '{"contestant": "mi')


async def test_studies_are_read_from_their_folders(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert await page.get("/api/results") == {"results": []}
    write_study(tmp_path / "bench" / "sums-mix")
    (tmp_path / "bench" / "empty").mkdir()
    (listed,) = (await page.get("/api/results"))["results"]
    assert (listed["name"], listed["task"], listed["samples"], listed["compared"]) == ("sums-mix", "sums", 2, False)
    assert listed["state"] == "finished"
    study = await page.get("/api/results/sums-mix")
    mix, alone = study["contestants"]
    assert (mix["name"], mix["n"], mix["value"], mix["dollars"], mix["seconds"]) == ("mix", 2, 0.5, 0.5, 2.0)
    assert mix["interval"] == alone["interval"] == pytest.approx([0.0945, 0.9055], abs=1e-4)
    found = await page.get("/api/results/sums-mix/prompts")
    assert (found["one"], found["total"], found["bias"]) == ("mix", 2, None)
    assert [(each["sample"], each["by"], each["state"]) for each in found["prompts"]] == [
        ("1", -1.0, "lost"),
        ("2", 1.0, "won"),
    ]
    assert [each["question"] for each in found["prompts"]] == ["What is 2 + 2?", "Why?\n\nAnd then?"]
    prompt = await page.get("/api/results/sums-mix/prompt?sample=2")
    assert prompt["question"] == "Why?\n\nAnd then?"
    assert [(each["contestant"], each["text"], each["value"]) for each in prompt["answers"]] == [
        ("mix", "mix", 1.0),
        ("alone", "alone", 0.0),
    ]
    assert [(each["one"], each["other"], each["value"]) for each in prompt["verdicts"]] == [("alone", "mix", 0.75)]
    assert study["comparison"] is None
    for name in ("..", "empty", "sums-mix%2F..", "."):
        async with page.session.get(yarl.URL(f"{page.url}/api/results/{name}", encoded=True)) as response:
            assert response.status == 404
    key = {"x-api-key": Keys(keys_path()).add("alice")}
    await page.get("/api/results", 403, key)
    await page.get("/api/results/sums-mix", 403, key)
    await page.get("/api/results/sums-mix/prompts", 403, key)
    await page.get("/api/results/sums-mix/prompt?sample=1", 403, key)


async def test_prompts_of_a_study_are_filtered_and_sorted(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bench" / "sums-mix"
    write_study(folder)

    async def samples(query: str) -> list[str]:
        found = await page.get(f"/api/results/sums-mix/prompts?{query}")
        assert found["total"] >= len(found["prompts"])
        return [each["sample"] for each in found["prompts"]]

    assert await samples("show=won") == ["2"]
    assert await samples("show=lost") == ["1"]
    assert await samples("show=won&one=alone") == ["1"]
    assert await samples("show=level") == await samples("show=failed") == []
    assert await samples("sort=best") == ["2", "1"]
    assert await samples("sort=worst") == ["1", "2"]
    assert await samples("text=AND+then") == ["2"]
    assert await samples("other=alone&show=lost") == ["1"]
    assert await samples("start=1") == ["2"]
    assert await samples("one=nobody&show=won") == []
    for wrong in ("show=best", "sort=up", "start=-1", "limit=9", f"text={'x' * 1001}"):
        await page.get(f"/api/results/sums-mix/prompts?{wrong}", 400)
    await page.get("/api/results/sums-mix/prompt?sample=9", 404)
    await page.get("/api/results/none/prompts", 404)
    # Without grades, the judge's verdicts decide; those in both orders show its bias.
    (folder / "grades.jsonl").unlink()
    verdicts = [
        {"one": "mix", "other": "alone", "sample": "1", "value": 1.0, "parts": {"first": 1.0, "second": 1.0}},
        {"one": "mix", "other": "alone", "sample": "2", "value": 0.5, "parts": {"first": 1.0, "second": 0.0}},
        {"one": "mix", "other": "alone", "sample": "3", "value": 0.0, "failed": "no verdict"},
    ]
    (folder / "verdicts.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in verdicts))
    assert (await samples("show=won"), await samples("show=level")) == (["1"], ["2"])
    bias = (await page.get("/api/results/sums-mix/prompts"))["bias"]
    assert bias == {"n": 2, "first": 0.75, "turned": 0.5}


async def test_a_study_that_goes_on_says_so(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bench" / "sums-mix"
    write_study(folder)
    lines = (folder / "outputs.jsonl").read_text().splitlines()
    (folder / "outputs.jsonl").write_text("\n".join(lines[:2]) + "\n")
    assert (await page.get("/api/results"))["results"][0]["state"] == "running"
    for file in folder.iterdir():
        os.utime(file, (0, 0))
    assert (await page.get("/api/results/sums-mix"))["state"] == "stopped"
    (folder / "comparison.json").write_text("{}")
    assert (await page.get("/api/results/sums-mix"))["state"] == "finished"
    (folder / "outputs.jsonl").write_text("\n".join(lines) + "\n")  # it was started again, with more samples
    os.utime(folder / "comparison.json", (0, 0))
    assert (await page.get("/api/results/sums-mix"))["state"] == "running"


ALONE = """
name = "alone"
layers = []
[aggregator]
model = "{aggregator}"
temperature = 0.25
"""


async def test_a_recipe_without_layers_answers_on_every_api(tmp_path: Path) -> None:
    paths: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Why?"}]},
        "/v1/responses": {"input": "Why?"},
        "/v1/messages": {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 99},
    }
    recipe = recipe_file(tmp_path, ALONE, "alone")
    async with serving([recipe]) as (url, _), aiohttp.ClientSession() as session:
        for path, body in paths.items():
            async with session.post(url + path, json={"model": "alone", **body}) as response:
                assert response.status == 200
                assert "So it is" in await response.text()


async def test_a_recipe_of_ones_own_is_deleted_and_no_other(tmp_path: Path) -> None:
    recipes_folder().mkdir(parents=True)
    own, named = recipes_folder() / "mine.toml", recipes_folder() / "named.toml"
    (recipes_folder() / "broken.toml").write_text("x =")
    own.write_text(DRAWN)
    named.write_text(DRAWN.replace('name = "mine"', 'name = "named"'))
    async with serving([]) as (url, app), aiohttp.ClientSession() as session:
        page = Page(session, url, app)
        for name, status in (("moa", 409), ("nobody", 404), ("..%2Fmine", 404), ("mine.toml", 404)):
            async with session.delete(yarl.URL(f"{url}/api/recipes/{name}", encoded=True)) as response:
                assert response.status == status, name
        assert own.exists()
        for name in ("mine", "broken"):
            assert (await page.send("DELETE", f"/api/recipes/{name}", {}))["deleted"]
            assert not (recipes_folder() / f"{name}.toml").exists()
            await page.get(f"/api/recipes/{name}", 404)
    async with serving([str(named)]) as (url, app), aiohttp.ClientSession() as session:
        error = (await Page(session, url, app).send("DELETE", "/api/recipes/named", {}, 409))["error"]
        assert "your configuration names the recipe" in error["message"]
    folder = [str(recipes_folder())]
    async with serving(folder, server=Serving(host="0.0.0.0")) as (url, app), aiohttp.ClientSession() as session:
        await Page(session, url, app).send("DELETE", "/api/recipes/named", {}, 403)
    assert named.exists()


async def test_models_are_searched_by_words(tmp_path: Path) -> None:
    async with serving([recipe_file(tmp_path)], models=["scripted:own?text=mine"]) as (url, app):
        async with aiohttp.ClientSession() as session:
            page = Page(session, url, app)
            found = await page.get("/api/models?text=OWN+scripted")
            assert found == {
                "models": [{"id": "scripted:own?text=mine", "window": None, "input": 0, "output": 0}],
                "total": 1,
                "unread": [],
            }
            assert (await page.get("/api/models?text=no+such"))["total"] == 0
            await page.get(f"/api/models?text={'x' * 201}", 400)
            few = {"x-api-key": Keys(keys_path()).add("few", recipes=("three",))}
            await page.get("/api/models", 403, few)
    keys_path().unlink()
    closed = Serving(models=False)
    async with serving([recipe_file(tmp_path)], server=closed) as (url, app), aiohttp.ClientSession() as session:
        await Page(session, url, app).get("/api/models", 403)
