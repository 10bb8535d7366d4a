"""One server with tools: started when it is first needed, started again after it has died, and ended with its owner.

The server runs within a task of its own, since a connection of the SDK must be closed by the task that opened it. All
callers share the connection. A server that cannot be started is not tried again for some seconds.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    PaginatedRequestParams,
    Tool,
    ToolListChangedNotification,
)

from partsong.tools import http
from partsong.tools.messages import Streams
from partsong.tools.results import line
from partsong.tools.stdio import LONGEST_COMPLAINT, Program

STARTING = 30.0  # seconds that a server has to start and to list its tools
AGAIN = 5.0  # seconds for which a server that could not be started is not tried again
MOST_HUNG = 2  # tool calls in a row without an answer, after which the server is started again
MOST_PAGES = 20  # pages of a list of tools
MOST_TOOLS = 200  # tools of a server that are read; which of them are offered is decided elsewhere
_LOST = (INVALID_REQUEST, INTERNAL_ERROR)
CLOSING = 5.0  # seconds that a server has to end before its task is cancelled


class UnusableError(Exception):
    """The server could not be started, has ended, or has not answered in time. The message says what, for people."""


@dataclass(slots=True, eq=False)
class _Running:
    """A server that is being started or runs.

    ready: has the connection once the server has listed its tools, or the `UnusableError`
    leave: set when the server should end
    changed: whether the server has announced other tools since they were listed
    broken: whether nothing can be asked any more, so that the server must be started again
    hung: tool calls in a row that were not answered in time
    """

    task: asyncio.Task[None] | None = None
    ready: asyncio.Future[Client] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    tools: tuple[Tool, ...] = ()
    changed: bool = False
    broken: bool = False
    hung: int = 0


class Server:
    """One server of the configuration.

    name: name of the server, for messages
    transport: makes a new connection: a program, or none for a server over HTTP, and the streams of the messages
    deadline: seconds within which a tool call must be answered
    by_http: whether the server is asked over HTTP (default: no)
    """

    def __init__(
        self, name: str, transport: "Callable[[], Transport]", deadline: float, *, by_http: bool = False
    ) -> None:
        self.name, self._transport, self._deadline, self._by_http = name, transport, deadline, by_http
        self._running: _Running | None = None
        self._failed: tuple[float, UnusableError] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def tools(self) -> tuple[Tool, ...]:
        """The tools that the server lists now. Raises `UnusableError` if it cannot be started, or does not answer."""
        running, client = await self._connected()
        if running.changed:
            running.changed = False
            try:
                async with asyncio.timeout(self._deadline):
                    running.tools = await _listed(client)
            except Exception as problem:  # noqa: BLE001 - see `_unusable`
                running.changed = True
                raise self._unusable(running, problem, self._deadline) from None
        return running.tools

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> CallToolResult:
        """Call a tool. Raises `UnusableError` if the server cannot be started, dies, refuses, or does not answer."""
        running, client = await self._connected()
        params = CallToolRequestParams(name=tool, arguments=dict(arguments))
        try:
            async with asyncio.timeout(self._deadline):
                # Not `call_tool`, which checks the result against a schema of the server, however long that takes.
                result = await client.session.send_request(CallToolRequest(params=params), CallToolResult)
        except Exception as problem:  # noqa: BLE001 - the SDK raises errors of many kinds, and groups of them
            raise self._unusable(running, problem, self._deadline) from None
        running.hung = 0
        return result

    async def close(self) -> None:
        """End the server. Nothing can be asked any more."""
        self._closed = True
        self._drop()
        if self._ending:
            _, late = await asyncio.wait(self._ending, timeout=CLOSING)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _connected(self) -> tuple[_Running, Client]:
        """The running server, which is started if it does not run. Raises `UnusableError`."""
        if self._closed:
            raise UnusableError("partsong is closing")
        if self._running is not None and self._running.broken:
            self._drop()
        if self._running is None:
            if self._failed is not None and asyncio.get_running_loop().time() < self._failed[0]:
                raise UnusableError(str(self._failed[1]))
            self._running = running = _Running()
            running.task = asyncio.create_task(self._keep(running))
        running = self._running
        # Others wait for the same start, so it goes on if this caller leaves.
        return running, await asyncio.shield(running.ready)

    def _drop(self) -> None:
        """Let the server that runs end, if there is one, in the background."""
        if self._running is not None and self._running.task is not None:
            self._running.leave.set()
            if not self._running.ready.done():
                self._running.task.cancel()  # it may never start
            self._ending.add(self._running.task)
            self._running.task.add_done_callback(self._ending.discard)
        self._running = None

    async def _keep(self, running: _Running) -> None:
        """Start the server, and keep the connection open until the server dies or is to end."""
        transport = self._transport()
        try:
            await self._serve(running, transport)
        except asyncio.CancelledError:
            raise
        except BaseException as problem:  # noqa: BLE001 - whatever the SDK or the server does, callers hear of it
            if not running.ready.done():
                error = self._unusable(running, problem, STARTING)
                complaint = f"; it says: {transport.complaint}" if transport.complaint else ""
                running.ready.set_exception(UnusableError(f"{error}{complaint}"))
                self._failed = asyncio.get_running_loop().time() + AGAIN, UnusableError(f"{error}{complaint}")
        finally:
            running.broken = True
            if not running.ready.done():
                running.ready.set_exception(UnusableError("it was ended while it started"))
            running.ready.exception()  # heard, also if nobody waits any more

    async def _serve(self, running: _Running, transport: "Transport") -> None:
        async def hear(message: object) -> None:
            if isinstance(message, ToolListChangedNotification):
                running.changed = True

        client = Client(transport.connect(), message_handler=hear, cache=None)
        leaving = asyncio.create_task(running.leave.wait())
        ended = asyncio.create_task(transport.ended.wait())
        try:
            async with asyncio.timeout(STARTING):
                await client.__aenter__()
                running.tools = await _listed(client)
            running.ready.set_result(client)
            await asyncio.wait((leaving, ended), return_when=asyncio.FIRST_COMPLETED)
            running.broken = True
        finally:
            leaving.cancel()
            ended.cancel()
            with suppress(Exception):  # it has ended, however badly
                await client.__aexit__(None, None, None)

    def _unusable(self, running: _Running, problem: BaseException, seconds: float) -> UnusableError:
        """The error for whatever went wrong, in words for people. Notes if the server must be started again."""
        while isinstance(problem, BaseExceptionGroup):
            problem = problem.exceptions[0]
        match problem:
            case TimeoutError():
                running.hung += 1
                running.broken = running.broken or running.hung >= MOST_HUNG
                return UnusableError(f"no answer within {seconds:g} s")
            case MCPError():
                code = problem.error.code
                # Over HTTP, the SDK says so of a session that the server has forgotten, and of a server that is down.
                running.broken = running.broken or code == CONNECTION_CLOSED or (self._by_http and code in _LOST)
                if code == CONNECTION_CLOSED:
                    return UnusableError("the server has ended or closed the connection")
                return UnusableError(_brief(problem.error.message) or "the server refuses the request")
            case FileNotFoundError():
                return UnusableError(f"there is no program {problem.filename}")
            case _:
                running.broken = True
                return UnusableError(_brief(str(problem)) or type(problem).__name__)


class Transport:
    """A new connection to a server.

    ended: set when the server answers nothing any more; never set for a server over HTTP, whose requests stand alone
    """

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str], url: str, key: str | None) -> None:
        self._command, self._environment, self._url, self._key = command, environment, url, key
        self._program = Program()
        self.ended = self._program.ended

    @property
    def complaint(self) -> str:
        """What the program has said of itself; "" for a server over HTTP."""
        return _brief(self._program.complaint)

    def connect(self) -> AbstractAsyncContextManager[Streams]:
        """The streams of the messages, open within the context."""
        if self._command:
            return self._program.connect(self._command, self._environment)
        return http.connect(self._url, self._key)


async def _listed(client: Client) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) >= MOST_TOOLS:
            break
    return tuple(tools[:MOST_TOOLS])


def _brief(text: str) -> str:
    return line(text)[:LONGEST_COMPLAINT]
