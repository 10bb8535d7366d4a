"""`POST /v1/runs/{id}/again` and `/analysis`: for the owner alone, within the limits, and free where nothing is new."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from partsong.configuration import Configuration, Serving
from partsong.folders import keys_path
from partsong.keys import Keys
from tests.serving import recipe_file, serving

FOUND = {
    "agreements": [
        {
            "statement": "when",
            "quotes": [{"proposal": 1, "quote": "It was in 1969"}, {"proposal": 2, "quote": "It was in 1969"}],
        }
    ],
    "contradictions": [],
    "single": [{"statement": "made up", "quotes": [{"proposal": 1, "quote": "It was in 1970"}]}],
    "gaps": [],
}
ANALYST = "scripted:an?" + urlencode({"text": json.dumps(FOUND), "output": "1000"})
TWO = """
name = "two"
[[layers]]
agents = ["scripted:a?text=It+was+in+1969.&output=1000", "scripted:b?text=I+say:+It+was+in+1969&output=1000"]
[aggregator]
model = "{aggregator}"
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Caller:
    def __init__(self, session: aiohttp.ClientSession, url: str, secret: str = "") -> None:
        self.session, self.url = session, url
        self.headers = {"authorization": f"Bearer {secret}"} if secret else {}

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        async with self.session.post(self.url + path, json=body, headers=self.headers | headers) as response:
            return response.status, await response.json()

    async def ask(self, model: str = "two") -> str:
        body = {"model": model, "messages": [{"role": "user", "content": "When?"}]}
        async with self.session.post(f"{self.url}/v1/chat/completions", json=body, headers=self.headers) as response:
            said = await response.json()
            return str((said.get("partsong") or said["error"]["partsong"])["run"])


def recipes(folder: Path) -> list[str]:
    named = {
        "two": "scripted:z?text=So+it+is&output=1000",
        "fails": "scripted:z?fail=server",
        "finds": ANALYST,
        "slow": "scripted:z?text=So&first=30",
    }
    files = [recipe_file(folder, TWO.replace('"two"', f'"{name}"'), name, model) for name, model in named.items()]
    # A request may name models that a recipe names, and no other scripted ones.
    written = ("text=Well", "text=Well&output=1000", "text=Well&output=100000")
    agents = json.dumps([ANALYST, *(f"scripted:y?{script}" for script in written)])
    others = f'name = "others"\naggregator = "scripted:y"\n[[layers]]\nagents = {agents}\n'
    (folder / "others.toml").write_text(others, encoding="utf-8")
    return [*files, str(folder / "others.toml")]


