"""One account of every call: the answer, the metrics and the spans of a run add up to the usage of the run.

The models fail in every way of the fault matrix, behind a real HTTP server. Whether a call ends in time or is given up
does not matter here, so the tests do not depend on the speed of the machine.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from partsong.bounds import Bounds
from partsong.configuration import Configuration, Serving
from partsong.engine import perform
from partsong.events import AnyEvent, CallFinished, RunFailed, RunFinished, RunStarted
from partsong.model import Usage, asking
from partsong.server.application import Application
from tests.faults.cells import providers
from tests.faults.misbehaving import FAULTS, Stage
from tests.server.collector import Collector, attributes, collecting
from tests.server.test_metrics import numbers, of
from tests.serving import recipe_file, serving
from tests.upstream import Server

LAST_RESORT = 'last_resort = "best_proposal"'
PROPOSERS = """
name = "NAME"
TOP
[[layers]]
agents = ["scripted:a?text=one+and+two&input=1&output=2", "scripted:b?text=one+and+three&input=1&output=2"]
"""
NAMES_NONE = (
    PROPOSERS
    + """
[aggregator]
model = "scripted:z?text=none+of+them+is+good+enough&input=1&output=2"
method = "select"
"""
)
BREAKS_OFF = (
    PROPOSERS
    + """
[aggregator]
model = "scripted:z?tokens=600&after=500&fail=server&input=1&output=2"
"""
)
SILENT = (
    PROPOSERS
    + """
