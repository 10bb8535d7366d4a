"""Servers with tools over streamable HTTP, as the official SDK serves them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import ToolAnnotations
from starlette.types import ASGIApp, Receive, Scope, Send

from partsong.configuration import ToolServer
from partsong.tools.servers import Servers

READS = ToolAnnotations(read_only_hint=True)


def web() -> MCPServer:
    server: MCPServer = MCPServer("web")

    @server.tool(annotations=READS)
    async def search(query: str) -> str:
        """Search the web."""
        return f"1. https://example.org/{query}"

    @server.tool(annotations=READS)
    async def flood() -> str:
        """Return far too much."""
        return "x" * 20_000_000

    @server.tool(annotations=READS)
    async def hang(context: Context) -> str:
        """Never answer."""
        await asyncio.sleep(3600)
        return ""

    @server.tool()
    async def post(text: str) -> str:
        """Write something."""
        raise AssertionError("this tool is not offered")

    return server


def keyed(application: ASGIApp, key: str) -> ASGIApp:
    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != f"Bearer {key}".encode():
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await application(scope, receive, send)

    return check


@asynccontextmanager
async def served(key: str = "", port: int = 0) -> AsyncIterator[str]:
    application: ASGIApp = web().streamable_http_app()
    if key:
        application = keyed(application, key)
    config = uvicorn.Config(application, port=port, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with contextlib.ExitStack() as stack:
        task = asyncio.create_task(server.serve())
        stack.callback(task.cancel)
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/mcp"
        server.should_exit = True
        await task


@asynccontextmanager
async def asking(settings: ToolServer) -> AsyncIterator[Servers]:
    servers = Servers({"web": settings})
    try:
        yield servers
    finally:
        await servers.close()


async def test_a_server_over_http_is_asked() -> None:
    async with served() as url, asking(ToolServer(url=url)) as servers:
        offer = (await servers.offers(["web"]))["web"]
        assert (offer.problem, [tool.name for tool in offer.tools]) == ("", ["search", "flood", "hang"])
        result = await servers.use(offer.tools[0], {"query": "partsong"})
        assert (result.error, result.sources) == ("", ("https://example.org/partsong",))


async def test_too_much_and_too_late_are_told() -> None:
    async with served() as url, asking(ToolServer(url=url, deadline=60)) as servers:
        search, flood, hang = (await servers.offers(["web"]))["web"].tools
        assert (await servers.use(flood, {})).error
        assert (await servers.use(search, {"query": "a"})).error == ""
    async with served() as url, asking(ToolServer(url=url, deadline=0.5)) as servers:
        assert (await servers.use(hang, {})).error == "no answer within 0.5 s"


async def test_a_key_is_sent_and_a_wrong_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_KEY", "right")
    async with served("right") as url, asking(ToolServer(url=url, key_env="WEB_KEY")) as servers:
        assert (await servers.offers(["web"]))["web"].problem == ""
    monkeypatch.setenv("WEB_KEY", "wrong")
    async with served("right") as url, asking(ToolServer(url=url, key_env="WEB_KEY")) as servers:
        assert (await servers.offers(["web"]))["web"].problem != ""


async def test_an_address_where_nobody_listens_is_told() -> None:
    async with asking(ToolServer(url="http://127.0.0.1:9/mcp")) as servers:
        assert (await servers.offers(["web"]))["web"].problem != ""


async def test_a_server_that_was_restarted_is_asked_again() -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = contextlib.AsyncExitStack()
        url = await first.enter_async_context(served())
        servers = await stack.enter_async_context(asking(ToolServer(url=url, deadline=60)))
        tool = (await servers.offers(["web"]))["web"].tools[0]
        assert (await servers.use(tool, {"query": "a"})).error == ""
        await first.aclose()
        assert (await servers.use(tool, {"query": "b"})).error != ""
        await stack.enter_async_context(served(port=int(url.rpartition(":")[2].partition("/")[0])))
        said = [await servers.use(tool, {"query": "c"}) for _ in range(3)]
        assert said[-1].error == "", said