async def test_a_run_that_failed_is_continued_and_only_the_aggregator_is_paid(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with serving(recipes(tmp_path)) as (url, _):
        caller = Caller(session, url)
        run = await caller.ask("fails")
        status, said = await caller.post(f"/v1/runs/{run}/again", {"aggregator": "scripted:y?text=Well&output=1000"})
        assert status == 200, said
        assert said["choices"][0]["message"]["content"] == "Well"
        assert said["object"] == "chat.completion"
        report = said["partsong"]
        assert report["again"] == run
        assert Decimal(report["dollars"]) == Decimal("0.001")
        assert [call.get("stored", False) for call in report["calls"]] == [True, True, False]
        async with session.get(f"{url}/api/runs") as response:
            runs = {each["id"]: each for each in (await response.json())["runs"]}
        assert runs[report["run"]]["again"] == run
        # Another time, with the events in a stream, and without a seat.
        body = {"without": [[0, 0]], "aggregator": "scripted:y?text=Well", "stream": True, "partsong": {"events": True}}
        async with session.post(f"{url}/v1/runs/{run}/again", json=body) as response:
            assert response.status == 200
            text = await response.text()
        pieces = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        events = [piece["partsong"] for piece in pieces if "event" in piece.get("partsong", {})]
        assert events[0]["again"] == run
        assert [len(layer["agents"]) for layer in events[0]["recipe"]["layers"]] == [1]
        assert text.rstrip().endswith("data: [DONE]")


async def test_the_best_proposal_of_a_run_that_failed_is_its_answer_for_nothing(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with serving(recipes(tmp_path)) as (url, application):
        caller = Caller(session, url)
        run = await caller.ask("fails")
        status, said = await caller.post(f"/v1/runs/{run}/again", {"best": True})
        assert status == 200, said
        assert "It was in 1969" in said["choices"][0]["message"]["content"]
        report = said["partsong"]
        assert (report["last_resort"], report["again"], Decimal(report["dollars"])) == (True, run, Decimal(0))
        status, said = await caller.post(f"/v1/runs/{run}/again", {"best": True, "method": "select"})
        assert (status, said["error"]["type"]) == (400, "invalid_request_error")
        assert application.service().store.problem is None


async def test_an_analysis_is_made_once_and_then_found(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with serving(recipes(tmp_path)) as (url, application):
        caller = Caller(session, url)
        run = await caller.ask()
        for stored, dollars in ((False, True), (True, False)):
            status, said = await caller.post(f"/v1/runs/{run}/analysis", {"model": ANALYST})
            assert status == 200, said
            assert (said["run"], said["layer"], said["model"]) == (run, 0, ANALYST)
            assert (said["stored"], Decimal(said["dollars"]) > 0) == (stored, dollars)
            assert said["analysis"]["dropped"] == 1
            (agreement,) = said["analysis"]["agreements"]
            assert [quote["seat"] for quote in agreement["quotes"]] == [0, 1]
        # Without a model, the aggregator's is asked, and one that writes no analysis has failed.
        status, said = await caller.post(f"/v1/runs/{run}/analysis", {})
        assert (status, said["error"]["code"]) == (502, "invalid")
        finds = await caller.ask("finds")
        assert (await caller.post(f"/v1/runs/{finds}/analysis", {}))[0] == 200
        # What was made for a run is deleted with the run.
        async with session.delete(f"{url}/v1/runs/{run}") as response:
            assert (await response.json())["calls"] >= 1
        assert (await caller.post(f"/v1/runs/{run}/analysis", {"model": ANALYST}))[0] == 404
        assert application.service().store.problem is None


@pytest.mark.parametrize("path", ["again", "analysis"])
async def test_runs_of_others_and_runs_that_go_on_are_refused(
    path: str, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    secrets = [Keys(keys_path()).add(name) for name in ("alice", "bob")]
    async with serving(recipes(tmp_path)) as (url, application):
        alice, bob = (Caller(session, url, secret) for secret in secrets)
        run = await alice.ask()
        for caller, name in ((bob, run), (alice, "nothing"), (alice, run[:5])):
            status, said = await caller.post(f"/v1/runs/{name}/{path}", {})
            assert (status, said["error"]["type"]) == (404, "invalid_request_error"), said
        assert (await Caller(session, url).post(f"/v1/runs/{run}/{path}", {}))[0] == 401
        recorder = application.service().store.record(caller=Keys(keys_path()).find(secrets[0]).owner)  # type: ignore[union-attr]
        for _, event in await application.service().store.events(run):
            await recorder.hear(event)
            break
        await recorder.close()
        status, said = await alice.post(f"/v1/runs/{recorder.id}/{path}", {})
        assert (status, "goes on" in said["error"]["message"]) == (409, True)


@pytest.mark.parametrize("path", ["again", "analysis"])
async def test_where_no_words_are_kept_it_is_said_what_is_lacking(
    path: str, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with serving(recipes(tmp_path), mode="metadata") as (url, _):
        caller = Caller(session, url)
        status, said = await caller.post(f"/v1/runs/{await caller.ask()}/{path}", {})
        assert (status, 'the mode of the store was "metadata"' in said["error"]["message"]) == (404, True)
    async with serving(recipes(tmp_path), mode="off") as (url, _):
        status, said = await Caller(session, url).post(f"/v1/runs/any/{path}", {})
        assert (status, "the store is off" in said["error"]["message"]) == (503, True)


async def test_the_caps_of_the_run_the_day_and_the_key_hold(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    other = {"aggregator": "scripted:y?text=Well&output=100000"}
    day = Configuration(dollars_per_day=Decimal("0.5"))
    async with serving(recipes(tmp_path)) as (url, _):
        run = await Caller(session, url).ask()
    async with serving(recipes(tmp_path), configuration=day) as (url, _):
        caller = Caller(session, url)
        for path, asked in (("again", other), ("analysis", {"model": ANALYST})):
            status, said = await caller.post(f"/v1/runs/{run}/{path}", asked)
            assert (status, said["error"]["code"]) == (402, "budget"), said
        status, said = await caller.post(
            f"/v1/runs/{run}/again", {"aggregator": "scripted:y?text=Well", "partsong": {"max_dollars": 0}}
        )
        assert status == 200, said
        status, said = await caller.post(f"/v1/runs/{run}/analysis", {"model": ANALYST, "max_dollars": 0})
        assert (status, said["error"]["code"]) == (402, "budget")


async def test_a_key_asks_only_what_it_may(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    free = Keys(keys_path()).add("free")
    only = Keys(keys_path()).add("only", recipes=("two",))
    for models in (True, False):
        async with serving(recipes(tmp_path), server=Serving(models=models)) as (url, _):
            caller, bound = Caller(session, url, free), Caller(session, url, only)
            run, other = await caller.ask(), await bound.ask()
            chosen = {"aggregator": "scripted:y?text=Well"}
            assert (await caller.post(f"/v1/runs/{run}/again", chosen))[0] == (200 if models else 403)
            assert (await bound.post(f"/v1/runs/{other}/again", chosen))[0] == 403
            assert (await bound.post(f"/v1/runs/{other}/analysis", {"model": ANALYST}))[0] == 403
            assert (await bound.post(f"/v1/runs/{other}/again", {}))[0] == 200
            override = {"recipe": {"analyst": ANALYST}}
            body = {"model": "two", "messages": [{"role": "user", "content": "When?"}], "partsong": override}
            status, said = await bound.post("/v1/chat/completions", body)
            assert (status, said["error"]["param"]) == (403, "partsong.recipe.analyst")
            assert (await caller.post("/v1/chat/completions", body))[0] == (200 if models else 403)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("again", {"retry": [[0, 0]]}, None),
        ("again", {"without": [[0, 7]]}, None),
        ("again", {"without": ["0.7"]}, "without[0]"),
        ("again", {"method": "guess"}, "method"),
        ("again", {"other": 1}, None),
        ("again", {"partsong": {"recipe": {"name": "x"}}}, "partsong.recipe"),
        ("again", [], None),
        ("analysis", {"model": 7}, "model"),
        ("analysis", {"max_dollars": -1}, None),
        ("analysis", {"model": "nonsense"}, None),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(
    path: str, body: Any, field: str | None, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with serving(recipes(tmp_path)) as (url, _):
        caller = Caller(session, url)
        run = await caller.ask()
        status, said = await caller.post(f"/v1/runs/{run}/{path}", body)
        assert status in (400, 409), said
        assert said["error"]["message"]
        if field is not None:
            assert said["error"]["param"] == field
        async with session.get(f"{url}/v1/runs/{run}/{path}") as response:
            assert response.status == 405
