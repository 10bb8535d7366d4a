"""Models in this process: GGUF files, run by llama.cpp (xllamacpp). A model decodes on one thread and is loaded once.

A loaded model stays in memory for the life of the process, and all assemblies share it. Different models work at the
same time, but each model makes its calls one after another. Two calls at once on one thread take longer together, and
read the same prompt twice. Their texts would also depend on how they were batched, and no longer on the seed alone.

llama.cpp decodes in a thread of its own. Its chunks gather in a list until the event loop takes all of them at once.
Every call is streamed internally, even without a listener, because only a stream can be cancelled. While a file is
loaded, all Python code of the process stops for 0.3 to 1 second for the small models, because xllamacpp holds the GIL.
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

from partsong.bounds import Bounds
from partsong.errors import ConfigurationError, ModelError
from partsong.model import Answer, Image, Message, Request, Sampling, Send, Text, ToolResult
from partsong.model_info import ModelInfo
from partsong.wire import chat
from partsong.wire.chat import Said
from partsong.wire.room import Room
from partsong.wire.speakers import spelled

WINDOW = 8192  # default context window in tokens; a model uses 12 to 30 kB of memory for each token
BATCH = 128  # tokens of a prompt between two checks for cancellation; a larger batch is no faster on a CPU
PROMPT_THREADS = 4  # at most: a second core reads a prompt 1.7 times as fast, but does not write faster
PADDING = " a"  # text whose tokens grow in proportion to its repetitions
MAX_TOKENS = 2048  # if a request sets no limit, because small models may never stop
RANDOM_SEED = 2**32 - 1  # the seed with which llama.cpp draws a random seed

Hear = Callable[[bytes], bool]


class Local:
    """A GGUF file as a model. The file is loaded at the first call.

    path: the GGUF file
    name: the model's name in answers and errors
    window: context window in tokens, prompt and answer together; 8192 by default
    bounds: the bounds on answers

    Raises `ConfigurationError` if xllamacpp is not installed.
    """

    def __init__(self, path: Path, name: str, *, window: int = WINDOW, bounds: Bounds | None = None) -> None:
        check_installed(name)
        self.name, self.window = name, window
        self.bounds = Bounds() if bounds is None else bounds
        self._loaded = _loaded(path.resolve(), window)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        loop = asyncio.get_running_loop()
        body = _body(request, self.name)
        heard: list[bytes] = []
        woken = asyncio.Event()
        left = False

        def hear(data: bytes) -> bool:  # runs in llama.cpp's thread; returning True ends the call
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
        said = Said(room=Room(request.sampling, self.bounds.answer_characters))
        try:
            while True:
                woken.clear()
                if (number := len(heard)) and (send is not None or call.done()):
                    deltas = said.hear([("", data) for data in heard[:number]])
                    del heard[:number]
                    if send is not None:
                        for delta in deltas:
                            await send(delta)
                    if said.room.full:
                        break
                elif call.done():
                    break
                else:
                    await woken.wait()
            if not said.room.full:
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
            call.cancel()  # has an effect only while the call waits for its turn
        answer = said.answer()
        return replace(answer, model=self.name, usage=replace(answer.usage, dollars=Decimal(0)))

    @property
    def info(self) -> ModelInfo:
        """The model's info: its window, a price of 0, and the model's own tokenizer."""
        return ModelInfo(self.window, MAX_TOKENS, dollars=lambda _: Decimal(0), count=self.count)

    async def count(self, messages: tuple[Message, ...]) -> int:
        """Return the tokens of a prompt with these messages and the chat template; the result may be one too high.

        Counting waits for its turn among the model's calls, and takes a few milliseconds. Raises `ModelError` if the
        file cannot be loaded or the messages hold an image.
        """
        # xllamacpp does not offer llama.cpp's tokenizer. But llama.cpp refuses a prompt that exceeds the window before
        # it decodes, and its error has the number of tokens. So padding makes the prompt too long; the padding's own
        # tokens are counted once.
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
        """Raise `ModelError` if a finished call has failed or has no end."""
        try:
            call.result()
        except RuntimeError as fault:  # the only class of errors that xllamacpp raises
            raise ModelError(f"{self.name}: {fault}", "refused") from None
        if said.problem is not None:
            raise _problem(self.name, said.problem)
        if not said.ended:
            raise ModelError(f"{self.name}: it broke off before its end", "truncated")


def check_installed(name: str) -> None:
    """Raise `ConfigurationError` if xllamacpp is not installed. `name`: the model's name, for the error."""
    if missing := not_installed():
        raise ConfigurationError(f"local:{name}: {missing}")


