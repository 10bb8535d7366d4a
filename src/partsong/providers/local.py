"""Models on this machine: GGUF files, run by llama.cpp (xllamacpp). A model decodes on one thread and is loaded once.

A loaded model stays in memory for the life of the process, and all assemblies share it. Different models work at the
same time, but each model makes its calls one after another. Two calls at once on one thread take longer together, and
read the same prompt twice. Their texts would also depend on how they were batched, and no longer on the seed alone.

Each loaded file has a process of its own (`llama`), because xllamacpp holds Python's interpreter lock while it loads a
file: 1 to 3 seconds for the small models, in which no other call, and no other client of a server, would go on. A
thread for each process receives its chunks. They gather in a list until the event loop takes all of them at once. Every
call is streamed internally, even without a listener, because only a stream can be cancelled.
"""

import asyncio
import atexit
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue

import msgspec
from msgspec.structs import replace

from partsong.bounds import Bounds
from partsong.errors import ConfigurationError, ModelError
from partsong.model import Answer, Image, Message, Request, Sampling, Send, Text, ToolResult
from partsong.model_info import ModelInfo
from partsong.providers import llama
from partsong.wire import chat
from partsong.wire.chat import Said
from partsong.wire.room import room_of
from partsong.wire.speakers import spelled

WINDOW = 8192  # default context window in tokens; a model uses 12 to 30 kB of memory for each token
PADDING = " a"  # text whose tokens grow in proportion to its repetitions
MAX_TOKENS = 2048  # if a request sets no limit, because small models may never stop
RANDOM_SEED = 2**32 - 1  # the seed with which llama.cpp draws a random seed

Hear = Callable[[bytes], bool]
Loading = Callable[[bool], None]


