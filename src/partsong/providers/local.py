"""Models in this process: GGUF files, run by llama.cpp (xllamacpp). A model decodes on one thread and is loaded once.

A loaded model stays for the life of the process, whatever assembly asked for it. Models work at the same time, but each
answers its seats in turn: two at once on one thread are slower together than one after the other, would read the same
prompt twice, and what they say would hang on how they happened to mix, so that a seed would not decide it.

llama.cpp decodes in a thread of its own; what it says piles up there and is taken up whenever the event loop comes by,
so that the loop is woken once for all the text that there is. Every call is streamed inside, even where nobody
listens: only a stream can be cancelled. While a file is being loaded, Python stands still (xllamacpp holds its lock),
0.3 to 1 second for the small models.
"""

import asyncio
import atexit
import functools
import importlib.util
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
from msgspec.structs import replace

from partsong.errors import ConfigurationError, ModelError
from partsong.model import Answer, Image, Message, Request, Sampling, Send, Text, ToolResult
from partsong.model_info import ModelInfo
from partsong.wire import chat
from partsong.wire.chat import Said
from partsong.wire.speakers import spelled

WINDOW = 8192  # tokens that a call may have, unless more are asked for: a model keeps 12 to 30 kB of memory for each
BATCH = 128  # tokens of a prompt between two looks at whether the call was cancelled; larger is no faster on a CPU
PROMPT_THREADS = 4  # at most: reading a prompt gains from a second core (1.7 times), writing does not
PADDING = " a"  # the same number of tokens each time, however often it is repeated
MAX_TOKENS = 2048  # where a request sets no limit: small models are known not to stop
RANDOM_SEED = 2**32 - 1  # llama.cpp's word for "draw one"

Hear = Callable[[bytes], bool]


class Local:
    """A GGUF file as a model. `name` is what it is called in answers; `window` how many tokens a call may have.

    Raises `ConfigurationError` where xllamacpp is not installed.
    """

    def __init__(self, path: Path, name: str, *, window: int = WINDOW) -> None:
        check_installed(name)
        self.name, self.window = name, window
        self._loaded = _loaded(path.resolve(), window)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        loop = asyncio.get_running_loop()
        body = _body(request, self.name)
        heard: list[bytes] = []
        woken = asyncio.Event()
        left = False

        def hear(data: bytes) -> bool:  # in llama.cpp's thread; true ends the call
            if left:
                return True
            heard.append(data)
            if send is not None and len(heard) == 1:
                try:
                    loop.call_soon_threadsafe(woken.set)
                except RuntimeError:  # the loop was closed
                    return True
            return False

        call = asyncio.wrap_future(self._loaded.submit(body, hear))
        call.add_done_callback(lambda _: woken.set())
        said = Said()
        try:
            while True:
                woken.clear()
                if (number := len(heard)) and (send is not None or call.done()):
                    deltas = said.hear([("", data) for data in heard[:number]])
                    del heard[:number]
                    if send is not None:
                        for delta in deltas:
                            await send(delta)
                elif call.done():
                    break
                else:
                    await woken.wait()
            self._check(call, said)
            deltas = []
            said.finish(deltas)
            if send is not None:
                for delta in deltas:
                    await send(delta)
        except ModelError as error:
            if error.usage is None and said.heard:
                error.usage = replace(said.usage or said.estimate(request), dollars=Decimal(0))
            raise
        finally:
            left = True
            call.cancel()  # if it still waits for its turn
        answer = said.answer()
        return replace(answer, model=self.name, usage=replace(answer.usage, dollars=Decimal(0)))

    @property
    def info(self) -> ModelInfo:
        """What is known of it: it counts with its own tokenizer."""
        return ModelInfo(self.window, MAX_TOKENS, dollars=lambda _: Decimal(0), count=self.count)

    async def count(self, messages: tuple[Message, ...]) -> int:
        """The tokens of a prompt with these messages and what the model's chat template adds; at times one too many.

        It waits for its turn among the calls, and takes a few milliseconds. Raises `ModelError` as a call would.
        """
        # llama.cpp lends its tokenizer to nobody. But it says how many tokens a prompt has that is too long, and that
        # before it reads any of it; so the prompt is made too long, by a number of tokens that is found out once.
        padding = PADDING * (self.window + 1024)
        if self._loaded.padding is None:
            twice = await self._count((_said_by_user(padding * 2),))
            self._loaded.padding = twice - await self._count((_said_by_user(padding),))
        return await self._count((*messages, _said_by_user(padding))) - self._loaded.padding

    async def _count(self, messages: tuple[Message, ...]) -> int:
        heard: list[bytes] = []

        def hear(data: bytes) -> bool:
            heard.append(data)
            return True

        body = _body(Request(messages, sampling=Sampling(max_tokens=1)), self.name)
        try:
            await asyncio.wrap_future(self._loaded.submit(body, hear))
        except RuntimeError as fault:
            raise ModelError(f"{self.name}: {fault}", "refused") from None
        problem = _read_problem(b"".join(heard[:1]))
        if not problem.n_prompt_tokens:
            raise ModelError(f"{self.name}: its tokens cannot be counted: {problem.message}", "server")
        return problem.n_prompt_tokens

    def _check(self, call: "asyncio.Future[None]", said: Said) -> None:
        """Raise what went wrong with a call that is over, if anything did."""
        try:
            call.result()
        except RuntimeError as fault:  # the one kind that comes out of llama.cpp
            raise ModelError(f"{self.name}: {fault}", "refused") from None
        if said.problem is not None:
            raise _problem(self.name, said.problem)
        if not said.ended:
            raise ModelError(f"{self.name}: it broke off before its end", "truncated")


