"""What the server counts for Prometheus: runs, first words, calls, tokens, dollars, losses, and what is open now.

With several workers each writes its numbers to files of a folder that all share (prometheus-client's own way, told by
`PROMETHEUS_MULTIPROC_DIR`), and whichever is asked adds them up. Labels never grow with what callers send: a recipe or
a model that is not among the served ones is counted as `other`.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from partsong.recipe import Recipe
from partsong.server.report import Report
from partsong.wire.reply import Problem

SHARED = "PROMETHEUS_MULTIPROC_DIR"
MEDIA_TYPE = CONTENT_TYPE_LATEST
OTHER = "other"
SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)


class Metrics:
    """The numbers of one process. `recipes` are those that have a label of their own, with all their models."""

    def __init__(self, recipes: Iterable[Recipe]) -> None:
        served = tuple(recipes)
        self._recipes = frozenset(recipe.name for recipe in served)
        self._models = frozenset(model for recipe in served for model in recipe.models)
        self._folder = os.environ.get(SHARED)
        self._registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"partsong_{name}", what, labels, registry=self._registry)

        def seconds(name: str, what: str) -> Histogram:
            return Histogram(f"partsong_{name}_seconds", what, ("recipe",), buckets=SECONDS, registry=self._registry)

        self._runs = counter("runs", "Runs that ended: finished, failed (by cause), or left.", "api", "recipe", "end")
        self._refused = counter("refused", "Requests that got no run, by HTTP status.", "api", "status")
        self._calls = counter("calls", "Calls whose usage is known.", "model")
        self._tokens = counter("tokens", "Tokens of calls.", "model", "kind")
        self._dollars = counter("dollars", "Dollars that calls have cost, where their price is known.", "model")
        self._losses = counter("losses", "What runs did not get as their recipe has it.", "model", "kind", "cause")
        self._took = seconds("run", "From the request to the end of its run.")
        self._first = seconds("first_word", "From the request to the answer's first words, of streams.")
        self._requests = self._open("requests", "Requests at work or waiting for their turn.")
        self._streams = self._open("runs", "Runs that go on.")

    def _open(self, name: str, what: str) -> Gauge:
        return Gauge(f"partsong_{name}_open", what, registry=self._registry, multiprocess_mode="livesum")

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is here until the block is left."""
        with self._requests.track_inprogress():
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """A run goes on until the block is left."""
        with self._streams.track_inprogress():
            yield

    def run(self, api: str, report: Report, began: float, first: float | None) -> None:
        """A run has ended, or was left; `began` and `first` (word) by the monotonic clock."""
        recipe = report.recipe if report.recipe in self._recipes else OTHER
        end = "finished" if report.answer is not None else "left" if report.error is None else report.error.cause
        self._runs.labels(api, recipe, end).inc()
        self._took.labels(recipe).observe(time.monotonic() - began)
        if first is not None:
            self._first.labels(recipe).observe(first - began)
        for model, usage in report.used:
            name = self._model(model)
            self._calls.labels(name).inc()
            self._tokens.labels(name, "input").inc(usage.input_tokens)
            self._tokens.labels(name, "output").inc(usage.output_tokens)
            if usage.dollars is not None:
                self._dollars.labels(name).inc(float(usage.dollars))
        for loss in report.lost:
            self._losses.labels(self._model(loss.model), loss.kind, loss.cause).inc()

    def refused(self, api: str, problem: Problem) -> None:
        """A request got no run."""
        self._refused.labels(api, str(problem.status)).inc()

    def text(self) -> bytes:
        """All numbers, of all processes, in Prometheus's text format."""
        if self._folder is None:
            return generate_latest(self._registry)
        self._forget_the_dead(Path(self._folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _forget_the_dead(self, folder: Path) -> None:
        """What a worker that has died had open is open no more; what it has counted stays counted."""
        for file in folder.glob("gauge_live*_*.db"):
            process = file.stem.rpartition("_")[2]
            if process.isdecimal() and not _lives(int(process)):
                mark_process_dead(int(process), self._folder)  # type: ignore[no-untyped-call]

    def _model(self, name: str) -> str:
        return name if name in self._models else OTHER


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