class Local:
    """A GGUF file as a model. The file is loaded at the first call.

    path: the GGUF file
    name: the model's name in answers and errors
    window: context window in tokens, prompt and answer together; 8192 by default
    loading: called in another thread with True when a call begins to load the file, and with False when this has ended
    bounds: the bounds on answers

    Raises `ConfigurationError` if xllamacpp is not installed.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        window: int = WINDOW,
        loading: Loading = lambda begins: None,
        bounds: Bounds | None = None,
    ) -> None:
        check_installed(name)
        self.name, self.window, self.loading = name, window, loading
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

        call = asyncio.wrap_future(self._loaded.submit(body, hear, self.loading))
        call.add_done_callback(lambda _: woken.set())
        said = Said(room=room_of(request, self.bounds))
        try:
            while not said.room.full:
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
            await asyncio.wrap_future(self._loaded.submit(body, hear, self.loading))
        except RuntimeError as fault:
            raise ModelError(f"{self.name}: {fault}", "refused") from None
        problem = _read_problem(b"".join(heard[:1]))
        if not problem.n_prompt_tokens:
            raise ModelError(f"{self.name}: its tokens cannot be counted: {problem.message}", "server")
        return problem.n_prompt_tokens

    def _check(self, call: "asyncio.Future[None]", said: Said) -> None:
        """Raise `ModelError` if a finished call has failed or has no end. A call that was cut needs none."""
        if said.room.full:
            return
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
    """One GGUF file, its process of llama.cpp, and the thread that makes the calls to it one after another.

    The first call starts the process, which loads the file. The thread is a daemon thread and no thread of an executor.
    At its exit, Python waits for executors before it runs exit handlers, so that a call under way could not be ended.
    """

    def __init__(self, path: Path, window: int) -> None:
        self.path, self.window = path, window
        self.calls: SimpleQueue[tuple[Future[None], bytes, Hear, Loading] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self.serve, name=f"partsong {path.stem}", daemon=True)
        self.starting = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.number = 0  # of the next request to the process
        self.padding: int | None = None  # tokens that counting adds, once they are known
        self.closing = False

    def submit(self, body: bytes, hear: Hear, loading: Loading) -> Future[None]:
        """Queue a call, and return a future that is done when the call has ended.

        body: JSON of a request to Chat Completions
        hear: receives the JSON of each chunk, in another thread; returning True ends the call
        loading: called in another thread when this call begins to load the file, and when the file is loaded

        The future raises `RuntimeError` if the file cannot be loaded or llama.cpp refuses the request.
        """
        with self.starting:
            if self.thread.ident is None:
                self.thread.start()
                atexit.register(self.close)
        call: Future[None] = Future()
        self.calls.put((call, body, hear, loading))
        return call

    def serve(self) -> None:
        while (waiting := self.calls.get()) is not None:
            call, body, hear, loading = waiting
            if self.closing or not call.set_running_or_notify_cancel():
                continue
            try:
                process = self.process or self.load(loading)
                self.perform(process, body, hear)
            except BaseException as fault:  # noqa: BLE001 - the caller that awaits the future gets the error
                call.set_exception(fault)
            else:
                call.set_result(None)

    def load(self, loading: Loading) -> "subprocess.Popen[bytes]":
        """Start the process, and wait until it has loaded the file. Raises `RuntimeError` if the file is unusable."""
        loading(True)
        folder = "" if sys.platform == "win32" else tempfile.mkdtemp(prefix="partsong-")
        try:
            with self.starting:
                if self.closing:
                    raise RuntimeError("partsong is closing")
                self.process, self.number = _started(self.path, self.window, folder), 0
            assert self.process.stdout is not None
            kind, content = llama.read_frame(self.process.stdout) or (b"", b"")
            if kind != b"L":
                raise RuntimeError(content.decode("utf-8", "replace") if kind == b"F" else self.died("loaded"))
            return self.process
        except BaseException:
            self.end()
            raise
        finally:
            if folder:
                shutil.rmtree(folder, ignore_errors=True)
            loading(False)

    def perform(self, process: "subprocess.Popen[bytes]", body: bytes, hear: Hear) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        number, left = self.number, False
        self.number += 1
        try:
            llama.write_frame(process.stdin, b"Q", body)
            while (frame := llama.read_frame(process.stdout)) is not None:
                kind, content = frame
                if kind == b"E":
                    return
                if kind == b"F":
                    raise RuntimeError(content.decode("utf-8", "replace"))
                if not left and (self.closing or hear(content)):
                    left = True
                    llama.write_frame(process.stdin, b"C", llama.NUMBER.pack(number))
        except OSError:  # the process has ended, and with it the pipes
            pass
        why = self.died("answered")
        self.end()
        raise RuntimeError(why)

    def died(self, done: str) -> str:
        """The reason that is told when the process ends by itself. `done`: what it was about to have done."""
        if self.closing:
            return "partsong is closing"
        return f"{self.path} cannot be {done}: llama.cpp has ended; the file may be broken, or memory is short"

    def end(self) -> None:
        """End the process. The next call starts another."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            with process:  # waits for its end, and closes the pipes
                pass

    def close(self) -> None:
        """End the call under way, and unload the model. Registered to run at Python's exit, while threads still run."""
        with self.starting:
            self.closing = True
            process = self.process
        if process is not None:
            process.kill()
        self.calls.put(None)
        self.thread.join()
        self.end()


# A loaded model outlives the assembly that has loaded it. Nothing else in partsong does.
_loaded = functools.cache(_Loaded)


def _started(path: Path, window: int, folder: str) -> "subprocess.Popen[bytes]":
    """Start the program of llama.cpp for a file."""
    found = importlib.util.find_spec("xllamacpp")
    packages = Path(found.origin).parent.parent if found is not None and found.origin else Path()
    # The program reads a file that may be hostile, so it gets no secrets. If OpenMP's threads spin while they wait,
    # another busy process costs nine tenths of the speed.
    secret = ("KEY", "TOKEN", "SECRET", "PASSWORD")
    environment = {name: value for name, value in os.environ.items() if not name.upper().endswith(secret)}
    return subprocess.Popen(
        [sys.executable, "-I", llama.__file__, str(path), str(window), folder, str(packages)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"OMP_WAIT_POLICY": "PASSIVE"} | environment,
    )


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
