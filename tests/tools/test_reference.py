"""The reference server that fetches web pages, against a site on loopback."""

import sys
from pathlib import Path

import pytest

from partsong.configuration import ToolServer
from partsong.tools.servers import Servers
from tests.upstream import Exchange, Reply, Server

PROGRAM = Path(sys.executable).with_name("mcp-server-fetch")
PAGE = b"<html><body><article><h1>Sky</h1><p>The sky is blue because of <i>scattering</i>.</p></article></body></html>"


def site(exchange: Exchange) -> Reply:
    if exchange.path == "/robots.txt":
        return Reply(b"User-agent: *\nAllow: /", content_type="text/plain")
    return Reply(PAGE, content_type="text/html")


@pytest.mark.skipif(not PROGRAM.exists(), reason="mcp-server-fetch is not installed")
async def test_the_reference_server_fetches_a_page() -> None:
    servers = Servers({"web": ToolServer((str(PROGRAM), "--allow-private-ips"))})
    try:
        async with Server(site) as upstream:
            offer = (await servers.offers(["web"]))["web"]
            assert [tool.tool.name for tool in offer.tools] == ["web__fetch"]
            result = await servers.use(offer.tools[0], {"url": f"{upstream.url}/sky"})
            assert (result.error, f"{upstream.url}/sky" in result.sources) == ("", True)
            assert "The sky is blue" in result.text
            wrong = await servers.use(offer.tools[0], {"url": 7})
            assert wrong.error
    finally:
        await servers.close()
