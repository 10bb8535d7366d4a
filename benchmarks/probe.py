"""The process of attacks.py that asks a server how it is, while somebody attacks the server.

    python benchmarks/probe.py PORT WORKER

It asks `/healthz` every 20 ms, on one connection, until its standard input is closed. For each request it prints the
seconds that the answer took, and the seconds of processor time that the thread of the event loop used meanwhile, in the
process with the id WORKER. It prints -1 and ends when the server does not answer. It imports little, so that it begins
at once, and asks to be preferred to other programs.
"""

import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

EVERY = 0.02  # seconds between two requests
LONGEST = 60.0  # seconds that an answer may take


def main(port: int, worker: int) -> None:
    with suppress(OSError):
        os.nice(-10)
    os.set_blocking(sys.stdin.fileno(), False)
    asked = f"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode()
    line = socket.create_connection(("127.0.0.1", port), LONGEST)
    while not closed():
        before, started = on_cpu(worker), time.perf_counter()
        try:
            line.sendall(asked)
            if not line.recv(65_536):
                raise ConnectionError
        except OSError:
            print(-1, 0, flush=True)
            return
        took = time.perf_counter() - started
        print(took, on_cpu(worker) - before, flush=True)
        time.sleep(max(0.0, EVERY - took))


def closed() -> bool:
    """Whether standard input is closed."""
    try:
        return not os.read(sys.stdin.fileno(), 1)
    except BlockingIOError:
        return False


def on_cpu(worker: int) -> float:
    """Seconds of processor time of the thread of a process that has used the most since its start: the loop's."""
    try:
        used = [path.read_text().split()[0] for path in Path(f"/proc/{worker}/task").glob("*/schedstat")]
    except OSError:  # a thread has just ended
        return on_cpu(worker) if Path(f"/proc/{worker}").exists() else 0.0
    return max(map(float, used), default=0.0) / 1e9


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
