"""A batch on a Ray cluster of two nodes: complete after every kill, and no kept call is made again."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from partsong.batch.manifest import Manifest, open_parts, read_manifest, write_manifest
from partsong.batch.questions import open_questions
from partsong.cli.batch import Plan, ended_on_node
from partsong.cli.batch_ray import check_store
from partsong.configuration import Configuration
from partsong.errors import InputError
from partsong.recipes.finding import named_recipe
from tests import ray_nodes
from tests.cli.test_cli import code_of
from tests.postgres import Cluster

QUESTIONS, AT_ONCE, CALLS = 1_500, 8, 3
RECIPE = """
name = "two"
aggregator = { model = "counted:z", max_tokens = 50 }
[[layers]]
agents = [{ model = "counted:a", max_tokens = 50 }, { model = "counted:b", max_tokens = 50 }]
"""
PRICED = re.sub(r"counted:(.)", r"scripted:\1?tokens=3&output=1000", RECIPE)
needs_ray = pytest.mark.skipif(ray_nodes.missing() is not None, reason=str(ray_nodes.missing()))


class Counting(BaseHTTPRequestHandler):
    """Answers Chat Completions with words that depend on the request alone, and counts the requests."""

    protocol_version = "HTTP/1.1"
    made: ClassVar[Counter[bytes]] = Counter()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key = hashlib.sha256(body).digest()
        self.made[key] += 1
        time.sleep(0.005)
        delta = {"choices": [{"index": 0, "delta": {"content": key.hex()}, "finish_reason": "stop"}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 10}}
        data = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (delta, usage))
        data += b"data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[str]:
    Counting.made.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "q.jsonl").write_text("".join(f'"Question {each}?"\n' for each in range(QUESTIONS)), encoding="utf-8")
    return tmp_path


def started(nodes: ray_nodes.Nodes, *more: str) -> subprocess.Popen[str]:
    """Start the batch on the cluster."""
    command = [sys.executable, "-m", "partsong", "batch", "q.jsonl", "--on", "ray", "--out", "a.jsonl"]
    return subprocess.Popen(
        [*command, "--recipe", "two.toml", "--at-once", str(AT_ONCE), *more],
        env={**os.environ, "RAY_ADDRESS": nodes.address},
        stderr=subprocess.PIPE,
        text=True,
    )


def await_parts(count: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many parts are over."""
    until = time.monotonic() + 240
    while True:
        try:
            if len(json.loads(Path("a-parts.json").read_bytes())["over"]) >= count:
                return
        except FileNotFoundError:
            pass
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def rows() -> list[dict[str, Any]]:
    paths = sorted(Path().glob("a-0*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


@needs_ray
def test_driver_and_node_are_killed_and_every_row_is_there_once(folder: Path, upstream: str, postgres: Cluster) -> None:
    configuration = f'store = "{postgres.database("on_ray")}"\n[providers.counted]\napi = "openai"\n'
    (folder / "partsong.toml").write_text(f'{configuration}base_url = "{upstream}"\n', encoding="utf-8")
    with ray_nodes.nodes({"PARTSONG_STATE": str(folder / "state")}) as nodes:
        first = started(nodes)
        await_parts(1, first)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        second = started(nodes)
        await_parts(4, second)
        nodes.kill(ray_nodes.OTHER)
        _, said = second.communicate(timeout=400)
        assert second.returncode == 0, said
        made = Counting.made.copy()
        third = started(nodes)
        _, said = third.communicate(timeout=120)
        assert third.returncode == 0, said
        assert "8 of 8 parts were over before" in said
        assert Counting.made == made  # nothing was asked
    found = rows()
    assert [row["question"] for row in found] == [f"Question {each}?" for each in range(QUESTIONS)]
    assert all(row["answer"] and not row["losses"] for row in found)
    assert len(made) == QUESTIONS * CALLS
    # The first kill met two parts, and the second kill one; each had two calls of each question under way.
    assert made.total() - len(made) <= 3 * AT_ONCE * 2
    assert not list(Path().glob("*.partial*"))


@needs_ray
def test_a_cap_holds_over_the_cluster(folder: Path) -> None:
    (folder / "two.toml").write_text(PRICED, encoding="utf-8")
    with ray_nodes.nodes({"PARTSONG_STATE": str(folder / "state")}) as nodes:
        process = started(nodes, "--max-dollars", "4")
        _, said = process.communicate(timeout=240)
        assert process.returncode == 1, said
        assert "of --max-dollars" in said
        spent = float(said.partition("$")[2].partition(",")[0])
        assert 0 < spent <= 4
        process = started(nodes)
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    assert len(rows()) == QUESTIONS


def test_a_part_that_was_not_noted_as_over_is_not_paid_again(folder: Path) -> None:
    (folder / "two.toml").write_text(PRICED, encoding="utf-8")
    recipe, configuration = named_recipe("two.toml"), Configuration(store="off")
    questions = open_questions(folder / "q.jsonl")
    plan = Plan(questions, folder / "a.jsonl", recipe, configuration, AT_ONCE, Decimal(100), False, False)
    first = ended_on_node(plan, 1, 30)
    assert first.answered > 40
    assert Decimal(first.dollars or 0) > 0
    written = (folder / "a-00001-of-00030.jsonl").read_bytes()
    again = ended_on_node(plan, 1, 30)
    assert (again.answered, again.failed, again.stopped, Decimal(again.dollars or 1)) == (
        first.answered,
        0,
        "",
        Decimal(0),
    )
    assert (folder / "a-00001-of-00030.jsonl").read_bytes() == written


def test_without_a_cluster_the_error_says_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("batch", "q.jsonl", "--on", "ray", "--shard", "0/2", "--out", "a.jsonl", "-r", "two.toml") == 2
    assert "exclude each other" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        assert code_of("batch", "q.jsonl", "--on", "ray", "--out", "a.jsonl", "-r", "two.toml") == 2
    assert "pip install 'partsong[ray]'" in capsys.readouterr().err


def test_several_machines_share_a_database() -> None:
    check_store(Configuration(), 1)
    check_store(Configuration(store="off"), 2)
    check_store(Configuration(store="postgresql://host/partsong"), 2)
    with pytest.raises(InputError, match="2 machines"):
        check_store(Configuration(), 2)


def test_a_manifest_is_that_of_one_batch(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    assert read_manifest(out, "x") is None
    write_manifest(out, Manifest("x", 3, frozenset({0, 2})))
    found = read_manifest(out, "x")
    assert found == Manifest("x", 3, frozenset({0, 2}))
    (tmp_path / "2").touch()
    assert open_parts(found, lambda part: tmp_path / str(part)) == [0, 1]
    with pytest.raises(InputError, match="other questions or another recipe"):
        read_manifest(out, "y")
    for wrong in ("[]", '{"batch":"x","parts":0}', '{"batch":"x","parts":1000000000}', "\xff"):
        (tmp_path / "a-parts.json").write_bytes(wrong.encode("latin-1"))
        with pytest.raises(InputError, match="name another --out"):
            read_manifest(out, "x")
    (tmp_path / "a-parts.json").write_text("")
    with pytest.raises(InputError, match="name another --out"):
        read_manifest(out, "x")
