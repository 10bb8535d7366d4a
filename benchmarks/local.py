"""What partsong adds to local models: the recipe `local` through the engine, against the same calls without it.

    python benchmarks/local.py [ROUNDS] [MAX_TOKENS] [threads]

Each round asks another question. A first run through the engine, which is not counted, records the calls that the
question leads to. These calls are then made in two ways, in turn and in the order A B, B A:

* straight to xllamacpp, with a thread for each seat of the layer, and then for the aggregator;
* through the engine, with every event heard.

The engine's models are in processes of their own, and the straight calls have models of their own in this process, with
the same settings. Between two runs each model reads something else, so that no prompt is found in a cache. Wall time is
what counts.

With `threads`, other settings of the models are measured as well: the number of threads that write and read, the number
of seats that a model answers at once, and whether the seats of a layer are asked at once or one after another.
"""

import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

import partsong
from partsong.events import AnyEvent
from partsong.folders import weights_folder
from partsong.model import Answer, Model, Request, Sampling, Send, asking
from partsong.providers import llama, local
from partsong.weights.fetch import ensure

QUESTIONS = (
    "What are three good reasons to learn to cook, and how would you start?",
    "How does a bicycle stay upright while it is being ridden?",
    "What should I look at before I sign the lease of a flat?",
    "Why do leaves change their colour in autumn?",
)
Call = tuple[str, bytes]  # the model's id, and what it is asked
Serve = Callable[[str, bytes, Callable[[bytes], bool]], None]


class Noting:
    """A model that writes down what it is asked."""

    def __init__(self, model: Model, name: str, notes: list[Call]) -> None:
        self.model, self.name, self.notes = model, name, notes

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.notes.append((self.name, local._body(request, self.name)))
        return await self.model(request, send)


class Counted:
    """How many tokens the calls of a run had."""

    def __init__(self) -> None:
        self.read = self.written = 0

    def count(self, chunk: bytes) -> bool:
        if b'"usage"' in chunk:
            usage = msgspec.json.decode(chunk)["usage"]
            self.read += usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
            self.written += usage["completion_tokens"]
        return False


async def through_the_engine(recipe: partsong.Recipe, question: str, models: dict[str, Model]) -> tuple[float, int]:
    """Seconds, and tokens written."""
    heard: list[AnyEvent] = []

    async def emit(event: AnyEvent) -> None:
        heard.append(event)

    started = time.perf_counter()
    await partsong.perform(recipe, asking(question), models, emit)
    seconds = time.perf_counter() - started
    last = heard[-1]
    assert isinstance(last, partsong.events.RunFinished), last
    return seconds, last.usage.output_tokens


def straight(calls: list[Call], serve: Serve, *, at_once: bool = True) -> tuple[float, int]:
    """The same without partsong: the layer's calls, then the aggregator's. Seconds, and tokens written."""
    counted = Counted()
    *layer, aggregator = calls
    threads = [threading.Thread(target=serve, args=(*call, counted.count)) for call in layer]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
        if not at_once:
            thread.join()
    for thread in threads:
        thread.join()
    serve(*aggregator, counted.count)
    return time.perf_counter() - started, counted.written


def forget(models: Iterable[str], serve: Serve) -> None:
    """Have every model read something else."""
    message = {"role": "user", "content": "Say yes."}
    for model in models:
        body = msgspec.json.encode({"messages": [{"role": "system", "content": "."}, message], "max_tokens": 1})
        serve(model, body, lambda _: False)


async def forget_all(models: dict[str, Model]) -> None:
    """Have every model of the engine read something else."""
    for model in models.values():
        await model(Request(asking("Say yes.").messages, sampling=Sampling(max_tokens=1)), None)


