"""The metrics for Prometheus: runs, first words, calls, tokens, dollars, losses, and open requests and runs.

Several workers share a folder (`PROMETHEUS_MULTIPROC_DIR`, the multiprocess mode of prometheus-client). Each worker
writes its own numbers into the folder, and the worker that answers a scrape adds all of them up.

The set of labels does not grow with the requests of clients: recipes and models that are not served count as `other`.
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
    """The metrics of one process.

    recipes: the served recipes; only they and their models have labels of their own, others count as `other`
    """

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

        self._runs = counter(
            "runs", "Runs that have ended: finished, left, or the cause of the failure.", "api", "recipe", "end"
        )
        self._refused = counter("refused", "Requests that started no run, by HTTP status.", "api", "status")
        self._calls = counter("calls", "Calls to models whose usage is known.", "model")
        self._tokens = counter("tokens", "Input and output tokens of these calls.", "model", "kind")
        self._dollars = counter("dollars", "Cost of these calls in dollars, where the price is known.", "model")
        self._losses = counter(
            "losses", "Seats that were lost or changed, by kind and cause.", "model", "kind", "cause"
        )
        self._took = seconds("run", "Seconds from the request to the end of its run.")
        self._first = seconds("first_word", "Seconds from the request to the first word of a stream.")
        self._requests = self._open("requests", "Requests under way or queued.")
        self._streams = self._open("runs", "Runs under way.")
        self._store = Gauge(
            "partsong_store_failing",
            "1 while the store fails, so that runs are not kept; else 0.",
            registry=self._registry,
            multiprocess_mode="livemax",
        )

    def _open(self, name: str, what: str) -> Gauge:
        return Gauge(f"partsong_{name}_open", what, registry=self._registry, multiprocess_mode="livesum")

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as open until the block is left."""
        with self._requests.track_inprogress():
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count a run as open until the block is left."""
        with self._streams.track_inprogress():
            yield

    def run(self, api: str, report: Report, began: float, first: float | None) -> None:
        """Count a run that has ended.

        began: when the request came, in seconds of the monotonic clock
        first: when the first word was sent, by the same clock; `None` if there was none
        """
        recipe = report.recipe if report.recipe in self._recipes else OTHER
        end = "finished" if report.answer is not None else "left" if report.error is None else report.error.cause
        self._runs.labels(api, recipe, end).inc()
        self._took.labels(recipe).observe(time.monotonic() - began)
        if first is not None:
            self._first.labels(recipe).observe(first - began)
        for call, usage in report.calls:
            name = self._model(call.model)
            self._calls.labels(name).inc()
            self._tokens.labels(name, "input").inc(usage.input_tokens)
            self._tokens.labels(name, "output").inc(usage.output_tokens)
            if usage.dollars is not None:
                self._dollars.labels(name).inc(float(usage.dollars))
        for loss in report.lost:
            self._losses.labels(self._model(loss.model), loss.kind, loss.cause).inc()

    def refused(self, api: str, problem: Problem) -> None:
        """Count a request that started no run."""
        self._refused.labels(api, str(problem.status)).inc()

    def store(self, *, failing: bool) -> None:
        """Say whether the store fails."""
        self._store.set(failing)

    def text(self) -> bytes:
        """The metrics of all processes, in the text format of Prometheus."""
        if self._folder is None:
            return generate_latest(self._registry)
        self._forget_the_dead(Path(self._folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _forget_the_dead(self, folder: Path) -> None:
        """Remove the gauges of dead workers, whose runs are no longer open. Their counters stay."""
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