def check_installed(name: str) -> None:
    """Raise `ConfigurationError` where xllamacpp is not installed."""
    if missing := not_installed():
        raise ConfigurationError(f"local:{name}: {missing}")


def not_installed() -> str:
    """What must be installed before a local model can be used; "" if nothing is missing."""
    if importlib.util.find_spec("xllamacpp") is not None:
        return ""
    return 'local models need xllamacpp, which is not installed: pip install "partsong[local]"'


class _Loaded:
    """One file in memory, from the first call on, and the thread that waits on its answers, one call after another.

    It is a daemon, unlike those of an executor, which Python waits for at its end, before it tells anyone of it.
    """

    def __init__(self, path: Path, window: int) -> None:
        self.path, self.window = path, window
        self.calls: SimpleQueue[tuple[Future[None], bytes, Hear] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self.serve, name=f"partsong {path.stem}", daemon=True)
        self.starting = threading.Lock()
        self.server: Any = None
        self.padding: int | None = None  # tokens that counting adds, once they are known
        self.closing = False

    def submit(self, body: bytes, hear: Hear) -> Future[None]:
        """Have a chat completion answered when its turn comes: `hear` gets each chunk, in another thread.

        The future raises `RuntimeError` for what llama.cpp will not do.
        """
        with self.starting:
            if self.thread.ident is None:
                self.thread.start()
                atexit.register(self.close)
        call: Future[None] = Future()
        self.calls.put((call, body, hear))
        return call

    def serve(self) -> None:
        while (waiting := self.calls.get()) is not None:
            call, body, hear = waiting
            if self.closing or not call.set_running_or_notify_cancel():
                continue
            try:
                self.perform(body, hear)
            except BaseException as fault:  # noqa: BLE001 - whoever asked gets it
                call.set_exception(fault)
            else:
                call.set_result(None)

    def perform(self, body: bytes, hear: Hear) -> None:
        if self.server is None:
            self.server = _load(self.path, self.window)
        self.server.handle_chat_completions(body, lambda data: self.closing or hear(data))

    def close(self) -> None:
        """End what is being said, and then the model: at Python's end, while threads still run."""
        self.closing = True
        self.calls.put(None)
        self.thread.join()
        self.server = None


# The one thing in partsong that outlives an assembly: a model that is in memory stays there.
_loaded = functools.cache(_Loaded)


