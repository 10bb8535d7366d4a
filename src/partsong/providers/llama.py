"""The program in which llama.cpp runs: it loads one GGUF file, and answers requests one after another.

llama.cpp holds Python's interpreter lock while it loads a file, which takes seconds, and it ends its process if a file
is broken in certain ways. So each loaded model has a process of its own. The program imports nothing of partsong, reads
frames from standard input and writes frames to standard output. A frame is one letter, the length of its content in 4
bytes, and the content.

    input    Q  JSON of a request to Chat Completions
             C  number of a request, in 4 bytes: the request shall end (the first request has the number 0)
    output   L  the file is loaded
             D  JSON of a chunk
             E  the request has ended
             F  the reason why the file cannot be loaded, or why the request failed, as text

The program ends when its input ends, so that no process is left if partsong dies.
"""

import os
import signal
import struct
import sys
import threading
from queue import SimpleQueue
from typing import IO, Any

HEAD = struct.Struct(">cI")
NUMBER = struct.Struct(">I")
BATCH = 128  # tokens of a prompt between two checks for cancellation; a larger batch is no faster on a CPU
PROMPT_THREADS = 4  # at most: a second core reads a prompt 1.7 times as fast, but does not write faster


def write_frame(stream: IO[bytes], kind: bytes, content: bytes = b"") -> None:
    """Write one frame, and flush the stream."""
    stream.write(HEAD.pack(kind, len(content)) + content)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[bytes, bytes] | None:
    """The kind and the content of the next frame; `None` at the end of the stream."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    kind, length = HEAD.unpack(head)
    content = stream.read(length)
    return (kind, content) if len(content) == length else None


def load(path: str, window: int, folder: str) -> Any:
    """Load a file, and return a llama.cpp server that no other process can reach.

    window: context window in tokens
    folder: private folder, deleted by the caller once the file is loaded; "" where there are no Unix sockets

    Raises `RuntimeError` if the file is no GGUF file, or cannot be loaded.
    """
    check_header(path)
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
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
    parameters.api_keys = [os.urandom(32).hex()]
    socket = os.path.join(folder, "closed.sock")
    if folder and len(os.fsencode(socket)) < 100:  # systems allow a path of little more than 100 bytes
        parameters.hostnames = [socket]
    try:
        return xllamacpp.Server(parameters)
    except RuntimeError:
        raise RuntimeError(
            f"{path} cannot be loaded: it is no GGUF file, or broken off, or of a kind that llama.cpp does not know,"
            " or memory is short"
        ) from None


def check_header(path: str) -> None:
    """Raise `RuntimeError` if the file cannot be read or is no GGUF file."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise RuntimeError(f"{path} is no GGUF file")
    except OSError as fault:
        raise RuntimeError(f"{path} cannot be read: {fault.strerror}") from None


class Input:
    """The frames that arrive, read in a thread of their own, so that a request can be ended while it is answered.

    requests: the requests that wait
    ended: number of the last request that shall end; -1 for none
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.requests: SimpleQueue[bytes] = SimpleQueue()
        self.ended = -1
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        while (frame := read_frame(self.stream)) is not None:
            kind, content = frame
            if kind == b"Q":
                self.requests.put(content)
            else:
                (self.ended,) = NUMBER.unpack(content)
        os._exit(0)  # a call of llama.cpp may be under way, which nobody waits for any more


def answer(out: IO[bytes], server: Any, body: bytes, number: int, given: Input) -> None:
    """Answer one request with chunks and an end."""

    def hear(data: bytes) -> bool:
        write_frame(out, b"D", data)
        return given.ended >= number  # True ends the request

    try:
        server.handle_chat_completions(body, hear)
    except RuntimeError as fault:  # the only class of errors that xllamacpp raises
        write_frame(out, b"F", str(fault).encode())
    else:
        write_frame(out, b"E")


def main(path: str, window: int, folder: str) -> None:
    """Load the file and answer requests until the input ends.

    Anything that llama.cpp prints to standard output goes to standard error, where it disturbs no frame.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to partsong, which then closes the input
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    given = Input(sys.stdin.buffer)
    try:
        server = load(path, window, folder)
    except RuntimeError as fault:
        write_frame(out, b"F", str(fault).encode())
        return
    write_frame(out, b"L")
    number = 0
    while True:
        answer(out, server, given.requests.get(), number, given)
        number += 1


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    sys.path.append(sys.argv[4])  # the folder in which partsong has found xllamacpp
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