[aggregator]
model = "scripted:z?fail=server"
"""
)


@dataclass
class Asked:
    """One question: the field `partsong` of its response, and the end and the calls of its stored run."""

    report: dict[str, Any]
    end: RunFinished | RunFailed
    stored: list[CallFinished]

    @property
    def usage(self) -> Usage:
        return self.end.usage

    @property
    def calls(self) -> list[dict[str, Any]]:
        return list(self.report["calls"])

    def tokens_by_model(self) -> Counter[str]:
        return total((call["model"], call["input_tokens"] + call["output_tokens"]) for call in self.calls)


def total(tokens: Iterable[tuple[str, int]]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for name, number in tokens:
        counted[name] += number
    return counted


async def ask(session: aiohttp.ClientSession, url: str, app: Application, model: str, **fields: object) -> Asked:
    body = {"model": model, "messages": [{"role": "user", "content": "Is it so?"}], **fields}
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        text = await response.text()
    reports = [found for found in map(report_in, text.splitlines()) if found is not None]
    store = app.service().store
    events = [event for _, event in await store.events(reports[-1]["run"])]
    end = events[-1]
    assert isinstance(end, RunFinished | RunFailed)
    return Asked(reports[-1], end, [event for event in events if isinstance(event, CallFinished)])


def report_in(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line.removeprefix("data: "))
    except ValueError:
        return None
    return found.get("partsong") if isinstance(found, dict) else None


def written(folder: Path, name: str, text: str, top: str = "") -> str:
    return recipe_file(folder, text.replace("NAME", name).replace("TOP", top), name)


def check_answer(asked: Asked) -> None:
    """The calls of the answer are the calls of the run, and add up to its usage."""
    used = [(call, call.usage) for call in asked.stored if call.usage is not None]
    assert [(call["layer"], call["seat"], call["model"]) for call in asked.calls] == [
        (call.layer, call.seat, call.model) for call, _ in used
    ]
    assert sum(call["input_tokens"] for call in asked.calls) == asked.usage.input_tokens
    assert sum(call["output_tokens"] for call in asked.calls) == asked.usage.output_tokens
    assert [call.get("error") for call in asked.calls] == [call.error and call.error.cause for call, _ in used]


def check_spans(collector: Collector, asked: Asked) -> None:
    """The run has a span for each of its calls, with the tokens, the error and the times of the call."""
    (whole,) = [span for span in collector.spans if attributes(span).get("partsong.run") == asked.report["run"]]
    spans = [span for span in collector.spans if span.trace_id == whole.trace_id and span.name.startswith("chat ")]
    assert len(spans) == len(asked.stored)
    for name, number in (("input", asked.usage.input_tokens), ("output", asked.usage.output_tokens)):
        field = f"gen_ai.usage.{name}_tokens"
        assert attributes(whole)[field] == number
        assert sum(attributes(span).get(field, 0) for span in spans) == number
    for span, call in zip(spans, asked.stored, strict=True):
        assert call.model.endswith(span.name.removeprefix("chat "))
        error = attributes(span).get("error.type")
        assert error == (call.error and call.error.cause) or (call.error is None and error == "invalid")
        assert whole.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= whole.end_time_unix_nano
        assert span.end_time_unix_nano - span.start_time_unix_nano <= (call.seconds + 0.001) * 1e9


async def test_a_ranker_that_names_none_is_a_paid_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = written(tmp_path, "ranker", NAMES_NONE, LAST_RESORT)
    async with collecting(monkeypatch) as collector, aiohttp.ClientSession() as session:
        async with serving([recipe]) as (url, app):
            asked = await ask(session, url, app, "ranker")
            found = await numbers(session, url)
        assert asked.report["last_resort"]
        assert [call["model"].partition("?")[0] for call in asked.calls] == ["scripted:a", "scripted:b", "scripted:z"]
        assert asked.calls[-1]["output_tokens"] == 6
        (ranking,) = collector.named("chat z?text=none+of+them+is+good+enough&input=1&output=2")
        assert attributes(ranking)["error.type"] == "invalid"
        assert attributes(ranking)["gen_ai.usage.output_tokens"] == 6
        check_answer(asked)
        check_spans(collector, asked)
        model = asked.calls[-1]["model"]
        assert of(found, "calls_total", model=model) == 1
        assert of(found, "tokens_total", model=model, kind="output") == 6
        assert of(found, "tokens_total") == asked.usage.input_tokens + asked.usage.output_tokens


@pytest.mark.parametrize("top", ["", LAST_RESORT])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_aggregator_that_breaks_off_is_a_paid_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top: str, stream: bool
) -> None:
    recipe = written(tmp_path, "breaking", BREAKS_OFF, top)
    async with collecting(monkeypatch) as collector, aiohttp.ClientSession() as session:
        async with serving([recipe]) as (url, app):
            asked = await ask(session, url, app, "breaking", stream=stream)
            found = await numbers(session, url)
        assert isinstance(asked.end, RunFailed)
        assert asked.calls[-1]["error"] == "server"
        assert asked.calls[-1]["output_tokens"] >= 500
        check_answer(asked)
        check_spans(collector, asked)
        assert of(found, "tokens_total") == asked.usage.input_tokens + asked.usage.output_tokens
        assert of(found, "tokens_total", model=asked.calls[-1]["model"], kind="output") >= 500


async def test_an_aggregator_that_says_nothing_has_a_span_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = written(tmp_path, "silent", SILENT, LAST_RESORT)
    async with collecting(monkeypatch) as collector, aiohttp.ClientSession() as session:
        async with serving([recipe]) as (url, app):
            asked = await ask(session, url, app, "silent")
        assert asked.report["last_resort"]
        assert [call["model"].partition("?")[0] for call in asked.calls] == ["scripted:a", "scripted:b"]
        check_answer(asked)
        check_spans(collector, asked)
        (aggregation,) = collector.named("chat z?fail=server")
        assert attributes(aggregation)["error.type"] == "server"
        assert aggregation.status.code == 2


FAILING = """
name = "NAME"
deadline = 2.0
TOP
[[layers]]
agents = ["p:FIRST.NAME.0.0", "q:well.NAME.0.1", {model="p:FIRST.NAME.0.2", fallback=["q:well.NAME.0.3"]}]
[aggregator]
model = "p:LAST.NAME.1.0"
"""
PLACES = {"proposers": "FIRST", "aggregator": "LAST"}


def failing(folder: Path) -> list[str]:
    """A recipe for each fault: of the proposers, of the aggregator, and of the aggregator with a last resort."""
    files = []
    for fault in FAULTS:
        for place, faulty in PLACES.items():
            for top in ("", LAST_RESORT):
                name = f"{fault}-{place}{'-resort' if top else ''}"
                text = FAILING.replace(faulty, fault).replace("FIRST", "well").replace("LAST", "well")
                path = folder / f"{name}.toml"
                path.write_text(text.replace("NAME", name).replace("TOP", top), encoding="utf-8")
                files.append(str(path))
    return files


async def test_calls_add_up_to_the_usage_however_a_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = failing(tmp_path)
    names = [Path(recipe).stem for recipe in recipes]
    async with Server(Stage()) as upstream, collecting(monkeypatch) as collector, aiohttp.ClientSession() as session:
        known = providers({"p": upstream.url, "q": upstream.url}, silence=1.0)
        # Every run is stored before its answer ends, also where the store is slow because the machine is busy.
        configuration = Configuration(providers=known, bounds=Bounds(store_seconds=60.0))
        async with serving(recipes, configuration=configuration, server=Serving(at_once=500)) as (url, app):
            runs = await asyncio.gather(
                *(ask(session, url, app, name, stream=bool(index % 2)) for index, name in enumerate(names))
            )
            found = await numbers(session, url)
        assert any(isinstance(run.end, RunFailed) for run in runs)
        assert any(isinstance(run.end, RunFinished) and run.end.last_resort for run in runs)
        for asked in runs:
            check_answer(asked)
            check_spans(collector, asked)
        assert of(found, "tokens_total", kind="input") == sum(run.usage.input_tokens for run in runs)
        assert of(found, "tokens_total", kind="output") == sum(run.usage.output_tokens for run in runs)
        by_model = total(each for run in runs for each in run.tokens_by_model().items())
        for model, tokens in by_model.items():
            assert of(found, "tokens_total", model=model) == tokens


async def test_runs_of_earlier_versions_are_readable_on_every_route(tmp_path: Path) -> None:
    """Earlier versions stored the same events without the event of a call."""
    named = ["scripted:e?echo=1"]
    async with serving([recipe_file(tmp_path)], models=named) as (url, app), aiohttp.ClientSession() as session:
        store = app.service().store
        recorder = store.record(labels={"api": "responses", "keep": "yes"})

        async def hear(event: AnyEvent) -> None:
            if not isinstance(event, CallFinished):
                await recorder.hear(event)

        models = await app.service().assembly.models(app.service().recipes["three"].models)
        await perform(app.service().recipes["three"], asking("Is it so?"), models, hear)
        await recorder.close()
        run = recorder.id
        paths = [f"/api/runs/{run}", f"/api/runs/{run}/export", f"/api/runs/{run}/export?form=markdown"]
        for path in ["/api/runs", *paths, "/api/totals", f"/v1/runs/{run}/events?times=1"]:
            async with session.get(url + path) as response:
                text = await response.text()
                assert response.status == 200, (path, text)
                assert path == "/api/totals" or "three" in text
        body = {"model": "scripted:e?echo=1", "input": "And now?", "previous_response_id": f"resp_{run}"}
        async with session.post(f"{url}/v1/responses", json=body) as response:
            assert response.status == 200, await response.text()
            following = (await response.json())["partsong"]["run"]
        (first, *_) = [event for _, event in await store.events(following)]
        assert isinstance(first, RunStarted)
        assert [message.text for message in first.conversation.messages] == ["Is it so?", "So it is", "And now?"]
