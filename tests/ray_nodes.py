"""Nodes of a Ray cluster on this machine, each at an address of its own, which tests can kill."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

WITHIN = 120.0  # seconds for a node to start
HEAD, OTHER = "127.0.0.2", "127.0.0.3"  # Ray replaces 127.0.0.1 by the host's own address


def missing() -> str | None:
    """Why there can be no cluster; `None` if there can be one."""
    return None if find_spec("ray") is not None else "Ray is not installed: pip install 'partsong[ray]'"


class Nodes:
    """Two nodes with one CPU each. `address`: address of the cluster."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._folder = tempfile.mkdtemp(prefix="ray-")  # short, since Ray's sockets lie in it
        self._environment = {**os.environ, **environment}
        with socket.create_server((HEAD, 0)) as probe:
            self.address = f"{HEAD}:{probe.getsockname()[1]}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, host: str) -> None:
        """Start the node with this address. The first must be `HEAD`."""
        port = self.address.rpartition(":")[2]
        if host == HEAD:
            place = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._folder}"]
        else:
            place = [f"--address={self.address}"]
        fixed = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
        command = [str(Path(sys.executable).with_name("ray")), "start", *place, f"--node-ip-address={host}", *fixed]
        log = (Path(self._folder) / f"{host}.log").open("wb")
        with log:
            self._running[host] = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        until = time.monotonic() + WITHIN
        while b"Ray runtime started" not in (said := Path(log.name).read_bytes()):
            if host == HEAD and self._running[host].poll() is not None:
                pytest.skip(f"Ray cannot start on this machine: {said.decode().strip()[-500:]}")
            assert self._running[host].poll() is None, said.decode()
            assert time.monotonic() < until, said.decode()
            time.sleep(0.1)

    def kill(self, host: str) -> None:
        """Kill a node and all of its processes at once, as if its machine had lost power."""
        process = self._running.pop(host)
        for each in [process.pid, *descendants(process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for host in reversed(list(self._running)):
            self.kill(host)
        shutil.rmtree(self._folder, ignore_errors=True)


def descendants(pid: int) -> list[int]:
    """The processes below this one."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents.setdefault(int((folder / "stat").read_text().rpartition(")")[2].split()[1]), []).append(
                int(folder.name)
            )
    found, open_ones = [], [pid]
    while open_ones:
        children = parents.get(open_ones.pop(), [])
        found += children
        open_ones += children
    return found


@contextmanager
def nodes(environment: Mapping[str, str]) -> Iterator[Nodes]:
    """Two nodes, until the block is left. `environment`: more variables of their processes."""
    made = Nodes(environment)
    try:
        made.start(HEAD)
        made.start(OTHER)
        yield made
    finally:
        made.close()
