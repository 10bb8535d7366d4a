"""Batches through the Batch APIs of providers: what is submitted, what is found again, and what is made once more."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from partsong.batch import submitting
from partsong.providers import batches
from tests.batch.jobs_server import JobsServer, jobs_server
from tests.cli.test_cli import code_of

RECIPE = """
name = "r"
[[layers]]
agents = ["up:a", "up:b"]
[aggregator]
model = "up:z"
"""
COUNT = 9


@pytest.fixture(params=["openai", "anthropic"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(submitting, "SOON", 0.02)
    (tmp_path / "r.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "q.jsonl").write_text("".join(f'"Question {number}?"\n' for number in range(COUNT)), encoding="utf-8")
    return tmp_path


def configure(server: JobsServer, api: str) -> None:
    base = server.url if api == "openai" else server.url.removesuffix("/v1")
    prices = "".join(
        f'[models."up:{name}"]\ninput_dollars_per_million = 1000\noutput_dollars_per_million = 1000\n' for name in "abz"
    )
    Path("partsong.toml").write_text(f'[providers.up]\napi = "{api}"\nbase_url = "{base}"\n{prices}', encoding="utf-8")


def answer(*arguments: str, out: str = "a.jsonl") -> int:
    return code_of("batch", "q.jsonl", "--out", out, "--recipe", "r.toml", "--by", "layer", "--batch-api", *arguments)


def lines(path: str = "a.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def check(server: JobsServer, *, single: int = 1) -> None:
    """Every question has its answer, and most calls were made in jobs."""
    assert [line["id"] for line in lines()] == list(range(1, COUNT + 1))
    assert all(line["answer"].startswith("z says") for line in lines())
    assert all(line["losses"] == [] for line in lines())
    assert sum(server.single.values()) == 3 * single
    with closing(sqlite3.connect("state/journal.db")) as connection:
        (kept,) = connection.execute("SELECT count(*) FROM calls").fetchone()
    assert kept == 3 * COUNT
    assert not list(Path.cwd().glob("*.partial"))


def test_calls_are_made_in_jobs_of_one_model(folder: Path, api: str) -> None:
    with jobs_server() as server:
        configure(server, api)
        assert answer() == 0
        check(server)
        assert [len(job["calls"]) for job in server.jobs.values()] == [COUNT - 1] * 3
        assert answer(out="b.jsonl") == 0
        assert len(server.jobs) == 3  # everything is found in the store
    # The answers are those of single calls.
    with jobs_server() as server:
        configure(server, api)
        assert code_of("batch", "q.jsonl", "--out", "c.jsonl", "--recipe", "r.toml") == 0
        assert [line["answer"] for line in lines("c.jsonl")] == [line["answer"] for line in lines()]


@pytest.mark.parametrize("fault", ["broken before", "broken after", "broken results", "expire", "refuse a call"])
def test_faults_cost_no_answer(folder: Path, api: str, fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    with jobs_server(fault) as server:
        configure(server, api)
        assert answer() == 0
        assert not server.faults
        if fault == "refuse a call":
            assert sum(server.single.values()) == 4  # the refused call is asked once more, as a single call
        elif fault in ("broken before", "expire"):
            assert sum(server.single.values()) == 4  # a further job is begun with a single call
        else:
            check(server)
        # Nothing was asked twice, but for the calls that had expired or were refused.
        again = {"expire": 4, "refuse a call": 1}.get(fault, 0)
        assert sum(server.asked.values()) + sum(server.single.values()) == 3 * COUNT + again
        if fault == "expire":
            assert "4 of 8 calls in a job of up:a have expired: asked again" in capfd.readouterr().err


def test_a_look_that_fails_is_repeated(folder: Path) -> None:
    with jobs_server("broken look") as server:
        configure(server, "openai")
        assert answer() == 0
        check(server)


def test_a_refused_job_stops_the_batch(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with jobs_server("refused job") as server:
        configure(server, "openai")
        assert answer() == 1
        assert "the provider refuses a job of up:a: no such model" in capfd.readouterr().err
        assert answer() == 0


def test_a_server_without_jobs_is_asked_call_by_call(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with jobs_server("no jobs always") as server:
        configure(server, "openai")
        assert answer() == 0
        check(server, single=COUNT)
        assert server.jobs == {}
        assert "the server of up:a takes no jobs" in capfd.readouterr().err


def test_a_wrong_key_stops_the_batch(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with jobs_server("no key") as server:
        configure(server, "openai")
        assert answer() == 1
        assert "the provider refuses a job of up:a" in capfd.readouterr().err


def test_jobs_are_held_and_half_their_price_is_paid_where_it_is_known(
    folder: Path, api: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("r.toml").write_text(
        RECIPE.replace('"up:a"', '{ model = "up:a", max_tokens = 20 }')
        .replace('"up:b"', '{ model = "up:b", max_tokens = 20 }')
        .replace('model = "up:z"', 'model = "up:z"\nmax_tokens = 20'),
        encoding="utf-8",
    )
    monkeypatch.setattr(batches, "HALF", re.compile("127"))
    with jobs_server() as server:
        configure(server, api)
        assert answer("--max-dollars", "0.05") == 1
        assert "allow more" in capfd.readouterr().err
        with closing(sqlite3.connect("state/journal.db")) as connection:
            paid = [Decimal(each) for (each,) in connection.execute("SELECT dollars FROM calls")]
        assert sum(paid) <= Decimal("0.05")
        assert answer("--max-dollars", "9") == 0
        with closing(sqlite3.connect("state/journal.db")) as connection:
            paid = [Decimal(each) for (each,) in connection.execute("SELECT dollars FROM calls")]
        # 20 tokens of 0.001 dollars each: single calls cost all of it, and calls in jobs half.
        assert set(paid) == {Decimal("0.02"), Decimal("0.01")}


def test_a_batch_that_is_killed_finds_its_jobs_again(folder: Path, api: str) -> None:
    command = [sys.executable, "-m", "partsong", "batch", "q.jsonl", "--out", "a.jsonl", "--recipe", "r.toml"]
    with jobs_server("broken after") as server:
        server.looks = 10**9
        configure(server, api)
        process = subprocess.Popen([*command, "--by", "layer", "--batch-api"])
        until = time.monotonic() + 60
        while len(server.jobs) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(server.jobs) == 2  # one for each proposer
        # The provider's name of one of them was not written down.
        with closing(sqlite3.connect("a.jsonl.partial")) as connection:
            connection.execute("UPDATE jobs SET name = NULL WHERE number = 1")
            connection.commit()
        server.looks = 1
        assert answer() == 0
        check(server)
        assert len(server.jobs) == 3
        assert server.asked == {"a": COUNT - 1, "b": COUNT - 1, "z": COUNT - 1}


def test_batch_api_needs_layers(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("batch", "q.jsonl", "--out", "a.jsonl", "--recipe", "r.toml", "--batch-api") == 2
    assert "--batch-api needs --by layer" in capfd.readouterr().err
