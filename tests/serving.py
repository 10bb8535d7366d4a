"""A real server on a real port of this machine: the application under uvicorn, in this process or in one of its own.

`serving(...)` gives its address. Its models are scripted ones, or those of a server that the test has started itself.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn

from partsong.configuration import Configuration, ModelSettings, Provider, Serving, StoreMode
from partsong.server.application import Application, make_app
from partsong.server.owner import Owner

THREE = """
name = "three"
[[layers]]
agents = ["scripted:a?text=one+and+two", "scripted:b?text=two", "scripted:c?text=three"]
[aggregator]
model = "{aggregator}"
"""


def recipe_file(
    folder: Path, text: str = THREE, name: str = "three", aggregator: str = "scripted:z?text=So+it+is"
) -> str:
    """A recipe's file in the folder; its name."""
    path = folder / f"{name}.toml"
    path.write_text(text.format(aggregator=aggregator), encoding="utf-8")
    return str(path)


@asynccontextmanager
async def serving(
    recipes: Sequence[str],
    *,
    providers: dict[str, Provider] | None = None,
    mode: StoreMode = "full",
    server: Serving | None = None,
    configuration: Configuration | None = None,
    models: Sequence[str] = (),
    owner: Owner | None = None,
) -> AsyncIterator[tuple[str, Application]]:
    """The server's address (http://127.0.0.1:PORT) and the application, until the block is left.

    models: ids of models that the configuration names, so that requests may name them too
    owner: the page that may set keys; no page by default
    """
    settings = server or Serving()
    whole = configuration or Configuration(providers=providers or {})
    whole = Configuration(
        recipe=whole.recipe,
        store=whole.store,
        keep=whole.keep,
        dollars_per_run=whole.dollars_per_run,
        dollars_per_day=whole.dollars_per_day,
        tools=whole.tools,
        providers=whole.providers,
        models=whole.models | {name: ModelSettings() for name in models},
        documents=whole.documents,
        bounds=whole.bounds,
        server=Serving(
            host=settings.host,
            workers=settings.workers,
            recipes=tuple(recipes),
            models=settings.models,
            at_once=settings.at_once,
            waiting=settings.waiting,
            patience=settings.patience,
            drain=settings.drain,
            origins=settings.origins,
            log=settings.log,
        ),
    )
    app = make_app(lambda: (whole, mode), owner=owner)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=5, ws="none")
        server_ = uvicorn.Server(config)
        task = asyncio.create_task(server_._serve([listening]))
        while not server_.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}", app
        finally:
            server_.should_exit = True
            await task
