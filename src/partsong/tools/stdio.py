"""A transport to a server of the Model Context Protocol that is a program: messages are lines of JSON.

The transport of the SDK keeps a line of any length in memory. This one has a bound: a longer message is passed over,
and the request that it answers fails. The program gets no variable of the environment but those that every program
needs, and those that the configuration names, because the others may hold keys.
"""

import asyncio
import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import anyio
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

from partsong.tools.messages import Incoming, Streams

LARGEST_MESSAGE = 8 * 1024 * 1024  # bytes of one message of a server
MOST_PASSED_OVER = 256 * 1024 * 1024  # bytes of a message that is passed over; after more, the server is ended
LONGEST_COMPLAINT = 1000  # characters that are kept of what a server writes on its standard error
CHUNK = 65_536
STOPPING = 1.0  # seconds that a program has to end after its input was closed, and again after SIGTERM
_ID = re.compile(rb'\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,15})\s*[,}]')


class Program:
    """A server that runs as a program.

    ended: set when the program has closed its output, so that it answers nothing any more
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._complaint = b""

    @property
    def complaint(self) -> str:
        """The end of what the program has written on its standard error."""
        return self._complaint.decode("utf-8", "replace").strip()[-LONGEST_COMPLAINT:]

    @asynccontextmanager
    async def connect(self, command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Streams]:
        """Start the program, yield the streams of its messages, and end it. Raises `OSError` if it cannot be started.

        environment: further variables of its environment
        """
        process = await _started(command, environment)
        heard_in, heard = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        said, said_out = anyio.create_memory_object_stream[SessionMessage](0)
        tasks = [
            asyncio.create_task(self._listen(process, heard_in)),
            asyncio.create_task(self._write(process, said_out)),
            asyncio.create_task(self._complain(process)),
        ]
        try:
            yield heard, said
        finally:
            for stream in (heard, said, heard_in, said_out):
                stream.close()
            try:
                await asyncio.shield(asyncio.ensure_future(_stop(process)))
            finally:
                _kill(process)  # also the children of a program that has ended
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                _close(process)

    async def _listen(
        self, process: asyncio.subprocess.Process, heard: "anyio.abc.ObjectSendStream[SessionMessage | Exception]"
    ) -> None:
        assert process.stdout is not None, "the program is started with a pipe"
        lines = Incoming(LARGEST_MESSAGE, MOST_PASSED_OVER)
        try:
            async with heard:
                while not lines.endless and (chunk := await process.stdout.read(CHUNK)):
                    for line, whole in lines.feed(chunk):
                        message = _parsed(line) if whole else _too_long(line)
                        if message is not None:
                            await heard.send(message)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            pass  # nobody listens any more
        finally:
            self.ended.set()

    async def _write(
        self, process: asyncio.subprocess.Process, said: "anyio.abc.ObjectReceiveStream[SessionMessage]"
    ) -> None:
        assert process.stdin is not None, "the program is started with a pipe"
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            async with said:
                async for each in said:
                    line = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(line.encode() + b"\n")
                    await process.stdin.drain()

    async def _complain(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None, "the program is started with a pipe"
        with suppress(OSError):
            while chunk := await process.stderr.read(CHUNK):
                self._complaint = (self._complaint + chunk)[-4 * LONGEST_COMPLAINT :]


async def _started(command: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=get_default_environment() | dict(environment),
            start_new_session=sys.platform != "win32",  # so that its own children can be ended with it
        )
    except FileNotFoundError:
        # Not every event loop says which program.
        raise FileNotFoundError(errno.ENOENT, "no such program", command[0]) from None


def _parsed(line: bytes) -> SessionMessage | None:
    """The message in a line; `None` for a line that is none, such as a line of a log on the wrong stream."""
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except (ValueError, RecursionError):
        return None


def _too_long(beginning: bytes) -> SessionMessage | None:
    """An error in place of an answer that is too long; `None` if its beginning does not show which request it answers.

    Then the request ends with its deadline.
    """
    if (found := _ID.match(beginning)) is None:
        return None
    message = f"the result has more than {LARGEST_MESSAGE // 1024 // 1024} MiB, so it was not read"
    data = ErrorData(code=INTERNAL_ERROR, message=message)
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=int(found[1]), error=data))


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the program: its input is closed, and after a second each it is asked to end, and killed."""
    if process.stdin is not None:
        process.stdin.close()
    for end in (_ask, _kill):
        if await _has_ended(process):
            return
        end(process)
    await _has_ended(process)


async def _has_ended(process: asyncio.subprocess.Process) -> bool:
    # `wait` would also wait for children that have inherited the pipes.
    until = asyncio.get_running_loop().time() + STOPPING
    while process.returncode is None and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return process.returncode is not None


def _ask(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGTERM)


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _close(process: asyncio.subprocess.Process) -> None:
    """Close the pipes, which a child of the program may hold open. There is no public way to do this."""
    if (transport := getattr(process, "_transport", None)) is not None:
        with suppress(PermissionError):
            transport.close()
