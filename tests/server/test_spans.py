"""Spans of runs, as an OpenTelemetry collector receives them over HTTP from a server's process."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.server.collector import Collector, attributes, collecting
from tests.serving import recipe_file, serving

QUESTION = {"model": "three", "messages": [{"role": "user", "content": "Is the secret safe?"}]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with collecting(monkeypatch) as collector:
        yield collector


async def test_run_layers_and_calls_are_spans_of_the_callers_trace(tmp_path: Path, collector: Collector) -> None:
    broken = """
name = "three"
[[layers]]
agents = ["scripted:a?text=one+and+two", "scripted:b?fail=auth"]
[[layers]]
agents = ["scripted:c?text=three"]
[aggregator]
model = "scripted:z?text=So+it+is"
"""
    async with serving([recipe_file(tmp_path, broken)]) as (url, _), aiohttp.ClientSession() as session:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        async with session.post(f"{url}/v1/chat/completions", json=QUESTION, headers=headers) as response:
            assert response.status == 200
            run = (await response.json())["partsong"]["run"]
    # The server has ended, and with it the last spans are out.
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert collector.resources[0]["service.name"] == "partsong"
    (whole,) = collector.named("invoke_agent three")
    assert whole.parent_span_id.hex() == PARENT
    assert attributes(whole)["partsong.run"] == run
    assert attributes(whole)["partsong.losses"] == 1
    (first,), (second,) = collector.named("layer 0"), collector.named("layer 1")
    (aggregation,) = collector.named("chat z?text=So+it+is")
    assert {span.parent_span_id for span in (first, second, aggregation)} == {whole.span_id}
    (a,), (b,) = collector.named("chat a?text=one+and+two"), collector.named("chat b?fail=auth")
    assert {a.parent_span_id, b.parent_span_id} == {first.span_id}
    assert attributes(a)["gen_ai.operation.name"] == "chat"
    assert attributes(a)["gen_ai.provider.name"] == "scripted"
    assert attributes(a)["gen_ai.usage.output_tokens"] == 3
    assert attributes(b)["error.type"] == "auth"
    assert b.status.code == 2
    assert first.end_time_unix_nano <= second.start_time_unix_nano <= aggregation.start_time_unix_nano
    assert all(b"secret" not in body and b"So it is" not in body for body in collector.bodies)


async def test_a_run_that_is_left_has_ended_spans(tmp_path: Path, collector: Collector) -> None:
    slow = recipe_file(tmp_path, aggregator="scripted:z?tokens=1000&each=0.05")
    async with serving([slow]) as (url, _), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/chat/completions", json=QUESTION | {"stream": True}) as response:
            await response.content.readline()
            response.close()
        await asyncio.sleep(0.1)
    (whole,) = collector.named("invoke_agent three")
    assert attributes(whole)["error.type"] == "cancelled"
    assert len(collector.spans) == 6


async def test_a_collector_that_is_away_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    async with serving([recipe_file(tmp_path)]) as (url, _), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/chat/completions", json=QUESTION) as response:
            assert response.status == 200


def test_without_an_endpoint_there_is_none() -> None:
    from partsong.server.spans import open_telemetry

    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in os.environ
    assert open_telemetry() is None
