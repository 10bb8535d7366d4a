"""`partsong serve`: runs the server on granian, in one process or in several that share a port.

Without keys, an address that other machines can reach is refused, because anybody there could spend the user's money.
"""

import ipaddress
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from types import FrameType
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from msgspec.structs import replace

from partsong.cli.options import Config, Port, ServedRecipes, Store
from partsong.configuration import Serving, StoreMode, find_configuration
from partsong.errors import ConfigurationError, InputError
from partsong.folders import keys_path
from partsong.keys import keys_of_server
from partsong.recipes.finding import named_recipe
from partsong.server.settings import tell_workers

TARGET = "partsong.server:app"
HEADERS_WITHIN = 30_000  # milliseconds for the headers of a request
HEADERS = 65_536  # bytes of headers, and of each read
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # environment variable of prometheus-client
CONNECTIONS = 4_096  # lowest limit of connections
CLOSING = 10  # seconds after the runs have ended, to flush the store
SAYS = {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr"}


def serve(
    *,
    host: Annotated[str | None, Parameter(metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Port = None,
    recipe: ServedRecipes = (),
    workers: Annotated[
        int | None, Parameter(metavar="N", help="Number of processes that share the port and the store. Default: 1.")
    ] = None,
    at_once: Annotated[
        int | None, Parameter(metavar="N", help="Most runs at the same time, in each process. Default: 1000.")
    ] = None,
    log: Annotated[
        Literal["text", "json"] | None, Parameter(metavar="KIND", help="Format of the log. Default: text.")
    ] = None,
    origin: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="URL",
            consume_multiple=False,
            help="Origin of a web page that may call the server (CORS); repeat for more.",
        ),
    ] = (),
    store: Store = None,
    config: Config = None,
) -> int:
    """Serve recipes and models to clients of the OpenAI and Anthropic APIs."""
    said: dict[str, Any] = {
        "host": host,
        "port": port,
        "workers": workers,
        "at_once": at_once,
        "log": log,
        "origins": origin or None,
    }
    return start(said, recipe, store=store, config=config)


def start(
    said: dict[str, Any],
    recipes: Sequence[str],
    *,
    store: StoreMode | None = None,
    config: Path | None = None,
    ready: Callable[[str], object] = lambda url: None,
) -> int:
    """Serve with the settings of the configuration, where those in `said` that are not `None` take precedence.

    `ready` is called with the URL once the server answers. Raises `InputError` and `ConfigurationError`.
    """
    configuration = find_configuration(config)
    said["recipes"] = tuple(_absolute(name) for name in recipes) or None
    try:
        serving = replace(configuration.server, **{name: value for name, value in said.items() if value is not None})
    except ValueError as problem:
        raise ConfigurationError(f"serve: {problem}") from None
    names = [name if Path(name).is_dir() else named_recipe(name).name for name in serving.recipes]
    check_address(serving.host)
    shown = f"[{serving.host}]" if ":" in serving.host else serving.host
    serving = replace(serving, port=free_port(serving))
    tell_workers(configuration, store, serving)
    url = f"http://{shown}:{serving.port}"
    said_once = ", ".join(names) or f"every shipped one ({url}/v1/models lists them)"
    greeting = (
        f"partsong: {url} is the page; {url}/v1 for OpenAI's clients, {url} for Anthropic's; recipes: {said_once}"
    )
    return run(serving, greeting, ready=lambda: ready(url))


def check_address(host: str) -> None:
    """Raise `InputError` if other machines can reach the address and there is no key."""
    if keys_of_server().any():
        return
    if not all(address.is_loopback for address in _addresses(host)):
        raise InputError(
            f"--host {host} can be reached from other machines, and there are no keys, so that anybody could spend "
            f"your money. Make one first: partsong keys add NAME (they are kept in {keys_path()})"
        )


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:  # a name
        pass
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except OSError as problem:
        raise InputError(f"--host {host}: there is no such address here: {problem.strerror}") from None
    return [ipaddress.ip_address(address) for address in found]


def free_port(serving: Serving) -> int:
    """The port to listen on, known to be free. Raises `InputError`."""
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # elsewhere it means that others may take the port as well
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((serving.host, serving.port))
        except OSError as problem:
            raise InputError(f"{serving.host}:{serving.port} cannot be listened on: {problem.strerror}") from None
        port: int = probe.getsockname()[1]
        return port


def run(
    serving: Serving,
    greeting: str,
    target: str = TARGET,
    *,
    headers_within: int = HEADERS_WITHIN,
    ready: Callable[[], object] = lambda: None,
) -> int:
    """Serve until a signal stops the server.

    Once the server answers, `greeting` is printed on standard error and `ready` is called. `headers_within` is how
    long the headers of a request may take, in milliseconds. Raises `SystemExit` after a signal, with 128 + its number.
    """
    running = _Running(make_granian(serving, target, headers_within), serving, greeting, ready)
    allow_files()
    running.granian.on_startup(running.begin)
    with shared_metrics(serving.workers):
        running.granian.serve()
    if running.stopped:
        raise SystemExit(128 + running.stopped[0])
    return 0


def make_granian(serving: Serving, target: str, headers_within: int) -> Any:
    """The server, not started yet. Raises `ConfigurationError` if granian is not installed."""
    try:
        from granian import Granian
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings
        from granian.log import LogLevels
    except ImportError:
        raise ConfigurationError("serve needs the extra `server`: pip install 'partsong[server]'") from None
    return Granian(
        target,
        serving.host,
        serving.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=serving.workers,
        respawn_failed_workers=serving.workers > 1,
        # Idle connections count, too, and granian never closes them: they must not use up the places.
        backpressure=max(CONNECTIONS, 4 * (serving.at_once + serving.waiting)),
        http1_settings=HTTP1Settings(header_read_timeout=headers_within, max_buffer_size=HEADERS),
        log_level=LogLevels.warning,
        log_dictconfig={"handlers": {"console": SAYS, "access": SAYS}},
        workers_kill_timeout=int(serving.drain) + CLOSING,
    )


class _Running:
    """The server's main process: how it starts, greets and stops. `stopped` holds the signals that it was sent."""

    def __init__(self, granian: Any, serving: Serving, greeting: str, ready: Callable[[], object]) -> None:
        self.granian, self.serving, self.greeting, self.ready = granian, serving, greeting, ready
        self.process = os.getpid()
        self.hangup = signal.getsignal(signal.SIGHUP) if hasattr(signal, "SIGHUP") else None
        self.stopped: list[int] = []

    def begin(self) -> None:
        """Take over the signals, and greet as soon as the server answers."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        if self.hangup is not None:  # granian would start its workers again
            signal.signal(signal.SIGHUP, signal.SIG_IGN if self.hangup is signal.SIG_IGN else self.stop)
        Thread(target=self.greet, daemon=True).start()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Let the runs under way end, and then the server. A second signal ends the workers at once."""
        if os.getpid() != self.process:  # a worker that has only just begun, with the signals of its parent
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self.stopped:
            for worker in self.granian.wrks:
                worker.kill()
        self.stopped.append(number)
        self.granian.signal_handler_interrupt()

    def greet(self) -> None:
        """Wait until the server answers, and say where."""
        # A worker is forked with the locks that other threads hold at that moment, and no thread of the worker ever
        # releases those. So this thread does nothing until all workers are there.
        while not self.stopped and len(self.granian.wrks) < self.serving.workers:
            time.sleep(0.02)
        while not self.stopped:  # the port is bound by now, but listened on only once a worker does
            with suppress(OSError), socket.create_connection((self.serving.host, self.serving.port), 1):
                print(self.greeting, file=sys.stderr, flush=True)
                self.ready()
                return
            time.sleep(0.02)


@contextmanager
def shared_metrics(workers: int) -> Iterator[None]:
    """A folder in which several workers share their metrics, until the block is left."""
    if workers == 1 or SHARED in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="partsong-metrics-") as folder:
        os.environ[SHARED] = folder
        try:
            yield
        finally:
            del os.environ[SHARED]


def allow_files() -> None:
    """Raise the limit of open files as far as allowed. Each connection is one, and the limit is often 1,024."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _absolute(name: str) -> str:
    """The name of a recipe, where a path is made absolute, so that it is valid in every process."""
    path = Path(name).expanduser()
    return os.fspath(path.absolute()) if name.endswith(".toml") or path.is_dir() else name
