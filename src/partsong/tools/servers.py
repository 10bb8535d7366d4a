"""The configured servers with tools, as the engine asks them: which tools are offered, and their results.

A tool is offered only if the configuration allows it by name or, where it allows none by name, if its server declares
that it only reads. This is asked again at each tool call, since a server may change its list.
"""

import asyncio
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from mcp_types import Tool as ListedTool

from partsong.configuration import ToolServer, tool_key_of
from partsong.errors import ConfigurationError
from partsong.model import Tool
from partsong.toolbox import Offer, OfferedTool, Offers, Result
from partsong.tools.results import read
from partsong.tools.server import Server, Transport, UnusableError

MOST_OFFERED = 64  # tools of one server
LONGEST_DESCRIPTION = 2000  # characters of a tool's description that models read
LARGEST_SCHEMA = 16_384  # bytes of the schema of a tool's arguments; a tool with a larger one is not offered
LONGEST_NAME = 64  # characters of a tool's name that every provider takes
_NOTHING = "it offers no tool: none is allowed by name or, where `allow` is empty, declared as only reading"
_UNUSUAL = re.compile(r"[^A-Za-z0-9_-]")


class Servers:
    """The servers of a configuration, as a `Toolbox`. Each is started when it is first needed.

    configured: the tables `[tools.NAME]`, by name
    """

    def __init__(self, configured: Mapping[str, ToolServer]) -> None:
        self.configured = configured
        # The SDK logs what servers do wrong, with tracebacks. What matters is told in results and offers.
        if not (log := logging.getLogger("mcp")).handlers:
            log.addHandler(logging.NullHandler())
        self._servers: dict[str, Server] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.configured)

    async def offers(self, servers: Iterable[str]) -> Offers:
        names = tuple(dict.fromkeys(servers))
        return dict(zip(names, await asyncio.gather(*map(self._offer, names)), strict=True))

    async def use(self, offered: OfferedTool, arguments: Mapping[str, Any]) -> Result:
        try:
            server = self._server(offered.server)
            if not any(tool.tool == offered.tool for tool in self._offered(offered.server, await server.tools())):
                return Result("", f"the server {offered.server} does not offer this tool any more")
            return read(await server.call(offered.name, arguments))
        except (UnusableError, ConfigurationError) as problem:
            return Result("", str(problem))

    async def listed(self, name: str) -> tuple[tuple[str, bool], ...]:
        """The tools that a server lists, and whether each is offered; empty if the server cannot be used."""
        try:
            tools = await self._server(name).tools()
        except (UnusableError, ConfigurationError):
            return ()
        offered = {tool.name for tool in self._offered(name, tools)}
        return tuple((tool.name, tool.name in offered) for tool in tools)

    async def close(self) -> None:
        """End all servers."""
        await asyncio.gather(*(server.close() for server in self._servers.values()))

    async def _offer(self, name: str) -> Offer:
        settings = self.configured[name]
        try:
            tools = self._offered(name, await self._server(name).tools())
        except (UnusableError, ConfigurationError) as problem:
            return Offer(problem=str(problem))
        if not tools:
            return Offer(problem=_NOTHING)
        return Offer(tools, "", settings.longest_result, settings.dollars_per_call)

    def _server(self, name: str) -> Server:
        """Raises `ConfigurationError` if the server's key is missing."""
        if name not in self._servers:
            settings = self.configured[name]
            key = tool_key_of(name, settings)
            environment = {} if settings.key_env is None or key is None else {settings.key_env: key}

            command = settings.command
            if command[:1] == ("partsong",):  # this installation, also where its programs are on no path
                command = (sys.executable, "-m", *command)

            def transport() -> Transport:
                return Transport(command, environment, settings.url, key)

            self._servers[name] = Server(name, transport, settings.deadline, by_http=bool(settings.url))
        return self._servers[name]

    def _offered(self, name: str, listed: tuple[ListedTool, ...]) -> tuple[OfferedTool, ...]:
        """Those of the server's tools that are offered. Their names for models begin with the name of the server."""
        allow = self.configured[name].allow
        made: dict[str, OfferedTool] = {}
        for tool in listed:
            reads = tool.annotations is not None and tool.annotations.read_only_hint is True
            if (tool.name not in allow) if allow else not reads:
                continue
            parameters = msgspec.json.encode(tool.input_schema)
            known = _name(name, tool.name)
            if len(parameters) > LARGEST_SCHEMA or known in made or len(made) == MOST_OFFERED:
                continue
            description = (tool.description or tool.title or "").strip()[:LONGEST_DESCRIPTION]
            made[known] = OfferedTool(name, tool.name, Tool(known, description, parameters))
        return tuple(made.values())


def _name(server: str, tool: str) -> str:
    """The name of a tool for models: those of two servers differ, since no name of a server has two underscores."""
    return _UNUSUAL.sub("_", f"{server}__{tool}")[:LONGEST_NAME]
