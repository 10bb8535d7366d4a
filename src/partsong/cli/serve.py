"""`partsong serve`: runs the server on granian, in one worker process or in several that share a port.

Without keys, an address that other machines can reach is refused, because any other machine could spend the user's
money.
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

from partsong.cli import known_keys
from partsong.cli.options import Config, Port, ServedRecipes, Store
from partsong.configuration import Configuration, Serving, StoreMode, find_configuration
from partsong.errors import ConfigurationError, InputError, StoreError
from partsong.recipes.finding import named_recipe
from partsong.server.orphans import CLOSING
from partsong.server.settings import tell_workers

TARGET = "partsong.server:app"
HEADERS_WITHIN = 30_000  # milliseconds in which the headers of a request must arrive
HEADERS = 65_536  # most bytes of headers, and of each read from a connection
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # environment variable of prometheus-client
CONNECTIONS = 4_096  # limit of connections, which is higher if more runs at the same time are allowed
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
    """Serve until a signal stops the server; return the exit code.

    said: settings from the command line by name; a value that is not `None` replaces the value of the configuration
    recipes: names or files of the recipes to serve; if empty, those of the configuration
    store: what is stored of runs; by default as configured
    config: configuration file; by default the file that `find_configuration` finds
    ready: called with the URL once the server answers

    Raises `InputError` if the address or the port cannot be used. Raises `ConfigurationError` for a wrong setting, or
    if granian is not installed.
    """
    configuration = find_configuration(config)
    said["recipes"] = tuple(_absolute(name) for name in recipes) or None
    try:
        serving = replace(configuration.server, **{name: value for name, value in said.items() if value is not None})
    except ValueError as problem:
        raise ConfigurationError(f"serve: {problem}") from None
    names = [name if Path(name).is_dir() else named_recipe(name).name for name in serving.recipes]
    check_address(serving.host, configuration)
    shown = f"[{serving.host}]" if ":" in serving.host else serving.host
    serving = replace(serving, port=free_port(serving))
    tell_workers(configuration, store, serving)
    url = f"http://{shown}:{serving.port}"
    said_once = ", ".join(names) or f"every shipped one ({url}/v1/models lists them)"
    greeting = (
        f"partsong: {url} is the page; {url}/v1 for OpenAI's clients, {url} for Anthropic's; recipes: {said_once}"
    )
    return run(serving, greeting, ready=lambda: ready(url))


def check_address(host: str, configuration: Configuration = Configuration()) -> None:  # noqa: B008  # frozen
    """Raise `InputError` if other machines can reach the address and there is no key, or if the address is unknown."""
    try:
        if known_keys.all_keys(configuration):
            return
    except StoreError:
        return  # a server that cannot read its keys answers nobody until it can
    if not all(address.is_loopback for address in _addresses(host)):
        raise InputError(
            f"--host {host} can be reached from other machines, and there are no keys, so that anybody could spend "
            "your money. Make one first: partsong keys add NAME (they are kept in "
            f"{known_keys.place_of(configuration)})"
        )


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the IP addresses of a host, which is a name or an address. Raises `InputError` for an unknown name."""
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:  # `host` is a name
        pass
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except OSError as problem:
        raise InputError(f"--host {host}: there is no such address here: {problem.strerror}") from None
    return [ipaddress.ip_address(address) for address in found]


def free_port(serving: Serving) -> int:
    """Return the port to listen on: the configured port, or any free port if that is 0.

    Raises `InputError` if the port is taken or must not be used.
    """
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # on Windows the option would let other processes take the same port
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
    """Serve until the server stops; return the exit code.

    greeting: text that is printed on standard error once the server answers
    target: ASGI application as "module:name"; by default that of partsong
    headers_within: milliseconds in which the headers of a request must arrive; 30,000 by default
    ready: called once the server answers

    Raises `SystemExit` with 128 + N if signal N has stopped the server.
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
    """Return the granian server, which is not started yet. Raises `ConfigurationError` if granian is not installed."""
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
        # granian counts idle connections and never closes them, so the limit is far above the number of runs.
        backpressure=max(CONNECTIONS, 4 * (serving.at_once + serving.waiting)),
        http1_settings=HTTP1Settings(header_read_timeout=headers_within, max_buffer_size=HEADERS),
        log_level=LogLevels.warning,
        log_dictconfig={"handlers": {"console": SAYS, "access": SAYS}},
        workers_kill_timeout=int(serving.drain) + CLOSING,
    )


class _Running:
    """The main process of the server: starts and stops granian, and prints the greeting.

    granian: server that runs the workers
    serving: settings of the server
    greeting: text that is printed once the server answers
    ready: called once the server answers
    stopped: numbers of the signals that the process has received
    """

    def __init__(self, granian: Any, serving: Serving, greeting: str, ready: Callable[[], object]) -> None:
        self.granian, self.serving, self.greeting, self.ready = granian, serving, greeting, ready
        self.process = os.getpid()
        self.hangup = signal.getsignal(signal.SIGHUP) if hasattr(signal, "SIGHUP") else None
        self.stopped: list[int] = []

    def begin(self) -> None:
        """Install the handlers of signals, and start the thread that greets. granian calls this at its start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        if self.hangup is not None:  # granian's own handler of SIGHUP would restart the workers
            signal.signal(signal.SIGHUP, signal.SIG_IGN if self.hangup is signal.SIG_IGN else self.stop)
        Thread(target=self.greet, daemon=True).start()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Stop the server after the runs under way have ended. A second signal ends the workers at once."""
        if os.getpid() != self.process:  # a worker that was just forked still has this handler of its parent
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self.stopped:
            for worker in self.granian.wrks:
                worker.kill()
        self.stopped.append(number)
        self.granian.signal_handler_interrupt()

    def greet(self) -> None:
        """Wait until the server answers, print the greeting and call `ready`. Runs in a thread of its own."""
        # A forked worker copies locks that other threads hold, and no thread of the worker ever releases them. So this
        # thread takes no lock before all workers are forked.
        while not self.stopped and len(self.granian.wrks) < self.serving.workers:
            time.sleep(0.02)
        while not self.stopped:  # the port is bound by now, but connections succeed only once a worker listens
            with suppress(OSError), socket.create_connection((self.serving.host, self.serving.port), 1):
                print(self.greeting, file=sys.stderr, flush=True)
                self.ready()
                return
            time.sleep(0.02)


@contextmanager
def shared_metrics(workers: int) -> Iterator[None]:
    """Provide a temporary folder in which several workers share their metrics, until the block is left.

    A single worker needs no folder. A folder that the environment names is used instead.
    """
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
    """Raise the process's limit of open files to the allowed maximum.

    Each connection is an open file, and the limit is often only 1,024.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS refuses its own stated maximum
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _absolute(name: str) -> str:
    """Return the name of a recipe. A path is made absolute, so that it is valid in every process."""
    path = Path(name).expanduser()
    return os.fspath(path.absolute()) if name.endswith(".toml") or path.is_dir() else name