async def compare(recipe: partsong.Recipe, paths: dict[str, Path], rounds: int) -> list[list[Call]]:
    """partsong against the bare calls. Returns the calls of each round."""
    models: dict[str, Model] = {name: local.Local(path, name) for name, path in paths.items()}

    servers = {name: llama.load(str(path), local.WINDOW, "") for name, path in paths.items()}

    def serve(model: str, body: bytes, hear: Callable[[bytes], bool]) -> None:
        servers[model].handle_chat_completions(body, hear)  # keeps further calls waiting by itself

    noted: list[list[Call]] = []
    times: dict[str, list[float]] = {"straight": [], "partsong": []}
    for number in range(rounds):
        question = QUESTIONS[number % len(QUESTIONS)]
        calls: list[Call] = []
        noting: dict[str, Model] = {name: Noting(model, name, calls) for name, model in models.items()}
        await through_the_engine(recipe, question, noting)
        noted.append(calls)
        for way in ("straight", "partsong") if number % 2 else ("partsong", "straight"):
            await asyncio.to_thread(forget, models, serve)
            await forget_all(models)
            if way == "straight":
                seconds, written = await asyncio.to_thread(straight, calls, serve)
            else:
                seconds, written = await through_the_engine(recipe, question, models)
            times[way].append(seconds)
            print(f"round {number + 1}: {way:8} {seconds:6.2f} s, {written} tokens", flush=True)
    ours, theirs = times["partsong"], times["straight"]
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    print(
        f"partsong {sum(ours):.2f} s, straight {sum(theirs):.2f} s, ratio of the sums {sum(ours) / sum(theirs):.3f},"
        f" median of the rounds' ratios {ratio:.3f}"
    )
    print("the bar is 1.05 of wall time")
    return noted


def measure(paths: dict[str, Path], noted: list[list[Call]], decode: int, prompt: int, slots: int) -> None:
    """The bare calls with other numbers of threads and slots, the layer at once and one after another."""
    import xllamacpp

    servers: dict[str, Any] = {}
    for name, path in paths.items():
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_parallel, parameters.n_ctx, parameters.kv_unified = slots, slots * 4096, True
        parameters.n_batch = parameters.n_ubatch = llama.BATCH
        parameters.cpuparams.n_threads, parameters.cpuparams_batch.n_threads = decode, prompt
        parameters.fit_params, parameters.cache_ram_mib, parameters.verbosity, parameters.ui = False, 0, -1, False
        parameters.n_threads_http, parameters.api_keys = 1, ["measured"]
        servers[name] = xllamacpp.Server(parameters)

    def serve(model: str, body: bytes, hear: Callable[[bytes], bool]) -> None:
        servers[model].handle_chat_completions(body, hear)

    for at_once in (True, False):
        seconds = []
        for calls in noted:
            forget(servers, serve)
            seconds.append(straight(calls, serve, at_once=at_once)[0])
        how = "at once" if at_once else "one after another"
        median = statistics.median(seconds)
        print(
            f"threads {decode} to write, {prompt} to read, slots {slots}, seats {how}: median {median:.2f} s",
            flush=True,
        )


async def main(rounds: int = 3, max_tokens: int = 96, *, threads: bool = False) -> None:
    recipe = partsong.find_recipe("local-small")
    layer = recipe.layers[0]
    recipe = replace(
        recipe,
        layers=(replace(layer, agents=tuple(replace(agent, max_tokens=max_tokens) for agent in layer.agents)),),
        aggregator=replace(recipe.aggregator, max_tokens=max_tokens),
    )
    paths = {name: await ensure(name.removeprefix("local:"), weights_folder()) for name in recipe.models}
    noted = await compare(recipe, paths, rounds)
    if not threads:
        return
    cores = llama._cores()
    reading = min(cores, llama.PROMPT_THREADS)
    for decode, prompt, slots in ((1, 1, 1), (1, reading, 1), (1, reading, 2), (min(cores, 2), reading, 1)):
        await asyncio.to_thread(measure, paths, noted[:2], decode, prompt, slots)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word != "threads"]
    asyncio.run(main(*numbers, threads="threads" in sys.argv))
