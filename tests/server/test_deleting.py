"""A user's data: a run, a conversation or everything of a key is deleted, by its owner alone, with every word."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from partsong.cli.main import run
from partsong.folders import keys_path, store_path
from partsong.keys import Keys
from partsong.store import open_store
from tests.serving import recipe_file, serving
from tests.store.test_sqlite import contents


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for the store and the keys of each test."""
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Caller:
    """A client with a key."""

    def __init__(self, session: aiohttp.ClientSession, url: str, secret: str) -> None:
        self.session, self.url, self.headers = session, url, {"authorization": f"Bearer {secret}"}

    async def ask(self, question: str, previous: str | None = None) -> str:
        """Ask; the id of the run."""
        body = {"model": "three", "input": question, "previous_response_id": previous, "temperature": 0}
        async with self.session.post(f"{self.url}/v1/responses", json=body, headers=self.headers) as response:
            said = await response.json()
            assert response.status == 200, said
            return str(said["partsong"]["run"])

    async def delete(self, path: str) -> tuple[int, Any]:
        async with self.session.delete(self.url + path, headers=self.headers) as response:
            return response.status, await response.json()

    async def runs(self) -> set[str]:
        async with self.session.get(f"{self.url}/api/runs", headers=self.headers) as response:
            return {run["id"] for run in (await response.json())["runs"]}


async def test_owners_delete_their_runs_and_nobody_elses(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    secrets = [Keys(keys_path()).add(name) for name in ("alice", "bob")]
    async with serving([recipe_file(tmp_path)]) as (url, _):
        alice, bob = (Caller(session, url, secret) for secret in secrets)
        first = await alice.ask("Why SECRET-ONE?")
        second = await alice.ask("And SECRET-TWO?", f"resp_{first}")
        third = await alice.ask("Then SECRET-THREE?", f"resp_{second}")
        single, other = await alice.ask("Why SECRET-FOUR?"), await alice.ask("Why not?")
        of_bob = await bob.ask("Why BOB?")
        assert contents(store_path()).count(b"SECRET-FOUR") > 1

        for path in (f"/v1/runs/{single}", f"/v1/runs/{single[:4]}", "/v1/runs/nothing"):
            assert (await bob.delete(path))[0] == 404
        assert (await bob.delete(f"/v1/runs?conversation={first}")) == (200, {"deleted": True, "runs": 0, "calls": 0})
        for path in ("/v1/runs", "/v1/runs?conversation=", "/v1/runs?all=1", f"/v1/runs?all=yes&conversation={first}"):
            assert (await alice.delete(path))[0] == 400
        assert await alice.runs() == {first, second, third, single, other}

        status, said = await alice.delete(f"/v1/runs/{single}")
        assert (status, said) == (200, {"deleted": True, "runs": 1, "calls": 4})
        assert (await alice.delete(f"/v1/runs/{single}"))[0] == 404
        assert (await alice.delete(f"/v1/runs?conversation={first}"))[1]["runs"] == 3
        assert await alice.runs() == {other}
        for words in (b"SECRET-ONE", b"SECRET-TWO", b"SECRET-THREE", b"SECRET-FOUR"):
            assert words not in contents(store_path())

        assert (await alice.delete("/v1/runs?all=yes"))[1]["runs"] == 1
        assert (await alice.runs(), await bob.runs()) == (set(), {of_bob})
        assert b"BOB" in contents(store_path())


async def test_a_foreign_page_deletes_nothing(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, app):
        caller = Caller(session, url, "")
        caller.headers = {}
        name = await caller.ask("Why?")
        for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
            caller.headers = headers
            assert (await caller.delete("/v1/runs?all=yes"))[0] == 403
        assert await app.service().store.run(name) is not None


async def test_the_runs_of_a_key_are_kept_as_long_as_the_key_says(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    keys = Keys(keys_path())
    secrets = [keys.add("short", keep_for=0.5), keys.add("long", keep_for=3600.0), keys.add("ever")]
    recipes = [recipe_file(tmp_path)]
    async with serving(recipes) as (url, app):
        callers = [Caller(session, url, secret) for secret in secrets]
        names = [await caller.ask(f"Why {index}?") for index, caller in enumerate(callers)]
        assert len(await app.service().store.runs()) == 3
    await asyncio.sleep(0.6)
    async with serving(recipes) as (url, app):  # a server looks when it starts, and every hour
        async with asyncio.timeout(20):
            while len(left := await app.service().store.runs()) > 2:
                await asyncio.sleep(0.05)
        assert {run.id for run in left} == set(names[1:])


def test_the_command_line_deletes_a_run_a_conversation_and_everything_of_a_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        return capfd.readouterr().out.strip().splitlines()[-1]

    async def some() -> list[str]:
        async with open_store(store_path()) as store:
            return sorted(run.id for run in await store.runs())

    question = ["ask", "--recipe", recipe_file(tmp_path), "--quiet", "Why?"]
    for _ in range(2):
        assert run(question) == 0
    capfd.readouterr()
    first, second = asyncio.run(some())
    assert run(["history", "delete", first]) == 0
    assert said().startswith("deleted 1 run and")
    assert asyncio.run(some()) == [second]
    assert run(["history", "delete", "--conversation", second]) == 0
    assert asyncio.run(some()) == []
    assert run(question) == 0
    assert run(["history", "delete", "--key", "alice"]) == 0
    assert said() == "deleted 0 runs and 0 calls"
    assert run(["history", "delete", "--key", ""]) == 0
    assert asyncio.run(some()) == []
    assert run(["history", "delete"]) == 2
    assert run(["history", "delete", "x", "--key", "alice"]) == 2
    assert run(["history", "--key", "alice"]) == 2
    assert run(["history", "delete", "nothing"]) == 2
    assert run(["keys", "add", "alice", "--keep-for", "30d"]) == 0
    assert Keys(keys_path()).all()[0].keep_for == 30 * 24 * 3600
    assert run(["keys", "list"]) == 0
    assert "30d" in capfd.readouterr().out
    assert run(["keys", "add", "bob", "--keep-for", "long"]) == 2
