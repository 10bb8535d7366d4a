"""The tools that a run may use to look things up: data, and the protocol `Toolbox` that the engine calls.

Tools come from servers of the Model Context Protocol that the configuration names. The engine knows this protocol
alone; `tools` has the servers. A result is text of anyone: the engine puts it between fences, like a proposal.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from msgspec import Struct

from partsong.model import Tool

MOST_CALLS = 4  # tool calls of one round that are made; a model that asks for more is told
USUAL_RESULT = 20_000  # characters of the results of one round, where nothing else is known


class OfferedTool(Struct, frozen=True):
    """A tool of a server, as it is offered to models.

    server: name of the server in the configuration
    name: name of the tool on its server
    tool: the tool for requests to models; its name is unique among all tools of all servers
    """

    server: str
    name: str
    tool: Tool


class Offer(Struct, frozen=True):
    """What one server offers to models.

    tools: the tools that models may call; empty if the server cannot be used
    problem: why the server cannot be used, in a sentence; "" if it can be
    longest_result: most characters of the results of one round of tool calls that a model reads
    dollars: price of one tool call in dollars
    """

    tools: tuple[OfferedTool, ...] = ()
    problem: str = ""
    longest_result: int = 0
    dollars: Decimal = Decimal(0)


Offers = Mapping[str, Offer]  # by the name of the server
NO_OFFERS: Offers = {}


class Result(Struct, frozen=True):
    """What a tool has returned.

    text: the text of the result, of any length; images and other content are left out, with a note in their place
    error: why the tool failed, in a sentence; "" if it did not fail
    sources: addresses and files that the result names, in their order and each once
    """

    text: str
    error: str = ""
    sources: tuple[str, ...] = ()


class Toolbox(Protocol):
    """The servers with tools that a run may use."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the configured servers."""

    async def offers(self, servers: Iterable[str]) -> Offers:
        """What each of these servers offers. Servers that do not run are started. Raises nothing; see `Offer.problem`.

        servers: names among `names`
        """

    async def use(self, offered: OfferedTool, arguments: Mapping[str, Any]) -> Result:
        """Call a tool, and return its result within the deadline of the server. A failure is a result with an error."""


def tools_of(servers: Iterable[str], offers: Offers) -> tuple[OfferedTool, ...]:
    """The tools of all these servers, in the order of the servers."""
    return tuple(tool for name in dict.fromkeys(servers) if name in offers for tool in offers[name].tools)