def not_installed() -> str:
    """Return a sentence that says what to install before local models can be used; "" if nothing is missing."""
    if importlib.util.find_spec("xllamacpp") is not None:
        return ""
    return 'local models need xllamacpp, which is not installed: pip install "partsong[local]"'


class _Loaded:
    """One GGUF file, and the thread that makes the calls to it one after another. The first call loads the file.

    The thread is a daemon thread and no thread of an executor. At its exit, Python waits for executors before it runs
    exit handlers, so that a call under way could not be ended.
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
        """Queue a call, and return a future that is done when the call has ended.

        body: JSON of a request to Chat Completions
        hear: receives the JSON of each chunk, in another thread; returning True ends the call

        The future raises `RuntimeError` if the file cannot be loaded or llama.cpp refuses the request.
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
            except BaseException as fault:  # noqa: BLE001 - the caller that awaits the future gets the error
                call.set_exception(fault)
            else:
                call.set_result(None)

    def perform(self, body: bytes, hear: Hear) -> None:
        if self.server is None:
            self.server = _load(self.path, self.window)
        self.server.handle_chat_completions(body, lambda data: self.closing or hear(data))

    def close(self) -> None:
        """End the call under way, and unload the model. Registered to run at Python's exit, while threads still run."""
        self.closing = True
        self.calls.put(None)
        self.thread.join()
        self.server = None


# A loaded model outlives the assembly that has loaded it. Nothing else in partsong does.
_loaded = functools.cache(_Loaded)


def _load(path: Path, window: int) -> Any:
    """Load a file, and return a llama.cpp server that no other process can reach.

    window: context window in tokens

    Raises `RuntimeError` if the file is no GGUF file, or cannot be loaded.
    """
    _read_through(path)
    # If OpenMP's threads spin while they wait, another busy process costs nine tenths of the speed. The variable is
    # read when xllamacpp is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    # One slot keeps the last prompt, so that a prompt with the same start is read faster. There is no further cache.
    parameters.n_parallel = 1
    parameters.n_ctx = window
    parameters.cache_ram_mib = 0
    parameters.n_batch = parameters.n_ubatch = BATCH
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = min(PROMPT_THREADS, _cores())
    # Without a GPU, parameters are not fitted to a GPU's memory, because fitting loads the model twice.
    on_cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    parameters.fit_params = any(device["type"] != on_cpu for device in xllamacpp.get_device_info())
    parameters.verbosity = -1
    parameters.ui = parameters.endpoint_slots = False
    parameters.n_threads_http = 1
    # The server must listen to an address. A Unix socket in a private folder that is deleted at once can be reached by
    # nobody. On systems where this is impossible, the server listens on loopback and demands a random key.
    parameters.api_keys = [secrets.token_urlsafe(32)]
    folder = None if sys.platform == "win32" else tempfile.mkdtemp(prefix="partsong-")
    socket = os.path.join(folder or "", "closed.sock")
    if folder is not None and len(os.fsencode(socket)) < 100:  # systems allow a path of little more than 100 bytes
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
    """Read the file once, so that the system caches it and loading stops Python for a shorter time.

    Raises `RuntimeError` if the file is no GGUF file or cannot be read.
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
    """Return the number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _body(request: Request, name: str) -> bytes:
    """Return the request as JSON for llama.cpp. Raises `ModelError` if a message holds an image."""
    pieces = [
        piece
        for message in request.messages
        for part in message.parts
        for piece in (part.parts if isinstance(part, ToolResult) else (part,))
    ]
    if any(isinstance(piece, Image) for piece in pieces):
        raise ModelError(f"{name} reads text only, but the request has a picture", "refused")
    body = chat.body(replace(request, messages=_arranged(request.messages)), name, stream=True)
    # Each progress report asks `hear` whether to end, so that a call can be cancelled while a long prompt is read.
    body["return_progress"] = True
    body.setdefault("max_tokens", MAX_TOKENS)
    if "seed" in body:
        body["seed"] %= RANDOM_SEED
    return msgspec.json.encode(body)


def _arranged(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages as chat templates require them.

    One system message is first, and adjacent messages of the user are merged.
    """
    messages = spelled(messages)  # chat templates have no field for names
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
    """Return the `ModelError` for an error that llama.cpp sent in place of a chunk. `data`: the error's JSON."""
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