def _load(path: Path, window: int) -> Any:
    """llama.cpp's server for a file, with no way in but this process. Raises `RuntimeError` for a file that is none."""
    _read_through(path)
    # Where threads spin while they wait, a busy neighbour takes nine tenths of the speed. It is read at the import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    # What was read stays for the next prompt that begins alike; no further copies are kept.
    parameters.n_parallel = 1
    parameters.n_ctx = window
    parameters.cache_ram_mib = 0
    parameters.n_batch = parameters.n_ubatch = BATCH
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = min(PROMPT_THREADS, _cores())
    # Fitting a model into a GPU's memory loads it twice.
    on_cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    parameters.fit_params = any(device["type"] != on_cpu for device in xllamacpp.get_device_info())
    parameters.verbosity = -1
    parameters.ui = parameters.endpoint_slots = False
    parameters.n_threads_http = 1
    # The server insists on listening somewhere. A socket in a folder that only this user can enter, gone as soon as it
    # is bound, can be reached by nobody; where that cannot be, a port on loopback asks for a key that nobody knows.
    parameters.api_keys = [secrets.token_urlsafe(32)]
    folder = None if sys.platform == "win32" else tempfile.mkdtemp(prefix="partsong-")
    socket = os.path.join(folder or "", "closed.sock")
    if folder is not None and len(os.fsencode(socket)) < 100:  # systems allow a little more than that
        parameters.hostnames = [socket]
    try:
        return xllamacpp.Server(parameters)
    except RuntimeError:
        raise RuntimeError(
            f"{path} cannot be loaded: it is no GGUF file, or broken off, or of a kind that llama.cpp does not know,"
            " or memory is short"
        ) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _read_through(path: Path) -> None:
    """Bring the file into the system's cache, so that loading, during which Python stands still, need not wait for it.

    Raises `RuntimeError` for what is no GGUF file.
    """
    buffer = bytearray(1 << 20)
    try:
        with path.open("rb", buffering=0) as file:
            if file.read(4) != b"GGUF":
                raise RuntimeError(f"{path} is no GGUF file")
            while file.readinto(buffer):
                pass
    except OSError as fault:
        raise RuntimeError(f"{path} cannot be read: {fault.strerror}") from None


def _cores() -> int:
    """How many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _body(request: Request, name: str) -> bytes:
    """The request as llama.cpp takes it. Raises `ModelError` for pictures."""
    pieces = [
        piece
        for message in request.messages
        for part in message.parts
        for piece in (part.parts if isinstance(part, ToolResult) else (part,))
    ]
    if any(isinstance(piece, Image) for piece in pieces):
        raise ModelError(f"{name} reads text only, but the request has a picture", "refused")
    body = chat.body(replace(request, messages=_arranged(request.messages)), name, stream=True)
    # Its progress through a prompt is what gives a long one an end when it is cancelled.
    body["return_progress"] = True
    body.setdefault("max_tokens", MAX_TOKENS)
    if "seed" in body:
        body["seed"] %= RANDOM_SEED
    return msgspec.json.encode(body)


def _arranged(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages as chat templates want them: what the system says first, then users and assistants by turns."""
    messages = spelled(messages)  # the templates know no names
    told = "\n\n".join(message.text for message in messages if message.role == "system")
    arranged = [Message("system", (Text(told),))] if told else []
    for message in messages:
        if message.role == "system":
            continue
        last = arranged[-1] if arranged else None
        if last is not None and last.role == message.role == "user":
            arranged[-1] = Message("user", (*last.parts, Text("\n\n"), *message.parts))
        else:
            arranged.append(message)
    return tuple(arranged)


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _Problem(msgspec.Struct):
    error: _Error


def _problem(name: str, data: bytes) -> ModelError:
    """The error that llama.cpp sent in place of a chunk."""
    error = _read_problem(data)
    if error.type == "exceed_context_size_error":
        return ModelError(
            f"{name}: the request has {error.n_prompt_tokens:,} tokens, but it reads {error.n_ctx:,}",
            "window",
            window=error.n_ctx or None,
        )
    return ModelError(f"{name}: {error.message}", "refused" if error.type == "invalid_request_error" else "server")


def _read_problem(data: bytes) -> _Error:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(data, type=_Problem).error
    return _Error(data.decode("utf-8", "replace"))


def _said_by_user(text: str) -> Message:
    return Message("user", (Text(text),))
